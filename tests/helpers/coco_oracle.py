"""pycocotools on the document that our reader hands on: positions as ids, boxes and areas as evaluated."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.metrics.overlaps import in_order, truth_of
from paddlex_seg.structures import CocoFile, Id, Instances


def truth_document(coco: CocoFile) -> dict[str, Any]:
    image, category, truth = numbers_of(coco.images), numbers_of(coco.categories), truth_of(coco)
    sizes = {one.id: {"height": one.height, "width": one.width} for one in coco.images}
    return {
        "images": [{"id": number, **sizes[id]} for id, number in image.items()],
        "categories": [{"id": number, "name": str(number)} for number in category.values()],
        "annotations": [
            {
                "id": number,
                "image_id": image[item.image_id],
                "category_id": category[item.category_id],
                "segmentation": mask,
                "bbox": box,
                "area": area,
                "iscrowd": int(item.iscrowd),
            }
            for number, (item, mask, box, area) in enumerate(
                zip(
                    coco.annotations,
                    truth.masks,
                    truth.boxes_xywh.tolist(),
                    truth.areas.tolist(),
                    strict=True,
                ),
                start=1,
            )
        ],
    }


def result_rows(
    coco: CocoFile, results: Mapping[Id, Instances], category_ids: Sequence[Id], kind: str
) -> list[dict[str, Any]]:
    image, category = numbers_of(coco.images), numbers_of(coco.categories)
    rows = []
    for image_id, found in results.items():
        for index, score, (x1, y1, x2, y2), mask in zip(
            found.class_ids, found.scores.tolist(), found.boxes_xyxy.tolist(), found.masks, strict=True
        ):
            part = (
                {"segmentation": rle_to_json(mask)}
                if kind == "segm"
                else {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            )
            number = category.get(category_ids[index], 0)
            rows.append({"image_id": image[image_id], "category_id": number, "score": score, **part})
    return rows


def run_pycocotools(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], kind: str, most: int = 100
) -> COCOeval:
    """An evaluation that is done, with at most 1, 10 and ``most`` detections."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(document)
        truth.createIndex()
        # loadRes changes its rows, and fails without any.
        found = truth.loadRes([dict(row) for row in rows]) if rows else COCO()
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.maxDets = [1, 10, most]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def twelve_figures(evaluation: COCOeval, classes: Any = slice(None)) -> list[float | None]:
    """COCO's figures in the order of its summary, over all classes or some."""
    precision = evaluation.eval["precision"][:, :, classes]  # [T, R, K, sizes, detections]
    recall = evaluation.eval["recall"][:, classes]  # [T, K, sizes, detections]
    chosen = [
        precision[..., 0, 2],
        precision[:1, ..., 0, 2],
        precision[5:6, ..., 0, 2],
        *(precision[..., size, 2] for size in (1, 2, 3)),
        *(recall[..., 0, most] for most in (0, 1, 2)),
        *(recall[..., size, 2] for size in (1, 2, 3)),
    ]
    return [_mean(values) for values in chosen]


def numbers_of(records: Sequence[Any]) -> dict[Id, int]:
    return {id: number for number, id in enumerate(in_order([one.id for one in records]), start=1)}


def _mean(values: np.ndarray) -> float | None:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None
