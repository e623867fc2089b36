"""Weights that are NaN or infinite."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paddlex_seg.checkpoints.finite import require_finite
from paddlex_seg.errors import WeightsError


@pytest.mark.parametrize(
    ("array", "count"),
    [
        (np.float32([1, np.nan, np.inf]), 2),
        (np.float16([1, -np.inf]), 1),
        (np.float64([1e300, 1]), 1),  # infinite as float32
        (np.uint16([0x3F80, 0x7F80, 0xFFC1]), 2),  # bfloat16: 1, infinity, NaN
        (np.complex64([complex(0, np.nan)]), 1),
        (np.array(np.nan, np.float32), 1),
    ],
    ids=["float32", "float16", "float64", "bfloat16", "complex", "scalar"],
)
def test_the_tensor_and_the_number_of_values_are_named(array: NDArray, count: int) -> None:
    arrays = {"good": np.zeros(3, np.float32), "neck.norm._variance": array}
    words = rf"w\.pdparams: 1 of 2 tensors have .*: neck\.norm\._variance \({count} of {array.size}\)"
    with pytest.raises(WeightsError, match=words):
        require_finite(arrays, source="w.pdparams")


def test_many_are_counted() -> None:
    arrays = {f"w{i}": np.float32([np.nan]) for i in range(9)}
    with pytest.raises(WeightsError, match=r"9 of 9 .*w0 \(1 of 1\), w1 .*, w2 .*, and 6 more\. "):
        require_finite(arrays, source="w.pdparams")


def test_numbers_of_all_kinds_are_accepted() -> None:
    largest = [np.array([np.finfo(t).max], t) for t in (np.float16, np.float32)]
    others = [np.uint16([0x7F7F]), np.int64([1]), np.array([True]), np.zeros((0, 3), np.float32)]
    require_finite(dict(enumerate([*largest, *others])), source="w.pdparams")  # type: ignore[arg-type]
