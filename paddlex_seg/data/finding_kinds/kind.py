"""What all findings of one code share."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]  # only errors fail the check


@dataclass(frozen=True, slots=True)
class Kind:
    """Severity and texts that all findings of one code share."""

    severity: Severity
    meaning: str  # what was found, and what happens if it stays
    hint: str  # what to do about it
    repair: str = ""  # what CheckDataset.fix does; empty if it cannot be repaired automatically
