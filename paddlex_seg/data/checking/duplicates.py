"""Images that are the same or nearly so, found by their thumbnails."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.images import THUMBNAIL_SIDE

# Gray levels by which two savings of one image differ at most, in the mean of a 16 x 16 grid and in its
# worst field, apart from a difference in brightness. An object that came or went moves single fields by more.
_MEAN_DIFFERENCE = 2.5
_MAX_DIFFERENCE = 16
_BRIGHTNESS_DIFFERENCE = 16
# Below this contrast, thumbnails say too little: fog, black frames, plain test images.
_MIN_CONTRAST = 3.0
_NEIGHBOURS = 64  # how many followers an image of a large group of alike ones is compared with


def near_duplicates(thumbnails: Sequence[bytes | None]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of images that hardly differ, in order.

    Candidates share a quarter of the bits that say whether a field of the thumbnail is brighter than its
    right neighbour; their thumbnails are then compared. Of hundreds of alike images, not every pair is
    given, but each image with one of the others.
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
    """The cluster of each image: the smallest index that pairs lead to, over any number of steps."""
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
    """[n, 4]: for each quarter of an 8 x 8 grid, a bit a field: is it brighter than its right neighbour?"""
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
