"""The output folder of a mode, and ``<output>/<mode>_result.json``: its result, for programs to read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlex_seg.errors import OutputError
from paddlex_seg.files.atomic import remove_leftovers, require_writable
from paddlex_seg.files.problems import explain
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


def open_output(output_dir: Path, setting: str = "Global.output") -> None:
    """Create the output folder and try to write to it, so that no work is lost to one that takes nothing.

    ``setting``: what names the folder, for messages. Raises OutputError when the folder cannot be written.
    """
    try:
        str(output_dir).encode()  # results and pages are UTF-8 and name their folder
        require_writable(output_dir)
    except OSError as problem:
        raise OutputError(f"{setting} cannot be written. {explain(problem)}") from problem
    except ValueError as problem:
        raise OutputError(
            f"{setting} cannot be written. The name {str(output_dir)!r} is not UTF-8 text or has a null "
            "character. Set another folder."
        ) from problem


def clear_result(output_dir: Path, mode: str) -> None:
    """Remove the result file of an earlier run, so that it is not mistaken for the result of this run.

    What a run left that was killed while it wrote the file is removed, too. A file of the user with its name
    is kept as ``.bak``.
    """
    path = result_path(output_dir, mode)
    keep_foreign(path)
    path.unlink(missing_ok=True)
    remove_leftovers(output_dir, of=path.name)


def add_to_result(output_dir: Path, mode: str, failure: Mapping[str, Any]) -> None:
    """Add a failure. Results that the run already wrote, such as finished checkpoints, stay in the file.

    When the failure cannot be written, the file is removed: it may tell of a success.
    """
    path = result_path(output_dir, mode)
    try:
        reported = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        kept = {key: value for key, value in reported.items() if key not in failure}
        write_result(output_dir, mode, {**failure, **kept})
    except BaseException:
        clear_result(output_dir, mode)
        raise
