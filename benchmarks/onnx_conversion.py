"""Convert exported networks to ONNX, and compare detections of ONNX Runtime with those of the model.

    python benchmarks/onnx_conversion.py --python PYTHON [--models NAME ...] [--image-size 256] [--opset 13]

Exports each model with generated weights and converts ``network.json``. ``--python`` names the Python of an
environment with paddle2onnx 2.1.0 and onnxruntime; conversion and ONNX Runtime run there. Each model gets two
inputs, of two sizes if height and width are dynamic. If the conversion fails, the first line of the error is
printed. Otherwise a row has the number of detections with a pair (same class, score within 0.005, box within
1 pixel), the largest difference between masks of a pair (probabilities; logits for Mask-RT-DETR), and the
seconds of ONNX Runtime and of Paddle's runtime without oneDNN. Takes half a minute per model at the default
size. Inputs always have one image, because the converter supports NMS for one image only.

The default is opset 13. From 16 on, paddle2onnx 2.1.0 writes RoiAlign without its coordinate mode, and
results differ.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sides import NUM_CORES, SideFailed, catalog_models, is_square, our_model, run_alone

Arrays = list[Any]  # image, im_shape, scale_factor; or boxes, their number, masks
INPUT_NAMES = ("image", "im_shape", "scale_factor")
CONVERT = """
import sys, paddle2onnx
network, params, onnx, opset = sys.argv[1:]
paddle2onnx.export(network, params, onnx, opset_version=int(opset))
"""


def network_inputs(name: str, side: int) -> list[Arrays]:
    """Two inputs for a network."""
    from rule import drawn_image, normalized_input

    def inputs(images: Arrays, image_hw: tuple[int, int], scales: Arrays) -> Arrays:
        return [
            np.stack(images),
            np.array([image_hw] * len(images), np.float32),
            np.array(scales, np.float32),
        ]

    if is_square(name):
        images = [drawn_image(seed, side, side) for seed in (0, 100)]
        scales = [(1.6, 1.25), (1.0, 2.0)]
        return [inputs([images[n]], (side, side), [scales[n]]) for n in (0, 1)]
    sizes = [((side - 6, side + 54), (side, side + 64)), ((side + 64, side - 32), (side + 64, side - 32))]
    return [inputs([normalized_input(0, *size)], size[0], [(1.25, 1.25)]) for size in sizes]


def model_and_export(name: str, side: int, folder: Path) -> dict[str, Any]:
    """Write the exported model, the inputs and the model's outputs to ``folder``.

    Returns the seconds of Paddle's runtime.
    """
    model = our_model(name)
    import paddle

    from paddlex_seg.catalog import find_model
    from paddlex_seg.checkpoints.info import ModelInfo
    from paddlex_seg.export.graphs import export_model
    from paddlex_seg.inference.backends.paddle import PaddleBackend
    from paddlex_seg.structures import Category

    spec = find_model(name)
    categories = tuple(Category(id=i + 1, name=f"class {i}") for i in range(80))
    export_model(model, spec, ModelInfo(name, categories, spec.recipe.input_size(side)), folder)
    backend = PaddleBackend(folder)
    model.eval()
    seconds = []
    for number, inputs in enumerate(network_inputs(name, side)):
        with paddle.no_grad():
            outputs = [output.numpy() for output in model(*map(paddle.to_tensor, inputs))]
        _save(folder / f"input{number}.npz", inputs)
        _save(folder / f"model{number}.npz", outputs)
        seconds.append(median_seconds(partial(backend, *inputs)))
    return {"seconds": seconds}


def onnx_run(folder: Path) -> dict[str, Any]:
    """Write the outputs of ONNX Runtime for each input; returns its seconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = NUM_CORES
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "network.onnx"), options, providers=["CPUExecutionProvider"]
    )
    wanted = {one.name for one in session.get_inputs()}
    seconds = []
    for number in range(2):
        named = dict(zip(INPUT_NAMES, _load(folder / f"input{number}.npz"), strict=True))
        feed = {name: array for name, array in named.items() if name in wanted}
        _save(folder / f"onnx{number}.npz", session.run(None, feed))
        seconds.append(median_seconds(partial(session.run, None, feed)))
    return {"seconds": seconds}


