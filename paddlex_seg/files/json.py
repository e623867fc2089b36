"""JSON files."""

import json
from pathlib import Path
from typing import Any

from paddlex_seg.files.atomic import write_text


def write_json(path: Path, data: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file, all or nothing. Its folder is created if missing."""
    write_text(path, json.dumps(data, indent=indent, ensure_ascii=False) + "\n")
