"""JSON files."""

import json
from pathlib import Path
from typing import Any

from paddlex_seg.files.atomic import write_bytes


def write_json(path: Path, data: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file, all or nothing. Its folder is created if missing.

    Bytes of a file name that are not UTF-8 are written as Python's lone surrogates, with JSON's ``\\u``.
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
