"""Size, place, direction and contour of a mask, measured in pixels.

(0, 0) is the top left corner of the top left pixel.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import rle_box_xywh, rle_window
from paddlex_seg.structures import Rle

# A shape has no direction if its long axis is longer than the other by at most 2 %, or by as much as pixels
# can make of a disc: 0.7 pixels of the radius, measured on small discs.
_ROUND, _ROUND_PIXELS = 0.02, 0.7
_STEPS = 1.0  # pixels; a slanted line of pixels has steps, which would make it up to 8 % too long


@dataclass(frozen=True)
class MaskMeasures:
    """What `measure` found. Centre and orientation are None for an empty mask."""

    area: int  # pixels
    centre_xy: tuple[float, float] | None
    orientation: float | None  # degrees, see `measure`
    contour_length: float  # pixels


def measure(rle: Rle) -> MaskMeasures:
    """Measure one mask.

    The centre is the mean of all pixels. Orientation is the angle of the long axis, the direction in which
    the pixels spread most: 0 is horizontal, 45 rises to the right, 90 is vertical, -45 falls to the right;
    above -90 up to 90. None for shapes without a long axis, such as discs and squares. Contour length is that
    of the outer contours of all parts, without holes. Steps of up to one pixel are smoothed.
    """
    left, top, width, height = (int(value) for value in rle_box_xywh(rle))
    if not width or not height:
        return MaskMeasures(0, None, None, 0.0)
    mask = rle_window(rle, (left, top, left + width, top + height))
    found = cv2.moments(mask, binaryImage=True)
    area = found["m00"]
    centre = (left + found["m10"] / area + 0.5, top + found["m01"] / area + 0.5)
    return MaskMeasures(int(area), centre, _orientation(found), _contour_length(mask))


def _orientation(moments: dict[str, float]) -> float | None:
    area = moments["m00"]
    # A pixel is a square, which spreads by 1/12. It keeps a single pixel and a thin line finite.
    across, down = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12
    shared = moments["mu11"] / area
    middle, reach = (across + down) / 2, math.hypot((across - down) / 2, shared)
    longer = math.sqrt((middle + reach) / (middle - reach)) - 1
    if longer <= max(_ROUND, _ROUND_PIXELS / math.sqrt(area / math.pi)):
        return None
    # y grows downwards in images. Adding 0 turns -0 into 0.
    degrees = math.degrees(math.atan2(-2 * shared, across - down) / 2) + 0.0
    return degrees if degrees > -90 else 90.0


def _contour_length(mask: NDArray[np.uint8]) -> float:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    lengths = (cv2.arcLength(cv2.approxPolyDP(one, _STEPS, closed=True), closed=True) for one in contours)
    # The contour passes through the centres of the outer pixels. Half a pixel outwards, it is pi longer.
    return sum(lengths) + math.pi * len(contours)
