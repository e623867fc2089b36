"""Small files that cost a careless reader much: each is refused without much memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import image_bombs
import pytest

MOST_GROWTH_MB = 200
HANG_SECONDS = 200  # for all files together; they take 5

Outcomes = dict[str, dict]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Outcomes]:
    """What came of each file, in a process that forks for each, so that memory is measured from zero."""
    names = list(image_bombs.BOMBS)
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: pytest would keep 300 MB
        for number, name in enumerate(names):
            (Path(folder) / f"{number:03}").write_bytes(image_bombs.BOMBS[name]())
        command = [sys.executable, image_bombs.__file__, folder]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, timeout=HANG_SECONDS, check=True
        )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    yield {names[int(line["file"])]: line for line in lines}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("name", image_bombs.BOMBS)
def test_a_bomb_is_refused_without_much_memory(name: str, outcomes: Outcomes) -> None:
    outcome = outcomes[name]
    print(name, outcome)
    if name == "TIFF whose EXIF directory is large":
        assert outcome["shape"] == [8, 8, 3]  # nobody reads the directory
    else:
        assert outcome["status"] in (400, 413, 415) and outcome["message"]
    assert outcome["growth_mb"] <= MOST_GROWTH_MB


def test_there_are_bombs_enough() -> None:
    assert len(image_bombs.BOMBS) >= 15
