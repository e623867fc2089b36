"""Findings: problems and facts that a check reports about a data set. ``KINDS`` lists all stable codes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paddlex_seg.data.finding_kinds.files import FILES
from paddlex_seg.data.finding_kinds.images import IMAGES
from paddlex_seg.data.finding_kinds.kind import Kind, Severity
from paddlex_seg.data.finding_kinds.masks import MASKS
from paddlex_seg.data.finding_kinds.numbers import NUMBERS
from paddlex_seg.data.finding_kinds.records import RECORDS
from paddlex_seg.data.finding_kinds.sources import SOURCES
from paddlex_seg.structures import Id


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a data set, or one fact worth knowing.

    ``image_id`` and ``annotation_id`` are the ids in the annotation file. They are None if the finding is not
    about a single image or annotation.
    """

    code: str  # a key of KINDS
    severity: Severity
    file: str  # name of the annotation file, or of the source file of a conversion
    image_id: Id | None
    annotation_id: Id | None
    message: str  # what is wrong, with the wrong value: one sentence without a full stop
    hint: str  # what to do about it

    def __str__(self) -> str:
        image = "" if self.image_id is None else f", image {self.image_id}"
        annotation = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return f"{self.file}{image}{annotation}: {self.message}. {self.hint}"


def finding(
    code: str,
    file: str,
    message: str,
    *,
    image_id: Id | None = None,
    annotation_id: Id | None = None,
    hint: str | None = None,
) -> Finding:
    """A finding with a code of KINDS. ``hint`` replaces the hint in KINDS."""
    kind = KINDS[code]
    return Finding(
        code=code,
        severity=kind.severity,
        file=file,
        image_id=image_id,
        annotation_id=annotation_id,
        message=message,
        hint=kind.hint if hint is None else hint,
    )


class FindingLog:
    """The findings about one file. All are counted; the first ``kept_per_code`` of each code are kept."""

    def __init__(self, file: str, kept_per_code: int = 1000) -> None:
        self.file = file
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._kept_per_code = kept_per_code

    def add(
        self,
        code: str,
        message: str,
        *,
        image_id: Id | None = None,
        annotation_id: Id | None = None,
        hint: str | None = None,
    ) -> None:
        """Count a finding with a code of KINDS. Keep it if fewer than ``kept_per_code`` are kept."""
        self.counts[code] += 1
        if self.counts[code] <= self._kept_per_code:
            self.kept.append(
                finding(code, self.file, message, image_id=image_id, annotation_id=annotation_id, hint=hint)
            )

    def add_many(
        self, code: str, places: Sequence[int], describe: Callable[[int], tuple[str, dict[str, Any]]]
    ) -> None:
        """Count one finding per place. ``describe`` gives message and ids of the findings that are kept."""
        room = max(0, self._kept_per_code - self.counts[code])
        for place in places[:room]:
            message, ids = describe(place)
            self.kept.append(finding(code, self.file, message, **ids))
        self.counts[code] += len(places)

    @property
    def num_errors(self) -> int:
        """Number of findings that are errors, kept or not."""
        return sum(count for code, count in self.counts.items() if KINDS[code].severity == "error")


KINDS: dict[str, Kind] = {**FILES, **IMAGES, **RECORDS, **MASKS, **NUMBERS, **SOURCES}


def summarize_problems(
    where: str, problems: Sequence[str], *, count: int | None = None, shown: int = 20
) -> str:
    """One message for ``count`` problems: the first ``shown`` in full, then the number of the others."""
    count = len(problems) if count is None else count
    more = count - min(shown, len(problems))
    lines = [f"{where}: {count} problem{'s' if count > 1 else ''}", *problems[:shown]]
    return "\n  ".join(lines + [f"... and {more} more"] * (more > 0))
