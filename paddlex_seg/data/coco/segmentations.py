"""The forms of a mask that COCO has: a list of polygons, or an RLE."""

import math
from typing import Any

from paddlex_seg.masks.rle import run_lengths

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
