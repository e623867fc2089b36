"""Inference of one image on the CPU, with masks at the size of the original image: seconds and peak memory.

    python benchmarks/forward.py [--models NAME ...] [--runs 4] [--pairs 1] [--image-size N] [--exported]
        [--paddledetection CHECKOUT --python PYTHON] [--torchvision PYTHON] [--write docs/model_figures.json]

The sides are

- our model, as in evaluation;
- with ``--exported``, our exported network in Paddle's runtime, without and with oneDNN;
- with ``--paddledetection``, a checkout of PaddleDetection (develop, 666f597f), and ``--python``, the Python
  of an environment that can import it: the official model, not exported;
- with ``--torchvision``, the Python of an environment with torchvision: its Mask R-CNN with ResNet-50-FPN.

Each side runs in a process of its own, one after the other, ``--pairs`` times. The result is the median of
all runs but the first, and then the median over the pairs.

The image has the size that the model is published for. Weights are generated, so that every model returns the
largest possible number of masks. Pasting them takes longer than for an image with a few objects; the column
"network" does not include it. For official models and torchvision's, the two cannot be measured separately.

``--write`` adds our figures to the data file of docs/models.md, where figures of other models from the same
machine are kept. Takes half a minute per model and side; the official C4 network takes five minutes.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from sides import (
    NUM_CLASSES,
    NUM_CORES,
    OFFICIAL_CONFIGS,
    SideFailed,
    catalog_models,
    image_size,
    is_square,
    machine_and_date,
    official_model,
    our_model,
    peak_memory_mb,
    run_alone,
)

Run = Callable[[], tuple[float, int]]  # runs one image: seconds of the network only, number of masks
EXPORTED = {"exported": "paddle", "exported, oneDNN": "mkldnn"}
PUBLISHED_SCALE = 800 / 600  # of the R-CNNs' image


def our_run(name: str, side: int | None) -> Run:
    """Our model, as in evaluation."""
    model = our_model(name)
    import paddle

    model.eval()
    inputs, original_hw = network_inputs(name, side)

    def run() -> tuple[float, int]:
        start = time.perf_counter()
        with paddle.no_grad():
            outputs = model(*map(paddle.to_tensor, inputs))
        arrays = [output.numpy() for output in outputs]
        seconds = time.perf_counter() - start
        return seconds, paste(arrays, inputs, original_hw, model.mask_frame)

    return run


def export(name: str, side: int | None, folder: Path) -> None:
    """Export our model for this input size."""
    model = our_model(name)
    from paddlex_seg.catalog import find_model
    from paddlex_seg.checkpoints.info import ModelInfo
    from paddlex_seg.export.graphs import export_model
    from paddlex_seg.structures import Category

    spec = find_model(name)
    categories = tuple(Category(id=i + 1, name=f"class {i}") for i in range(NUM_CLASSES))
    image_size = spec.recipe.input_size(side)
    export_model(model, spec, ModelInfo(name, categories, image_size), folder)


def exported_run(name: str, side: int | None, folder: Path, run_mode: Any) -> Run:
    """Our exported network, as in prediction."""
    from paddlex_seg.runtime.environment import prepare_process

    prepare_process()
    from paddlex_seg.inference.backends.paddle import PaddleBackend

    backend = PaddleBackend(folder, run_mode=run_mode)
    inputs, original_hw = network_inputs(name, side)

    def run() -> tuple[float, int]:
        start = time.perf_counter()
        arrays = list(backend(*inputs))
        seconds = time.perf_counter() - start
        return seconds, paste(arrays, inputs, original_hw, backend.mask_frame)

    return run


def paste(arrays: list[Any], inputs: list[Any], original_hw: tuple[int, int], mask_frame: Any) -> int:
    """Paste the masks into the original image; returns their number."""
    from paddlex_seg.masks.paste import detections_to_instances

    bbox, bbox_num, mask = arrays
    (instances,) = detections_to_instances(
        bbox,
        bbox_num,
        mask,
        im_shape=inputs[1],
        scale_factor=inputs[2],
        input_hw=inputs[0].shape[2:],
        original_sizes=[original_hw],
        mask_frame=mask_frame,
    )
    return len(instances)


def official_run(name: str, side: int | None, checkout: Path) -> Run:
    """PaddleDetection's model, which includes pasting of masks."""
    image_hw, padded_hw = image_size(name, side)
    model = official_model(name, checkout, padded_hw or image_hw)
    import paddle

    model.eval()
    inputs, _ = network_inputs(name, side)

    def run() -> tuple[float, int]:
        with paddle.no_grad():
            tensors = map(paddle.to_tensor, inputs)
            outputs = model(dict(zip(("image", "im_shape", "scale_factor"), tensors, strict=True)))
        masks = outputs["segm" if "segm" in outputs else "mask"].numpy()
        return 0.0, len(masks)

    return run


