"""Writes COCO annotation files."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.masks.rle import segmentation_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord


def write_coco(coco: CocoFile, path: Path) -> None:
    """Write ``coco`` to ``path`` atomically. ``read_coco`` returns the same content, except the path.

    RLE counts that are bytes in memory are written as text, and read back as text.
    """
    write_bytes(path, coco_to_json(coco).encode())


def coco_to_json(coco: CocoFile) -> str:
    """The text of the annotation file.

    It is strict JSON, which has no NaN: such values under other keys, such as a score, become null.
    """
    document = {
        **coco.extra,
        "images": [_image_entry(record) for record in coco.images],
        "annotations": [annotation_entry(annotation) for annotation in coco.annotations],
        "categories": [_category_entry(category) for category in coco.categories],
    }
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair in a text of the user; JSON has an escape for it
        return json.dumps(document, allow_nan=False)
    except ValueError:
        return coco_to_json(_without_nan(coco))
    return text


def _image_entry(record: ImageRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "file_name": record.file_name,
        "width": record.width,
        "height": record.height,
        **record.extra,
    }


def _category_entry(category: Category) -> dict[str, Any]:
    return {
        "id": category.id,
        "name": category.name,
        "supercategory": category.supercategory,
        **category.extra,
    }


def annotation_entry(annotation: Annotation) -> dict[str, Any]:
    """The record of an annotation in a file."""
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
    return {**entry, **annotation.extra} if annotation.extra else entry


def _without_nan(coco: CocoFile) -> CocoFile:
    return replace(
        coco,
        images=tuple(replace(record, extra=_finite(record.extra)) for record in coco.images),
        annotations=tuple(replace(item, extra=_finite(item.extra)) for item in coco.annotations),
        categories=tuple(replace(category, extra=_finite(category.extra)) for category in coco.categories),
        extra=_finite(coco.extra),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
