"""Which of several ways to read a mask is right. The box and the area of its record decide."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from paddlex_seg.data.coco.wrong_value import number_of
from paddlex_seg.masks.rle import rle_area, rle_box_xywh, segmentation_to_rle
from paddlex_seg.structures import Rle

_MAX_PIXELS = 10**9  # of an image in which masks are drawn to compare them

_Size = tuple[int, int]  # height, width

CLOSE = 1.5  # pixels: boxes of polygons differ that much from those of pixels
EXACT = 0.6  # pixels: for boxes of the pixels themselves


class Reading(NamedTuple):
    """One way to read a mask: the mask in COCO's form, and the proof that this reading needs."""

    mask: Any
    # How far the box of the record may be from that of the mask, in pixels. None: it needs no proof.
    slack: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What the other values of a record, and its image, say about the mask. None: nothing usable."""

    size_hw: _Size | None = None
    bbox: tuple[float, float, float, float] | None = None  # as in the file, also without an area
    area: float | None = None

    @property
    def box_xywh(self) -> tuple[float, float, float, float] | None:
        """The box, if it has an area."""
        return self.bbox if self.bbox is not None and min(self.bbox[2:]) > 0 else None

    def only(self, readings: Sequence[Reading]) -> Any:
        """The mask, if exactly one reading is possible; otherwise None."""
        if len(readings) == 1 and readings[0].slack is None:
            return readings[0].mask
        if self.size_hw is None:
            return None
        proven, sure = {}, {}
        for mask, slack in readings:
            rle = segmentation_to_rle(mask, self.size_hw)
            if self.fits(rle, slack or CLOSE):
                proven[rle["counts"]] = mask
            elif slack is None:
                sure[rle["counts"]] = mask
        possible = list((proven or sure).values())
        return possible[0] if len(possible) == 1 else None

    def fits(self, mask: Rle, slack: float) -> bool:
        """Whether the box is around the mask, and the area that of the mask."""
        if self.box_xywh is None:
            return False
        x, y, width, height = self.box_xywh
        left, top, mask_width, mask_height = rle_box_xywh(mask).tolist()
        # A box of [x1, y1, x2, y2] is evidence too.
        boxes = np.clip([[x, y, x + width, y + height], [x, y, width, height]], 0, mask["size"][::-1] * 2)
        far = np.abs(boxes - [left, top, left + mask_width, top + mask_height]).max(axis=1).min()
        if far > slack:
            return False
        if self.area is None or math.isclose(self.area, width * height, rel_tol=1e-3):
            return True  # a file with the areas of boxes says no more than the boxes
        pixels = rle_area(mask)
        # The area of a polygon differs from the pixels of its mask by up to half a pixel along the outline.
        tolerance = slack if slack == EXACT else 0.02 * pixels + 1.2 * (mask_width + mask_height) + 2
        return abs(self.area - pixels) <= tolerance


def evidence_of(record: Mapping[str, Any], size_hw: _Size | None) -> Evidence:
    """The usable values of an annotation. ``size_hw``: of its image, None if unknown."""
    box, area = record.get("bbox"), number_or_none(record.get("area"))
    sides = [number_or_none(value) for value in box] if isinstance(box, (list, tuple)) else []
    numbers = [side for side in sides if side is not None]
    return Evidence(
        size_hw=size_hw if size_hw is not None and size_hw[0] * size_hw[1] <= _MAX_PIXELS else None,
        bbox=(numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == len(sides) == 4 else None,
        area=area if area is not None and area > 0 else None,
    )


def number_or_none(value: Any) -> float | None:
    """A finite number, also from text such as "12.5"; otherwise None."""
    if isinstance(value, str):
        value = number_of(value)
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
