"""Validation of one record of a COCO file: an image, a category or an annotation."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from paddlex_seg.data.coco.odd_segmentations import explain
from paddlex_seg.data.coco.segmentations import OddSegmentation, read_segmentation
from paddlex_seg.data.coco.wrong_value import OddValue, WrongValue, shown
from paddlex_seg.data.findings import FindingLog

_Reader = Callable[[Any], Any]


def read_entry(
    kind: str,
    position: int,
    entry: Any,
    needed: Mapping[str, _Reader],
    optional: Mapping[str, _Reader],
    log: FindingLog,
    sizes_hw: Mapping[Any, tuple[int, int]] = MappingProxyType({}),
) -> dict[str, Any] | None:
    """The values of a record. If it is invalid, the problems are logged and None is returned.

    Values that are only odd (`OddValue`) are logged too. ``sizes_hw``: of the images by id, to tell what an
    odd mask of an annotation is.
    """
    if not isinstance(entry, dict):
        log.add(f"{kind}_entry_invalid", f"{kind} at position {position} is not an object")
        return None
    values: dict[str, Any] = {}
    wrong: list[tuple[str, str, str | None]] = []  # code, message, hint
    odd: list[tuple[str, str, str | None]] = []
    for readers, may_be_absent in ((needed, False), (optional, True)):
        for key, read in readers.items():
            value = entry.get(key, _ABSENT)
            if may_be_absent and (value is _ABSENT or value is None):
                continue
            if value is _ABSENT and key != "segmentation":
                wrong.append((f"{kind}_entry_invalid", f"the key {key!r} is missing", None))
                continue
            try:
                values[key] = read(value)
            except WrongValue as error:
                wrong.append((error.code or f"{kind}_entry_invalid", f"{key} {error}", None))
            except OddSegmentation:
                found = explain(entry, sizes_hw.get(id_or_none(entry.get("image_id"))))
                wrong.append((found.code, f"{key} {found.message}", found.hint))
            except OddValue as error:
                values[key] = error.value
                odd.append((error.code, f"{key} {error}", None))
    for code, text, hint in wrong or odd:
        _log_entry(kind, position, entry, code, text, hint, log)
    return None if wrong else values


_ABSENT = object()


def _log_entry(
    kind: str,
    position: int,
    entry: Mapping[str, Any],
    code: str,
    text: str,
    hint: str | None,
    log: FindingLog,
) -> None:
    id = id_or_none(entry.get("id"))
    if kind == "annotation":
        image_id = id_or_none(entry.get("image_id"))
        place = "" if id is not None else f"annotation at position {position}: "
        log.add(code, place + text, image_id=image_id, annotation_id=id, hint=hint)
    elif kind == "image" and id is not None:
        log.add(code, text, image_id=id, hint=hint)
    else:
        name = f"{kind} at position {position}" if id is None else f"{kind} {id}"
        log.add(code, f"{name}: {text}", hint=hint)


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
    raise WrongValue(f"is {shown(value)}; expected a whole number")


def _positive(value: Any) -> int:
    number = _whole(value)
    if number <= 0:
        raise WrongValue(f"is {value!r}; expected at least 1 pixel")
    return number


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise WrongValue(f"is {shown(value)}; expected a number")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue(f"is {shown(value)}; expected text")
    try:
        value.encode()
    except UnicodeEncodeError:  # a JSON escape can be half of a surrogate pair
        raise WrongValue(f"is {shown(value)}; expected text that can be encoded as UTF-8") from None
    return value


def _text(value: Any) -> str:
    if not _any_text(value).strip():
        raise WrongValue("is empty")
    return value


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise WrongValue(f"is {shown(value)}; expected 0 or 1")
    return bool(value)


def _box(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise WrongValue(f"is {shown(value)}; expected [x, y, width, height]")
    return tuple(_number(number) for number in value)


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
    "segmentation": read_segmentation,
}
ANNOTATION_OPTIONS: dict[str, _Reader] = {"bbox": _box, "area": _number, "iscrowd": _flag}
