"""Detection of problems with masks, boxes and areas. Rules report them, repairs correct them."""

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.measures import Measures, drawn
from paddlex_seg.data.coco.numbers import area_fits, box_fits
from paddlex_seg.structures import CocoFile


def empty_masks(coco: CocoFile, measures: Measures) -> NDArray[np.bool_]:
    """Flags [n] of masks that cover no pixel although they have an area: too small, or outside the image."""
    x1, y1, x2, y2 = measures.cut_outlines_xyxy.T
    suspect = ~measures.is_flat & (np.minimum(x2 - x1, y2 - y1) <= 1.5) | (measures.areas < 4)
    rows = np.flatnonzero(suspect & ~measures.is_flat)
    empty = np.zeros(len(measures.areas), bool)
    empty[rows[drawn(coco, rows)[0] == 0]] = True
    return empty


def is_object_by_box(measures: Measures) -> NDArray[np.bool_]:
    """Flags [n]: the box of the file is inside the image, and another one than that of the mask.

    A mask that covers nothing is then no proof that there is no object. A mask outside the image is none
    either, if it fits when width and height are swapped.
    """
    boxes = measures.file_boxes_xywh
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    inside = np.clip(corners, 0, np.tile(measures.image_hw[:, ::-1], 2))
    has_box = (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)  # NaN where the file has no box
    outlines = measures.outlines_xyxy
    sides = (outlines[:, 2:] - outlines[:, :2]).max(axis=1, initial=0)
    differs = np.abs(corners - outlines).max(axis=1, initial=0) > np.maximum(2, 0.02 * sides)
    turned = np.tile(measures.image_hw, 2)
    fits_turned = (outlines >= -1).all(axis=1) & (outlines <= turned + 1).all(axis=1)
    return (has_box & differs) | (fits_turned & (measures.reach_outside > 1))


def box_problems(coco: CocoFile, measures: Measures) -> dict[str, NDArray[np.bool_]]:
    """Flags [n] of annotations with a problem, by finding code."""
    x, y, width, height = measures.file_boxes_xywh.T
    missing = np.isnan(x)
    negative = (width < 0) | (height < 0)
    zero = ((width == 0) | (height == 0)) & ~negative
    box = np.stack([x, y, x + width, y + height], axis=1)
    outlines = measures.outlines_xyxy
    sides = (outlines[:, 2:] - outlines[:, :2]).max(axis=1) if len(outlines) else np.zeros(0)
    tolerance = np.maximum(2, 0.02 * sides)

    def far_from(other: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.abs(box[rows] - other).max(axis=1) > tolerance[rows]

    def is_unused(other: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        xywh = np.concatenate([other[:, :2], other[:, 2:] - other[:, :2]], axis=1)
        return ~box_fits(measures.file_boxes_xywh[rows], xywh, measures.is_crowd[rows])

    rows = np.flatnonzero(~missing & ~negative & ~zero & ~measures.is_flat)
    cut = measures.cut_outlines_xyxy
    is_far = far_from(outlines[rows], rows) & far_from(cut[rows], rows)
    is_replaced = is_unused(outlines[rows], rows) & is_unused(cut[rows], rows)
    suspect = is_far | is_replaced
    rows, is_far, is_replaced = rows[suspect], is_far[suspect], is_replaced[suspect]
    areas, drawn_boxes = drawn(coco, rows)
    drawn_boxes[:, 2:] += drawn_boxes[:, :2]
    mismatch, rounded = np.zeros((2, len(missing)), bool)
    mismatch[rows] = is_far & far_from(drawn_boxes, rows) & (areas > 0)
    rounded[rows] = ~mismatch[rows] & is_replaced & is_unused(drawn_boxes, rows) & (areas > 0)
    return {
        "bbox_missing": missing,
        "bbox_negative": negative,
        "bbox_zero": zero,
        "bbox_mismatch": mismatch,
        "bbox_rounded": rounded,
    }


def area_problems(
    coco: CocoFile, measures: Measures
) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.float64]]:
    """Flags [n] of annotations with a problem, by finding code, and the mask areas [n].

    Areas are exact pixel counts where the area of the polygon differs from the area in the file.
    """
    areas = measures.areas.copy()
    missing = np.isnan(measures.file_areas)

    def differ(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        # The pixel count of a mask differs from the area of its polygon by up to half a pixel along the
        # outline.
        tolerance = 0.02 * areas[rows] + 0.6 * measures.perimeters[rows] + 2
        return np.abs(measures.file_areas[rows] - areas[rows]) > tolerance

    def is_unused(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return ~area_fits(measures.file_areas[rows], areas[rows], measures.is_crowd[rows])

    rows = np.flatnonzero(~missing & ~measures.is_flat)
    is_far, is_replaced = differ(rows), is_unused(rows)
    suspect = is_far | is_replaced
    rows, is_far, is_replaced = rows[suspect], is_far[suspect], is_replaced[suspect]
    areas[rows] = drawn(coco, rows)[0]
    is_replaced &= is_unused(rows) & (areas[rows] > 0)
    is_far &= differ(rows)
    is_far |= is_replaced & (measures.file_areas[rows] <= 0)
    rounded = rows[is_replaced & ~is_far]
    rows = rows[is_far]
    box_areas = np.prod(measures.file_boxes_xywh[rows, 2:], axis=1)
    of_box = np.isclose(measures.file_areas[rows], box_areas, rtol=1e-3, atol=0.5)
    of_box &= box_areas > 0
    flags = {code: np.zeros(len(areas), bool) for code in ("area_of_box", "area_mismatch", "area_rounded")}
    flags["area_rounded"][rounded] = True
    flags["area_of_box"][rows[of_box]] = True
    flags["area_mismatch"][rows[~of_box]] = True
    return {"area_missing": missing, **flags}, areas


def repeated_annotations(coco: CocoFile, measures: Measures) -> dict[int, int]:
    """Duplicate annotations with the same image, class and mask: row of the later one -> row of the first."""
    features = np.column_stack(
        [measures.image_rows, measures.class_ids, measures.areas, measures.perimeters, measures.outlines_xyxy]
    )
    order = np.lexsort(features.T)
    same_as_next = (features[order[1:]] == features[order[:-1]]).all(axis=1)
    repeated: dict[int, int] = {}
    for place in np.flatnonzero(same_as_next).tolist():
        first, second = sorted((int(order[place]), int(order[place + 1])))
        if coco.annotations[first].segmentation == coco.annotations[second].segmentation:
            repeated[second] = repeated.get(first, first)
    return repeated
