"""Repairs of annotations: ids, masks in other forms, polygons, boxes and areas.

An annotation is removed only if it is proved that it covers nothing. What has exactly one reading is repaired
to it. All else stays as it is, with its finding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from paddlex_seg.data.checking.mask_problems import (
    area_problems,
    box_problems,
    empty_masks,
    is_object_by_box,
)
from paddlex_seg.data.checking.measures import FLAT, drawn
from paddlex_seg.data.checking.other_readings import other_readings, repaired
from paddlex_seg.data.checking.repair.draft import Draft, Slot, highest_number
from paddlex_seg.data.coco.mask_evidence import whole_or_none
from paddlex_seg.data.coco.odd_segmentations import explain
from paddlex_seg.data.coco.read import ParsedCoco
from paddlex_seg.data.coco.segmentations import OddSegmentation, read_segmentation
from paddlex_seg.masks.rle import polygons_to_rle, rle_area, rle_box_xywh, segmentation_to_json


def repair_ids(draft: Draft) -> None:
    """Annotations without id, and those whose id is used before. The same record again is removed."""
    ids = [slot.id() for slot in draft.records("annotations")]
    highest = highest_number(ids)
    seen: dict[Any, Mapping[str, Any]] = {}
    for slot in draft.records("annotations"):
        id = slot.id()
        is_missing = slot.after.get("id") is None
        if id is not None and slot.after == seen.get(id):
            slot.remove("annotation_id_duplicate")
        elif is_missing or (id is not None and id in seen):
            highest += 1
            slot.change("annotation_entry_invalid" if is_missing else "annotation_id_duplicate", id=highest)
            seen[highest] = slot.after
        elif id is not None:
            seen[id] = slot.after


def repair_masks(draft: Draft) -> None:
    """Masks in other forms than COCO's, and polygons whose numbers are no pixels."""
    sizes_hw = {slot.id(): _listed_size(slot.after) for slot in draft.records("images")}
    for slot in draft.records("annotations"):
        _repair_form(slot, sizes_hw.get(slot.id("image_id")))
    parsed, measures, slots = draft.parse()
    found = other_readings(parsed.coco, measures)
    for row in np.flatnonzero(found.rows).tolist():
        segmentation = repaired(parsed.coco, measures, found, row)
        if segmentation is None:
            continue
        if found.normalised[row]:  # box and area have another unit too
            height, width = (int(side) for side in measures.image_hw[row])
            mask = polygons_to_rle(segmentation, (height, width))
            values = {"bbox": rle_box_xywh(mask).tolist(), "area": rle_area(mask)}
            slots[row].change("coordinates_normalised", segmentation=segmentation, **values)
        else:
            code = found.odd[row].code if row in found.odd else "coordinates_percent"
            slots[row].change(code, segmentation=segmentation)


def _listed_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = (whole_or_none(image.get(key)) for key in ("height", "width"))
    return None if height is None or width is None or min(height, width) < 1 else (height, width)


def _repair_form(slot: Slot, size_hw: tuple[int, int] | None) -> None:
    try:
        mask = read_segmentation(slot.after.get("segmentation"))
        if isinstance(mask, list) or size_hw is None or tuple(mask["size"]) == size_hw:
            return
    except OddSegmentation:
        pass
    found = explain(slot.after, size_hw)
    if found.repaired is not None:
        slot.change(found.code, segmentation=found.repaired)
    elif found.is_empty:
        slot.remove(found.code)


def repair_geometry(draft: Draft) -> None:
    """Polygons without area or beyond the image, and masks without pixels."""
    _repair_parts(draft)
    parsed, measures, slots = draft.parse()  # what is left of a mask may be empty
    stays = other_readings(parsed.coco, measures).rows | is_object_by_box(measures)
    stays |= _is_size_doubtful(draft, parsed)
    for row in np.flatnonzero(empty_masks(parsed.coco, measures) & ~stays):
        slots[row].remove("mask_empty")
    for row in np.flatnonzero(measures.is_flat & ~stays):
        slots[row].remove("polygon_zero_area")


def _repair_parts(draft: Draft) -> None:
    parsed, measures, slots = draft.parse()
    empty = empty_masks(parsed.coco, measures) | measures.is_flat
    kept = ~empty & ~other_readings(parsed.coco, measures).rows
    for row in np.flatnonzero(measures.has_flat_part & kept):
        _drop_flat_parts(slots[row])
    for row in np.flatnonzero((measures.reach_outside > 1) & kept & ~_is_size_doubtful(draft, parsed)):
        height, width = (int(side) for side in measures.image_hw[row])
        _cut(slots[row], height, width)


def _is_size_doubtful(draft: Draft, parsed: ParsedCoco) -> NDArray[np.bool_]:
    """Flags [n] of annotations of which nobody knows what lies outside their image."""
    return np.array([item.image_id in draft.doubtful_sizes for item in parsed.coco.annotations], bool)


def _drop_flat_parts(slot: Slot) -> None:
    corners = [np.array(part, float).reshape(-1, 2) for part in slot.after["segmentation"]]
    areas = [float(shapely.Polygon(xy).area) for xy in corners]
    solid = [part for part, area in zip(slot.after["segmentation"], areas, strict=True) if area >= FLAT]
    slot.change("polygon_zero_area", segmentation=solid)


def _cut(slot: Slot, height: int, width: int) -> None:
    """Cut polygons at the image border.

    The rasterised mask replaces the polygons if one of them crosses itself, or if the cut polygons cover no
    pixel.
    """
    frame = shapely.box(0, 0, width, height)
    polygons = [shapely.Polygon(np.array(part, float).reshape(-1, 2)) for part in slot.after["segmentation"]]
    segmentation: Any = polygons_to_rle(slot.after["segmentation"], (height, width))
    if all(polygon.is_valid for polygon in polygons):
        pieces = [shapely.get_parts(polygon.intersection(frame)) for polygon in polygons]
        solid = [piece for group in pieces for piece in group if piece.area >= FLAT]
        parts = [shapely.get_coordinates(piece.exterior)[:-1].reshape(-1).tolist() for piece in solid]
        if parts and rle_area(polygons_to_rle(parts, (height, width))):
            segmentation = parts
    slot.change("polygon_outside", segmentation=segmentation_to_json(segmentation))


def repair_numbers(draft: Draft) -> None:
    """Boxes and areas that are missing or do not fit the masks."""
    parsed, measures, slots = draft.parse()
    problems = {**box_problems(parsed.coco, measures), **area_problems(parsed.coco, measures)[0]}
    del problems["bbox_rounded"], problems["area_rounded"]  # as exact as many tools write them
    cut = np.array(["polygon_outside" in slot.codes for slot in slots], bool)
    # A box that says that there is an object must not become the empty one of its mask.
    unclear = other_readings(parsed.coco, measures).rows
    unclear |= is_object_by_box(measures) & (empty_masks(parsed.coco, measures) | measures.is_flat)
    flags = np.any([*problems.values(), cut], axis=0) & ~unclear if slots else np.zeros(0, bool)
    rows = np.flatnonzero(flags)
    areas, boxes = drawn(parsed.coco, rows)
    for row, area, box in zip(rows.tolist(), areas.tolist(), boxes.tolist(), strict=True):
        for code, flagged in problems.items():
            if flagged[row]:
                value = {"bbox": box} if code.startswith("bbox") else {"area": int(area)}
                slots[row].change(code, **value)
        if cut[row]:
            slots[row].change("polygon_outside", bbox=box, area=int(area))
