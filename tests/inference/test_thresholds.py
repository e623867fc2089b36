"""Which threshold holds for a class, and what a wrong setting is answered."""

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from toy_model import SPEC

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.errors import ConfigError
from paddlex_seg.inference.backends.base import find_instances
from paddlex_seg.inference.thresholds import class_thresholds, threshold_of_classes
from paddlex_seg.structures import DetectionArrays, MaskFrame

LABELS = ("bolt", "nut", "垫圈")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.5], [0.5, 0.5, 0.5]),
        ([0, 0.5], [0, 0, 0]),
        ([None, None, 0.2, 0.5], [0.2, 0.2, 0.2]),
        ([{"nut": 0.1}, 0.5], [0.5, 0.1, 0.5]),
        ([{"nut": 0}, {"nut": 0.9, "垫圈": 1}, 0.5], [0.5, 0, 1]),
        ([{0: 0.1}, {"bolt": 0.2, 2: 0.3}, 0.4, {"nut": 0.9}, 0.5], [0.1, 0.4, 0.3]),
        ([{"0": 0.1, "2": 0.3}, 0.5], [0.1, 0.5, 0.3]),
        ([{}, 0.5], [0.5, 0.5, 0.5]),
        ([{np.int64(1): np.float32(0.25)}, np.float64(0.5)], [0.5, 0.25, 0.5]),
        ([Fraction(1, 4), 0.5], [0.25, 0.25, 0.25]),
    ],
)
def test_the_first_level_that_says_something_about_a_class_decides(levels: list, expected: list) -> None:
    found = class_thresholds(levels, LABELS)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(expected)


def test_a_text_is_a_class_name_before_it_is_an_index() -> None:
    labels = ("1", "0", "0")
    assert threshold_of_classes({"0": 0.3}, labels) == {1: 0.3, 2: 0.3}
    assert threshold_of_classes({0: 0.3}, labels) == {0: 0.3}


@pytest.mark.parametrize("value", [1.01, -0.1, float("nan"), float("inf"), True, "0.5", [0.5], 1j, np.True_])
@pytest.mark.parametrize("in_mapping", [False, True], ids=["for all", "for one class"])
def test_a_value_that_is_no_number_from_0_to_1_is_refused(value: Any, in_mapping: bool) -> None:
    level = {"nut": value} if in_mapping else value
    with pytest.raises(ConfigError, match=re.escape(f"found {value!r}; expected a number from 0 to 1")):
        class_thresholds([0.3, level, 0.5], LABELS)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("bolts", "no class 'bolts'. Did you mean bolt? The classes of this model are: bolt, nut, 垫圈."),
        ("Nut", "no class 'Nut'. Did you mean nut?"),
        ("", "no class ''"),
        (3, "no class 3; expected a class name, or an index from 0 to 2"),
        ("3", "no class '3'; expected"),
        (-1, "no class -1; expected"),
        (True, "no class True; expected"),
        (1.0, "no class 1.0; expected"),
        (None, "no class None; expected"),
        (("nut",), "no class ('nut',); expected"),
    ],
)
def test_a_class_that_does_not_exist_is_named(key: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        class_thresholds([{key: 0.5}, 0.5], LABELS)


def test_many_classes_are_cut_in_a_message() -> None:
    with pytest.raises(ConfigError, match="c19 and 60 more"):
        threshold_of_classes({"x": 0.5}, [f"c{number}" for number in range(80)])


def test_a_class_must_not_be_given_by_name_and_by_index() -> None:
    with pytest.raises(ConfigError, match=r"class 1 \(nut\) is given twice"):
        threshold_of_classes({"nut": 0.5, 1: 0.4}, LABELS)


class Found:
    """A backend that finds these rows: class, score."""

    preprocess = SPEC.preprocess
    mask_frame: MaskFrame = "image"

    def __init__(self, rows: list[tuple[int, float]]) -> None:
        self.rows = rows

    def __call__(self, *inputs: np.ndarray) -> DetectionArrays:
        bbox = np.array([[*row, 0, 0, 96, 64] for row in self.rows], np.float32).reshape(-1, 6)
        return DetectionArrays(bbox, np.array([len(bbox)]), np.ones((len(bbox), 16, 24), np.float32))


def found_classes(rows: list[tuple[int, float]], thresholds: list[float]) -> list[int]:
    inputs = NetworkInput(
        np.zeros((1, 3, 64, 96), np.float32), np.array([[64, 96]], np.float32), np.ones((1, 2), np.float32)
    )
    (instances,) = find_instances(
        Found(rows), inputs, [(64, 96)], score_threshold=np.array(thresholds, np.float32)
    )
    return instances.class_ids.tolist()


def test_each_class_has_its_own_threshold() -> None:
    rows = [(0, 0.9), (1, 0.6), (0, 0.5), (1, 0.3), (2, 0.0)]
    assert found_classes(rows, [0.5, 0.2, 0]) == [0, 1, 1]  # a score equal to the threshold is dropped
    assert found_classes(rows, [0, 0.95, 0]) == [0, 0]
    assert found_classes([], [0.5, 0.5, 0.5]) == []


def test_a_class_beyond_the_labels_is_left_to_the_caller() -> None:
    assert found_classes([(7, 0.9)], [0.5, 0.2]) == [7]
