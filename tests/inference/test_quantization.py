"""8-bit networks."""

from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.inference import quantization
from paddlex_seg.inference.quantization import after_last_convolutions

GRAPH = {  # what reads the output of each node, in the order of computation
    "Conv.a": ["Relu.a", "Conv.c"],
    "Relu.a": ["Conv.b"],
    "Conv.b": ["Sigmoid"],
    "Conv.c": ["Sigmoid"],
    "Sigmoid": ["NonMaxSuppression"],
    "NonMaxSuppression": [],
}
SIDE = 16


def kept(graph: dict[str, list[str]]) -> list[str]:
    return after_last_convolutions(
        graph,
        name=lambda node: node,
        kind=lambda node: node.partition(".")[0],
        users=lambda node: graph[node],
    )


def test_the_last_convolution_of_each_branch_and_all_after_it_stay_in_float32():
    assert kept(GRAPH) == ["Conv.b", "Conv.c", "Sigmoid", "NonMaxSuppression"]


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(BackendError, match="no convolutions"):
        kept({"Gather": []})


def write_network(path: Path) -> None:
    """Three convolutions of random weights with ReLU between them."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, name, channels = [], [], "image", 3
    for number in range(3):
        weight = rng.normal(0, (channels * 9) ** -0.5, (8, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(
            helper.make_node("Conv", [name, f"w{number}"], [f"c{number}"], f"Conv.{number}", pads=[1] * 4)
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], f"Relu.{number}"))
        name, channels = f"r{number}", 8
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, SIDE, SIDE])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, str(path))


def load_input(seed: int) -> NetworkInput:
    image = np.random.default_rng(seed).random((3, SIDE, SIDE), np.float32)
    return NetworkInput(image, np.full(2, SIDE, np.float32), np.ones(2, np.float32))


INPUTS = [lambda seed=seed: load_input(seed) for seed in range(8)]


def run_onnx(path: Path) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": load_input(99).image[np.newaxis]})[0]


def require_near_but_not_equal(found: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(found - expected)
    assert 0 < difference.mean() < 0.02 * expected.max()


def test_a_network_for_onnx_runtime_computes_all_but_the_last_convolution_in_8_bits(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("ml_dtypes")
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    write_network(source)
    quantization.quantize_for_onnxruntime(source, target, INPUTS)
    graph = onnx.load(str(target)).graph
    of_int8 = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weights = [node.input[1] in of_int8 for node in graph.node if node.op_type == "Conv"]
    assert weights == [True, True, False]
    require_near_but_not_equal(run_onnx(target), run_onnx(source))


def test_a_network_for_openvino_computes_all_but_the_last_convolution_in_8_bits(tmp_path: Path):
    pytest.importorskip("nncf", reason="nncf, of the [int8] extra, is not installed")
    openvino = pytest.importorskip("openvino")
    source, target = tmp_path / "source.onnx", tmp_path / "target.xml"
    write_network(source)
    quantization.quantize_for_openvino(source, target, INPUTS)
    model = openvino.Core().read_model(str(target))
    last = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"][-1]
    assert [input.get_source_output().get_node().get_type_name() for input in last.inputs()] == [
        *("Relu", "Constant")
    ]
    assert sum(node.get_type_name() == "FakeQuantize" for node in model.get_ordered_ops()) >= 2
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"image": load_input(99).image[np.newaxis]})[0]
    require_near_but_not_equal(found, run_onnx(source))


def test_models_whose_cost_was_not_measured_are_refused():
    with pytest.raises(ConfigError, match="Mask-RT-DETR-L.*not measured"):
        quantization.require_offered("Mask-RT-DETR-L")
    quantization.require_offered("Mask-RT-DETR-S")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Export.int8 is set.*'nncf>=3' 'openvino>=2025.0'"):
        quantization.require_packages(quantization.FOR_OPENVINO, "Export.int8")
