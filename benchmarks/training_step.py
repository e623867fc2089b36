"""One training step of Mask-RT-DETR: seconds, memory and where they go; the figures of docs/mask_rt_detr.md.

    python benchmarks/training_step.py [--sizes S L H] [--steps 3] [--objects N] [--profile]
        [--paddledetection CHECKOUT --python PYTHON]

Measures ours and, with a checkout of PaddleDetection (develop, 666f597f) and the Python of an environment
that can import it, the official one in turn, each in a process of its own. Both have the same weights, two
pictures with 3 and 2 objects, or N each, and 100 denoising queries. The median of all steps but the first
counts. Takes a minute per size, and the official one 2 to 10 minutes more.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
NUM_THREADS = os.cpu_count() or 1
NUM_CLASSES = 80
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 1e-4, 0.1


def our_step(size: str, side: int, counts: tuple[int, int]) -> Callable[[], float]:
    """A function that does one step and returns the loss."""
    from paddlex_seg.engine.launch import prepare_process

    prepare_process()
    import paddle
    from reference import drawn_batch, fill_model

    from paddlex_seg.catalog import find_model
    from paddlex_seg.engine.device import use_device
    from paddlex_seg.engine.optimizer import build_optimizer

    use_device("cpu")
    model = find_model(f"Mask-RT-DETR-{size}").build(num_classes=NUM_CLASSES)
    fill_model(model)
    model.train()
    optimizer = build_optimizer(
        model, kind="adamw", learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM
    )
    batch = drawn_batch(0, (side, side), counts, NUM_CLASSES)
    paddle.seed(0)
    return lambda: optimizer_step(model.loss(batch), optimizer)


def official_step(size: str, side: int, counts: tuple[int, int], checkout: Path) -> Callable[[], float]:
    """The same of PaddleDetection."""
    os.environ["OMP_NUM_THREADS"] = str(NUM_THREADS)  # read when Paddle is imported
    sys.path.insert(0, str(checkout))
    for name in ("", ".augmenters", ".augmentables", ".augmentables.lines", ".augmentables.segmaps"):
        sys.modules[f"imgaug{name}"] = _Anything(f"imgaug{name}")  # for lanes only, and hard to install
    import paddle
    from reference import drawn_batch, fill_model

    importlib.import_module("ppdet.modeling")
    importlib.import_module("ppdet.optimizer")
    workspace = importlib.import_module("ppdet.core.workspace")
    name = f"mask_rtdetr_hgnetv2_{size.lower()}_6x_coco.yml"
    config = workspace.load_config(str(checkout / "configs" / "mask_rtdetr" / name))
    config["eval_size"] = [side, side]
    model = workspace.create(config.architecture)
    fill_model(model)
    model.train()
    optimizer = workspace.create("OptimizerBuilder")(LEARNING_RATE, model)
    batch = drawn_batch(0, (side, side), counts, NUM_CLASSES)
    paddle.seed(0)

    def step() -> float:
        boxes = [target.boxes_xyxy / side for target in batch.targets]
        centers = [paddle.concat([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], axis=1) for b in boxes]
        inputs = {
            "image": batch.image,
            "im_shape": batch.im_shape,
            "scale_factor": batch.scale_factor,
            "gt_bbox": centers,
            "gt_class": [target.class_ids.astype("int32").unsqueeze(1) for target in batch.targets],
            "gt_segm": [target.masks for target in batch.targets],
            "epoch_id": 0,
        }
        return optimizer_step(model(inputs), optimizer)

    return step


def optimizer_step(losses: dict[str, Any], optimizer: Any) -> float:
    losses["loss"].backward()
    optimizer.step()
    optimizer.clear_grad()
    return float(losses["loss"])


class _Anything(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def measure(step: Callable[[], float], num_steps: int) -> dict[str, float]:
    """Seconds of each step but the first, and the peak memory of the process in GB (10^9 bytes)."""
    seconds = []
    for _ in range(num_steps):
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": median(seconds[1:] or seconds), "peak_gb": peak, "loss": loss}


def print_profile(step: Callable[[], float]) -> None:
    """The operators that take most of a step."""
    from paddle import profiler

    recorder = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU])
    recorder.start()
    step()
    recorder.stop()
    recorder.summary(
        sorted_by=profiler.SortedKeys.CPUTotal, time_unit="ms", views=profiler.SummaryView.OperatorView
    )


def run_alone(arguments: argparse.Namespace, which: str, size: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    python = arguments.python if which == "official" else sys.executable
    command = [python, __file__, "--one", which, "--sizes", size, "--steps", str(arguments.steps)]
    command += ["--image-size", str(arguments.image_size)]
    if arguments.objects is not None:
        command += ["--objects", str(arguments.objects)]
    if arguments.profile:
        command.append("--profile")
    if arguments.paddledetection:
        command += ["--paddledetection", str(arguments.paddledetection)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr[-3000:]}")
    *text, last = result.stdout.strip().splitlines()
    if arguments.profile:
        print("\n".join(text))
    return json.loads(last)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["S", "L", "H"], choices=list("SMLXH"))
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--objects", type=int, help="in each of the two pictures, instead of 3 and 2")
    parser.add_argument("--profile", action="store_true", help="also print the operators of one more step")
    parser.add_argument("--paddledetection", type=Path, help="a checkout of PaddleDetection")
    parser.add_argument("--python", default=sys.executable, help="that can import it")
    parser.add_argument("--one", choices=["ours", "official"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    counts = (3, 2) if arguments.objects is None else (arguments.objects, arguments.objects)
    if arguments.one:
        case = (arguments.sizes[0], arguments.image_size, counts)
        step = (
            our_step(*case)
            if arguments.one == "ours"
            else official_step(*case, checkout=arguments.paddledetection)
        )
        result = measure(step, arguments.steps)
        if arguments.profile:
            print_profile(step)
        print(json.dumps(result))
        return
    print(
        "| model | ours s | ours GB | official s | official GB | ratio |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for size in arguments.sizes:
        ours = run_alone(arguments, "ours", size)
        row = [f"{size}", f"{ours['seconds']:.1f}", f"{ours['peak_gb']:.1f}"]
        if arguments.paddledetection:
            official = run_alone(arguments, "official", size)
            row += [f"{official['seconds']:.1f}", f"{official['peak_gb']:.1f}"]
            row.append(f"{ours['seconds'] / official['seconds']:.2f}")
        print("| " + " | ".join([*row, *["-"] * (6 - len(row))]) + " |", flush=True)


if __name__ == "__main__":
    main()
