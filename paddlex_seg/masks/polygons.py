"""Converts masks to polygons."""

from collections import defaultdict
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.outlines import Ring, join_rings, mask_to_rings
from paddlex_seg.masks.rle import mask_to_rle, polygons_to_rle, rle_box_xywh, rle_iou, rle_window
from paddlex_seg.structures import Rle

_SMALLEST_IOU = 0.98  # of the polygons and the mask
_TOLERANCES = (1.0, 0.75, 0.6)  # pixels from the exact outline; a slanted line of pixels needs 0.71
_MOST_SIMPLIFIED = 500  # parts of a mask; more are noise, and comparing them would take minutes
_MOST_AREA_LOST = 0.05  # part of the area in an outline, so that small holes and parts stay what they are


def mask_to_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons ``[x1, y1, x2, y2, ...]`` around the parts of ``mask`` [H, W], near the edges of its pixels.

    Holes are filled and parts smaller than 3x3 pixels are left out. `rle_to_polygons` keeps them.
    """
    scale = 4  # contours pass through pixel centres; on a finer grid these are close to the pixel edges
    fine = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in contours:
        outline = cv2.approxPolyDP(contour, epsilon=0.6 * scale, closed=True)
        if len(outline) >= 3 and cv2.contourArea(contour) >= 9 * (scale - 1) ** 2:
            corners = np.round((outline.reshape(-1).astype(np.float64) + 0.5) / scale, 2)
            polygons.append(corners.tolist())
    return sorted(polygons)


def rle_to_polygons(rle: Rle) -> list[list[float]]:
    """Polygons ``[x1, y1, x2, y2, ...]``, one for each part of the mask; none for an empty mask.

    Drawn, they have an IoU of 0.98 or more with the mask: slanted and curved edges are simplified while that
    holds. Holes and small parts are kept. The outline of a hole is joined to the one around it by a line that
    is passed in both directions and has no width. It runs the other way round, so that it is a hole for
    tools with the even-odd rule and for those that count turns. Corners are whole numbers.
    """
    left, top, width, height = (int(value) for value in rle_box_xywh(rle))
    if not width or not height:
        return []
    mask = rle_window(rle, (left, top, left + width, top + height))
    window = mask_to_rle(mask)
    parts = list(_parts(mask))
    polygons = [join_rings(part) for part in parts]
    for tolerance in _TOLERANCES if len(parts) <= _MOST_SIMPLIFIED else ():
        simple = [join_rings([simplified(ring, tolerance) for ring in part]) for part in parts]
        drawn = polygons_to_rle([polygon.ravel() for polygon in simple], (height, width))
        if rle_iou(drawn, window) >= _SMALLEST_IOU:
            polygons = simple
            break
    return [(polygon + (left, top)).ravel().tolist() for polygon in polygons]


def _parts(mask: NDArray[np.uint8]) -> Iterator[list[Ring]]:
    """The outlines of each connected part, those of its holes in the other direction.

    Pixels that touch at a corner are connected. Such a part may have several outer outlines.
    """
    _, numbers = cv2.connectedComponents(mask, connectivity=8)
    parts: defaultdict[int, list[Ring]] = defaultdict(list)
    for ring in mask_to_rings(mask.astype(bool)):
        # Every ring starts at its topmost corner and goes to the right, so this pixel is inside it.
        x, y = ring[0].astype(int).tolist()
        if mask[y, x]:
            parts[int(numbers[y, x])].append(ring)
        else:
            parts[int(numbers[y - 1, x])].append(ring[::-1])
    yield from parts.values()


def simplified(ring: Ring, tolerance: float) -> Ring:
    """The ring with fewer corners; as it is if that changes its area."""
    fewer = cv2.approxPolyDP(ring.astype(np.int32)[:, None], tolerance, closed=True)[:, 0]
    area, area_before = (cv2.contourArea(corners.astype(np.int32)) for corners in (fewer, ring))
    is_same = len(fewer) > 2 and abs(area - area_before) <= _MOST_AREA_LOST * area_before
    return fewer.astype(np.float64) if is_same else ring