def median_seconds(run: Callable[[], object]) -> float:
    """The median of three runs."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def convert(folder: Path, python: str, opset: int) -> str | None:
    """Convert to ``network.onnx``; returns the first line of the error if that fails, else None."""
    arguments = [str(folder / file) for file in ("network.json", "inference.pdiparams", "network.onnx")]
    result = subprocess.run(
        [python, "-c", CONVERT, *arguments, str(opset)], capture_output=True, text=True, cwd=folder
    )
    if result.returncode == 0 and (folder / "network.onnx").is_file():
        return None
    lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\[ERROR\]|\w(Error|Exception)\b", line)]
    return (errors or lines[-1:] or [f"ended with {result.returncode}"])[0]


def compare(ours: Arrays, theirs: Arrays) -> tuple[str, float]:
    """The number of detections with a pair, and the largest difference between masks of a pair."""
    from rule import match_detections

    pairs, found = 0, 0
    difference = 0.0
    starts = [np.concatenate([[0], np.cumsum(side[1])]) for side in (theirs, ours)]
    for b in range(len(ours[1])):
        rows = [slice(start[b], start[b + 1]) for start in starts]
        matched = match_detections(theirs[0][rows[0]], ours[0][rows[1]])
        pairs += len(matched)
        found += max(theirs[1][b], ours[1][b])
        for i, j in matched:
            masks = theirs[2][rows[0]][i], ours[2][rows[1]][j]
            difference = max(difference, float(np.abs(masks[0] - masks[1]).max()))
    return f"{pairs} of {found}", difference


def _save(file: Path, arrays: Arrays) -> None:
    np.savez(file, **{str(i): array for i, array in enumerate(arrays)})


def _load(file: Path) -> Arrays:
    with np.load(file) as arrays:
        return [arrays[str(i)] for i in range(3)]


def print_rows(name: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Print the rows of one model."""
    options = ["--models", name, "--image-size", str(arguments.image_size), "--folder", str(folder)]
    try:
        paddle, _ = run_alone(sys.executable, __file__, [*options, "--one", "paddle"])
        error = convert(folder, arguments.python, arguments.opset)
        if error is not None:
            print(f"| {name} | no: {error} | - | - | - | - | - |", flush=True)
            return
        onnx, _ = run_alone(arguments.python, __file__, [*options, "--one", "onnx"])
    except SideFailed as failure:
        print(f"| {name} | does not run: {failure} | - | - | - | - | - |", flush=True)
        return
    for number in range(2):
        ours, theirs = (_load(folder / f"{side}{number}.npz") for side in ("model", "onnx"))
        shape = " x ".join(map(str, _load(folder / f"input{number}.npz")[0].shape))
        matched, difference = compare(ours, theirs)
        times = f"{onnx['seconds'][number]:.2f} | {paddle['seconds'][number]:.2f}"
        print(f"| {name} | yes | {shape} | {matched} | {difference:.1e} | {times} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="default: all models of the catalog")
    parser.add_argument("--python", help="Python of an environment with paddle2onnx and onnxruntime")
    parser.add_argument("--image-size", type=int, default=256, help="a multiple of 32")
    parser.add_argument("--opset", type=int, default=13)
    parser.add_argument("--one", choices=["paddle", "onnx"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one == "paddle":
        result = model_and_export(arguments.models[0], arguments.image_size, arguments.folder)
        print(json.dumps(result))
        return
    if arguments.one == "onnx":
        print(json.dumps(onnx_run(arguments.folder)))
        return
    if arguments.python is None:
        parser.error("--python is missing; expected the Python of an environment with paddle2onnx")
    if arguments.models is None:
        arguments.models = catalog_models()
    print("| model | converts | input | matched | mask difference | ONNX Runtime s | Paddle s |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            print_rows(name, arguments, Path(folder))


if __name__ == "__main__":
    main()
