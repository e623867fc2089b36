"""Run the command line inside a test process: returns output and exit code, leaves no state behind."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlex_seg import cli


@dataclass(frozen=True)
class Outcome:
    """The result of a command line."""

    code: int
    stdout: str
    stderr: str


def run_cli(mode: str, output: Path, **options: Any) -> Outcome:
    """Run a mode of PP-YOLOE_seg-S on the CPU. Dots of option names are written as two underscores."""
    settings = {"Global.mode": mode, "Global.output": output, "Global.device": "cpu"}
    settings |= {name.replace("__", "."): value for name, value in options.items()}
    return run_argv(["-c", "PP-YOLOE_seg-S", *(f"-o{key}={value}" for key, value in settings.items())])


def run_argv(argv: list[str], main: Callable[[list[str]], int] = cli.main) -> Outcome:
    """Run the command line, or another command, with these options."""
    stdout, stderr = io.StringIO(), io.StringIO()
    root = logging.getLogger("paddlex_seg")
    state = root.handlers[:], root.level, root.propagate
    root.handlers = []  # so that the run creates its own handler for the current standard output
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr), warnings.catch_warnings():
            code = main(argv)
    finally:
        root.handlers, root.propagate = state[0], state[2]
        root.setLevel(state[1])
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


def read_result(output: Path, mode: str) -> dict[str, Any]:
    """The content of a mode's result file. Fails on NaN."""
    text = (output / f"{mode}_result.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
