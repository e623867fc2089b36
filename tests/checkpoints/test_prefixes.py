"""Prefixes and wrappers around the weights of a file."""

import logging
from pathlib import Path

import numpy as np
import paddle
import pytest
from numpy.typing import NDArray
from paddle import nn

from paddlex_seg.checkpoints.prefixes import without_prefix
from paddlex_seg.checkpoints.weights import load_into, read_weights
from paddlex_seg.errors import WeightsError


class Net(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Conv2D(4, 4, 3))
        self.head = nn.Linear(4, 7)


def weights_of(value: float, prefix: str = "") -> dict[str, NDArray]:
    return {prefix + name: np.full(x.shape, value, np.float32) for name, x in Net().state_dict().items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_layers.", "model.", "ema.", "teacher.", "module.model.", "ema.module.student."]
)
def test_a_prefix_of_the_whole_file_is_left_out_and_told(
    prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Net()
    with caplog.at_level(logging.INFO):
        report = load_into(model, weights_of(2, prefix), source="w.pdparams")
    assert not report.missing and not report.skipped
    assert model.head.bias.numpy().tolist() == [2] * 7
    assert f"w.pdparams: the 10 entries that begin with {prefix} are used, without this prefix" in caplog.text


@pytest.mark.parametrize(
    ("used", "unused"), [("teacher.", "student."), ("ema.", "model."), ("module.teacher.", "module.student.")]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_equal_groups_the_moving_average_is_used_and_told(
    used: str, unused: str, is_first: bool
) -> None:
    groups = [weights_of(1, used), weights_of(2, unused)]
    weights = dict(kept for group in (groups if is_first else groups[::-1]) for kept in group.items())
    found, note = without_prefix(Net().state_dict(), weights)
    assert found.keys() == weights_of(1).keys()
    assert {array.flat[0] for array in found.values()} == {1}
    assert f"10 entries that begin with {used} are used" in note
    assert f"not used: the 10 that begin with {unused}" in note


def test_the_group_that_fits_the_model_is_used() -> None:
    larger = {f"teacher.{name}": np.zeros((9, 9), np.float32) for name in Net().state_dict()}
    found, note = without_prefix(Net().state_dict(), {**larger, **weights_of(1, "student.")})
    assert "begin with student. are used" in note
    assert found["head.bias"].tolist() == [1] * 7


def test_entries_without_prefix_come_first() -> None:
    found, note = without_prefix(Net().state_dict(), {**weights_of(2, "ema."), **weights_of(1)})
    assert {array.flat[0] for array in found.values()} == {1} and len(found) == 10
    assert note == "the entries without prefix are used; not used: the 10 that begin with ema."


def test_a_backbone_with_a_prefix_is_found() -> None:
    backbone = {
        f"module.{name}": np.ones(x.shape, np.float32) for name, x in Net().backbone.state_dict().items()
    }
    model = Net()
    report = load_into(model, {**backbone, "module.fc.weight": np.ones((4, 9), np.float32)})
    assert len(report.loaded) == 8
    assert [name for name, _ in report.skipped] == ["fc.weight"]


def test_the_state_of_an_optimizer_is_not_taken_for_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="none of its 10 entries fits .* state of an optimizer"):
        load_into(Net(), weights_of(1, "optimizer/velocity|"))


@pytest.mark.parametrize("change", ["other head", "backbone only", "one more"])
def test_what_fits_in_part_is_not_taken_for_a_prefix(change: str) -> None:
    weights = weights_of(1)
    if change == "other head":
        weights["head.weight"] = np.zeros((4, 80), np.float32)
    elif change == "backbone only":
        weights = {name.removeprefix("backbone."): x for name, x in weights.items() if "backbone" in name}
        weights["fc.weight"] = np.zeros((4, 80), np.float32)
    else:
        weights["more.backbone.0.weight"] = np.zeros((4, 3, 3, 3), np.float32)
    assert without_prefix(Net().state_dict(), weights) == (weights, "")


@pytest.mark.parametrize(
    ("content", "used", "unused"),
    [
        ({"model": 1, "epoch": 3}, "model", ""),
        ({"model": 1, "ema": 2}, "ema", "; not used: model"),
        ({"ema": {"module": 2, "decay": 0.9}, "model": 1}, "ema.module", "; not used: model"),
        ({"state_dict": 1, "optimizer": 2}, "state_dict", "; not used: optimizer"),
        ({"student": 1, "teacher": 2}, "teacher", "; not used: student"),
        ({"ema": {"decay": 0.9}, "model": 1}, "model", ""),
    ],
    ids=["one", "two", "nested", "optimizer", "teacher", "ema without arrays"],
)
def test_a_wrapper_is_opened_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: dict, used: str, unused: str
) -> None:
    def filled(value: object) -> object:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return {"w": paddle.full([2], value)} if type(value) is int and value < 3 else value

    paddle.save(filled(content), str(tmp_path / "w.pdparams"))
    with caplog.at_level(logging.INFO):
        found = read_weights(tmp_path / "w.pdparams")
    assert found["w"].tolist() == [2 if used in ("teacher", "ema", "ema.module") else 1] * 2
    assert f"w.pdparams: the entry {used} is used as weights{unused}." in caplog.text
