"""Validation of the mask of an annotation: polygons or an RLE."""

import math
from typing import Any

from paddlex_seg.data.coco.wrong_value import WrongValue, shown
from paddlex_seg.masks.rle import run_lengths


def read_segmentation(value: Any) -> list[list[float]] | dict[str, Any]:
    """The valid mask of an annotation: polygons or an RLE mapping. Raises WrongValue."""
    if isinstance(value, list) and value:
        for part in value:
            _check_polygon(part)
        return value
    if isinstance(value, dict):
        return _rle_mapping(value)
    if isinstance(value, list):
        raise WrongValue("is empty", "segmentation_empty")
    if value is None:
        raise WrongValue("is null", "segmentation_missing")
    raise WrongValue(
        f"is a {type(value).__name__}; expected a list of polygons or an RLE", "segmentation_invalid"
    )


# Larger than any image. Rasterising an edge needs memory in proportion to its length.
_MAX_COORDINATE = 1e6


def _check_polygon(part: Any) -> None:
    if not isinstance(part, list):
        flat = type(part) in (int, float)
        raise WrongValue(
            f"holds a {type(part).__name__}; expected a list of polygons, each a list [x1, y1, x2, y2, ...]",
            "polygon_flat_list" if flat else "segmentation_invalid",
        )
    if len(part) % 2:
        raise WrongValue(f"has a polygon of {len(part)} numbers; expected an even count", "polygon_odd")
    if len(part) < 6:
        raise WrongValue(
            f"has a polygon of {len(part)} numbers; expected at least 6 (three points)",
            "polygon_too_few_points",
        )
    if not set(map(type, part)) <= {int, float}:
        raise WrongValue("has a polygon with values that are not numbers", "polygon_nan")
    # The sum is not finite if any value is NaN or infinite; min and max may miss NaN.
    if not math.isfinite(sum(part)) or max(part) > _MAX_COORDINATE or min(part) < -_MAX_COORDINATE:
        raise WrongValue(
            "has a polygon with values that are not pixel coordinates (infinite, NaN or beyond a million)",
            "polygon_nan",
        )


def _rle_mapping(value: dict[str, Any]) -> dict[str, Any]:
    size, counts = value.get("size"), value.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or any(type(side) is not int or side < 1 for side in size)
    ):
        raise WrongValue(f"is an RLE of size {shown(size)}; expected [height, width]", "rle_damaged")
    try:
        runs = run_lengths(counts)
    except ValueError as error:
        raise WrongValue(f"is an RLE {error}", "rle_damaged") from error
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise WrongValue(
            f"is an RLE whose runs sum to {runs.sum()} pixels; expected {size[0] * size[1]}", "rle_damaged"
        )
    return value
