"""``<output>/<mode>_result.json``: the result of a mode, for programs to read."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from paddlex_seg.files.written import WrittenFiles, keep_foreign
from paddlex_seg.runtime.environment import versions


def result_path(output_dir: Path, mode: str) -> Path:
    """The path of a mode's result file."""
    return output_dir / f"{mode}_result.json"


def write_result(output_dir: Path, mode: str, result: Mapping[str, Any]) -> None:
    """Write the result file of a mode, with the versions that made the result.

    A file of the user with its name is kept as ``.bak``.
    """
    path = result_path(output_dir, mode)
    keep_foreign(path)
    text = json.dumps({**result, "versions": versions()}, indent=2, ensure_ascii=False) + "\n"
    WrittenFiles().put(path, text.encode("utf-8", "backslashreplace"))


def clear_result(output_dir: Path, mode: str) -> None:
    """Remove the result file of an earlier run, so that it is not mistaken for the result of this run."""
    path = result_path(output_dir, mode)
    with suppress(OSError):  # a folder that is not writable is reported later, when it is created
        keep_foreign(path)
        path.unlink()


def add_to_result(output_dir: Path, mode: str, failure: Mapping[str, Any]) -> None:
    """Add a failure. Results that the run already wrote, such as finished checkpoints, stay in the file.

    So does ``done_flag`` of a training that was complete before its export failed.
    """
    path = result_path(output_dir, mode)
    reported = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    overruled = failure.keys() - ({"done_flag"} if "models" in reported else set())
    kept = {key: value for key, value in reported.items() if key not in overruled}
    write_result(output_dir, mode, {**failure, **kept})
