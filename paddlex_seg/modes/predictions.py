"""What mode predict and ``--pipeline`` do with results: save or print them, and name what has none."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from paddlex_seg.errors import ConfigError, DatasetError, PaddlexSegError
from paddlex_seg.files.addresses import scheme_of
from paddlex_seg.files.names import printable
from paddlex_seg.fonts import unwritable_notice
from paddlex_seg.inference.results import Result, UnwritableResult
from paddlex_seg.inference.sources import count_inputs
from paddlex_seg.inference.thresholds import Threshold
from paddlex_seg.pipelines.model import Model, Pipeline
from paddlex_seg.runtime.log import work_progress
from paddlex_seg.runtime.stop_signals import postponed
from paddlex_seg.streams import insist, require_written

LOGGER = logging.getLogger(__name__)
MOST_PROBLEMS = 10  # in the message of an error; the log has all


@dataclass
class Report:
    """What was done so far. Each row has the input; see `predict_result.json` for the other keys.

    ``on_row`` is called with each new row.
    """

    results: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    num_unreadable: int = 0  # of the skipped ones
    on_row: Callable[[dict[str, str]], None] = lambda row: None

    def add(self, **row: str) -> None:
        """Add an input with a result."""
        self.results.append(row)
        self.on_row(row)

    def skip(self, name: str, problem: str) -> None:
        """Add an input without a result."""
        self.skipped.append({"input": printable(name), "problem": printable(problem)})
        self.on_row(self.skipped[-1])

    def rows(self) -> dict[str, list[dict[str, str]]]:
        """All rows, as in a result file."""
        return {"results": self.results, "skipped": self.skipped}

    def complete(self) -> str:
        """How many results are complete, as a sentence."""
        return f"The results of {len(self.results)} image(s) are complete."


def predict_all(
    model: Model | Pipeline,
    inputs: Sequence[str],
    report: Report,
    *,
    folder: Path | None,
    prints: bool,
    threshold: Threshold | None = None,
) -> None:
    """Predict the inputs, and add each result to the report.

    folder: where results are saved; None saves nothing. prints: whether results are printed. threshold: of
    this call. An input that gives no result, or whose result cannot be saved, is skipped; at the end the log
    names them. Raises DatasetError when no input can be used, PaddlexSegError when there is no result for
    other reasons or when the disk is full. Whatever ends the work, each file is whole.
    """
    if folder is None:
        insist(sys.stdout)
    elif notice := unwritable_notice(model.labels):
        LOGGER.warning(notice)
    results = model.predict(list(inputs), threshold=threshold)
    try:
        with _full_disk_told(report, folder), work_progress("images", count_inputs(inputs)) as advance:
            for result in results:
                if prints and result.error is None:
                    result.print()
                _take(result, report, folder)
                # A file with pages is one input with several results.
                advance(0 if result.page_index else 1)
    except BrokenPipeError:
        return  # nobody reads what is printed, as after `| head`
    except KeyboardInterrupt:
        LOGGER.info(report.complete())
        raise
    _tell_of_skipped(report)


def _take(result: Result, report: Report, folder: Path | None) -> None:
    name = str(result.input_path)
    if result.error is not None:  # which is in the log
        report.num_unreadable += 1
        report.skip(name, result.error)
    elif folder is None:
        require_written(sys.stdout)  # what was printed
        report.add(input=name)
    else:
        try:
            with postponed():
                saved = result.write_files(folder)
                report.add(input=name, image=str(saved.image), json=str(saved.json))
        except UnwritableResult as error:
            LOGGER.warning("Result skipped: %s", printable(str(error)))
            report.skip(name, str(error))
        else:
            LOGGER.info("%s: %d object(s), drawn in %s", name, len(result.instances), saved.image)


@contextmanager
def _full_disk_told(report: Report, folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if folder is None and isinstance(error, BrokenPipeError):
            raise
        place = error.filename or folder or "Standard output"
        raise PaddlexSegError(
            f"{place}: cannot be written ({error.strerror or error}). {report.complete()} Free disk space, "
            "or choose another place for the results."
        ) from error


def _tell_of_skipped(report: Report) -> None:
    """Log the inputs without a result, or raise an error if no other is left."""
    if report.results:
        if report.skipped:
            LOGGER.warning(
                "%d of %d input(s) have no result:\n%s",
                *(len(report.skipped), len(report.skipped) + len(report.results)),
                "\n".join(f"  {row['problem']}" for row in report.skipped),
            )
        return
    problems = [row["problem"] for row in report.skipped]
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [f"... and {len(problems) - MOST_PROBLEMS} more, see above"]
    kind = DatasetError if report.num_unreadable == len(report.skipped) else PaddlexSegError
    raise kind("\n".join(["No input gave a result.", *problems]))


def require_separate(inputs: Sequence[str], setting: str, form: str, comma: str) -> None:
    """Raise ConfigError for several inputs in one text, such as ``a.jpg,b.jpg``. A name may have commas.

    For the message: the name of the setting, how it is written (``{}`` for the inputs), and what separates
    inputs. Of several inputs, a wrong one does not keep the others from being used.
    """
    for text in inputs if len(inputs) == 1 else ():
        parts = [part for part in re.split(r"\s*[,;]\s*", text) if part]
        if scheme_of(text):
            parts = [part for part in parts if scheme_of(part)]
        elif os.path.exists(text) or glob(text, recursive=True):
            continue
        if len(parts) > 1:
            raise ConfigError(
                f"{setting}: there is no file {text}. To name several inputs, write "
                f"{form.format(comma.join(parts))}."
            )
