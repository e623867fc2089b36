"""Values of a record of a COCO file that are not as the format wants them: unusable, or readable anyway."""

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
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
