"""Images that cannot be made training samples: kept apart and on record, instead of ending the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import replace_file

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadSample:
    """An image that could not be used, and why."""

    file_name: str  # as the annotation file has it
    image_id: int
    error: str  # names the image
    epoch: int  # in which it was found, counted from 0


class Quarantine:
    """The bad images of a run: ``file_name in quarantine`` says whether one is known to be bad.

    budget: the most different images that may be bad; with 0 the first one ends the run with its own error.
    path: the file that always holds all records, complete or not at all; None for ranks other than the first.
    known: records of the run that is resumed, see ``read_bad_samples``. Raises DatasetError, naming all of
    them, as soon as there are more than ``budget``, also when they are known from the beginning.
    """

    def __init__(self, budget: int = 0, path: Path | None = None, known: Iterable[BadSample] = ()) -> None:
        self.budget, self.path = budget, path
        self._records = {record.file_name: record for record in known}
        self._require_budget()

    def __contains__(self, file_name: object) -> bool:
        return file_name in self._records

    @property
    def records(self) -> tuple[BadSample, ...]:
        """All of them, in the order in which they were found."""
        return tuple(self._records.values())

    def add(self, record: BadSample) -> None:
        """Put an image on record, unless it is there already. Raises DatasetError beyond the budget."""
        self.merge([record])

    def merge(self, records: Iterable[BadSample]) -> None:
        """``add`` all of them, such as what another rank has found."""
        new = {record.file_name: record for record in records if record.file_name not in self}
        if not new:
            return
        if self.budget == 0:
            raise DatasetError(next(iter(new.values())).error)
        self._records.update(new)
        for record in new.values():
            _LOGGER.warning(
                "Left out from epoch %d on, bad image %d of at most %d: %s",
                record.epoch + 1,
                list(self._records).index(record.file_name) + 1,
                self.budget,
                record.error,
            )
        if self.path is not None:
            _write_bad_samples(self.path, self.records)
        self._require_budget()

    def _require_budget(self) -> None:
        if len(self._records) <= self.budget:
            return
        problems = [record.error for record in self.records]
        where = (
            f"{len(problems)} training images cannot be used, and Train.max_bad_samples allows "
            f"{self.budget}. Repair them or remove them from the data set"
            + (f", delete {self.path}" if self.path is not None else "")
            + " and run again, or allow more"
        )
        raise DatasetError(summarize_problems(where, problems, shown=len(problems)))


def read_bad_samples(path: Path) -> tuple[BadSample, ...]:
    """The records in a file that a ``Quarantine`` has written; none where there is no such file.

    Raises DatasetError when the file holds something else.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return tuple(BadSample(**record) for record in document["bad_samples"])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            f"{path}: not a list of bad samples ({error}). Delete the file; what is bad will be found again."
        ) from error


def _write_bad_samples(path: Path, records: Iterable[BadSample]) -> None:
    document = {"bad_samples": [asdict(record) for record in records]}
    replace_file(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
