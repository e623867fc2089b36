"""Size, memory, time and AP of the networks for small devices, on one core; the tables of docs/edge.md.

    python benchmarks/edge.py MODEL_DIR DATASET_DIR [--photograph FILE] [--rounds 9]

MODEL_DIR: an export of PP-YOLOE_seg-S with ``Export.edge`` and ``Export.int8``. Each network runs in
processes of its own that may use one core: ONNX Runtime in Python, and onnxruntime-web in Node if that is
installed (``npm install --prefix tests/edge``). Memory is the peak of a process that loads and runs the
network, and in brackets that of the same process before. Milliseconds are medians of the network on the
photograph, which is the first val image unless given; the networks take turns. Objects are those that Paddle
finds above the score 0.05, and those that the network finds, too, with the same class and a mask IoU of 0.5
or more.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sides import PROJECT, peak_memory_mb, run_alone

FILES = ("network_edge.onnx", "network_edge_int8.onnx")
TURNS = 3  # processes of each network, one after the other with those of the other network


def onnx_run(model: Path, inputs: Path, rounds: int) -> dict[str, Any]:
    """What a process measures that has only ONNX Runtime and NumPy."""
    import time

    import onnxruntime

    before = peak_memory_mb()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    with np.load(inputs) as arrays:
        feed = {one.name: arrays[one.name] for one in session.get_inputs()}
    session.run(None, feed)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        session.run(None, feed)
        seconds.append(time.perf_counter() - start)
    return {"ms": [1000 * one for one in seconds], "peakMb": peak_memory_mb(), "beforeMb": before}


def node_run(model: Path, inputs: Path, rounds: int) -> tuple[list[Any], dict[str, Any]]:
    """The outputs of onnxruntime-web, and what it measured."""
    from onnxruntime_web import run_in_node

    with np.load(inputs) as arrays:
        outputs, measured = run_in_node(model, dict(arrays), runs=rounds + 1)
    ms, megabyte = measured["runMs"][1:], 2**20 / 1e6
    return outputs, {
        "ms": ms,
        "peakMb": measured["peakMb"] * megabyte,
        "beforeMb": measured["nodeMb"] * megabyte,
        "loadMs": measured["loadMs"],
    }


def operators(model: Path) -> str:
    """The operators of a network, and how many of each."""
    import onnx

    counts = Counter(node.op_type for node in onnx.load(str(model)).graph.node)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--photograph", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # a network, in a process of its own
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # also of the processes that are started
    if arguments.one:
        print(json.dumps(onnx_run(arguments.one, arguments.inputs, arguments.rounds)))
        return
    sys.path.insert(0, str(PROJECT / "tests" / "helpers"))
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Run all, and print the tables."""
    from onnxruntime_web import what_is_missing
    from precision_cost import annotated_data

    from paddlex_seg.data.images import image_path, load_image
    from paddlex_seg.data.preprocess import collate, preprocess
    from paddlex_seg.evaluation.int8 import mask_ap
    from paddlex_seg.inference.backends.open import load_onnx, open_backend
    from paddlex_seg.structures import DetectionArrays

    folder, data = arguments.model_dir, annotated_data(arguments.dataset_dir)
    paddle = open_backend(folder, "paddle")
    spec = paddle.spec
    photograph = arguments.photograph or image_path(data.image_dir, data.val.images[0].file_name)
    image = load_image(photograph)
    inputs = collate([preprocess(image, spec.preprocess)])
    size_hw = (image.shape[0], image.shape[1])
    expected = objects(paddle, inputs, size_hw)
    file = folder / ".edge_inputs.npz"
    np.savez(file, **inputs._asdict())
    options = [str(folder), str(arguments.dataset_dir), "--rounds", str(arguments.rounds)]
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    missing = what_is_missing()
    same: dict[tuple[str, str], str] = {}
    try:
        for _ in range(TURNS):
            for name in FILES:
                one = [*options, "--one", str(folder / name), "--inputs", str(file)]
                results.setdefault((name, "ONNX Runtime"), []).append(
                    run_alone(sys.executable, __file__, one)[0]
                )
                if missing is None:
                    outputs, measured = node_run(folder / name, file, arguments.rounds)
                    results.setdefault((name, "onnxruntime-web"), []).append(measured)
                    found = objects_of(spec, DetectionArrays(*outputs), inputs, size_hw)
                    same[name, "onnxruntime-web"] = agreement(found, expected)
    finally:
        file.unlink()
    aps = {}
    for name, precision in zip(FILES, ("f32", "int8"), strict=True):
        backend = load_onnx(folder / name, spec, "onnxruntime", precision)
        aps[name] = mask_ap(backend, data)
        same[name, "ONNX Runtime"] = agreement(objects(backend, inputs, size_hw), expected)
    print(f"{spec.model_name}, {inputs.image.shape}, {len(data.val.images)} val images, {photograph.name}")
    if missing is None:
        version = json.loads((PROJECT / "tests/edge/node_modules/onnxruntime-web/package.json").read_text())[
            "version"
        ]
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        print(f"onnxruntime-web {version} in Node {node.strip()}")
    else:
        print(f"Not in onnxruntime-web: {missing}")
    print("| network | runtime | MB | mask AP | objects | ms | peak MB |\n|---|---|---|---|---|---|---|")
    for (name, runtime), runs in results.items():
        ms = median(one for run in runs for one in run["ms"])
        peak, before = (median(run[key] for run in runs) for key in ("peakMb", "beforeMb"))
        print(
            f"| {name} | {runtime} | {(folder / name).stat().st_size / 1e6:.1f} | {aps[name]:.4f} | "
            f"{same[name, runtime]} | {ms:.0f} | {peak:.0f} ({before:.0f}) |"
        )
    for name in FILES:
        print(f"{name}: {operators(folder / name)}")


def objects(backend: Any, inputs: Any, size_hw: tuple[int, int]) -> Any:
    """The instances that a backend finds."""
    from paddlex_seg.inference.backends.base import find_instances

    return find_instances(backend, inputs, [size_hw], score_threshold=0.05)[0]


def objects_of(spec: Any, outputs: Any, inputs: Any, size_hw: tuple[int, int]) -> Any:
    """The instances of outputs that were computed elsewhere."""

    class Done:
        mask_frame, preprocess = spec.mask_frame, spec.preprocess

        def __call__(self, *_: Any) -> Any:
            return outputs

    return objects(Done(), inputs, size_hw)


def agreement(found: Any, expected: Any) -> str:
    """How many objects have a partner, and the mean mask IoU of the pairs."""
    from paddlex_seg.metrics.matches import match_instances

    matches = match_instances(expected, found, least_iou=0.5)
    iou = matches.ious.mean() if len(matches.ious) else float("nan")
    return f"{len(matches.pairs)} of {len(expected)}/{len(found)}, IoU {iou:.4f}"


if __name__ == "__main__":
    main()
