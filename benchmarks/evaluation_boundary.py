"""Boundary AP: this toolkit and faster-coco-eval, in one run.

    python benchmarks/evaluation_boundary.py [--images 200] [--masks 100] [--rounds 3]

Images of 480 x 640 pixels with ``--masks`` objects and as many detections of 20 classes, from a seed. The
sides take turns, so that other work on the machine hits both; medians are printed. Both start from
annotations and results in memory, as RLE. Ours measures the overlaps of the masks, then the boundaries, then
AP; faster-coco-eval evaluates with ``iouType="boundary"``, with up to four threads. The precision
arrays must be equal to 1e-9.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from sides import machine_and_date

from paddlex_seg.masks.rle import mask_to_rle, rle_area, rle_box_xywh
from paddlex_seg.metrics.boundary import boundary_overlaps
from paddlex_seg.metrics.matching import average_precision, match
from paddlex_seg.metrics.overlaps import measure_overlaps, truth_of
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord, Instances

SIZE_HW, NUM_CLASSES = (480, 640), 20


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    print(machine_and_date(), flush=True)
    coco, results = make_problem(options.images, options.masks)
    document, rows = as_json(coco, results)
    times: dict[str, list[float]] = {"ours": [], "of it, boundaries": [], "faster-coco-eval": []}
    for _ in range(options.rounds):
        own, seconds, boundaries = measure_ours(coco, results)
        times["ours"].append(seconds)
        times["of it, boundaries"].append(boundaries)
        other, seconds = measure_other(document, rows)
        times["faster-coco-eval"].append(seconds)
        assert np.abs(own - other).max() <= 1e-9, "the precision arrays differ"
    for side, seconds_of in times.items():
        print(f"{side:20} {median(seconds_of):7.2f} s")
    print(f"ratio {median(times['faster-coco-eval']) / median(times['ours']):.1f}")
    print(f"boundary AP {own[own > -1].mean():.6f}, equal to 1e-9")
    return 0


def make_problem(num_images: int, num_masks: int) -> tuple[CocoFile, dict[Id, Instances]]:
    """Objects of about 20 to 110 pixels; each detection is one of them, shifted and of another size."""
    rng = np.random.default_rng(0)
    annotations: list[Annotation] = []
    results: dict[Id, Instances] = {}
    for image_id in range(1, num_images + 1):
        centres = rng.uniform(0, (SIZE_HW[1], SIZE_HW[0]), (num_masks, 2))
        axes = rng.uniform(10, 55, (num_masks, 2))
        angles = rng.uniform(0, 180, num_masks)
        classes = rng.integers(NUM_CLASSES, size=num_masks)
        for place in range(num_masks):
            rle = mask_to_rle(ellipse(centres[place], axes[place], angles[place]))
            annotations.append(
                Annotation(len(annotations) + 1, image_id, int(classes[place]) + 1, {**rle}, area=None)
            )
        moved = centres + rng.normal(0, 2, centres.shape), axes * rng.uniform(0.85, 1.15, axes.shape)
        masks = tuple(
            mask_to_rle(ellipse(centre, axis, angle))
            for centre, axis, angle in zip(*moved, angles, strict=True)
        )
        results[image_id] = Instances(
            size_hw=SIZE_HW,
            class_ids=classes,
            scores=rng.random(num_masks).astype(np.float32),
            boxes_xyxy=np.zeros((num_masks, 4), np.float32),
            masks=masks,
        )
    images = tuple(ImageRecord(i, f"{i}.jpg", SIZE_HW[1], SIZE_HW[0]) for i in range(1, num_images + 1))
    categories = tuple(Category(k, f"class {k}") for k in range(1, NUM_CLASSES + 1))
    return CocoFile(Path("val.json"), images, tuple(annotations), categories), results


def ellipse(centre: NDArray[np.float64], axes: NDArray[np.float64], angle: float) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.ellipse(mask, centre.astype(int).tolist(), axes.astype(int).tolist(), angle, 0, 360, 1, -1)
    return mask


def as_json(coco: CocoFile, results: dict[Id, Instances]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same for faster-coco-eval."""
    document = {
        "images": [{"id": one.id, "height": one.height, "width": one.width} for one in coco.images],
        "categories": [{"id": one.id, "name": one.name} for one in coco.categories],
        "annotations": [
            {
                "id": one.id,
                "image_id": one.image_id,
                "category_id": one.category_id,
                "segmentation": one.segmentation,
                "area": rle_area(one.segmentation),
                "bbox": rle_box_xywh(one.segmentation).tolist(),
                "iscrowd": 0,
            }
            for one in coco.annotations
        ],
    }
    rows = [
        {"image_id": id, "category_id": k + 1, "segmentation": mask, "score": score}
        for id, found in results.items()
        for k, score, mask in zip(found.class_ids.tolist(), found.scores.tolist(), found.masks, strict=True)
    ]
    return document, rows


def measure_ours(coco: CocoFile, results: dict[Id, Instances]) -> tuple[NDArray[np.float64], float, float]:
    """[T, 101, K] precision, seconds, and those of the boundaries among them."""
    start = time.perf_counter()
    truth = truth_of(coco)
    ids = [one.id for one in coco.categories]
    overlaps = measure_overlaps(coco, results, ids, truth=truth, across_classes=False)
    middle = time.perf_counter()
    table = boundary_overlaps(overlaps, coco, results, truth=truth)
    boundaries = time.perf_counter() - middle
    precision = average_precision(table, match(table))
    return precision, time.perf_counter() - start, boundaries


def measure_other(document: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[NDArray[np.float64], float]:
    """[T, 101, K] precision, and seconds."""
    document = {**document, "annotations": [dict(one) for one in document["annotations"]]}
    rows = [dict(row) for row in rows]
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(document)
        evaluation = COCOeval_faster(truth, truth.loadRes(rows), iouType="boundary")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, -1], time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())
