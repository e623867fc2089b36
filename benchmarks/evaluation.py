"""COCO's figures of masks and boxes: this toolkit against pycocotools, each in a process of its own, in turn.

The data set is random: 20 classes, 480 x 640 pixels, ragged blobs, detections near the objects or anywhere.
Time is measured from records in memory to figures ("evaluation"), and from the files ("with_reading"),
where this toolkit also checks every record. Memory is the peak of the process. The figures must be equal.

    python benchmarks/evaluation.py [--images 5000] [--objects 100] [--rounds 3]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE_HW, CLASSES, CORNERS = (480, 640), 20, 24


def main() -> None:
    """Write the data set, run both sides in turn, and print the ratios of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=100, help="annotated and found in each image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        write_problem(Path(name), options.images, options.objects)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for number in range(options.rounds):
            for side, done in runs.items():
                command = [sys.executable, __file__, "--side", side, "--folder", name]
                done.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
                print(f"round {number + 1} {side}: {done[-1]}", flush=True)
    own, other = runs["paddlex_seg"], runs["pycocotools"]
    assert own[0]["figures"] == other[0]["figures"], "the figures differ"
    for key in ("evaluation", "with_reading", "memory_mb"):
        a, b = (statistics.median(run[key] for run in side) for side in (own, other))
        print(f"{key}: paddlex_seg {a:.1f}, pycocotools {b:.1f}, ratio {b / a:.1f}")


def write_problem(folder: Path, num_images: int, num_objects: int) -> None:
    """Write truth.json and found.json."""
    from paddlex_seg.masks.rle import polygons_to_rles, rle_areas, rle_boxes_xywh, rle_to_json

    rng, (height, width) = np.random.default_rng(0), SIZE_HW

    def blob(x: float, y: float, radius: float) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        reach = radius * rng.uniform(0.8, 1.2, CORNERS)
        corners = np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)
        return corners.clip(0, (width, height)).ravel()

    images, annotations, rows = [], [], []
    for image in range(1, num_images + 1):
        images.append({"id": image, "file_name": f"{image}.jpg", "height": height, "width": width})
        x, y = rng.uniform(20, width - 20, num_objects), rng.uniform(20, height - 20, num_objects)
        radius = np.exp(rng.uniform(np.log(6), np.log(80), num_objects))
        classes = rng.integers(1, CLASSES + 1, num_objects)
        masks = polygons_to_rles([blob(*one) for one in zip(x, y, radius, strict=True)], SIZE_HW)
        boxes, areas = rle_boxes_xywh(masks), rle_areas(masks)
        for mask, box, area, category in zip(masks, boxes, areas, classes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(category),
                    "segmentation": rle_to_json(mask),
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": 0,
                }
            )
        is_near = rng.random(num_objects) < 0.8
        x = np.where(
            is_near, x + rng.normal(0, 0.15, num_objects) * radius, rng.uniform(0, width, num_objects)
        )
        y = np.where(
            is_near, y + rng.normal(0, 0.15, num_objects) * radius, rng.uniform(0, height, num_objects)
        )
        is_other = is_near & (rng.random(num_objects) < 0.1)
        classes = np.where(is_other, rng.integers(1, CLASSES + 1, num_objects), classes)
        masks = polygons_to_rles([blob(*one) for one in zip(x, y, radius, strict=True)], SIZE_HW)
        for mask, box, category in zip(masks, rle_boxes_xywh(masks), classes, strict=True):
            rows.append(
                {
                    "image_id": image,
                    "category_id": int(category),
                    "segmentation": rle_to_json(mask),
                    "bbox": box.tolist(),
                    "score": round(float(rng.random()), 4),
                }
            )
    categories = [{"id": number, "name": str(number)} for number in range(1, CLASSES + 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(rows))


def run_paddlex_seg(folder: Path) -> dict[str, Any]:
    """The side of this toolkit."""
    from dataclasses import astuple

    from paddlex_seg.data.coco.read import read_coco
    from paddlex_seg.data.coco.results import read_results
    from paddlex_seg.metrics.coco_ap import evaluate_coco

    start = time.perf_counter()
    coco = read_coco(folder / "truth.json")
    results = read_results(folder / "found.json", coco).instances
    read = time.perf_counter()
    metrics = evaluate_coco(coco, results, [category.id for category in coco.categories])
    return _measured(start, read, [*astuple(metrics.segm), *astuple(metrics.bbox)])


def run_pycocotools(folder: Path) -> dict[str, Any]:
    """The side of pycocotools. Masks are evaluated without ``bbox``, which would change their areas."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    start = time.perf_counter()
    figures: list[float] = []
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        rows = json.loads((folder / "found.json").read_text())
        read = time.perf_counter()
        for kind, unused in (("segm", "bbox"), ("bbox", "segmentation")):
            found = truth.loadRes([{key: row[key] for key in row if key != unused} for row in rows])
            evaluation = COCOeval(truth, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            figures += evaluation.stats.tolist()
    return _measured(start, read, figures)


def _measured(start: float, read: float, figures: list[Any]) -> dict[str, Any]:
    end = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "evaluation": round(end - read, 2),
        "with_reading": round(end - start, 2),
        "memory_mb": round(memory),
        "figures": figures,
    }


SIDES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "paddlex_seg": run_paddlex_seg,
    "pycocotools": run_pycocotools,
}


if __name__ == "__main__":
    main()
