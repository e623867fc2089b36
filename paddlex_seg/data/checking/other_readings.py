"""Polygons that are valid in form, but whose numbers are no pixel coordinates: another reading explains them.

Rules report them. The repair corrects those that have exactly one reading, and deletes none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.measures import Measures
from paddlex_seg.data.coco.mask_evidence import evidence_of
from paddlex_seg.data.coco.odd_segmentations import OddMask, odd_numbers
from paddlex_seg.structures import CocoFile

_SLACK = 0.02  # normalised coordinates are 0..1; rounding and masks at the border reach a bit further

_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class OtherReadings:
    """Flags [n] and rows of annotations whose polygons have another reading."""

    normalised: _Flags  # coordinates 0..1
    percent: _Flags  # coordinates 0..100
    odd: Mapping[int, OddMask]  # by row

    @property
    def rows(self) -> _Flags:
        """Flags [n] of all of them."""
        rows = self.normalised | self.percent
        rows[list(self.odd)] = True
        return rows


def other_readings(coco: CocoFile, measures: Measures) -> OtherReadings:
    """The annotations of a file whose polygons have another reading."""
    normalised = _normalised(coco, measures)
    has_other_box = _has_box(measures) & ~_fits_box(measures, measures.outlines_xyxy)
    percent = has_other_box & ~normalised & _fits_box(measures, _scaled_outlines(measures, 0.01))
    suspect = ~measures.is_rle & ~normalised & ~percent & ((measures.reach_outside > 1) | has_other_box)
    odd = {}
    for row in np.flatnonzero(suspect).tolist():
        item = coco.annotations[row]
        height, width = measures.image_hw[row].tolist()
        record = {"bbox": item.bbox_xywh, "area": item.area}
        found = odd_numbers(item.segmentation, evidence_of(record, (int(height), int(width))))
        if found is not None:
            odd[row] = found
    return OtherReadings(normalised=normalised, percent=percent, odd=odd)


def repaired(coco: CocoFile, measures: Measures, found: OtherReadings, row: int) -> Any:
    """The mask of a row of ``found`` in pixels; None if there is not exactly one reading."""
    if row in found.odd:
        return found.odd[row].repaired
    height, width = measures.image_hw[row].tolist()
    factor = 1.0 if found.normalised[row] else 0.01
    scale = (factor * width, factor * height)
    polygons = coco.annotations[row].segmentation
    return [[round(value * scale[i % 2], 6) for i, value in enumerate(part)] for part in polygons]


def _normalised(coco: CocoFile, measures: Measures) -> _Flags:
    """Polygons with coordinates 0..1: all of the file or of an image, or with a box in pixels as proof."""
    outlines, polygon = measures.outlines_xyxy, ~measures.is_rle
    small = polygon & (outlines >= -_SLACK).all(axis=1) & (outlines <= 1 + _SLACK).all(axis=1)
    small &= (measures.image_hw > 2).all(axis=1)
    large = small & ((outlines[:, 2:] - outlines[:, :2]) > 0).all(axis=1)
    if not large.any() or small[polygon].all():
        return large
    others = np.bincount(measures.image_rows[polygon & ~small], minlength=len(coco.images))
    alone = large & (others[measures.image_rows] == 0)
    for row in np.flatnonzero(alone).tolist():  # whole numbers may be the pixel in the corner
        alone[row] = any(
            value != round(value) for part in coco.annotations[row].segmentation for value in part
        )
    return alone | (large & _has_box(measures) & _fits_box(measures, _scaled_outlines(measures, 1.0)))


def _scaled_outlines(measures: Measures, factor: float) -> NDArray[np.float64]:
    return measures.outlines_xyxy * np.tile(measures.image_hw[:, ::-1], 2) * factor


def _has_box(measures: Measures) -> _Flags:
    boxes = measures.file_boxes_xywh
    return ~measures.is_rle & ~np.isnan(boxes[:, 0]) & (boxes[:, 2:] > 0).all(axis=1)


def _fits_box(measures: Measures, outlines_xyxy: NDArray[np.float64]) -> _Flags:
    """Flags [n]: the box of the file is around the outline."""
    boxes = measures.file_boxes_xywh
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    sides = (outlines_xyxy[:, 2:] - outlines_xyxy[:, :2]).max(axis=1, initial=0)
    far: NDArray[np.float64] = np.abs(corners - outlines_xyxy).max(axis=1, initial=0)
    return far <= np.maximum(2, 0.02 * sides)
