"""Mode train: train on annotated images, save checkpoints and export the best model."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from paddlex_seg.config.schema import Config
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.runtime.log import log_file
from paddlex_seg.runtime.ranks import join_ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.training.loop import end_epoch, save_before_leaving, train_one_epoch
from paddlex_seg.training.output import (
    LOG_FILE,
    begin_output,
    claimed_output,
    export_best,
    recorded,
    train_result,
    write_train_result,
)
from paddlex_seg.training.run import Clock
from paddlex_seg.training.self_check import self_check
from paddlex_seg.training.setup import prepare, start_training


def run(cfg: Config) -> dict[str, Any]:
    """Train ``Global.model`` on ``Global.dataset_dir`` and write the results into ``Global.output``.

    Raises ConfigError, DatasetError or WeightsError before the first step when an input is wrong. Raises
    KeyboardInterrupt, whose message says how to continue, when the run is stopped.
    """
    with (
        join_ranks(cfg.Global.device) as ranks,
        claimed_output(Path(cfg.Global.output)) if ranks.is_main else nullcontext(),
        log_file(Path(cfg.Global.output) / LOG_FILE) if ranks.is_main else nullcontext(),
        StopSignals(at_once=ranks.world_size == 1) as stop,
    ):
        with stop.interruptible():
            run, checkpoint = prepare(cfg, ranks, stop)
            run, state = start_training(run, checkpoint)
        with WorkerPool(cfg.Train.num_workers) as pool:
            if checkpoint is None and cfg.Train.self_check:
                with stop.interruptible():
                    self_check(run, state, pool)
            begin_output(run, state, checkpoint)
            with recorded(run, state.progress, checkpoint) as run:
                clock = Clock()
                write_train_result(run, state)
                try:
                    while not run.is_finished(state.progress):
                        train_one_epoch(run, state, clock, pool)
                        end_epoch(run, state, clock, pool)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(save_before_leaving(run, state)) from None
        if ranks.is_main:
            with stop.interruptible():
                export_best(run, state.progress)
        return train_result(run, state.progress)