def torchvision_run(image_file: Path, side: int | None) -> Run:
    """torchvision's Mask R-CNN with random weights. It includes resizing of the image."""
    import numpy as np
    import torch
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    torch.set_num_threads(NUM_CORES)
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, box_score_thresh=0.0, min_size=side or 800
    ).eval()
    image = torch.from_numpy(np.load(image_file))

    def run() -> tuple[float, int]:
        with torch.no_grad():
            (found,) = model([image])
        return 0.0, len(found["masks"])

    return run


def network_inputs(name: str, side: int | None) -> tuple[list[Any], tuple[int, int]]:
    """Image, im_shape and scale_factor of one image, and the size of the original image."""
    import numpy as np
    from rule import drawn_image, normalized_input

    image_hw, padded_hw = image_size(name, side)
    if is_square(name):
        scale_yx = (640 / 480, 640 / 600)
    else:
        scale_yx = (PUBLISHED_SCALE, PUBLISHED_SCALE)
    image = normalized_input(0, image_hw, padded_hw) if padded_hw else drawn_image(0, *image_hw)
    inputs = [np.array([value], np.float32) for value in (image, image_hw, scale_yx)]
    height, width = (int(size / scale + 0.5) for size, scale in zip(image_hw, scale_yx, strict=True))
    return inputs, (height, width)


def measure(run: Run, num_runs: int) -> dict[str, float]:
    """The median of all runs but the first, and the peak memory of the process."""
    whole, network = [], []
    for _ in range(num_runs):
        start = time.perf_counter()
        network_seconds, num_masks = run()
        whole.append(time.perf_counter() - start)
        network.append(network_seconds)
    return {
        "seconds": median(whole[1:] or whole),
        "network": median(network[1:] or network),
        "peak_mb": peak_memory_mb(),
        "masks": num_masks,
    }


