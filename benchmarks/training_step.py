"""One training step of a model on the CPU: seconds, peak memory, and the operators that take most time.

    python benchmarks/training_step.py [--models NAME ...] [--steps 3] [--image-size N] [--objects N]
        [--profile] [--paddledetection CHECKOUT --python PYTHON]

Measures our model. With a checkout of PaddleDetection (develop, 666f597f) and the Python of an environment
that can import it, also measures the official model. Each side runs in a process of its own. Both have the
same weights, the optimizer of the model's recipe, and two images of the published size with 3 and 2 objects,
or N each. Mask-RT-DETR has 100 denoising queries. The result is the median of all steps but the first.
docs/mask_rt_detr.md has the figures of the default models. Takes a minute per model, and 2 to 10 minutes more
for the official one. The official mask loss of PP-YOLOE_seg-S works only at 640 pixels.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from sides import (
    NUM_CLASSES,
    SideFailed,
    image_size,
    official_model,
    our_model,
    peak_memory_mb,
    run_alone,
)

LEARNING_RATE = 1e-4


def our_step(name: str, side: int | None, counts: tuple[int, int]) -> Callable[[], float]:
    """A function that runs one training step and returns the loss."""
    model = our_model(name)
    import paddle
    from rule import drawn_batch

    from paddlex_seg.catalog import find_model
    from paddlex_seg.training.optimizer import build_optimizer

    recipe = find_model(name).recipe
    model.train()
    optimizer = build_optimizer(
        model,
        kind=recipe.optimizer,
        learning_rate=LEARNING_RATE,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        clip_norm=recipe.clip_norm,
    )
    image_hw, padded_hw = image_size(name, side)
    batch = drawn_batch(0, image_hw, counts, NUM_CLASSES, padded_hw)
    paddle.seed(0)
    return lambda: optimizer_step(model.loss(batch), optimizer)


def official_step(
    name: str, side: int | None, counts: tuple[int, int], checkout: Path
) -> Callable[[], float]:
    """The same for PaddleDetection's model."""
    image_hw, padded_hw = image_size(name, side)
    model = official_model(name, checkout, padded_hw or image_hw)
    import paddle
    from rule import drawn_batch

    model.train()
    optimizer = importlib.import_module("ppdet.core.workspace").create("OptimizerBuilder")(
        LEARNING_RATE, model
    )
    batch = drawn_batch(0, image_hw, counts, NUM_CLASSES, padded_hw)
    targets = official_targets(name, batch)
    paddle.seed(0)

    def step() -> float:
        inputs = {
            "image": batch.image,
            "im_shape": batch.im_shape,
            "scale_factor": batch.scale_factor,
            "im_id": paddle.arange(len(counts)),
            "epoch_id": 0,
        }
        return optimizer_step(model(inputs | targets), optimizer)

    return step


def official_targets(name: str, batch: Any) -> dict[str, Any]:
    """The objects of a batch in the format of PaddleDetection; made once, as in its data loader."""
    if name.startswith("Mask-RT-DETR"):
        return _normalised_boxes(batch)
    if name.startswith("PP-YOLOE_seg"):
        return _padded_objects(batch)
    return _grid_targets(batch) if name == "SOLOv2" else _polygons(batch)


def _normalised_boxes(batch: Any) -> dict[str, Any]:
    import paddle

    side = batch.image.shape[-1]
    boxes = [target.boxes_xyxy / side for target in batch.targets]
    return {
        "gt_bbox": [
            paddle.concat([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], axis=1) for box in boxes
        ],
        "gt_class": [target.class_ids.astype("int32").unsqueeze(1) for target in batch.targets],
        "gt_segm": [target.masks for target in batch.targets],
    }


def _polygons(batch: Any) -> dict[str, Any]:
    import paddle

    return {
        "gt_bbox": [target.boxes_xyxy for target in batch.targets],
        "gt_class": [target.class_ids.astype("int32").unsqueeze(1) for target in batch.targets],
        "gt_poly": [_flat_polygons(target) for target in batch.targets],
        "is_crowd": [paddle.zeros([len(target.boxes_xyxy), 1], "int32") for target in batch.targets],
    }


def _flat_polygons(target: Any) -> list[list[Any]]:
    return [[part.ravel() for part in polygons] for polygons in target.polygons]


def _padded_objects(batch: Any) -> dict[str, Any]:
    """Pad all images to the largest number of objects; a mask says which objects are real."""
    import paddle

    most = max(len(target.boxes_xyxy) for target in batch.targets)

    def pad(rows: Any) -> Any:
        return paddle.concat([rows, paddle.zeros([most - len(rows), *rows.shape[1:]], rows.dtype)])

    return {
        "gt_bbox": [pad(target.boxes_xyxy) for target in batch.targets],
        "gt_class": [pad(target.class_ids.astype("int32").unsqueeze(1)) for target in batch.targets],
        "gt_segm": [pad(target.masks) for target in batch.targets],
        "pad_gt_mask": [pad(paddle.ones([len(target.boxes_xyxy), 1])) for target in batch.targets],
    }


