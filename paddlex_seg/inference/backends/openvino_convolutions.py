"""Joins convolutions in a loaded OpenVINO model, which then gives the same with less work.

Only the model in memory changes: the file keeps the parameters of the network, which its certificate
compares. OpenVINO itself joins a norm with its convolution, but neither of these:

- A RepVGG block of PP-YOLOE is a 3x3 and a 1x1 convolution of the same input, each with its batch norm, and
  their sum. All of it is linear, so one 3x3 convolution gives the same; see X. Ding et al., "RepVGG",
  https://arxiv.org/abs/2101.03697.
- The mask branch of PP-YOLOE_seg doubles the size with a transposed convolution of 2x2, and convolves that
  with 3x3. Both are linear, so one transposed convolution of 4x4 gives the same. It takes 16 products for
  each channel and pixel of the small input instead of 4 + 36.
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


def join_upsampling(model: Any) -> int:
    """Join each 2x2 transposed convolution of stride 2 with the 3x3 one after it. Returns their number."""
    from openvino import opset13

    joined = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or not _keeps_the_size(node):
            continue
        large, upsampling = _constant(node.input_value(1)), _upsampling(node.input_value(0))
        if large is None or large.shape[2:] != (3, 3) or upsampling is None:
            continue
        # The bias becomes the weights of a channel of ones, which ends at the border of the image. There the
        # 3x3 convolution sees zeros and not the bias.
        bias = np.broadcast_to(upsampling.bias[:, None, None], (1, *upsampling.weights.shape[1:]))
        small = np.concatenate([upsampling.weights, bias])
        weights = np.zeros((len(small), len(large), 4, 4))
        for y in range(3):
            for x in range(3):
                # A convolution reads its kernel forwards, a transposed one writes it backwards.
                product = np.einsum("imyx,om->ioyx", small, large[:, :, y, x])
                weights[:, :, 2 - y : 4 - y, 2 - x : 4 - x] += product
        with_ones = opset13.pad(
            upsampling.source,
            opset13.constant([0, 0, 0, 0], np.int64),
            opset13.constant([0, 1, 0, 0], np.int64),
            "constant",
            opset13.constant(1, np.float32),
        )
        result = opset13.convolution_backprop_data(
            with_ones,
            opset13.constant(weights.astype(np.float32)),
            strides=[2, 2],
            pads_begin=[1, 1],
            pads_end=[1, 1],
        ).output(0)
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


def _upsampling(value: Any) -> _Branch | None:
    """The transposed convolution of 2x2 and stride 2 that computes ``value``, with its bias; None for others.

    Its weights are [C, C', 2, 2].
    """
    node = _behind_identities(value).get_node()
    if node.get_type_name() != "Add":
        return None
    convolution = _behind_identities(node.input_value(0)).get_node()
    if convolution.get_type_name() != "ConvolutionBackpropData" or convolution.get_input_size() != 2:
        return None
    weights, bias = _constant(convolution.input_value(1)), _channels(node.input_value(1))
    attributes = convolution.get_attributes()
    if (
        weights is None
        or bias is None
        or bias.size != weights.shape[1]
        or weights.shape[2:] != (2, 2)
        or list(attributes["strides"]) != [2, 2]
        or list(attributes["dilations"]) != [1, 1]
        or any([*attributes["pads_begin"], *attributes["pads_end"], *attributes["output_padding"]])
        or attributes["auto_pad"] not in ("explicit", "notset")
    ):
        return None
    return _Branch(_behind_identities(convolution.input_value(0)), weights, bias)


def _channels(value: Any) -> NDArray[np.float64] | None:
    """A constant of [1, C, 1, 1] as [C]. The converter writes one of [C], and a Reshape."""
    shape, node = value.get_partial_shape(), value.get_node()
    if shape.is_dynamic or len(shape) != 4 or any(shape[axis].get_length() != 1 for axis in (0, 2, 3)):
        return None
    numbers = _constant(node.input_value(0) if node.get_type_name() == "Reshape" else value)
    return None if numbers is None else numbers.reshape(-1)


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
