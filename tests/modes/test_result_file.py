import json
from pathlib import Path

import pytest

from paddlex_seg.files.json import write_json
from paddlex_seg.files.written import REGISTER
from paddlex_seg.modes.result_file import add_to_result, clear_result, write_result
from paddlex_seg.runtime.environment import versions


def test_a_failure_keeps_what_the_run_had_reported(tmp_path: Path) -> None:
    write_result(tmp_path, "train", {"models": {"best": 1}, "done_flag": False, "history": [1]})
    add_to_result(tmp_path, "train", {"done_flag": False, "err_msg": "größer"})
    assert json.loads((tmp_path / "train_result.json").read_text(encoding="utf-8")) == {
        "done_flag": False,
        "err_msg": "größer",
        "models": {"best": 1},
        "history": [1],
        "versions": versions(),
    }


def test_a_failure_overrules_a_reported_success(tmp_path: Path) -> None:
    write_result(tmp_path, "train", {"done_flag": True})
    add_to_result(tmp_path, "train", {"done_flag": False})
    assert json.loads((tmp_path / "train_result.json").read_text())["done_flag"] is False


def test_letters_are_written_as_they_are(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"name": "螺栓"})
    assert "螺栓" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {"new": object()})
    assert json.loads((tmp_path / "file.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_clearing_removes_the_file_of_that_mode_alone(tmp_path: Path) -> None:
    for mode in ("train", "evaluate"):
        write_result(tmp_path, mode, {})
    clear_result(tmp_path, "train")
    clear_result(tmp_path / "not there", "train")
    assert {path.name for path in tmp_path.iterdir()} == {"evaluate_result.json", REGISTER}


def test_clearing_removes_what_a_killed_run_left_of_the_file_alone(tmp_path: Path) -> None:
    gone = "new-999999999-1-0123abcd"  # of a process that does not exist
    own, others = f".train_result.{gone}.json", {f".predict_result.{gone}.json", f".weights.{gone}.pdparams"}
    for name in (own, *others):
        (tmp_path / name).write_text("half of")
    clear_result(tmp_path, "train")
    assert {path.name for path in tmp_path.iterdir()} == others
