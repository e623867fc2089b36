"""The toy model, exported once for all tests of this folder."""

from pathlib import Path

import numpy as np
import pytest
from toy_model import export_toy, image_with


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model: PP-YOLOE_seg-S by name, with the classes "red thing" and "绿色"."""
    return export_toy(tmp_path_factory.mktemp("toy") / "my modèle")


@pytest.fixture
def both() -> np.ndarray:
    """A BGR image with a red thing of score 0.8 and a green one of score 0.6."""
    image = image_with((64, 96), red=np.s_[8:40, 8:80], green=np.s_[44:60, 8:80])
    return np.ascontiguousarray((image * np.array([0.8, 0.6, 0]))[..., ::-1]).astype(np.uint8)
