"""Converts masks to polygons."""

import cv2
import numpy as np
from numpy.typing import NDArray


def mask_to_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons ``[x1, y1, x2, y2, ...]`` around the parts of ``mask`` [H, W], near the edges of its pixels.

    Holes are filled and parts smaller than 3x3 pixels are left out. Keep an RLE if these matter.
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
