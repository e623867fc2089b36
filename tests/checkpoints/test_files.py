"""Checkpoints: written all or nothing, with a correct description."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import paddle
import pytest
from small_runs import CATEGORIES, MODEL, slim_model

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints import files as checkpoint
from paddlex_seg.checkpoints.files import remove_leftovers, save_checkpoint
from paddlex_seg.checkpoints.info import ModelInfo, read_info
from paddlex_seg.checkpoints.progress import Progress, read_progress
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.errors import WeightsError

INFO = ModelInfo(MODEL, CATEGORIES, (96, 64))
PROGRESS = Progress(epoch=3, step=12, best_score=0.25, best_epoch=2, history=({"epoch": 3, "mask_ap": None},))
SLIM = replace(find_model(MODEL), build=slim_model)


def save(folder: Path, value: float = 1.0, *, raw: bool = True) -> Path:
    """Write a checkpoint with one number; returns its weight file."""
    save_checkpoint(
        folder,
        weights={"weight": paddle.full([1], value)},
        raw_weights={"weight": paddle.full([1], -value)} if raw else None,
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


def test_without_an_average_there_are_no_raw_weights(tmp_path: Path) -> None:
    weight_path = save(tmp_path / "best_model", raw=False)
    assert read_weights(weight_path)["weight"].tolist() == [1.0]
    assert not weight_path.with_suffix(".pdema").exists()


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


def test_a_full_disk_names_the_checkpoint_and_no_temporary_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as the system reports it: without a path

    monkeypatch.setattr("paddlex_seg.checkpoints.weights.pickle.dump", full)
    with pytest.raises(WeightsError, match="No space left on device") as caught:
        save(tmp_path / "step_00000120")
    assert str(tmp_path / "step_00000120" / "step_00000120.pdparams") in str(caught.value)
    assert ".new-" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


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
