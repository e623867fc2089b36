"""Log lines, a log file, and a progress bar on a terminal."""

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, TextIO

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from paddlex_seg.streams import lasting_stream, new_problem

ROOT = logging.getLogger("paddlex_seg")
BAR_SECONDS = 2.0  # shorter work shows no bar
LINE_SECONDS = 30.0  # between the lines about work without a terminal
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


@contextmanager
def work_progress(unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far work on many ``unit`` is, once it takes long. Call the yielded function with each step.

    On a terminal: a bar with count, pace and remaining time. Elsewhere: a log line every `LINE_SECONDS`.
    ``total``: None if unknown, or about how many.
    """
    start, told, done = time.monotonic(), time.monotonic(), 0
    is_terminal = rich.get_console().is_terminal
    with ExitStack() as opened:
        advance_bar: Callable[..., None] | None = None

        def advance(steps: int) -> None:
            nonlocal told, done, advance_bar
            done += steps
            now = time.monotonic()
            pace = done / max(now - start, 1e-9)
            left = (total - done) / pace if total is not None and total >= done > 0 else None
            text = f"{pace:.3g} {unit}/s" + ("" if left is None else f", {format_seconds(left)} left")
            if is_terminal and now - start >= BAR_SECONDS:
                if advance_bar is None:
                    advance_bar = opened.enter_context(progress_bar(unit, total))
                    steps = done
                advance_bar(text, steps)
            elif not is_terminal and now - told >= LINE_SECONDS:
                ROOT.info("%d %s done: %s", done, f"of {total} {unit}" if total else unit, text)
                told = now

        yield advance


def format_seconds(seconds: float) -> str:
    """Such as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
