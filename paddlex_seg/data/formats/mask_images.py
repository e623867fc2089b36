"""Reads masks stored as image files: one file with object ids, or one file per object."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.images import DECODER_ERRORS, too_large
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import runs_to_rle
from paddlex_seg.structures import Rle

IdMap = NDArray[np.integer[Any]]  # [H, W]


def read_id_map(path: Path) -> IdMap:
    """The pixel values [H, W] of a palette or gray image. Raises DatasetError for any other image."""
    values = _read_pixels(path)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise DatasetError(
            f"{path}: this is a colour image; expected a palette image or a gray image of 8 or 16 bits, "
            "whose pixel values are object numbers"
        )
    return values.astype(np.uint8) if values.dtype == bool else values


def read_binary_mask(path: Path) -> NDArray[np.bool_]:
    """True [H, W] where a pixel is not black; alpha is ignored. Raises DatasetError if unreadable."""
    values = _read_pixels(path)
    if values.ndim == 2:
        return values != 0
    colours = values[..., :-1] if values.shape[2] in (2, 4) else values
    return (colours != 0).any(axis=2)


def id_map_to_rles(ids: IdMap) -> dict[int, Rle]:
    """The mask of each object number except 0, in ascending order, in one pass over the pixels."""
    flat = ids.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    numbers = flat[starts]
    by_number = np.argsort(numbers, kind="stable")
    unique, first = np.unique(numbers[by_number], return_index=True)
    masks = {}
    for number, runs in zip(unique.tolist(), np.split(by_number, first[1:]), strict=True):
        if number:
            borders = np.stack([starts[runs], ends[runs]], axis=1).ravel()
            counts = np.diff(np.concatenate([[0], borders, [flat.size]]))
            counts = counts[:-1] if counts[-1] == 0 else counts
            masks[number] = runs_to_rle(counts.tolist(), (ids.shape[0], ids.shape[1]))
    return masks


def class_of_ids(ids: IdMap, classes: IdMap, void: int = 255) -> dict[int, int]:
    """The most frequent value of ``classes`` in each object of ``ids``.

    0 and ``void`` are only used if an object has no other value.
    """
    pairs = ids.astype(np.int64).ravel() * 65536 + classes.ravel()
    unique, counts = np.unique(pairs, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for pair, count in zip(unique.tolist(), counts.tolist(), strict=True):
        number, value = divmod(pair, 65536)
        votes = 0 if value in (0, void) else count
        if votes > best.get(number, (-1, 0))[0]:
            best[number] = (votes, value)
    return {number: value for number, (_, value) in best.items()}


def _read_pixels(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: not a readable image ({error})") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: {too_large(error)}") from error
