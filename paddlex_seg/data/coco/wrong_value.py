"""Values of a record of a COCO file that are not as the format wants them: unusable, or read anyway."""

import json
import re
from typing import Any


class WrongValue(Exception):
    """An invalid value. The text says what was found and what was expected."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code  # None: the code for an invalid record


class OddValue(Exception):
    """A value that is not as the format wants it, but has one meaning. The record is read with that meaning.

    ``value``: what is read instead. ``code``: of the finding, a warning. The text says what was found.
    """

    def __init__(self, value: Any, code: str, message: str) -> None:
        super().__init__(message)
        self.value, self.code = value, code


def shown(value: Any) -> str:
    """``value`` as in a message: its Python form, shortened."""
    # A huge number or list takes long to write in full, and Python refuses to write thousands of digits.
    if type(value) is int and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value[:60] if isinstance(value, (str, list)) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_of_value(value: Any) -> str:
    """What a value of a JSON document is, for messages."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)
_WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,99}", re.ASCII)


def number_of(text: str) -> float | None:
    """The number that ``text`` writes with digits, such as "12" or "1.5e3"; None if it writes none.

    Words such as "nan" and "inf" are no numbers.
    """
    if len(text) > 100 or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def whole_number_of(text: str) -> int | None:
    """The whole number whose usual form is ``text``, of any size; None for "007", "1.0" and other text."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None
