"""The toy model, exported once for all tests of this folder."""

from pathlib import Path

import pytest
from toy_model import export_toy


@pytest.fixture(scope="session")
def small_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with only our graph, which gives small masks."""
    return export_toy(tmp_path_factory.mktemp("small mod è l"))


@pytest.fixture(scope="session")
def official_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with only the official graph, which pastes its masks."""
    return export_toy(tmp_path_factory.mktemp("official"), small=False, pasted=True)


@pytest.fixture(scope="session")
def boxless_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with only the official graph of SOLOv2, which gives no boxes."""
    return export_toy(tmp_path_factory.mktemp("boxless"), small=False, boxless=True)
