"""Annotations that were made on the stored image, turned as the EXIF orientation turns the image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_to_mask, segmentation_to_json
from paddlex_seg.structures import Annotation

_Points = NDArray[np.float64]


def turned_values(
    entry: Mapping[str, Any], annotation: Annotation, orientation: int, stored_hw: tuple[int, int]
) -> dict[str, Any]:
    """The new values of the keys of ``entry`` that hold places: segmentation, bbox, keypoints.

    annotation: ``entry`` as it was read. orientation: EXIF, of the image whose stored pixels have this size.
    """
    segmentation: Any = annotation.segmentation
    if isinstance(segmentation, list):
        parts = [turned_points(np.reshape(part, (-1, 2)), orientation, stored_hw) for part in segmentation]
        segmentation = [part.reshape(-1).tolist() for part in parts]
    else:
        mask = turned_pixels(rle_to_mask(annotation_to_rle(annotation, *stored_hw)), orientation)
        segmentation = segmentation_to_json(mask_to_rle(mask))
    values: dict[str, Any] = {"segmentation": segmentation}
    if annotation.bbox_xywh is not None:
        x, y, width, height = annotation.bbox_xywh
        corners = turned_points(np.array([[x, y], [x + width, y + height]]), orientation, stored_hw)
        low, high = corners.min(axis=0), corners.max(axis=0)
        values["bbox"] = [*low.tolist(), *(high - low).tolist()]
    keypoints = entry.get("keypoints")
    if isinstance(keypoints, list) and len(keypoints) % 3 == 0:
        triples = [keypoints[i : i + 3] for i in range(0, len(keypoints), 3)]
        for triple in triples:
            if triple[2]:  # else the place is 0, 0 and means nothing
                triple[:2] = turned_points(np.array([triple[:2]], float), orientation, stored_hw)[0].tolist()
        values["keypoints"] = [value for triple in triples for value in triple]
    return values


def turned_points(points_xy: _Points, orientation: int, stored_hw: tuple[int, int]) -> _Points:
    """Points [n, 2] of the stored image in the upright image."""
    height, width = stored_hw
    x, y = points_xy.T
    right, below = width - x, height - y
    pairs = {
        2: (right, y),
        3: (right, below),
        4: (x, below),
        5: (y, x),
        6: (below, x),
        7: (below, right),
        8: (y, right),
    }
    return np.stack(pairs.get(orientation, (x, y)), axis=1)


def turned_pixels(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels [H, W] of the stored image as the upright image has them."""
    ways = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels),
    }
    return ways.get(orientation, pixels)
