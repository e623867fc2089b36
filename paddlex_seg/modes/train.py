"""Mode train: train on annotated images, save checkpoints and export the best model."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from paddlex_seg.config.schema import Config
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.errors import with_hint
from paddlex_seg.files.lock import held
from paddlex_seg.runtime.log import log_file
from paddlex_seg.runtime.ranks import join_ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.runtime.supervisor import on_several_machines
from paddlex_seg.training.loop import (
    end_epoch,
    save_after_failure,
    save_before_leaving,
    say_when_nothing_is_left,
    train_one_epoch,
)
from paddlex_seg.training.output import (
    LOG_FILE,
    NotSaved,
    begin_output,
    claimed_output,
    export_best,
    how_to_export,
    recorded,
    train_result,
    write_train_result,
)
from paddlex_seg.training.run import Clock, Run
from paddlex_seg.training.self_check import self_check
from paddlex_seg.training.setup import prepare, start_training
from paddlex_seg.training.step import TrainState

GO_ON = "To continue, run the same command with -o Train.resume=auto"


def run(cfg: Config) -> dict[str, Any]:
    """Train ``Global.model`` on ``Global.dataset_dir`` and write the results into ``Global.output``.

    Raises ConfigError, DatasetError or WeightsError before the first step when an input is wrong. Raises
    KeyboardInterrupt, whose message says how to continue, when the run is stopped.
    """
    output = Path(cfg.Global.output)
    shared = on_several_machines(cfg.Train.nnodes, cfg.Train.dist_ips)
    with (
        join_ranks(cfg.Global.device) as ranks,
        # On one machine, the command holds the folder.
        held(output) if ranks.is_main and shared else nullcontext(),
        claimed_output(output) if ranks.is_main else nullcontext(),
        log_file(output / LOG_FILE) if ranks.is_main else nullcontext(),
        StopSignals(at_once=ranks.world_size == 1, go_on=GO_ON) as stop,
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
                if checkpoint is not None:
                    say_when_nothing_is_left(run, state.progress)
                try:
                    while not run.is_finished(state.progress):
                        train_one_epoch(run, state, clock, pool)
                        end_epoch(run, state, clock, pool)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(save_before_leaving(run, state, clock)) from None
                except NotSaved:
                    raise
                except Exception as error:
                    if not (hint := save_after_failure(run, state, clock)):
                        raise
                    raise with_hint(error, hint) from error
        if ranks.is_main:
            export_finished(run, state)
        return train_result(run, state.progress)


def export_finished(run: Run, state: TrainState) -> None:
    """Export the best model. A failure is told as one of the export: the training is complete without it."""
    try:
        with run.stop.interruptible():
            export_best(run, state.progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted. {how_to_export(run)}") from None
    except Exception as error:
        raise with_hint(error, f"{how_to_export(run)}.") from error
