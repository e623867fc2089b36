"""Writes LabelMe: one JSON file of shapes for each image.

The conversion is lossless: objects that polygons cannot represent become shapes of type ``mask``.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.target_files import (
    annotations_by_image,
    class_names,
    inside_name,
    place_image,
    unused,
    write_lines,
)
from paddlex_seg.files.images import encode_image
from paddlex_seg.masks.rle import annotation_to_rle, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord

VERSION = "5.5.0"  # version of the file format


def write_labelme(splits: Mapping[str, CocoFile], image_dir: Path, folder: Path) -> list[Finding]:
    """Write the data set into ``folder``: images, LabelMe files, lists of the splits, and ``label.txt``.

    A polygon stays a polygon. Several polygons of one object share a ``group_id``. An RLE becomes a mask. A
    crowd region becomes a mask with the flag ``iscrowd``. ``read_labelme`` reads the same objects back.
    """
    findings: list[Finding] = []
    taken: set[PurePosixPath] = set()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for split, coco in splits.items():
        of_image, lines = annotations_by_image(coco), []
        label_of_id = {category.id: category.name for category in coco.categories}
        for record in coco.images:
            inside = inside_name(record)
            missing = place_image(record, image_dir, folder / "images" / inside, coco.path.name)
            findings += missing
            if missing:
                continue
            name = "annotations" / unused(inside.with_suffix(".json"), taken)
            shapes = _shapes(of_image[record.id], record, label_of_id, coco.path.name, findings)
            image_path = f"{'../' * (len(name.parts) - 1)}images/{inside}"
            text = labelme_text(shapes, image_path=image_path, size_hw=(record.height, record.width))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            lines.append(str(name))
        if split != ALL:
            write_lines(folder / f"{split}_anno_list.txt", lines)
    write_lines(folder / "label.txt", class_names(list(splits.values())))
    return findings


def _shapes(
    annotations: Sequence[Annotation],
    record: ImageRecord,
    label_of_id: Mapping[Id, str],
    file: str,
    findings: list[Finding],
) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = []
    next_group = 1
    for annotation in annotations:
        own = annotation_shapes(annotation, record, label_of_id[annotation.category_id], next_group)
        if not own:
            message = "the mask covers no pixel; the annotation was left out"
            findings.append(
                finding("mask_approximated", file, message, image_id=record.id, annotation_id=annotation.id)
            )
        shapes += own
        next_group += len(own) > 1
    return shapes


def annotation_shapes(
    annotation: Annotation, record: ImageRecord, label: str, group: int, **more: Any
) -> list[dict[str, Any]]:
    """The shapes of an annotation; none for a mask without pixels. See `polygon_shapes` for the rest."""
    if isinstance(annotation.segmentation, Mapping) or annotation.iscrowd:
        mask = rle_to_mask(annotation_to_rle(annotation, record.height, record.width))
        return [{**_mask_shape(label, mask, annotation.iscrowd), **more}] if mask.any() else []
    parts = annotation.segmentation
    return polygon_shapes(label, parts, group if len(parts) > 1 else None, **more)


def polygon_shapes(
    label: str, polygons: Sequence[Sequence[float]], group: int | None, description: str = "", **more: Any
) -> list[dict[str, Any]]:
    """The shapes of one object, one for each polygon ``[x1, y1, ...]``.

    group: a number that no other object of the image has, if there are several polygons; else None. Other
    keys are kept when LabelMe saves the file.
    """
    blank = {**_shape(label, group), "description": description, **more}
    points = ([[x, y] for x, y in zip(part[0::2], part[1::2], strict=True)] for part in polygons)
    return [{**blank, "points": corners} for corners in points]


def _mask_shape(label: str, mask: NDArray[np.uint8], iscrowd: bool) -> dict[str, Any]:
    """The mask inside its box as a PNG, and the top left and bottom right pixel of the box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = (int(index) for index in (rows[0], rows[-1], columns[0], columns[-1]))
    inside = Image.fromarray(mask[top : bottom + 1, left : right + 1].astype(bool))
    return {
        **_shape(label),
        "shape_type": "mask",
        "points": [[float(left), float(top)], [float(right), float(bottom)]],
        "mask": base64.b64encode(encode_image(inside, ".png")).decode("ascii"),
        "flags": {"iscrowd": True} if iscrowd else {},
    }


def _shape(label: str, group: int | None = None) -> dict[str, Any]:
    return {
        "label": label,
        "points": [],
        "group_id": group,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


def labelme_text(
    shapes: Sequence[Mapping[str, Any]],
    *,
    image_path: str,
    size_hw: tuple[int, int],
    embedded: bytes | None = None,
) -> str:
    """The text of a LabelMe file.

    image_path: relative to the folder of the file, with forward slashes. embedded: the content of an image
    file, which LabelMe shows instead.
    """
    document: dict[str, Any] = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None if embedded is None else base64.b64encode(embedded).decode("ascii"),
        "imageHeight": size_hw[0],
        "imageWidth": size_hw[1],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False)
