"""The ``.info.json`` beside a weight file."""

from pathlib import Path

import paddle
import pytest

from paddlex_seg.checkpoints.info import read_info
from paddlex_seg.checkpoints.weights import write_weights
from paddlex_seg.errors import WeightsError


def bare(folder: Path) -> Path:
    path = folder / "best_model.pdparams"
    write_weights({"x": paddle.ones([1])}, path)
    return path


def test_weights_without_a_description_have_none(tmp_path: Path) -> None:
    assert read_info(bare(tmp_path)) is None


@pytest.mark.parametrize("suffix", ["pdopt", "pdstates"])
def test_the_state_of_a_training_is_not_taken_for_weights(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(WeightsError, match=rf"best\.{suffix} holds the state of a training.*best\.pdparams"):
        read_info(tmp_path / f"best.{suffix}")


def test_a_description_of_paddlex_says_nothing_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "best_model.info.json").write_text('{"metric": 0.4, "epoch": 7}')
    assert read_info(bare(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"model_name": "PP-YOLOE_seg-S"}',
        '{"model_name": "M", "categories": [{"id": 1}], "image_size": [64, 64]}',
        '{"model_name": "M", "categories": [], "image_size": 64}',
    ],
)
def test_a_damaged_description_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "best_model.info.json").write_text(text)
    with pytest.raises(WeightsError, match=r"best_model\.info\.json"):
        read_info(bare(tmp_path))
