"""Certificates and latency of all models with all backends: the tables of docs/backends.md.

    python benchmarks/certificates.py --image PHOTOGRAPH [--models NAME...] [--output FOLDER]
        [--image-size SIDE]
    python benchmarks/certificates.py --table [--output FOLDER]

Each model is built with the generated weights of tests/reference, which find dozens of objects in any image,
and exported with its ONNX file into ``--output``. Export and conversion compare each backend with the network
in memory on the stored images: the first table is made of the entries of the certificate. Then the photograph
(resized to 768x576) is predicted three times after a first one, from file to RLE, the backends in turn; the
second table has medians. Of each family, one model also predicts eight stored images of mixed sizes as a
batch and one by one.

Each step of a model runs in a process of its own, and what it found is kept in ``--output``. A run that was
stopped goes on where it was, and ``--table`` only prints. Needs paddle2onnx, onnxruntime and openvino, 10 GB
for the exported folders, and one to five minutes a model.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from sides import NUM_CLASSES, SideFailed, catalog_models, machine_and_date, our_model, run_alone

SIZE_WH = (768, 576)
REPEATS = 3
BATCH = 8
THRESHOLD = 0.05  # that of the certificates
# One of each family, for the check of batches.
FAMILIES = (
    "Mask-RT-DETR-S",
    "PP-YOLOE_seg-S",
    "MaskRCNN-ResNet50-FPN",
    "Cascade-MaskRCNN-ResNet50-FPN",
    "SOLOv2",
)
BACKENDS = ("paddle", "onnxruntime", "openvino")


def certified(name: str, folder: Path, side: int | None) -> dict[str, Any]:
    """Export a model with its ONNX file into ``folder``; returns the entries of the certificate.

    side: the short side of the network input; None: that of the model.
    """
    model = our_model(name)
    from paddlex_seg.catalog import find_model
    from paddlex_seg.checkpoints.info import ModelInfo
    from paddlex_seg.export.graphs import export_model
    from paddlex_seg.inference.conversion import convert_network
    from paddlex_seg.inference.onnx_proof import certify_onnx
    from paddlex_seg.structures import Category

    spec = find_model(name)
    categories = tuple(Category(id=i + 1, name=f"class {i}") for i in range(NUM_CLASSES))
    if not (folder / "certificate.json").is_file():
        export_model(model, spec, ModelInfo(name, categories, spec.recipe.input_size(side)), folder)
    entries = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))["entries"]
    entries = [one for one in entries if one["graph"] != "network.onnx"]  # of an earlier run
    # Here, a file that fails is kept for the table. Mode export and --paddle2onnx would not publish it.
    convert_network(folder, folder / "network.onnx")
    return {"entries": [*entries, *map(asdict, certify_onnx(folder / "network.onnx", folder))]}


def measured(folder: Path, image: Path) -> dict[str, Any]:
    """Whether batches of an exported model give the same as single images, and milliseconds an image."""
    from paddlex_seg.inference.backends.open import load_backend
    from paddlex_seg.inference.predictor import Predictor

    photograph = resized(image, folder / "photograph.jpg")
    backends = {one: load_backend(folder, one) for one in BACKENDS}
    predictors = {
        name: Predictor(one, labels=one.spec.labels, thresholds=[THRESHOLD]) for name, one in backends.items()
    }
    batches = {one: batches_are_equal(predictors[one]) for one in BACKENDS} if folder.name in FAMILIES else {}
    return {"equal_batches": batches, "milliseconds": latencies(predictors, photograph)}


def resized(image: Path, target: Path) -> Path:
    """The photograph in the size that is measured."""
    from PIL import Image

    with Image.open(image) as opened:
        opened.convert("RGB").resize(SIZE_WH).save(target, quality=92)
    return target


def batches_are_equal(predictor: Any) -> str:
    """Compare eight stored images of mixed sizes as one batch with the same images one by one."""
    from paddlex_seg.inference.stored_inputs import stored_inputs

    images = [one.image[:, :, ::-1].copy() for one in stored_inputs()]
    images = (images + images)[:BATCH]
    one_by_one, together = (
        [result.instances for result in predictor.predict(images, batch_size=size)] for size in (1, BATCH)
    )
    least, objects, largest = 1.0, 0, 0.0
    from paddlex_seg.metrics.matches import match_instances

    for first, second in zip(one_by_one, together, strict=True):
        found = match_instances(first, second)
        objects += len(first)
        if len(found.pairs) != max(len(first), len(second)):
            return f"no: {len(found.pairs)} pairs of {len(first)} and {len(second)} objects"
        if len(found.pairs):
            least = min(least, float(found.ious.min()))
            differences = abs(first.scores[found.pairs[:, 0]] - second.scores[found.pairs[:, 1]])
            largest = max(largest, float(differences.max()))
    if least == 1 and largest == 0:
        return f"equal ({objects} objects)"
    return f"{objects} objects, IoU >= {least:.5f}, score {largest:.0e}"


def latencies(predictors: Mapping[str, Any], photograph: Path) -> dict[str, float]:
    """Milliseconds from file to RLE of each backend; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(1 + REPEATS):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            list(predictor.predict(photograph))
            seconds[name].append(time.perf_counter() - start)
    return {name: round(1000 * median(values[1:]), 1) for name, values in seconds.items()}


