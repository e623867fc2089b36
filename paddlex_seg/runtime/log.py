"""Log lines, a log file, and a progress bar on a terminal."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, TextIO

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from paddlex_seg.streams import lasting_stream, new_problem

ROOT = logging.getLogger("paddlex_seg")
FORMAT = logging.Formatter("[%(asctime)s] %(levelname)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


class ConsoleHandler(logging.Handler):
    """Prints log lines above a progress bar. The terminal wraps long lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        style = "bold red" if record.levelno >= logging.WARNING else ""
        console = rich.get_console()
        console.print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)
        tell_once(console.file, "The terminal")


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes log lines as plain text. ``place``: what is written to, for a message."""

    def __init__(self, stream: TextIO, place: str) -> None:
        super().__init__(stream)
        self._place = place
        self.setFormatter(FORMAT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        super().emit(record)
        tell_once(self.stream, self._place)


def tell_once(stream: IO[str], place: str) -> None:
    """When a lasting stream has dropped something for the first time, say so in the other logs."""
    problem = new_problem(stream)
    if problem is not None:
        ROOT.warning("%s cannot be written: %s. The run goes on without it.", place, problem.strerror)


def start_log() -> None:
    """Send the toolkit's log lines to the terminal, or as plain text to standard output."""
    if ROOT.handlers:
        return
    if rich.get_console().is_terminal:
        handler: logging.Handler = ConsoleHandler()
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", datefmt="%H:%M:%S"))
    else:
        handler = LineHandler(sys.stdout, "Standard output")
    ROOT.addHandler(handler)
    ROOT.setLevel(logging.INFO)
    ROOT.propagate = False
    # Some versions of Paddle make the root logger print; the evaluator then reports each of its steps.
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copy the log lines into a file (UTF-8, appended) while the context lasts.

    Raises OSError when the file cannot be opened. When it cannot be written later, one warning says so.
    """
    with lasting_stream(io.FileIO(path, "a"), "utf-8") as stream:
        handler = LineHandler(stream, str(path))
        ROOT.addHandler(handler)
        try:
            yield
        finally:
            ROOT.removeHandler(handler)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar with a text at its end. The yielded function advances it by one step.

    The function also takes ``steps``, and ``total`` if it becomes known later. Without a terminal it does
    nothing.
    """
    if not rich.get_console().is_terminal:
        yield lambda text="", steps=1, total=None: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=rich.get_console(), transient=True) as bar:
        task = bar.add_task(description, total=total, text="")

        def advance(text: str = "", steps: int = 1, total: int | None = None) -> None:
            bar.update(task, advance=steps, text=text, total=total)

        yield advance


def format_seconds(seconds: float) -> str:
    """Such as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
