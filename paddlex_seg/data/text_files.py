"""The text of a file in any encoding that annotation tools write."""

import codecs
from pathlib import Path

from paddlex_seg.errors import DatasetError

# UTF-32 comes first: its mark begins with that of UTF-16. These codecs read the mark.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(content: bytes, path: Path) -> str:
    """The text of the file ``path``, see `decode`. Raises DatasetError when no encoding fits."""
    try:
        return decode(content)[0]
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: neither UTF-8 nor GB 18030 text. Save the file as UTF-8.") from None


def decode(content: bytes) -> tuple[str, str]:
    """The text of a file, and the name of its encoding as in Python, without a byte order mark.

    Tried in this order: the byte order mark, UTF-16 and UTF-32 without a mark, UTF-8, GB 18030. Raises
    UnicodeDecodeError when none of them fits.
    """
    by_mark = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    encoding = by_mark or _wide_encoding(content) or "utf-8"
    try:
        return content.decode(encoding), encoding.removesuffix("-sig")
    except UnicodeDecodeError as problem:
        try:
            return content.decode("gb18030"), "gb18030"
        except UnicodeDecodeError:
            raise problem from None


def _wide_encoding(content: bytes) -> str | None:
    """UTF-16 or UTF-32 of a text without a mark, known by the zero bytes of ASCII; else None."""
    start = content[:4096]
    zeros = [start[place::4].count(0) for place in range(4)]
    if sum(zeros) < len(start) / 10:
        return None
    quarter = len(start) // 4
    for places, name in (((2, 3), "utf-32-le"), ((0, 1), "utf-32-be")):
        if all(zeros[place] >= quarter for place in places):
            return name
    return "utf-16-le" if zeros[1] + zeros[3] > zeros[0] + zeros[2] else "utf-16-be"
