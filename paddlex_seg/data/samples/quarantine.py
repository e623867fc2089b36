"""Quarantine: training skips and records unusable images instead of ending."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.structures import Id

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadSample:
    """An image that could not be used, and why."""

    file_name: str  # as in the annotation file
    image_id: Id
    error: str  # names the image
    epoch: int  # when it was found, counted from 0


class Quarantine:
    """The bad images of a run. ``file_name in quarantine`` tells whether an image is known to be bad.

    budget: the maximum number of bad images. With 0, the first bad image ends the run with its own error.
    path: the file with all records, written atomically; None for ranks other than the first.
    known: records of the run that is resumed, see ``read_bad_samples``. If there are more bad images than
    ``budget``, including ``known``, raises DatasetError that lists all of them.
    """

    def __init__(self, budget: int = 0, path: Path | None = None, known: Iterable[BadSample] = ()) -> None:
        self.budget, self.path = budget, path
        self._records = {record.file_name: record for record in known}
        self._require_budget()

    def __contains__(self, file_name: object) -> bool:
        return file_name in self._records

    @property
    def records(self) -> tuple[BadSample, ...]:
        """All records, in the order in which they were found."""
        return tuple(self._records.values())

    def add(self, record: BadSample) -> None:
        """Add a bad image, unless it is known. Raises DatasetError if the budget is exceeded."""
        self.merge([record])

    def merge(self, records: Iterable[BadSample]) -> None:
        """``add`` several records, such as those found by another rank."""
        new = {record.file_name: record for record in records if record.file_name not in self}
        if not new:
            return
        if self.budget == 0:
            raise DatasetError(next(iter(new.values())).error)
        self._records.update(new)
        for record in new.values():
            _LOGGER.warning(
                "Bad image %d of at most %d, not used from epoch %d on: %s",
                list(self._records).index(record.file_name) + 1,
                self.budget,
                record.epoch + 1,
                record.error,
            )
        if self.path is not None:
            try:
                _write_bad_samples(self.path, self.records)
            except OSError as error:  # such as a full disk; the log has the records, too
                _LOGGER.warning("%s could not be written: %s. Training continues.", self.path, error)
        self._require_budget()

    def _require_budget(self) -> None:
        if len(self._records) <= self.budget:
            return
        problems = [record.error for record in self.records]
        where = (
            f"{len(problems)} training images cannot be used, and Train.max_bad_samples allows "
            f"{self.budget}. Repair them or leave them out of the data set"
            + (f", move {self.path} away" if self.path is not None else "")
            + " and run again. Or increase Train.max_bad_samples"
        )
        raise DatasetError(summarize_problems(where, problems, shown=len(problems)))


def read_bad_samples(path: Path) -> tuple[BadSample, ...]:
    """The records in a file written by ``Quarantine``; empty if there is no file.

    Raises DatasetError when the file has another content.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return tuple(BadSample(**record) for record in document["bad_samples"])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            f"{path}: not a list of bad samples ({error}). Move the file away. Training will find the bad "
            "images again."
        ) from error


def _write_bad_samples(path: Path, records: Iterable[BadSample]) -> None:
    document = {"bad_samples": [asdict(record) for record in records]}
    write_bytes(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
