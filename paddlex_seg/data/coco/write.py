"""Writes COCO annotation files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.masks.rle import segmentation_to_json
from paddlex_seg.structures import Annotation, CocoFile


def write_coco(coco: CocoFile, path: Path) -> None:
    """Write ``coco`` to ``path`` atomically. ``read_coco`` returns the same content, except the path.

    RLE counts that are bytes in memory are written as text, and read back as text.
    """
    write_bytes(path, coco_to_json(coco).encode())


def coco_to_json(coco: CocoFile) -> str:
    """The text of the annotation file."""
    document = {
        **coco.extra,
        "images": [asdict(record) for record in coco.images],
        "annotations": [_annotation_entry(annotation) for annotation in coco.annotations],
        "categories": [asdict(category) for category in coco.categories],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def _annotation_entry(annotation: Annotation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": annotation.id,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "segmentation": segmentation_to_json(annotation.segmentation),
        "iscrowd": int(annotation.iscrowd),
    }
    if annotation.bbox_xywh is not None:
        entry["bbox"] = list(annotation.bbox_xywh)
    if annotation.area is not None:
        entry["area"] = annotation.area
    return entry
