"""The small data sets of ``tests/cases/data``, each rebuilt after a problem that users report."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import read_result, run_cli

CASES = Path(__file__).parents[1] / "cases" / "data"


def copy_case(name: str, target: Path) -> Path:
    """A copy of a case in the new folder ``target`` that a test may change."""
    shutil.copytree(CASES / name, target)
    return target


@dataclass(frozen=True)
class Desk:
    """What check_dataset did: exit code, result file, and everything that it printed and logged."""

    exit_code: int
    result: dict[str, Any]
    text: str

    @property
    def codes(self) -> dict[str, int]:
        """Number of findings by code."""
        return dict(self.result.get("finding_counts", {}))

    def messages(self, code: str) -> list[str]:
        """The messages of the findings of one code."""
        return [item["message"] for item in self.result.get("findings", []) if item["code"] == code]


def check_dataset(dataset_dir: Path, output: Path, **options: Any) -> Desk:
    """Run the mode check_dataset as a user does. ``options``: such as ``CheckDataset__fix__enable=True``."""
    outcome = run_cli("check_dataset", output, Global__dataset_dir=dataset_dir, **options)
    return Desk(outcome.code, read_result(output, "check_dataset"), outcome.stdout + outcome.stderr)
