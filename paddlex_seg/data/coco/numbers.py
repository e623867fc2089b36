"""The box and the area of an annotated object: those of the file where they fit its mask, else the mask's.

Many tools write boxes of zeros, areas of 0 or the area of the box. Evaluation would use them to match boxes,
and to sort objects into small, medium and large. COCO's own numbers are computed from the corners of the
polygons, not from pixels. They fit, so that evaluation gives COCO's official figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import rle_areas, rle_boxes_xywh
from paddlex_seg.structures import Annotation, Rle

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]

_NO_BOX = (np.nan,) * 4
_MOST_OFF = 0.05  # part of the area, and of the union of the boxes
_ROUNDING = 0.1  # pixels between a written box and the corners of the polygon it was computed from
# COCO's boxes of crowd regions end at the last pixel, not behind it.
_ROUNDING_OF_CROWDS = 1.0


@dataclass(frozen=True)
class ObjectNumbers:
    """Boxes and areas of n objects in pixels, and where the file has other ones that do not fit the mask."""

    boxes_xywh: _Floats  # [n, 4]
    areas: _Floats  # [n]
    box_is_replaced: _Flags  # [n]
    area_is_replaced: _Flags  # [n]


def object_numbers(annotations: Sequence[Annotation], masks: Sequence[Rle]) -> ObjectNumbers:
    """The numbers to use for these annotations, whose masks are ``masks``."""
    boxes, areas, is_crowd = file_boxes(annotations), file_areas(annotations), crowd_flags(annotations)
    mask_boxes, mask_areas = rle_boxes_xywh(masks), rle_areas(masks)
    # Compared with pixels first, because most numbers fit them.
    no_box = ~box_fits(boxes, mask_boxes, is_crowd)
    no_area = ~area_fits(areas, mask_areas, is_crowd)
    rows = np.flatnonzero((no_box & ~np.isnan(boxes[:, 0])) | (no_area & ~np.isnan(areas)))
    for row in rows.tolist():
        corners = _corners(annotations[row])
        if corners is not None:
            height, width = masks[row]["size"]
            one = slice(row, row + 1)
            for outline in _outlines(corners, width, height):
                no_box[one] &= ~box_fits(boxes[one], outline, is_crowd[one])
            no_area[one] &= ~area_fits(areas[one], _polygon_area(corners), is_crowd[one])
    # The numbers of a mask without pixels are all 0.
    no_box &= (mask_areas > 0) | np.isnan(boxes[:, 0])
    no_area &= (mask_areas > 0) | np.isnan(areas)
    return ObjectNumbers(
        boxes_xywh=np.where(no_box[:, None], mask_boxes, boxes),
        areas=np.where(no_area, mask_areas, areas),
        box_is_replaced=no_box & ~np.isnan(boxes[:, 0]),
        area_is_replaced=no_area & ~np.isnan(areas),
    )


def file_boxes(annotations: Sequence[Annotation]) -> _Floats:
    """[n, 4] xywh: the boxes in the file, NaN where it has none."""
    return np.array([item.bbox_xywh or _NO_BOX for item in annotations], float).reshape(-1, 4)


def file_areas(annotations: Sequence[Annotation]) -> _Floats:
    """[n]: the areas in the file, NaN where it has none."""
    return np.array([np.nan if item.area is None else item.area for item in annotations], float)


def crowd_flags(annotations: Sequence[Annotation]) -> _Flags:
    """[n]: which annotations are crowd regions."""
    return np.array([item.iscrowd for item in annotations], bool)


def box_fits(boxes_xywh: _Floats, mask_boxes_xywh: _Floats, is_crowd: _Flags) -> _Flags:
    """[n]: whether a box in the file is that of the mask, up to 5 % of their union, or up to rounding."""
    box, other = _corners_of_boxes(boxes_xywh), _corners_of_boxes(mask_boxes_xywh)
    sides = np.minimum(box[:, 2:], other[:, 2:]) - np.maximum(box[:, :2], other[:, :2])
    shared = sides.clip(0).prod(axis=1)
    union = boxes_xywh[:, 2:].prod(axis=1) + mask_boxes_xywh[:, 2:].prod(axis=1) - shared
    slack = np.where(is_crowd, _ROUNDING_OF_CROWDS, _ROUNDING)
    is_close = (shared >= (1 - _MOST_OFF) * union) | (np.abs(box - other).max(axis=1) <= slack)
    return is_close & (boxes_xywh[:, 2:] > 0).all(axis=1)


def area_fits(areas: _Floats, mask_areas: _Floats | float, is_crowd: _Flags) -> _Flags:
    """[n]: whether an area in the file is that of the mask up to 5 %. That of a crowd is never used."""
    return (areas > 0) & (is_crowd | (np.abs(areas - mask_areas) <= _MOST_OFF * mask_areas))


def _corners_of_boxes(boxes_xywh: _Floats) -> _Floats:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def _corners(annotation: Annotation) -> list[_Floats] | None:
    """The corners [k, 2] of each polygon; None for an RLE."""
    if not isinstance(annotation.segmentation, list):
        return None
    return [np.reshape(np.array(part, float), (-1, 2)) for part in annotation.segmentation]


def _outlines(polygons: Sequence[_Floats], width: int, height: int) -> list[_Floats]:
    """Boxes [1, 4] xywh around all corners: whole, and cut at the border of the image."""
    corners = np.concatenate(polygons)
    inside = corners.clip(0, (width, height))
    return [
        np.concatenate([points.min(axis=0), np.ptp(points, axis=0)])[None] for points in (corners, inside)
    ]


def _polygon_area(polygons: Sequence[_Floats]) -> float:
    """The sum of the areas of the polygons, not cut at the border."""
    total = 0.0
    for corners in polygons:
        (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
        total += abs(float((x * next_y - next_x * y).sum())) / 2
    return total
