"""Images per second in training on the CPU, and the time of each part of a step: table of docs/results.md.

    python benchmarks/training_throughput.py [--steps 12] [--image-size 320] [--batch-size 2] [MODEL ...]

Trains from random weights, without and with worker processes, on the photographs of data/microcontrollers in
the folder that the environment variable PADDLEX_SEG_SHARED names. Prints the seconds of a step for each
model, and the fraction of each part. The first two steps do not count. Takes a few minutes if no other
program runs. If others run, the fractions are more reliable than the seconds.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paddlex_seg.config.read import load_config
from paddlex_seg.config.schema import Config
from paddlex_seg.runtime.environment import prepare_process

MODELS = ("PP-YOLOE_seg-S", "Mask-RT-DETR-S", "MaskRCNN-ResNet50-FPN")
UNCOUNTED = 2
PARTS = (
    *("waiting for images", "to tensors", "forward and loss", "backward", "optimizer", "moving average"),
    "guards",
)


class Parts:
    """Seconds by part of a step, measured in wrappers around functions."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def around(self, owner: Any, name: str, part: str) -> None:
        """Replace a function of ``owner`` by a wrapper that adds its time to ``part``."""
        function = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds[part] += time.perf_counter() - start

        setattr(owner, name, timed)


def measure(cfg: Config, num_steps: int) -> tuple[float, dict[str, float]]:
    """Seconds per step, and the seconds of each part of a step."""
    import paddle

    from paddlex_seg.data.samples import loader
    from paddlex_seg.runtime.device import use_device
    from paddlex_seg.runtime.ranks import ONE_RANK
    from paddlex_seg.runtime.stop_signals import StopSignals
    from paddlex_seg.training import step as train_step
    from paddlex_seg.training.run import epoch_batches
    from paddlex_seg.training.setup import prepare, start_training

    use_device("cpu")
    run, _ = prepare(cfg, ONE_RANK, StopSignals())
    run, state = start_training(run, None)
    state.model.train()
    parts = Parts()
    originals: list[tuple[Any, str, Callable[..., Any]]] = [
        (owner, name, getattr(owner, name))
        for owner, name in (
            (loader, "to_batch"),
            (paddle.Tensor, "backward"),
            (train_step, "all_finite"),
            (train_step, "running_statistics"),
        )
    ]
    parts.around(loader, "to_batch", "to tensors")
    parts.around(state.model, "loss", "forward and loss")
    parts.around(paddle.Tensor, "backward", "backward")
    parts.around(state.optimizer, "step", "optimizer")
    parts.around(train_step, "all_finite", "guards")
    parts.around(train_step, "running_statistics", "guards")
    if state.ema is not None:
        parts.around(state.ema, "update", "moving average")
    try:
        with loader.WorkerPool(cfg.Train.num_workers) as pool:
            batches = epoch_batches(run, run.dataset, state.progress, pool)
            start = 0.0
            for number in range(UNCOUNTED + num_steps):
                if number == UNCOUNTED:
                    parts.seconds.clear()
                    start = time.perf_counter()
                before = time.perf_counter()
                batch = next(batches)
                parts.seconds["waiting for images"] += time.perf_counter() - before
                train_step.train_step(state, batch, 1e-4, seed=0, ranks=ONE_RANK, stop=run.stop)
            total = time.perf_counter() - start
            batches.close()
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)
    parts.seconds["waiting for images"] -= parts.seconds["to tensors"]
    return total / num_steps, {name: parts.seconds[name] / num_steps for name in PARTS}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=2)
    options = parser.parse_args()
    shared = os.environ.get("PADDLEX_SEG_SHARED")
    if shared is None:
        parser.error("PADDLEX_SEG_SHARED is not set. Set it to the folder that has data/microcontrollers.")
    prepare_process()
    print(f"| model | workers | images/s | s a step | {' | '.join(PARTS)} | rest |")
    print("|---" * (len(PARTS) + 5) + "|")
    for model in options.models:
        for num_workers in (0, 2):
            settings = [
                f"Global.dataset_dir={Path(shared) / 'data' / 'microcontrollers'}",
                *("Global.mode=train", "Train.pretrain_weight_path=scratch", "Train.learning_rate=0.0001"),
                f"Train.image_size={options.image_size}",
                f"Train.batch_size={options.batch_size}",
                f"Train.num_workers={num_workers}",
            ]
            seconds, parts = measure(load_config(model, settings), options.steps)
            shares = [f"{value / seconds:.1%}" for value in (*parts.values(), seconds - sum(parts.values()))]
            row = [model, num_workers, f"{options.batch_size / seconds:.2f}", f"{seconds:.2f}", *shares]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
