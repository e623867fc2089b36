"""docs/tutorials.md has every command of the tutorials; each row is held by a test or says why not."""

import re
import shlex
from pathlib import Path

import pytest
from tutorial_texts import (
    CONFIG_COMMANDS,
    DATA_COMMANDS,
    MODULE_COMMANDS,
    PIPELINE_COMMANDS,
    commands_in,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| tut", "| it"))
]
LISTED = {text for row in ROWS for text in re.findall(r"`([^`]+)`", row)}
OWN = {*PIPELINE_COMMANDS.values(), *CONFIG_COMMANDS, *DATA_COMMANDS, *MODULE_COMMANDS}


def as_listed(command: str) -> str:
    """A command in the words of the page."""
    command = re.sub(r"https://\S+\.png", "URL", command)
    return command.replace("paddlex/configs/modules/instance_segmentation/", "CONFIGS/")


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_a_row_is_held_by_a_test_or_says_why_not(row: str) -> None:
    last = row.strip("| ").split(" | ")[-1]
    if last.startswith("not offered, because "):
        return
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", last)
    assert found, row
    assert f"\ndef {found[2]}(" in (ROOT / found[1]).read_text(encoding="utf-8"), row


@pytest.mark.parametrize("command", sorted(OWN))
def test_a_command_that_is_tested_is_in_the_table(command: str) -> None:
    assert as_listed(command) in LISTED


def test_every_command_of_the_tutorials_is_in_the_table_and_tested(shared_dir: Path) -> None:
    files = sorted((shared_dir / "spec" / "tutorials").glob("*.txt"))
    if not files:
        pytest.skip("no tutorials found")
    found = {command for file in files for command in commands_in(file.read_text(encoding="utf-8"))}
    assert len(found) > 20
    assert found == {shlex.join(shlex.split(command)) for command in OWN}
