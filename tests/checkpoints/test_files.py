"""Checkpoints: complete or not there, and honest about what they are."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from small_runs import CATEGORIES, MODEL, slim_model

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints import files as checkpoint
from paddlex_seg.checkpoints.files import (
    ModelInfo,
    Progress,
    load_model,
    read_info,
    read_progress,
    remove_leftovers,
    save_checkpoint,
)
from paddlex_seg.checkpoints.weights import read_weights, write_weights
from paddlex_seg.errors import WeightsError

INFO = ModelInfo(MODEL, CATEGORIES, (96, 64))
PROGRESS = Progress(epoch=3, step=12, best_score=0.25, best_epoch=2, history=({"epoch": 3, "mask_ap": None},))
SLIM = replace(find_model(MODEL), build=slim_model)


def save(folder: Path, value: float = 1.0) -> Path:
    """A checkpoint of one number; gives back its weight file."""
    save_checkpoint(
        folder,
        weights={"weight": paddle.full([1], value)},
        raw_weights={"weight": paddle.full([1], -value)},
        training_state={"optimizer/weight|velocity": paddle.zeros([1])},
        progress=PROGRESS,
        score=0.25,
        info=INFO,
        config_yaml="Global: {}\n",
    )
    return folder / f"{folder.name}.pdparams"


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    weight_path = save(tmp_path / "best_model", value=2.0)
    assert read_info(weight_path) == INFO
    assert read_progress(weight_path) == PROGRESS
    assert read_weights(weight_path)["weight"].tolist() == [2.0]
    assert read_weights(weight_path.with_suffix(".pdema"))["weight"].tolist() == [-2.0]


def test_a_newer_checkpoint_takes_the_place_of_the_older(tmp_path: Path) -> None:
    weight_path = save(tmp_path / "last_model", value=1.0)
    (tmp_path / "last_model" / "rest of the older one").touch()
    save(tmp_path / "last_model", value=2.0)
    assert read_weights(weight_path)["weight"].tolist() == [2.0]
    assert not (tmp_path / "last_model" / "rest of the older one").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["last_model"]


def test_a_checkpoint_that_could_not_be_written_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight_path = save(tmp_path / "last_model", value=1.0)

    def fail(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", fail)
    with pytest.raises(WeightsError, match=r"last_model: the checkpoint could not be written: No space"):
        save(tmp_path / "last_model", value=2.0)
    assert read_weights(weight_path)["weight"].tolist() == [1.0]
    assert read_info(weight_path) == INFO
    assert [path.name for path in tmp_path.iterdir()] == ["last_model"]


def test_leftovers_of_killed_runs_of_earlier_versions_go_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folders = tmp_path / "checkpoints"
    leftovers = [
        *(folders / f".step_00000120.{ended.pid}", folders / f".step_00000120.old.{os.getpid()}"),
        *(tmp_path / f".best_model.{ended.pid}", tmp_path / f".best_model.old.{ended.pid}"),
        *(tmp_path / f".train_result.json.{ended.pid}", tmp_path / ".metrics.jsonl.k3_xa91b"),
    ]
    kept = [
        *(folders / "step_00000120", folders / f".step_00000121.{os.getppid()}", tmp_path / "best_model"),
        *(tmp_path / ".mine", tmp_path / f".mine.{ended.pid}", tmp_path / ".metrics.jsonl.bak"),
    ]
    for path in (*leftovers, *kept):
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    remove_leftovers(tmp_path)
    assert [path for path in leftovers if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_weights_without_a_description_have_none(tmp_path: Path) -> None:
    assert read_info(tmp_path / "bare.pdparams") is None


def test_a_description_of_paddlex_says_nothing_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "best_model.info.json").write_text('{"metric": 0.4, "epoch": 7}')
    assert read_info(tmp_path / "best_model.pdparams") is None


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
        read_info(tmp_path / "best_model.pdparams")


@pytest.mark.parametrize("text", [None, "{", '{"epoch": 1}', '{"metric": 0.4, "epoch": 7}', "\x80\x02}q"])
def test_a_state_that_cannot_be_resumed_points_to_the_other_setting(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "last_model.pdstates").write_bytes(text.encode("latin1"))
    with pytest.raises(WeightsError, match=r"last_model\.pdstates.*Train\.pretrain_weight_path"):
        read_progress(tmp_path / "last_model.pdparams")


def test_a_model_is_loaded_whole_and_ready_to_evaluate(tmp_path: Path) -> None:
    model = slim_model(num_classes=2)
    save_checkpoint(
        tmp_path / "best_model",
        weights=model.state_dict(),
        raw_weights=None,
        training_state={},
        progress=PROGRESS,
        score=None,
        info=INFO,
        config_yaml="",
    )
    loaded = load_model(SLIM, tmp_path / "best_model" / "best_model.pdparams", num_classes=2)
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name].numpy(), tensor.numpy(), err_msg=name)
    assert not (tmp_path / "best_model" / "best_model.pdema").exists()


def test_weights_that_fit_in_part_are_refused(tmp_path: Path) -> None:
    state = slim_model(num_classes=2).state_dict()
    del state["yolo_head.pred_cls.0.bias"]
    write_weights(state, tmp_path / "part.pdparams")
    with pytest.raises(WeightsError, match=r"part\.pdparams does not fit.*1 of \d+ tensors were not loaded"):
        load_model(SLIM, tmp_path / "part.pdparams", num_classes=2)


def test_weights_of_something_else_are_refused_by_their_name(tmp_path: Path) -> None:
    weight_path = save(tmp_path / "other")
    with pytest.raises(WeightsError, match=r"other\.pdparams"):
        load_model(SLIM, weight_path, num_classes=2)
