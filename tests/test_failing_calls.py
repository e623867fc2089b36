"""Calls of the operating system that fail: ten points of helpers/fail_calls.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parent / "helpers"
SEED = 20261126


def can_trace() -> bool:
    """Whether strace is there and may watch a process."""
    if shutil.which("strace") is None or shutil.which("true") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="needs strace, and the right to use it")
def test_a_call_that_fails_is_told_or_overcome_and_the_next_run_goes_on(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HELPERS, *sys.path[1:])))}
    for points, modes in ((4, ["check_dataset", "predict"]), (1, ["export", "train"])):
        command = [
            sys.executable,
            str(HELPERS / "fail_calls.py"),
            str(tmp_path),
            str(points),
            str(SEED),
            *modes,
        ]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        for mode in modes:
            assert f"| {mode} | {points} |" in ended.stdout
