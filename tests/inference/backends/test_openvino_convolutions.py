"""Joined convolutions in OpenVINO: one has the same output as two before it."""

from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from openvino import opset13 as ops  # noqa: E402

from paddlex_seg.inference.backends.openvino_convolutions import (  # noqa: E402
    join_branches,
    join_upsampling,
)

CHANNELS = 6


def branch(
    source: Any, kernel: int, rng: np.random.Generator, stride: int = 1, padding: int | None = None
) -> Any:
    weights = rng.normal(size=(CHANNELS, CHANNELS, kernel, kernel)).astype(np.float32)
    pads = [kernel // 2 if padding is None else padding] * 2
    convolution = ops.convolution(source, ops.constant(weights), [stride] * 2, pads, pads, [1, 1])
    gamma, beta, mean = (ops.constant(rng.normal(size=CHANNELS).astype(np.float32)) for _ in range(3))
    variance = ops.constant(rng.uniform(0.5, 2, CHANNELS).astype(np.float32))
    return ops.batch_norm_inference(convolution, gamma, beta, mean, variance, epsilon=1e-5)


def run(model: Any, array: np.ndarray) -> np.ndarray:
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.array(openvino.Core().compile_model(model, "CPU", config)([array])[0])


def count(model: Any, kind: str) -> int:
    return sum(node.get_type_name() == kind for node in model.get_ordered_ops())


@pytest.mark.parametrize("is_first", [True, False], ids=["3x3 first", "1x1 first"])
@pytest.mark.parametrize("with_factor", [True, False], ids=["factor", "no factor"])
def test_two_branches_become_one_with_the_same_output(is_first: bool, with_factor: bool) -> None:
    rng = np.random.default_rng(3)
    image = ops.parameter([1, CHANNELS, -1, -1], np.float32)
    large, small = branch(image, 3, rng), branch(image, 1, rng)
    if with_factor:
        small = ops.multiply(ops.constant(np.float32([0.7])), small)
    summed = ops.add(large, small) if is_first else ops.add(small, large)
    model = openvino.Model([ops.relu(summed)], [image])
    array = rng.normal(size=(1, CHANNELS, 9, 13)).astype(np.float32)
    expected = run(model, array)
    assert count(model, "Convolution") == 2
    assert join_branches(model) == 1
    assert (count(model, "Convolution"), count(model, "BatchNormInference")) == (1, 0)
    found = run(model, array)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert expected.std() > 1


@pytest.mark.parametrize(
    "others",
    [
        lambda image, rng: (branch(image, 3, rng), branch(ops.relu(image), 1, rng)),
        lambda image, rng: (branch(image, 3, rng, stride=2), branch(image, 1, rng, stride=2)),
        lambda image, rng: (branch(image, 3, rng, padding=0), branch(image, 1, rng)),
        lambda image, rng: (branch(image, 3, rng), branch(image, 3, rng)),
        lambda image, rng: (
            branch(image, 3, rng),
            ops.multiply(
                ops.constant(rng.normal(size=(1, CHANNELS, 1, 1)).astype(np.float32)), branch(image, 1, rng)
            ),
        ),
        lambda image, rng: (branch(image, 3, rng), image),
    ],
    ids=["other input", "stride", "padding", "no 1x1", "a factor for each channel", "shortcut"],
)
def test_what_is_no_such_pair_stays(others: Any) -> None:
    rng = np.random.default_rng(4)
    image = ops.parameter([1, CHANNELS, -1, -1], np.float32)
    model = openvino.Model([ops.add(*others(image, rng))], [image])
    before = count(model, "Convolution")
    assert join_branches(model) == 0
    assert count(model, "Convolution") == before


def upsampled(source: Any, rng: np.random.Generator, stride: int = 2, kernel: int = 2) -> Any:
    """A transposed convolution to one channel more, with a bias that the converter would write."""
    weights = rng.normal(size=(CHANNELS, CHANNELS + 1, kernel, kernel)).astype(np.float32)
    larger = ops.convolution_backprop_data(source, ops.constant(weights), [stride] * 2)
    bias = ops.constant(rng.normal(size=CHANNELS + 1).astype(np.float32))
    return ops.add(larger, ops.reshape(bias, ops.constant([1, CHANNELS + 1, 1, 1], np.int64), False))


def convolved(source: Any, rng: np.random.Generator, stride: int = 1, side: int = 3) -> Any:
    weights = rng.normal(size=(CHANNELS - 1, CHANNELS + 1, side, side)).astype(np.float32)
    return ops.convolution(
        source, ops.constant(weights), [stride] * 2, [side // 2] * 2, [side // 2] * 2, [1, 1]
    )


@pytest.mark.parametrize("size", [(5, 8), (1, 1)], ids=str)
def test_upsampling_and_a_convolution_become_one_with_the_same_output(size: tuple[int, int]) -> None:
    """Also at the border, where the bias of the first does not reach the padding of the second."""
    rng = np.random.default_rng(5)
    image = ops.parameter([1, CHANNELS, -1, -1], np.float32)
    model = openvino.Model([ops.relu(convolved(upsampled(image, rng), rng))], [image])
    array = rng.normal(size=(1, CHANNELS, *size)).astype(np.float32)
    expected = run(model, array)
    assert join_upsampling(model) == 1
    assert (count(model, "Convolution"), count(model, "ConvolutionBackpropData")) == (0, 1)
    found = run(model, array)
    assert found.shape == (1, CHANNELS - 1, 2 * size[0], 2 * size[1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())
    assert expected.std() > 1


@pytest.mark.parametrize(
    "between",
    [
        lambda image, rng: convolved(ops.relu(upsampled(image, rng)), rng),
        lambda image, rng: convolved(upsampled(image, rng, stride=1), rng),
        lambda image, rng: convolved(upsampled(image, rng, kernel=3), rng),
        lambda image, rng: convolved(upsampled(image, rng), rng, stride=2),
        lambda image, rng: convolved(upsampled(image, rng), rng, side=1),
    ],
    ids=["activation", "same size", "kernel", "stride", "1x1"],
)
def test_what_is_no_such_upsampling_stays(between: Any) -> None:
    rng = np.random.default_rng(6)
    image = ops.parameter([1, CHANNELS, -1, -1], np.float32)
    model = openvino.Model([between(image, rng)], [image])
    assert join_upsampling(model) == 0
    assert count(model, "Convolution") == 1
