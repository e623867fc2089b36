"""Makes 8-bit networks of ``network.onnx``: one for OpenVINO, one for ONNX Runtime.

Each runtime has a quantizer of its own. NNCF puts the conversions to 8 bits where OpenVINO wants them. ONNX
Runtime runs a convolution in 8 bits only if its output is converted, too: it computed a network of NNCF in
float32, no faster than before, so its own quantizer makes its file.

The last convolution of every branch and all after it stay in float32: prediction layers, decoding,
suppression, the transformer decoder and the product that gives the masks. NNCF cannot quantize the whole
PP-YOLOE_seg-S, and an RT-DETR with an 8-bit decoder finds nothing (pull request 26191 of Ultralytics).
"""

import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.errors import BackendError, ConfigError

LARGEST_DROP = 0.01  # of mask AP
MODELS = ("PP-YOLOE_seg-S", "Mask-RT-DETR-S")
_CONVOLUTIONS = {"Conv", "ConvTranspose", "Convolution", "GroupConvolution", "ConvolutionBackpropData"}
_PACKAGES = {"nncf": "nncf>=3", "openvino": "openvino>=2025.0", "onnxruntime": "onnxruntime>=1.20"}
_PACKAGES |= {"onnx": "onnx", "ml_dtypes": "ml_dtypes>=0.4"}
_PACKAGES |= {"paddle2onnx": "paddle2onnx==2.1.0"}
FOR_OPENVINO = ("nncf", "openvino")
FOR_ONNXRUNTIME = ("onnxruntime", "onnx", "ml_dtypes")
Node = TypeVar("Node")
Inputs = Sequence[Callable[[], NetworkInput]]  # what loads each input, of one image, without an axis B


def require_offered(model_name: str) -> None:
    """Raise ConfigError unless this toolkit offers 8-bit networks of a model."""
    if model_name not in MODELS:
        raise ConfigError(
            f"Export.int8 is set, and Global.model is {model_name}. 8-bit networks are offered for "
            f"{' and '.join(MODELS)} only: what they cost in AP was not measured for other models. "
            "Set Export.int8=False, and use Predict.precision=f32."
        )


def require_packages(names: Sequence[str], key: str) -> None:
    """Raise ConfigError that says how to install the packages that are missing. key: what needs them."""
    missing = [_PACKAGES[name] for name in names if importlib.util.find_spec(name) is None]
    if missing:
        quoted = " ".join(f"'{one}'" for one in missing)
        raise ConfigError(
            f"{key} is set, and these packages are not installed: {', '.join(missing)}. Run pip install "
            f"{quoted} (or install this package with its [convert] and [int8] extras)."
        )


def quantize_for_openvino(source: Path, target: Path, inputs: Inputs) -> None:
    """Write an 8-bit network for OpenVINO: ``target`` (.xml), and the weights beside it (.bin).

    source: the network as an ONNX file; inputs: what is typical. Activations that can be negative get a zero
    point (the mixed preset). NNCF's settings for transformers are not used: they are about layers that stay
    in float32 here, and with them Mask-RT-DETR-S lost mask AP that it keeps without (docs/int8.md).
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(str(source))
    nncf.set_log_level(logging.ERROR)  # it names every operator that it leaves as it is
    names = [one.any_name for one in model.inputs]
    feeds = _Feeds(inputs, names)
    model.reshape({name: array.shape for name, array in next(iter(feeds)).items()})
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() not in ("Constant", "Result")]
    kept = after_last_convolutions(
        nodes,
        name=lambda node: node.get_friendly_name(),
        kind=lambda node: node.get_type_name(),
        users=lambda node: [
            user.get_node() for output in node.outputs() for user in output.get_target_inputs()
        ],
    )
    quantized = nncf.quantize(
        model,
        nncf.Dataset(feeds),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(feeds),
        ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
    )
    openvino.save_model(quantized, str(target), compress_to_fp16=False)


def quantize_for_onnxruntime(source: Path, target: Path, inputs: Inputs) -> None:
    """Write an 8-bit ONNX file. source: of `edge.write_edge_network`; inputs: as above.

    Only convolutions are quantized. With the operators between them, PP-YOLOE_seg-S lost 0.03 of its mask AP
    and gained little speed.
    """
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(str(source)).graph
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept = after_last_convolutions(
        graph.node,
        name=lambda node: node.name,
        kind=lambda node: node.op_type,
        users=lambda node: [user for output in node.output for user in readers.get(output, [])],
    )

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = iter(_Feeds(inputs, [one.name for one in graph.input]))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._feeds, None)

    quantization.quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=kept,
        per_channel=True,
        # The pair of types for which x86, ARM and WebAssembly have the fastest kernels.
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def after_last_convolutions(
    nodes: Iterable[Node],
    *,
    name: Callable[[Node], str],
    kind: Callable[[Node], str],
    users: Callable[[Node], Sequence[Node]],
) -> list[str]:
    """The names of the nodes that no convolution follows. nodes: in the order of computation.

    Raises BackendError for a graph without convolutions.
    """
    ordered = list(nodes)
    before: dict[str, bool] = {}  # whether a convolution follows
    for node in reversed(ordered):
        before[name(node)] = any(
            kind(user) in _CONVOLUTIONS or before.get(name(user), False) for user in users(node)
        )
    if not any(before.values()):
        raise BackendError("The network has no convolutions that 8 bits could make faster.")
    return [name(node) for node in ordered if not before[name(node)]]


class _Feeds:
    """What a runtime takes for each of some inputs: arrays [1, ...] by name, those that the graph has."""

    def __init__(self, inputs: Inputs, names: Sequence[str]) -> None:
        self._inputs, self._names = inputs, names

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        for load in self._inputs:
            arrays = load()._asdict()
            yield {name: arrays[name][np.newaxis] for name in self._names}

    def __len__(self) -> int:
        return len(self._inputs)
