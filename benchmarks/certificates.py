"""Certificates and latency of all models with all backends: the tables of docs/backends.md.

    python benchmarks/certificates.py --image PHOTOGRAPH [--models NAME...] [--results FILE.json]
    python benchmarks/certificates.py --table [--results FILE.json]

Each model is built with the generated weights of tests/reference, which find dozens of objects in any image,
and exported with its ONNX file into a temporary folder. Export and conversion compare each backend with the
network in memory on the stored images, and write ``certificate.json``: the first table is made of its entries.
Images of one input size were one batch there, those of other sizes single calls. Besides, a batch of eight
images of mixed sizes is compared with the same images one by one. The second table has the median of three
predictions of the photograph (resized to 768x576) from file to RLE, after a first one, the backends in turn.

Each model runs in a process of its own. Rows are kept in ``--results`` after each model, so a run that was
stopped goes on where it was. Needs paddle2onnx, onnxruntime and openvino, and one to ten minutes a model.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from sides import NUM_CLASSES, SideFailed, catalog_models, machine_and_date, our_model, run_alone

SIZE_WH = (768, 576)
REPEATS = 3
BATCH = 8
THRESHOLD = 0.05  # that of the certificates
BACKENDS = ("paddle", "onnxruntime", "openvino")


def rows_of_model(name: str, image: Path) -> dict[str, Any]:
    """The certificate entries of a model, the check of batches, and the milliseconds of each backend."""
    model = our_model(name)
    from paddlex_seg.catalog import find_model
    from paddlex_seg.checkpoints.info import ModelInfo
    from paddlex_seg.export.graphs import export_model
    from paddlex_seg.inference.onnx_proof import publish_onnx
    from paddlex_seg.inference.predictor import open_predictor
    from paddlex_seg.structures import Category

    spec = find_model(name)
    categories = tuple(Category(id=i + 1, name=f"class {i}") for i in range(NUM_CLASSES))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        export_model(model, spec, ModelInfo(name, categories, spec.recipe.image_size), folder)
        del model
        publish_onnx(folder)
        certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
        photograph = resized(image, Path(temporary) / "photograph.jpg")
        predictors = {one: open_predictor(folder, backend=one, threshold=THRESHOLD) for one in BACKENDS}
        return {
            "entries": certificate["entries"],
            "equal_batches": {one: batches_are_equal(predictors[one]) for one in BACKENDS},
            "milliseconds": latencies(predictors, photograph),
        }


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
    """Both tables as Markdown."""
    print("| model | backend | verdict | objects | with a partner | mean IoU | 1 % below | least IoU | score | AP |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        if "error" in row:
            print(f"| {name} | - | {row['error']} | - | - | - | - | - | - | - |")
            continue
        for entry in row["entries"]:
            if entry["graph"] != "inference.json":
                print(f"| {name} | {entry['backend']} | {entry['verdict']} | {cells(entry['figures'])} |")
    print("\n| model | " + " | ".join(BACKENDS) + " | batch of 8, " + ", ".join(BACKENDS) + " |")
    print("|---|" + "---|" * (len(BACKENDS) + 1))
    for name, row in rows.items():
        if "error" not in row:
            times = " | ".join(f"{row['milliseconds'][one]:.0f}" for one in BACKENDS)
            batches = list(dict.fromkeys(row["equal_batches"][one] for one in BACKENDS))
            print(f"| {name} | {times} | {'; '.join(batches)} |")


def cells(figures: Mapping[str, Any]) -> str:
    """The figures of a certificate as cells of a row."""
    return json.dumps(figures)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="default: all models of the catalog")
    parser.add_argument("--image", type=Path, help="a photograph")
    parser.add_argument("--results", type=Path, default=Path("output/certificates.json"))
    parser.add_argument("--table", action="store_true", help="only print the tables of --results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(rows_of_model(arguments.one, arguments.image)))
        return
    rows = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.is_file() else {}
    if not arguments.table:
        if arguments.image is None:
            parser.error("--image is missing; expected a photograph")
        for name in arguments.models or catalog_models():
            if "error" in rows.get(name, {"error": ""}):
                try:
                    options = ["--one", name, "--image", str(arguments.image)]
                    rows[name] = run_alone(sys.executable, __file__, options)[0]
                except SideFailed as failure:
                    rows[name] = {"error": str(failure)}
                arguments.results.parent.mkdir(parents=True, exist_ok=True)
                arguments.results.write_text(json.dumps(rows), encoding="utf-8")
            print(f"{name}: {rows[name].get('error', 'done')}", file=sys.stderr, flush=True)
        print(f"{', '.join(machine_and_date())}\n")
    print_tables(rows)


if __name__ == "__main__":
    main()
