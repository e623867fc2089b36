"""What the tests share: the place of the reference data, which may be absent."""

import os
from pathlib import Path

import pytest

from paddlex_seg.engine.launch import prepare_process

# Reference numbers were recorded with the code path that MKL chooses by itself; another rounds differently.
os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "0")
prepare_process()

from paddlex_seg.engine.device import use_device  # noqa: E402 - imports Paddle, which reads the above only once

use_device("cpu")  # all cores; Paddle would take one


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with reference numbers and real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PADDLEX_SEG_SHARED", "../shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}; set PADDLEX_SEG_SHARED")
    return folder
