"""Outlines of masks along pixel borders, and joining several outlines into one polygon.

Both are exact for a rasteriser with the even-odd rule, such as pycocotools: a polygon with integer corners
covers exactly the pixels inside it, and a bridge that is passed in both directions draws no pixel.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Ring = NDArray[np.float64]  # [k, 2] xy, not closed


def mask_to_rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """The outlines of ``mask`` [H, W] along pixel borders, including the outlines of holes.

    Only corners are kept. In each row of the grid of pixel corners, corner 1 of the border is connected with
    corner 2, corner 3 with corner 4, and so on; the same in each column. A corner where two pixels touch
    diagonally counts twice. Following connections of rows and columns in turn gives a closed ring.
    """
    padded = np.pad(mask, 1).astype(bool)
    top_left, top_right, bottom_left, bottom_right = (
        padded[rows, columns]
        for rows in (slice(None, -1), slice(1, None))
        for columns in (slice(None, -1), slice(1, None))
    )
    odd = top_left ^ top_right ^ bottom_left ^ bottom_right
    diagonal = (top_left == bottom_right) & (top_right == bottom_left) & (top_left != top_right)
    y, x = np.nonzero(odd | diagonal)
    times = np.where(diagonal[y, x], 2, 1)
    y, x = np.repeat(y, times), np.repeat(x, times)
    along_row, along_column = _partners(np.lexsort((x, y))), _partners(np.lexsort((y, x)))
    return _walk(np.stack([x, y], axis=1).astype(np.float64), along_row.tolist(), along_column.tolist())


def join_rings(rings: Sequence[Ring]) -> Ring:
    """One ring through all of ``rings``, joined by bridges of zero width between nearest corners.

    More than 100 rings (noise) are joined one after the other, which is faster but gives longer bridges.
    """
    if len(rings) > 100:
        return _join_in_a_row(rings)
    joined = rings[0]
    for ring in rings[1:]:
        distances, nearest = cKDTree(joined).query(ring)
        start = int(distances.argmin())
        at = int(nearest[start])
        around = np.concatenate([ring[start:], ring[: start + 1]])
        joined = np.concatenate([joined[: at + 1], around, joined[at:]])
    return joined


def _join_in_a_row(rings: Sequence[Ring]) -> Ring:
    pieces = [np.concatenate([ring, ring[:1]]) for ring in rings]
    way_back = np.stack([ring[0] for ring in rings[-2::-1]])
    return np.concatenate([*pieces, way_back])


def _partners(order: NDArray[np.intp]) -> NDArray[np.intp]:
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def _walk(corners: Ring, along_row: list[int], along_column: list[int]) -> list[Ring]:
    seen = [False] * len(corners)
    rings = []
    for start in range(len(corners)):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            across = along_row[corner]
            ring += [corner, across]
            seen[corner] = seen[across] = True
            corner = along_column[across]
        rings.append(corners[ring])
    return rings
