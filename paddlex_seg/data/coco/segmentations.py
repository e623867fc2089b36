"""The forms of a mask that COCO has: a list of polygons, or an RLE."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from paddlex_seg.masks.rle import are_sound, run_lengths

# Larger than any image. Rasterising an edge needs memory in proportion to its length.
MAX_COORDINATE = 1e6


class OddSegmentation(Exception):
    """A mask that is in none of COCO's forms. `odd_segmentations.explain` says what it is."""


def read_segmentation(value: Any) -> list[list[float]] | dict[str, Any]:
    """The mask of an annotation, if it is in one of COCO's forms; otherwise raises OddSegmentation.

    The size of an RLE is returned in whole numbers.
    """
    if isinstance(value, list) and value:
        for part in value:
            if not _is_polygon(part):
                raise OddSegmentation
        return value
    if isinstance(value, dict):
        return _read_rle(value)
    raise OddSegmentation


def _is_polygon(part: Any) -> bool:
    if not isinstance(part, list) or len(part) % 2 or len(part) < 6:
        return False
    if not set(map(type, part)) <= {int, float}:
        return False
    # The sum is not finite if any value is NaN or infinite; min and max may miss NaN.
    try:
        is_finite = math.isfinite(sum(part))
    except OverflowError:  # a whole number that no float can hold
        return False
    return is_finite and max(part) <= MAX_COORDINATE and min(part) >= -MAX_COORDINATE


def _read_rle(value: dict[str, Any]) -> dict[str, Any]:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise OddSegmentation
    if any(type(side) is not int or side < 1 for side in size):
        if any(type(side) not in (int, float) or side < 1 or side != side // 1 for side in size):
            raise OddSegmentation
        value = {**value, "size": [int(side) for side in size]}
    try:
        runs = run_lengths(counts)
    except ValueError as error:
        raise OddSegmentation from error
    if (runs < 0).any() or runs.sum() != value["size"][0] * value["size"][1]:
        raise OddSegmentation
    return value


_BATCH = 100_000  # characters of RLEs that are checked at once


def sound_rles(values: Iterable[Any]) -> frozenset[int]:
    """Which of the values are compressed RLEs that `read_segmentation` returns unchanged, as Python's ``id``.

    Together, they are checked ten times as fast as one by one. What is not among them may be sound, too.
    """
    sound: list[int] = []
    for batch in _batches(values):
        texts = [value["counts"].encode("utf-8", "surrogatepass") for value in batch]
        pixels = np.array([value["size"][0] * value["size"][1] for value in batch], np.int64)
        are_well = are_sound(texts, pixels).tolist()
        sound += [id(value) for value, is_well in zip(batch, are_well, strict=True) if is_well]
    return frozenset(sound)


def _batches(values: Iterable[Any]) -> Iterator[list[dict[str, Any]]]:
    """The values that have the form of compressed RLEs."""
    batch: list[dict[str, Any]] = []
    num_characters = 0
    for value in values:
        if type(value) is not dict or type(value.get("counts")) is not str or not _is_size(value.get("size")):
            continue
        batch.append(value)
        num_characters += len(value["counts"])
        if num_characters > _BATCH:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _is_size(size: Any) -> bool:
    return (
        type(size) is list and len(size) == 2 and all(type(side) is int and 0 < side < 2**24 for side in size)
    )
