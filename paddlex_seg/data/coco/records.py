"""Validation of one record of a COCO file: an image, a category or an annotation."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from paddlex_seg.data.findings import FindingLog
from paddlex_seg.masks.rle import run_lengths

_Reader = Callable[[Any], Any]


class _Wrong(Exception):
    """An invalid value. The text says what was found and what was expected."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code  # None: the code for an invalid record


def read_entry(
    kind: str,
    position: int,
    entry: Any,
    needed: Mapping[str, _Reader],
    optional: Mapping[str, _Reader],
    log: FindingLog,
) -> dict[str, Any] | None:
    """The values of a record. If it is invalid, the problems are logged and None is returned."""
    if not isinstance(entry, dict):
        log.add(f"{kind}_entry_invalid", f"{kind} at position {position} is not an object")
        return None
    values: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for readers, may_be_absent in ((needed, False), (optional, True)):
        for key, read in readers.items():
            value = entry.get(key, _ABSENT)
            if value is _ABSENT or (value is None and may_be_absent):
                if not may_be_absent:
                    code = "segmentation_missing" if key == "segmentation" else f"{kind}_entry_invalid"
                    wrong.append((code, f"the key {key!r} is missing"))
                continue
            try:
                values[key] = read(value)
            except _Wrong as error:
                wrong.append((error.code or f"{kind}_entry_invalid", f"{key} {error}"))
    for code, text in wrong:
        _log_broken_entry(kind, position, entry, code, text, log)
    return None if wrong else values


_ABSENT = object()


def _log_broken_entry(
    kind: str, position: int, entry: Mapping[str, Any], code: str, text: str, log: FindingLog
) -> None:
    id = id_or_none(entry.get("id"))
    if kind == "annotation":
        image_id = id_or_none(entry.get("image_id"))
        place = "" if id is not None else f"annotation at position {position}: "
        log.add(code, place + text, image_id=image_id, annotation_id=id)
    elif kind == "image" and id is not None:
        log.add(code, text, image_id=id)
    else:
        name = f"{kind} at position {position}" if id is None else f"{kind} {id}"
        log.add(code, f"{name}: {text}")


def id_or_none(value: Any) -> int | None:
    """``value`` as a whole number, also from a float such as 3.0; None if it is not a whole number."""
    return int(value) if type(value) is int or _is_whole_float(value) else None


def _is_whole_float(value: Any) -> bool:
    return type(value) is float and value.is_integer()


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if _is_whole_float(value):
        return int(value)
    raise _Wrong(f"is {_shown(value)}; expected a whole number")


def _positive(value: Any) -> int:
    number = _whole(value)
    if number <= 0:
        raise _Wrong(f"is {value!r}; expected at least 1 pixel")
    return number


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Wrong(f"is {_shown(value)}; expected a number")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"is {_shown(value)}; expected text")
    try:
        value.encode()
    except UnicodeEncodeError:  # a JSON escape can be half of a surrogate pair
        raise _Wrong(f"is {_shown(value)}; expected text that can be encoded as UTF-8") from None
    return value


def _text(value: Any) -> str:
    if not _any_text(value).strip():
        raise _Wrong("is empty")
    return value


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise _Wrong(f"is {_shown(value)}; expected 0 or 1")
    return bool(value)


def _box(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise _Wrong(f"is {_shown(value)}; expected [x, y, width, height]")
    return tuple(_number(number) for number in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _segmentation(value: Any) -> list[list[float]] | dict[str, Any]:
    if isinstance(value, list) and value:
        for part in value:
            _check_polygon(part)
        return value
    if isinstance(value, dict):
        return _rle_mapping(value)
    if isinstance(value, list):
        raise _Wrong("is empty", "segmentation_empty")
    if value is None:
        raise _Wrong("is null", "segmentation_missing")
    raise _Wrong(
        f"is a {type(value).__name__}; expected a list of polygons or an RLE", "segmentation_invalid"
    )


# Larger than any image. Rasterising an edge needs memory in proportion to its length.
_MAX_COORDINATE = 1e6


def _check_polygon(part: Any) -> None:
    if not isinstance(part, list):
        flat = type(part) in (int, float)
        raise _Wrong(
            f"holds a {type(part).__name__}; expected a list of polygons, each a list [x1, y1, x2, y2, ...]",
            "polygon_flat_list" if flat else "segmentation_invalid",
        )
    if len(part) % 2:
        raise _Wrong(f"has a polygon of {len(part)} numbers; expected an even count", "polygon_odd")
    if len(part) < 6:
        raise _Wrong(
            f"has a polygon of {len(part)} numbers; expected at least 6 (three points)",
            "polygon_too_few_points",
        )
    if not set(map(type, part)) <= {int, float}:
        raise _Wrong("has a polygon with values that are not numbers", "polygon_nan")
    # The sum is not finite if any value is NaN or infinite; min and max may miss NaN.
    if not math.isfinite(sum(part)) or max(part) > _MAX_COORDINATE or min(part) < -_MAX_COORDINATE:
        raise _Wrong(
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
        raise _Wrong(f"is an RLE of size {_shown(size)}; expected [height, width]", "rle_damaged")
    try:
        runs = run_lengths(counts)
    except ValueError as error:
        raise _Wrong(f"is an RLE {error}", "rle_damaged") from error
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise _Wrong(
            f"is an RLE whose runs sum to {runs.sum()} pixels; expected {size[0] * size[1]}", "rle_damaged"
        )
    return value


IMAGE_FIELDS: dict[str, _Reader] = {
    "id": _whole,
    "file_name": _text,
    "width": _positive,
    "height": _positive,
}
CATEGORY_FIELDS: dict[str, _Reader] = {"id": _whole, "name": _text}
CATEGORY_OPTIONS: dict[str, _Reader] = {"supercategory": _any_text}
ANNOTATION_FIELDS: dict[str, _Reader] = {
    "id": _whole,
    "image_id": _whole,
    "category_id": _whole,
    "segmentation": _segmentation,
}
ANNOTATION_OPTIONS: dict[str, _Reader] = {"bbox": _box, "area": _number, "iscrowd": _flag}
