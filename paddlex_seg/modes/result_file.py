"""The output folder of a mode, and ``<output>/<mode>_result.json``: its result, for programs to read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlex_seg.errors import OutputError
from paddlex_seg.files.atomic import require_writable
from paddlex_seg.files.json import write_json
from paddlex_seg.files.problems import explain


def result_path(output_dir: Path, mode: str) -> Path:
    """The path of a mode's result file."""
    return output_dir / f"{mode}_result.json"


def write_result(output_dir: Path, mode: str, result: Mapping[str, Any]) -> None:
    """Write the result file of a mode."""
    write_json(result_path(output_dir, mode), result)


def open_output(output_dir: Path, mode: str) -> None:
    """Create the output folder, try to write to it, and remove the result file of an earlier run.

    So hours of work are not lost to a folder that takes no results, and an old result is not mistaken for the
    result of this run. Raises OutputError when the folder cannot be written.
    """
    try:
        str(output_dir).encode()  # results and pages are UTF-8 and name their folder
        require_writable(output_dir)
        clear_result(output_dir, mode)
    except OSError as problem:
        raise OutputError(f"Global.output cannot be written. {explain(problem)}") from problem
    except ValueError as problem:
        raise OutputError(
            f"Global.output cannot be written. The name {str(output_dir)!r} is not UTF-8 text or has a null "
            "character. Set another folder."
        ) from problem


def clear_result(output_dir: Path, mode: str) -> None:
    """Remove the result file of a mode, if there is one."""
    result_path(output_dir, mode).unlink(missing_ok=True)


def add_to_result(output_dir: Path, mode: str, failure: Mapping[str, Any]) -> None:
    """Add a failure. Results that the run already wrote, such as finished checkpoints, stay in the file.

    When the failure cannot be written, the file is removed: it may tell of a success.
    """
    path = result_path(output_dir, mode)
    try:
        reported = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        write_json(path, {**failure, **{key: value for key, value in reported.items() if key not in failure}})
    except BaseException:
        clear_result(output_dir, mode)
        raise
