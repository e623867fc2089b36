"""JSON files."""

import json
import mmap
import re
from itertools import islice
from pathlib import Path
from typing import Any

from paddlex_seg.files.atomic import write_bytes


def write_json(path: Path, data: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file, all or nothing. Its folder is created if missing.

    Bytes of a file name that are not UTF-8 are written as Python's lone surrogates, with JSON's ``\\u``.
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def first_strings(path: Path, key: str, count: int) -> list[str]:
    """The first texts under ``key`` at any depth of a JSON file, without parsing it; [] if unreadable."""
    pattern = re.compile(rb'"' + key.encode() + rb'"\s*:\s*("(?:[^"\\]|\\.)*")')
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [str(json.loads(match[1])) for match in islice(pattern.finditer(content), count)]
    except (OSError, ValueError):
        return []
