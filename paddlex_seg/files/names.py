"""File names as text. On Linux, a name is bytes, and not always valid UTF-8."""

import os


def printable(text: str) -> str:
    r"""``text`` with ``\xe9`` for each byte of a file name that is not valid UTF-8. Equal for all others."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def is_utf8(text: str) -> bool:
    """Whether a file name is text in UTF-8. If not, it stands in no JSON file as other tools read it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
