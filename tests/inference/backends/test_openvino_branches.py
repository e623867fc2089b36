"""RepVGG blocks in OpenVINO: two branches become one convolution with the same output."""

from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from openvino import opset13 as ops  # noqa: E402

from paddlex_seg.inference.backends.openvino_branches import join_branches  # noqa: E402

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
