"""Search for equal and almost equal images by their thumbnails."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.image_facts import THUMBNAIL_SIDE

# Largest differences between two thumbnails of the same image that was saved twice, in gray levels: mean and
# maximum over a 16 x 16 grid after the mean difference is subtracted, and the mean difference itself. A moved
# object changes single cells more.
_MEAN_DIFFERENCE = 2.5
_MAX_DIFFERENCE = 16
_BRIGHTNESS_DIFFERENCE = 16
# Thumbnails with less contrast are not compared, because different images look alike: fog, black frames.
_MIN_CONTRAST = 3.0
_NEIGHBOURS = 64  # in a large group of similar images, each is compared with this many others


def near_duplicates(thumbnails: Sequence[bytes | None]) -> list[tuple[int, int]]:
    """Sorted pairs (i, j), i < j, of equal or almost equal images.

    For each cell of a thumbnail, a bit tells whether it is brighter than its right neighbour. Images that
    agree in a quarter of these bits are candidates, and their thumbnails are compared. In groups of hundreds
    of similar images, not every pair is returned, but every image is in a pair.
    """
    known = [i for i, thumbnail in enumerate(thumbnails) if thumbnail is not None]
    if len(known) < 2:
        return []
    grids = np.frombuffer(b"".join(thumbnails[i] or b"" for i in known), np.uint8).reshape(len(known), -1)
    contrasts = grids.astype(np.float32).std(axis=1)
    rows = np.flatnonzero(contrasts >= _MIN_CONTRAST)
    if len(rows) < 2:
        return []
    candidates = np.unique(np.concatenate([*_candidates(grids[rows]), np.zeros((0, 2), np.int64)]), axis=0)
    pairs = rows[candidates[_alike(grids[rows], candidates)]]
    return sorted((known[i], known[j]) for i, j in np.sort(pairs, axis=1).tolist())


def clusters(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The cluster of each image: the smallest index that pairs connect to it, directly or indirectly."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    return [root(i) for i in range(count)]


def _candidates(grids: NDArray[np.uint8]) -> Iterator[NDArray[np.int64]]:
    """Index pairs [m, 2] of images that agree in one of four sets of 16 bits."""
    for bits in _gradient_bits(grids).T:
        order = np.argsort(bits, kind="stable")
        ordered = bits[order]
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            same = np.flatnonzero(ordered[step:] == ordered[:-step])
            if not len(same):
                break
            yield np.sort(np.stack([order[same], order[same + step]], axis=1), axis=1)


def _gradient_bits(grids: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """[n, 4]: for each quarter of an 8 x 8 grid, a bit per cell: is it brighter than its right neighbour?"""
    half = THUMBNAIL_SIDE // 2
    fields = grids.reshape(len(grids), half, 2, half, 2).astype(np.uint16).sum(axis=(2, 4))
    brighter = fields > np.roll(fields, -1, axis=2)
    return np.packbits(brighter.reshape(len(grids), -1), axis=1).view(np.uint16)


def _alike(grids: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), 65536):
        first, second = (
            grids[pairs[start : start + 65536, side]].reshape(-1, THUMBNAIL_SIDE**2).astype(np.int16)
            for side in (0, 1)
        )
        difference = first - second
        offset = difference.mean(axis=1, keepdims=True)
        difference = np.abs(difference - offset)
        alike[start : start + 65536] = (
            (difference.mean(axis=1) <= _MEAN_DIFFERENCE)
            & (difference.max(axis=1) <= _MAX_DIFFERENCE)
            & (np.abs(offset[:, 0]) <= _BRIGHTNESS_DIFFERENCE)
        )
    return alike