def print_tables(rows: Mapping[str, Any]) -> None:
    """Both tables as Markdown. Of the shares and APs of both sides, the smaller one is printed."""
    print("| model | backend | verdict | objects | with a partner | mean IoU | least IoU | score | AP |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        for entry in row.get("entries", ()):
            if entry["graph"] != "inference.json":
                print(f"| {name} | {entry['backend']} | {entry['verdict']} | {cells(entry['figures'])} |")
        if "entries" not in row:
            print(f"| {name} | - | {row.get('certify failed', 'not run')}" + " | -" * 6 + " |")
    print(
        f"\n| model | {' | '.join(f'{one}, ms' for one in BACKENDS)} | 8 images as a batch and one by one |"
    )
    print("|---" * (len(BACKENDS) + 2) + "|")
    for name, row in rows.items():
        if "milliseconds" in row:
            times = " | ".join(f"{row['milliseconds'][one]:.0f}" for one in BACKENDS)
            print(f"| {name} | {times} | {'; '.join(dict.fromkeys(row['equal_batches'].values())) or '-'} |")


def cells(figures: Mapping[str, Any]) -> str:
    """The figures of a certificate as cells of a row."""
    found = figures["detections"]
    if "mask_iou" not in figures:
        return f"{found['reference']} | - | - | - | - | -"
    share, iou, ap = min(figures["matched"].values()), figures["mask_iou"], min(figures["ap"].values())
    return " | ".join(
        [
            str(found["reference"]),
            f"{100 * share:.2f} %",
            f"{iou['mean']:.6f}",
            f"{iou['least']:.3f}",
            f"{figures['score_difference']:.1e}",
            f"{ap:.4f}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="default: all models of the catalog")
    parser.add_argument("--image", type=Path, help="a photograph")
    parser.add_argument("--output", type=Path, default=Path("output/certificates"))
    parser.add_argument("--image-size", type=int, help="short side; default: that of each model")
    parser.add_argument("--table", action="store_true", help="only print the tables of --output")
    parser.add_argument("--certify", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    output: Path = arguments.output
    if arguments.certify:
        print(json.dumps(certified(arguments.certify, output / arguments.certify, arguments.image_size)))
        return
    if arguments.measure:
        print(json.dumps(measured(output / arguments.measure, arguments.image)))
        return
    names = arguments.models or catalog_models()
    if not arguments.table:
        if arguments.image is None:
            parser.error("--image is missing; expected a photograph")
        for step in ("certify", "measure"):
            for name in names:
                run_step(step, name, arguments)
        print(f"{', '.join(machine_and_date())}\n")
    print_tables({name: read_row(output, name) for name in names})


def run_step(step: str, name: str, arguments: argparse.Namespace) -> None:
    """Certify or measure a model in a process of its own, unless that was done; keep what it found."""
    output: Path = arguments.output
    row = read_row(output, name)
    if ("entries" if step == "certify" else "milliseconds") in row:
        return
    options = [f"--{step}", name, "--image", str(arguments.image), "--output", str(output)]
    if arguments.image_size is not None:
        options += ["--image-size", str(arguments.image_size)]
    try:
        row |= run_alone(sys.executable, __file__, options)[0]
    except SideFailed as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        row |= {f"{step} failed": str(failure)}
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.json").write_text(json.dumps(row), encoding="utf-8")
    print(f"{name}: {step} done", file=sys.stderr, flush=True)


def read_row(output: Path, name: str) -> dict[str, Any]:
    """What was found about a model so far."""
    file = output / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


if __name__ == "__main__":
    main()