def run_one(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one side in this process."""
    name, side = arguments.models[0], arguments.image_size
    if arguments.one == "export":
        export(name, side, arguments.folder)
        return {}
    if arguments.one == "image":
        _write_image(name, side, arguments.folder / "image.npy")
        return {}
    if arguments.one == "ours":
        run = our_run(name, side)
    elif arguments.one == "official":
        run = official_run(name, side, arguments.paddledetection)
    elif arguments.one == "torchvision":
        run = torchvision_run(arguments.folder / "image.npy", side)
    else:
        run = exported_run(name, side, arguments.folder, EXPORTED[arguments.one])
    return measure(run, arguments.runs)


def measure_model(arguments: argparse.Namespace, name: str, folder: Path) -> dict[str, float] | None:
    """Print a row per side; returns our figures, or None where our model failed."""
    sides = {"ours": sys.executable}
    if arguments.exported and _alone(arguments, "export", name, sys.executable, folder) is not None:
        sides |= dict.fromkeys(EXPORTED, sys.executable)
    if arguments.paddledetection and name not in OFFICIAL_CONFIGS:
        print(f"{name}, official: PaddleDetection has no configuration for it.", file=sys.stderr)
    elif arguments.paddledetection:
        sides["official"] = arguments.python
    if arguments.torchvision and not is_square(name):
        _alone(arguments, "image", name, sys.executable, folder)
        sides["torchvision"] = arguments.torchvision
    results: dict[str, list[dict[str, float]]] = {which: [] for which in sides}
    for _ in range(arguments.pairs):
        for which, python in list(sides.items()):
            measured = _alone(arguments, which, name, python, folder)
            if measured is None:
                del sides[which]  # it would fail again
            else:
                results[which].append(measured)
    ours = results["ours"]
    for which, rows in results.items():
        if rows:
            ratios = [mine["seconds"] / other["seconds"] for mine, other in zip(ours, rows, strict=False)]
            print(_row(name, which, rows, ratios), flush=True)
    return _medians(ours) if ours else None


def _alone(
    arguments: argparse.Namespace, which: str, name: str, python: str, folder: Path
) -> dict[str, float] | None:
    options = ["--one", which, "--models", name, "--runs", str(arguments.runs), "--folder", str(folder)]
    if arguments.image_size is not None:
        options += ["--image-size", str(arguments.image_size)]
    if arguments.paddledetection:
        options += ["--paddledetection", str(arguments.paddledetection)]
    try:
        return run_alone(python, __file__, options)[0]
    except SideFailed as failure:
        print(f"{name}, {which}: {failure}", file=sys.stderr)
        return None


def _write_image(name: str, side: int | None, file: Path) -> None:
    import numpy as np
    from rule import drawn_image

    image_hw, _ = image_size(name, side)
    np.save(file, drawn_image(0, *(int(size / PUBLISHED_SCALE + 0.5) for size in image_hw)))


def _row(name: str, which: str, measured: list[dict[str, float]], ratios: list[float]) -> str:
    middle = _medians(measured)
    network = f"{middle['network']:.2f}" if middle["network"] else "-"
    ratio = "-" if which == "ours" or not ratios else f"{median(ratios):.2f}"
    return (
        f"| {name} | {which} | {middle['masks']:.0f} | {network} | {middle['seconds']:.2f} | "
        f"{middle['peak_mb']:.0f} | {ratio} |"
    )


def _medians(measured: list[dict[str, float]]) -> dict[str, float]:
    return {key: median(one[key] for one in measured) for key in measured[0]}


def write_figures(file: Path, figures: dict[str, dict[str, float]]) -> None:
    """Put figures into the data file of docs/models.md. Figures from another machine are removed."""
    machine, today = machine_and_date()
    document = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    models = document["models"] if document.get("machine") == machine else {}
    for name, measured in figures.items():
        models[name] = {
            "date": today,
            "latency_ms": round(1000 * measured["network"]),
            "latency_with_masks_ms": round(1000 * measured["seconds"]),
            "masks": round(measured["masks"]),
            "peak_memory_mb": round(measured["peak_mb"]),
        }
    document = {
        "command": "python benchmarks/forward.py --write docs/model_figures.json",
        "machine": machine,
        "models": models,
    }
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="default: all models of the catalog")
    parser.add_argument("--runs", type=int, default=4, help="runs per process; the first does not count")
    parser.add_argument("--pairs", type=int, default=1, help="how often each side is measured")
    parser.add_argument("--image-size", type=int, help="side of the square, or short side of the image")
    parser.add_argument("--exported", action="store_true", help="also measure our exported network")
    parser.add_argument("--paddledetection", type=Path, help="a checkout of PaddleDetection")
    parser.add_argument("--python", default=sys.executable, help="a Python that can import PaddleDetection")
    parser.add_argument("--torchvision", metavar="PYTHON", help="a Python that can import torchvision")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the data file of docs/models.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(arguments)))
        return
    if arguments.write and arguments.image_size is not None:
        parser.error(
            "docs/models.md has figures of published sizes only; do not use --image-size with --write"
        )
    if arguments.models is None:
        arguments.models = catalog_models()
    print("| model | side | masks | network s | with masks s | peak MB | ours / it |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure_model(arguments, name, Path(folder))
        if arguments.write and figures is not None:
            write_figures(arguments.write, {name: figures})  # at once, in case a later model fails


if __name__ == "__main__":
    main()
