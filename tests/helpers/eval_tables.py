"""COCO documents and rows of results, as of `eval_problems`, as the types and match tables of the toolkit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_seg.masks.rle import rle_boxes_xywh, rle_from_json
from paddlex_seg.metrics.overlaps import Overlaps, measure_overlaps
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord, Instances


def coco_of(document: Mapping[str, Any]) -> CocoFile:
    return CocoFile(
        path=Path("val.json"),
        images=tuple(
            ImageRecord(one["id"], f"{one['id']}.png", one["width"], one["height"])
            for one in document["images"]
        ),
        annotations=tuple(
            Annotation(
                id=one["id"],
                image_id=one["image_id"],
                category_id=one["category_id"],
                segmentation=one["segmentation"],
                bbox_xywh=None,
                area=None,
                iscrowd=bool(one.get("iscrowd", 0)),
            )
            for one in document["annotations"]
        ),
        categories=tuple(Category(one["id"], one["name"]) for one in document["categories"]),
    )


def results_of(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[Id, Instances]:
    """The rows by image id, in the order given. The class index is the position of the category."""
    class_of = {one["id"]: index for index, one in enumerate(document["categories"])}
    results: dict[Id, Instances] = {}
    for image in document["images"]:
        own = [row for row in rows if row["image_id"] == image["id"]]
        masks = tuple(rle_from_json(row["segmentation"]) for row in own)
        boxes = rle_boxes_xywh(masks)
        boxes[:, 2:] += boxes[:, :2]
        results[image["id"]] = Instances(
            size_hw=(image["height"], image["width"]),
            class_ids=np.array([class_of[row["category_id"]] for row in own], np.int64),
            scores=np.array([row["score"] for row in own], np.float32),
            boxes_xyxy=boxes.astype(np.float32),
            masks=masks,
        )
    return results


def overlaps_of(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Overlaps:
    ids = [one["id"] for one in document["categories"]]
    return measure_overlaps(coco_of(document), results_of(document, rows), ids)
