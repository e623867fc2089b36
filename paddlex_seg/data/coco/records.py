"""Validation of one record of a COCO file: an image, a category or an annotation."""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from paddlex_seg.data.coco.odd_segmentations import explain
from paddlex_seg.data.coco.segmentations import OddSegmentation, read_segmentation
from paddlex_seg.data.coco.wrong_value import OddValue, WrongValue, number_of, shown, whole_number_of
from paddlex_seg.data.findings import FindingLog
from paddlex_seg.structures import Id

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

    Values that are only odd (`OddValue`) are logged too; one that cannot be used at all is None. If the
    record has other keys, they are in ``extra``. ``sizes_hw``: of the images by id, to tell what an odd mask
    of an annotation is.
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
    if len(entry) > len(values):
        extra = {key: value for key, value in entry.items() if key not in needed and key not in optional}
        if extra:
            values["extra"] = extra
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


def id_or_none(value: Any) -> Id | None:
    """``value`` as an id, see `_id`; None if it is none."""
    if type(value) is int:
        return value
    try:
        return _id(value)
    except OddValue as odd:
        return odd.value
    except WrongValue:
        return None


def _id(value: Any) -> Id:
    """A whole number of any size, also from a float such as 3.0, or text. The text "12" is the number."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        if abs(value) > 2**53:
            message = f"is {value!r}, a decimal number whose last digits may be rounded"
            raise OddValue(int(value), "id_rounded", message)
        return int(value)
    if not isinstance(value, str):
        raise WrongValue(f"is {shown(value)}; expected a whole number or text")
    number = whole_number_of(value)
    if number is not None:
        raise OddValue(number, "id_is_text", f"is the text {value!r}, not a number")
    return _text(value)


# Larger than any image. The number of pixels of a mask must fit 64 bits, also after pycocotools' arithmetic.
_LONGEST_SIDE = 1_000_000


def _side(value: Any) -> int:
    number = number_of(value) if isinstance(value, str) else value
    if type(number) is float and number.is_integer():
        number = int(number)
    if type(number) is not int:
        raise WrongValue(f"is {shown(value)}; expected a whole number")
    if number <= 0:
        raise WrongValue(f"is {shown(value)}; expected at least 1 pixel")
    if number > _LONGEST_SIDE:
        raise WrongValue(f"is {shown(value)}; expected at most {_LONGEST_SIDE} pixels")
    if isinstance(value, str):
        raise OddValue(number, "number_is_text", f"is the text {value!r}, not a number")
    return number


# Sums of finite numbers are finite below this, and it is far larger than any area.
_LARGEST_NUMBER = 1e15


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a number in the range of lengths and areas: not NaN, not infinite, not huge."""
    return type(value) in (int, float) and -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue(f"is {shown(value)}; expected text")
    try:
        value.encode()
    except UnicodeEncodeError:  # a JSON escape can be half of a surrogate pair
        raise WrongValue(f"is {shown(value)}; expected text that can be encoded as UTF-8") from None
    return value


def _group_name(value: Any) -> str:
    """Nothing depends on it, so anything but text is read as its JSON text."""
    return _any_text(value if isinstance(value, str) else json.dumps(value))


def _text(value: Any) -> str:
    if not _any_text(value).strip():
        raise WrongValue("is empty")
    return value


def _name(value: Any) -> str:
    """The name of a category. A whole number is read as its text."""
    if type(value) is int and abs(value) < 10**40:
        raise OddValue(str(value), "category_name_number", f"is the number {value}, not text")
    return _text(value)


_FLAG_TEXTS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def _flag(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _FLAG_TEXTS:
        flag = _FLAG_TEXTS[value.strip().lower()]
        raise OddValue(flag, "number_is_text", f"is the text {value!r}, not a number")
    raise WrongValue(f"is {shown(value)}; expected 0 or 1")


def _area(value: Any) -> float:
    if _is_number(value):
        return value
    number = number_of(value) if isinstance(value, str) else None
    if number is not None and _is_number(number):
        raise OddValue(number, "number_is_text", f"is the text {value!r}, not a number")
    raise OddValue(None, "area_missing", f"is {shown(value)}; expected a number")


def _box(value: Any) -> tuple[float, ...]:
    if isinstance(value, list) and len(value) == 4:
        if all(map(_is_number, value)):
            return tuple(value)
        numbers = [number_of(item) if isinstance(item, str) else item for item in value]
        if all(map(_is_number, numbers)):
            raise OddValue(tuple(numbers), "number_is_text", f"is {shown(value)}, with text as numbers")
    raise OddValue(None, "bbox_missing", f"is {shown(value)}; expected [x, y, width, height]")


IMAGE_FIELDS: dict[str, _Reader] = {
    "id": _id,
    "file_name": _text,
    "width": _side,
    "height": _side,
}
CATEGORY_FIELDS: dict[str, _Reader] = {"id": _id, "name": _name}
CATEGORY_OPTIONS: dict[str, _Reader] = {"supercategory": _group_name}
ANNOTATION_FIELDS: dict[str, _Reader] = {
    "id": _id,
    "image_id": _id,
    "category_id": _id,
    "segmentation": read_segmentation,
}
ANNOTATION_OPTIONS: dict[str, _Reader] = {"bbox": _box, "area": _area, "iscrowd": _flag}
