"""What the tests share: the place of the reference data, which may be absent."""

import os
from pathlib import Path

import pytest

from paddlex_seg.engine.launch import prepare_process

# Workers that run side by side (pytest -n) share the cores out, with all that they start: threads of two that
# wait for each other's core take longer than one thread.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    cores = sorted(os.sched_getaffinity(0))
    own_cores = cores[worker :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    os.sched_setaffinity(0, own_cores or cores)

# Reference numbers were recorded with the code path that MKL chooses by itself; another rounds differently.
os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "0")
prepare_process()

from paddlex_seg.engine.device import use_device  # noqa: E402 - imports Paddle, which reads the above only once

use_device("cpu")  # all of its cores; Paddle would take one


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with reference numbers and real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PADDLEX_SEG_SHARED", "../shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}; set PADDLEX_SEG_SHARED")
    return folder
