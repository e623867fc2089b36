"""``<output>/<mode>_result.json``: the result of a mode, for programs to read."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from paddlex_seg.files.json import write_json
from paddlex_seg.runtime.environment import versions


def result_path(output_dir: Path, mode: str) -> Path:
    """The path of a mode's result file."""
    return output_dir / f"{mode}_result.json"


def write_result(output_dir: Path, mode: str, result: Mapping[str, Any]) -> None:
    """Write the result file of a mode, with the versions that made the result."""
    write_json(result_path(output_dir, mode), {**result, "versions": versions()})


def clear_result(output_dir: Path, mode: str) -> None:
    """Remove the result file of an earlier run, so that it is not mistaken for the result of this run."""
    with suppress(OSError):  # a folder that is not writable is reported later, when it is created
        result_path(output_dir, mode).unlink()


def add_to_result(output_dir: Path, mode: str, failure: Mapping[str, Any]) -> None:
    """Add a failure. Results that the run already wrote, such as finished checkpoints, stay in the file.

    So does ``done_flag`` of a training that was complete before its export failed.
    """
    path = result_path(output_dir, mode)
    reported = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {key: value for key, value in reported.items() if key not in failure or key == "done_flag"}
    write_json(path, {**failure, **kept, "versions": versions()})
