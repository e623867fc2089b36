"""Writes YOLO segmentation labels: ``images``, ``labels`` and ``data.yaml``.

If an object has several parts or holes, they are joined into one polygon by bridges of zero width. A fill
with the even-odd rule draws no pixel for such a bridge.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.target_files import (
    annotations_by_image,
    class_names,
    inside_name,
    place_image,
    unused,
)
from paddlex_seg.data.formats.yolo.lines import to_pixels
from paddlex_seg.data.images import image_size
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.outlines import Ring, join_rings, mask_to_rings
from paddlex_seg.masks.rle import annotation_to_rle, polygons_to_rle, rle_area, rle_iou, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord, Rle


def write_yolo(splits: Mapping[str, CocoFile], image_dir: Path, folder: Path) -> list[Finding]:
    """Write the data set into ``folder``: ``images/<split>``, ``labels/<split>`` and ``data.yaml``.

    Returns a finding for each annotation that was left out, or whose polygon, drawn by pycocotools, differs
    from its mask.
    """
    names = class_names(list(splits.values()))
    findings: list[Finding] = []
    for split, coco in splits.items():
        place = PurePosixPath("" if split == ALL else split)
        class_of_id = {category.id: names.index(category.name) for category in coco.categories}
        (folder / "images" / place).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / place).mkdir(parents=True, exist_ok=True)
        of_image = annotations_by_image(coco)
        for record, name in zip(coco.images, _target_names(coco, split), strict=True):
            image = folder / "images" / place / name
            missing = place_image(record, image_dir, image, coco.path.name)
            findings += missing or _turned(image, record, coco.path.name)
            if missing:
                continue
            lines = []
            for annotation in of_image[record.id]:
                line, found = _write_line(annotation, record, class_of_id, coco.path.name)
                lines += [line] if line else []
                findings += found
            labels = (folder / "labels" / place / name).with_suffix(".txt")
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _write_settings(folder / "data.yaml", list(splits), names)
    return findings


def _target_names(coco: CocoFile, split: str) -> list[PurePosixPath]:
    """Names below images/<split> with unique stems. A common first folder named like the split is removed."""
    names = [inside_name(record) for record in coco.images]
    if names and all(len(name.parts) > 1 and name.parts[0] == split for name in names):
        names = [PurePosixPath(*name.parts[1:]) for name in names]
    taken: set[PurePosixPath] = set()
    return [PurePosixPath(f"{unused(name.with_suffix(''), taken)}{name.suffix}") for name in names]


def _turned(image: Path, record: ImageRecord, file: str) -> list[Finding]:
    """A finding if the annotations are not made for the upright image, which YOLO's coordinates refer to."""
    try:
        shown_hw = image_size(image).shown_hw
    except DatasetError as error:
        return [finding("image_corrupt", file, str(error).rstrip("."), image_id=record.id)]
    if shown_hw == (record.height, record.width):
        return []
    listed_hw = (record.height, record.width)
    message = f"the upright image is {shown_hw} (height, width), but the annotation file lists {listed_hw}"
    return [finding("image_size_mismatch", file, message, image_id=record.id)]


def _write_line(
    annotation: Annotation, record: ImageRecord, class_of_id: Mapping[Id, int], file: str
) -> tuple[str, list[Finding]]:
    """The line, empty if the annotation cannot be written, and findings about what was lost."""
    mask = annotation_to_rle(annotation, record.height, record.width)
    line, message = "", ""
    if annotation.iscrowd:
        message = "the annotation is a crowd region, which YOLO does not support; it was left out"
    elif not rle_area(mask):
        message = "the mask covers no pixel; the annotation was left out"
    else:
        values, iou = _best_polygon(annotation, mask, record)
        line = " ".join([str(class_of_id[annotation.category_id]), *values])
        if iou < 1:
            message = f"the polygon has an IoU of {iou:.3f} with the mask"
    if not message:
        return line, []
    return line, [
        finding("mask_approximated", file, message, image_id=record.id, annotation_id=annotation.id)
    ]


def _best_polygon(annotation: Annotation, mask: Rle, record: ImageRecord) -> tuple[list[str], float]:
    """The joined polygons if they draw exactly the mask, else the outline of the mask; and the IoU."""
    if not isinstance(annotation.segmentation, Mapping):
        parts = [np.reshape(part, (-1, 2)).astype(float) for part in annotation.segmentation]
        values = _normalised(join_rings(parts), record)
        # Readers take coordinates far beyond 1 for pixels. The IoU is less than 1 if parts overlap.
        if max(map(abs, map(float, values))) <= 2 and _drawn_iou(values, mask, record) == 1:
            return values, 1.0
    values = _normalised(join_rings(mask_to_rings(rle_to_mask(mask).astype(bool))), record)
    return values, _drawn_iou(values, mask, record)


def _normalised(ring: Ring, record: ImageRecord) -> list[str]:
    return [f"{value:.12g}" for value in (ring / (record.width, record.height)).ravel().tolist()]


def _drawn_iou(values: Sequence[str], mask: Rle, record: ImageRecord) -> float:
    """The IoU of ``mask`` and the mask that a reader draws from these coordinates."""
    size_hw = (record.height, record.width)
    polygon = to_pixels([float(value) for value in values], (record.width, record.height))
    return rle_iou(polygons_to_rle([polygon], size_hw), mask)


def _write_settings(path: Path, splits: Sequence[str], names: Sequence[str]) -> None:
    """Write data.yaml. Readers require ``val``; without a val split it gets the images of ``train``."""
    places = {split: f"images/{split}" for split in splits if split != ALL}
    train = places.get("train", "images")
    settings = {"train": train, "val": train, **places, "nc": len(names), "names": dict(enumerate(names))}
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
