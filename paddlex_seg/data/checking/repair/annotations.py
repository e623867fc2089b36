"""Repairs of annotations: ids and references, polygons, boxes and areas."""

from typing import Any

import numpy as np
import shapely

from paddlex_seg.data.checking.mask_problems import (
    area_problems,
    box_problems,
    empty_masks,
    repeated_annotations,
)
from paddlex_seg.data.checking.measures import FLAT, drawn
from paddlex_seg.data.checking.repair.draft import Draft, Slot, highest_number
from paddlex_seg.masks.rle import polygons_to_rle, rle_area, segmentation_to_json
from paddlex_seg.structures import Id


def repair_references(draft: Draft) -> None:
    """Ids, references and lists of polygons."""
    image_ids = {slot.id() for slot in draft.records("images")}
    # If an image has no id, an unknown image_id may refer to it, so the annotation is kept.
    all_known = None not in image_ids and len(image_ids) > 0
    highest = highest_number(slot.id() for slot in draft.records("annotations"))
    seen: set[Id] = set()
    for slot in draft.records("annotations"):
        id, image_id = slot.id(), slot.id("image_id")
        if all_known and image_id is not None and image_id not in image_ids:
            slot.remove("image_id_dangling")
            continue
        is_missing = slot.after.get("id") is None
        if is_missing or id in seen:
            highest += 1
            slot.change("annotation_entry_invalid" if is_missing else "annotation_id_duplicate", id=highest)
            id = highest
        if id is not None:
            seen.add(id)
        _repair_polygon_lists(slot)


def _repair_polygon_lists(slot: Slot) -> None:
    parts = slot.after.get("segmentation")
    if isinstance(parts, list) and parts and all(type(value) in (int, float) for value in parts):
        parts = [parts]
        slot.change("polygon_flat_list", segmentation=parts)
    if isinstance(parts, list) and parts and all(isinstance(part, list) for part in parts):
        solid = [part for part in parts if len(part) >= 6 or len(part) % 2]
        if not solid:
            slot.remove("polygon_too_few_points")
        elif len(solid) < len(parts):
            slot.change("polygon_too_few_points", segmentation=solid)


def repair_geometry(draft: Draft) -> None:
    """Polygons without area or beyond the image, masks without pixels, and duplicate annotations."""
    parsed, measures, slots = draft.parse()
    coco = parsed.coco
    for row in repeated_annotations(coco, measures):
        slots[row].remove("annotation_duplicate")
    for row in np.flatnonzero(empty_masks(coco, measures)):
        slots[row].remove("mask_empty")
    for row in np.flatnonzero(measures.has_flat_part):
        _drop_flat_parts(slots[row], is_flat=bool(measures.is_flat[row]))
    for row in np.flatnonzero(measures.reach_outside > 1):
        if not slots[row].is_removed:
            height, width = (int(side) for side in measures.image_hw[row])
            _cut(slots[row], height, width)


def _drop_flat_parts(slot: Slot, is_flat: bool) -> None:
    if slot.is_removed:
        return
    if is_flat:
        slot.remove("polygon_zero_area")
        return
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
    rows = np.flatnonzero(np.any([*problems.values(), cut], axis=0)) if slots else np.zeros(0, np.int64)
    areas, boxes = drawn(parsed.coco, rows)
    for row, area, box in zip(rows.tolist(), areas.tolist(), boxes.tolist(), strict=True):
        for code, flags in problems.items():
            if flags[row]:
                value = {"bbox": box} if code.startswith("bbox") else {"area": int(area)}
                slots[row].change(code, **value)
        if cut[row]:
            slots[row].change("polygon_outside", bbox=box, area=int(area))
