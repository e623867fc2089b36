"""Ways to read a mask that is in none of COCO's forms, and the proof that decides between them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paddlex_seg.masks.rle import rle_area, rle_box_xywh, segmentation_to_rle
from paddlex_seg.structures import Rle

MAX_PIXELS = 10**9  # of an image in which masks are drawn to compare them

# "none": the form has no other meaning. "close": box and area of the record must fit the mask.
# "exact": they must be those of the mask.
Proof = Literal["none", "close", "exact"]


@dataclass(frozen=True)
class Reading:
    """One way to read a mask: the mask in COCO's form, and the proof that this reading needs."""

    segmentation: Any
    proof: Proof = "none"


@dataclass(frozen=True)
class OddMask:
    """What a mask is that is in none of COCO's forms."""

    code: str  # of the finding
    message: str  # continues a sentence that starts with "segmentation"
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What the other values of a record, and its image, say about the mask. None: nothing usable."""

    size_hw: tuple[int, int] | None = None
    box_xywh: tuple[float, float, float, float] | None = None
    area: float | None = None

    def fits(self, mask: Rle, proof: Proof) -> bool:
        """Whether the box is around the mask, and the area that of the mask."""
        if self.box_xywh is None or self.size_hw is None:
            return False
        x, y, width, height = self.box_xywh
        limit = np.tile(self.size_hw[::-1], 2)
        left, top, mask_width, mask_height = rle_box_xywh(mask).tolist()
        found = np.array([left, top, left + mask_width, top + mask_height])
        # A box of [x1, y1, x2, y2] is evidence too.
        boxes = np.clip([[x, y, x + width, y + height], [x, y, width, height]], 0, limit)
        if np.abs(boxes - found).max(axis=1).min() > {"none": 1.5, "close": 1.5, "exact": 0.6}[proof]:
            return False
        if self.area is None or math.isclose(self.area, width * height, rel_tol=1e-3):
            return True  # a file with the areas of boxes says no more than the boxes
        pixels = rle_area(mask)
        # The area of a polygon differs from the pixels of its mask by up to half a pixel along the outline.
        tolerance = 0.6 if proof == "exact" else 0.02 * pixels + 1.2 * (mask_width + mask_height) + 2
        return abs(self.area - pixels) <= tolerance


def evidence_of(record: Mapping[str, Any], size_hw: tuple[int, int] | None) -> Evidence:
    """The usable values of an annotation. ``size_hw``: of its image, None if unknown."""
    box, area = box_numbers(record), number_or_none(record.get("area"))
    return Evidence(
        size_hw=size_hw if size_hw is not None and size_hw[0] * size_hw[1] <= MAX_PIXELS else None,
        box_xywh=box if box is not None and min(box[2:]) > 0 else None,
        area=area if area is not None and area > 0 else None,
    )


def box_numbers(record: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """The four numbers of the box of an annotation, also if they are text; None if there are not four."""
    box = record.get("bbox")
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return None
    x, y, width, height = (number_or_none(value) for value in box)
    return None if x is None or y is None or width is None or height is None else (x, y, width, height)


def only_reading(readings: Sequence[Reading], evidence: Evidence) -> Any:
    """The mask, if exactly one reading of it is possible; otherwise None."""
    sure = [reading for reading in readings if reading.proof == "none"]
    if len(readings) == len(sure) == 1:
        return sure[0].segmentation
    if evidence.size_hw is None:
        return None
    masks = [segmentation_to_rle(reading.segmentation, evidence.size_hw) for reading in readings]
    proven = {
        mask["counts"]: reading.segmentation
        for mask, reading in zip(masks, readings, strict=True)
        if evidence.fits(mask, reading.proof)
    }
    possible = proven or {
        mask["counts"]: reading.segmentation
        for mask, reading in zip(masks, readings, strict=True)
        if reading.proof == "none"
    }
    return next(iter(possible.values())) if len(possible) == 1 else None


def number_or_none(value: Any) -> float | None:
    """A finite number, also from text such as "12.5"; otherwise None."""
    if type(value) is str and value.isascii() and "_" not in value:
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if type(value) not in (int, float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float can hold
        return None


def whole_or_none(value: Any) -> int | None:
    """A whole number, also from 3.0 and "3"; otherwise None."""
    number = number_or_none(value)
    return int(number) if number is not None and number == int(number) else None
