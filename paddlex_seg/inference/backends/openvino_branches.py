"""Joins the two branches of RepVGG blocks in a loaded OpenVINO model: one convolution instead of two.

A block of PP-YOLOE is a 3x3 and a 1x1 convolution of the same input, each with its batch norm, and their sum.
All of it is linear, so one 3x3 convolution gives the same; see X. Ding et al., "RepVGG",
https://arxiv.org/abs/2101.03697. OpenVINO joins a norm with its convolution itself, but not branches. Only
the model in memory changes: the file keeps the parameters of the network, which its certificate compares.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class _Branch:
    """A convolution with its norm and factor, as one convolution with a bias."""

    source: Any  # the output of a node that is its input
    weights: NDArray[np.float64]  # [C', C, k, k]
    bias: NDArray[np.float64]  # [C']

    @property
    def origin(self) -> tuple[str, int]:
        """The name of the node of ``source``, and which of its outputs it is."""
        return self.source.get_node().get_name(), self.source.get_index()


def join_branches(model: Any) -> int:
    """Join all such pairs of an ``openvino.Model``. Returns their number."""
    from openvino import opset13

    joined = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        branches = [_branch(value) for value in node.input_values()]
        sides = [None if one is None else one.weights.shape[2:] for one in branches]
        if sides == [(1, 1), (3, 3)]:
            branches.reverse()
        elif sides != [(3, 3), (1, 1)]:
            continue
        large, small = branches
        if large is None or small is None or large.origin != small.origin:
            continue
        weights = large.weights.copy()
        weights[:, :, 1:2, 1:2] += small.weights
        convolution = opset13.convolution(
            large.source,
            opset13.constant(weights.astype(np.float32)),
            strides=[1, 1],
            pads_begin=[1, 1],
            pads_end=[1, 1],
            dilations=[1, 1],
        )
        bias = (large.bias + small.bias).astype(np.float32).reshape(1, -1, 1, 1)
        result = opset13.add(convolution, opset13.constant(bias)).output(0)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(result)
        joined += 1
    return joined


def _branch(value: Any) -> _Branch | None:
    """What computes ``value``; None if it is no such branch."""
    node, factor = _behind_identities(value).get_node(), 1.0
    if node.get_type_name() == "Multiply":
        values = [(one, _constant(other)) for one, other in (node.input_values(), node.input_values()[::-1])]
        found = [(one, number) for one, number in values if number is not None and number.size == 1]
        if not found:
            return None
        node, factor = _behind_identities(found[0][0]).get_node(), float(found[0][1].reshape(()))
    if node.get_type_name() != "BatchNormInference":
        return None
    convolution = _behind_identities(node.input_value(0)).get_node()
    gamma, beta, mean, variance = (_constant(node.input_value(index)) for index in (1, 2, 3, 4))
    if convolution.get_type_name() != "Convolution" or not _keeps_the_size(convolution):
        return None
    weights = _constant(convolution.input_value(1))
    if weights is None or gamma is None or beta is None or mean is None or variance is None:
        return None
    scale = factor * gamma / np.sqrt(variance + node.get_attributes()["epsilon"])
    return _Branch(
        source=_behind_identities(convolution.input_value(0)),
        weights=weights * scale[:, None, None, None],
        bias=factor * beta - mean * scale,
    )


def _keeps_the_size(convolution: Any) -> bool:
    """Whether a convolution of 1x1 or 3x3 has stride 1, and padding so that its output has the same size."""
    attributes = convolution.get_attributes()
    padding = [int(side) // 2 for side in convolution.input_value(1).get_shape()[2:]]
    return (
        list(attributes["strides"]) == list(attributes["dilations"]) == [1, 1]
        and list(attributes["pads_begin"]) == list(attributes["pads_end"]) == padding
        and attributes.get("auto_pad", "explicit") in ("explicit", "notset")
    )


def _constant(value: Any) -> NDArray[np.float64] | None:
    node = _behind_identities(value).get_node()
    return np.asarray(node.data, np.float64) if node.get_type_name() == "Constant" else None


def _behind_identities(value: Any) -> Any:
    """The output that an output is the same as; the converter writes many such operators."""
    while value.get_node().get_type_name() == "Identity":
        value = value.get_node().input_value(0)
    return value