def _grid_targets(batch: Any) -> dict[str, Any]:
    """Targets made by PaddleDetection's transform. Its defaults are those of SOLOv2's configuration."""
    import numpy as np
    import paddle

    samples = [
        {
            "image": image.numpy(),
            "gt_bbox": target.boxes_xyxy.numpy(),
            "gt_class": target.class_ids.numpy().astype(np.int32)[:, None],
            "gt_segm": target.masks.numpy(),
            "gt_poly": _flat_polygons(target),
            "is_crowd": np.zeros([len(target.boxes_xyxy), 1], np.int32),
        }
        for image, target in zip(batch.image, batch.targets, strict=True)
    ]
    transform = importlib.import_module("ppdet.data.transform.batch_operators").Gt2Solov2Target()
    made = transform(samples)
    names = [key for key in made[0] if key.startswith(("ins_label", "cate_label", "grid_order", "fg_num"))]
    return {name: paddle.to_tensor(np.stack([sample[name] for sample in made])) for name in names}


def optimizer_step(losses: dict[str, Any], optimizer: Any) -> float:
    losses["loss"].backward()
    optimizer.step()
    optimizer.clear_grad()
    return float(losses["loss"])


def measure(step: Callable[[], float], num_steps: int) -> dict[str, float]:
    """Median seconds of all steps but the first, and peak memory of the process in GB (10^9 bytes)."""
    seconds = []
    for _ in range(num_steps):
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds[1:] or seconds), "peak_gb": peak_memory_mb() / 1000, "loss": loss}


def print_profile(step: Callable[[], float]) -> None:
    """Print the operators that take most time of a step."""
    from paddle import profiler

    recorder = profiler.Profiler(
        targets=[profiler.ProfilerTarget.CPU],
        on_trace_ready=lambda _: None,  # by default it writes a file of many MB to the current folder
    )
    recorder.start()
    step()
    recorder.stop()
    recorder.summary(
        sorted_by=profiler.SortedKeys.CPUTotal, time_unit="ms", views=profiler.SummaryView.OperatorView
    )


def measure_alone(arguments: argparse.Namespace, which: str, name: str) -> dict[str, float] | None:
    """One measurement in a process of its own. If it fails, prints the reason and returns None."""
    python = arguments.python if which == "official" else sys.executable
    options = ["--one", which, "--models", name, "--steps", str(arguments.steps)]
    for option in ("image_size", "objects", "paddledetection"):
        if (value := getattr(arguments, option)) is not None:
            options += [f"--{option.replace('_', '-')}", str(value)]
    if arguments.profile:
        options.append("--profile")
    try:
        result, text = run_alone(python, __file__, options)
    except SideFailed as failure:
        print(f"{name}, {which}: {failure}", file=sys.stderr)
        return None
    if arguments.profile:
        print(text)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["Mask-RT-DETR-S", "Mask-RT-DETR-L", "Mask-RT-DETR-H"])
    parser.add_argument("--image-size", type=int, help="side of the square, or short side of the image")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--objects", type=int, help="objects in each of the two images, instead of 3 and 2")
    parser.add_argument("--profile", action="store_true", help="also print the operators of one more step")
    parser.add_argument("--paddledetection", type=Path, help="a checkout of PaddleDetection")
    parser.add_argument("--python", default=sys.executable, help="a Python that can import PaddleDetection")
    parser.add_argument("--one", choices=["ours", "official"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    counts = (3, 2) if arguments.objects is None else (arguments.objects, arguments.objects)
    if arguments.one:
        case = (arguments.models[0], arguments.image_size, counts)
        step = our_step(*case) if arguments.one == "ours" else official_step(*case, arguments.paddledetection)
        result = measure(step, arguments.steps)
        if arguments.profile:
            print_profile(step)
        print(json.dumps(result))
        return
    print("| model | ours s | ours GB | official s | official GB | ratio |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for name in arguments.models:
        ours = measure_alone(arguments, "ours", name)
        official = measure_alone(arguments, "official", name) if arguments.paddledetection else None
        row = [name]
        for measured in (ours, official):
            row += [f"{measured['seconds']:.1f}", f"{measured['peak_gb']:.1f}"] if measured else ["-", "-"]
        row.append(f"{ours['seconds'] / official['seconds']:.2f}" if ours and official else "-")
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
