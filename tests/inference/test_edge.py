"""Networks for small devices."""

from pathlib import Path

import numpy as np
import pytest
from toy_model import INPUT_HW, inputs_of_brightness

from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.inference import edge
from paddlex_seg.inference.conversion import convert_network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")


@pytest.fixture(scope="module")
def network(small_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge") / "network.onnx"
    convert_network(small_dir, path)
    return path


def run(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = inputs_of_brightness([0.9])
    return session.run(None, dict(zip(("image", "im_shape", "scale_factor"), inputs, strict=True)))


def test_an_edge_network_has_one_size_and_gives_the_same(network: Path, tmp_path: Path):
    target = tmp_path / "network_edge.onnx"
    edge.write_edge_network(network, target)
    model = onnx.load(str(target))
    shapes = {
        one.name: [side.dim_value for side in one.type.tensor_type.shape.dim] for one in model.graph.input
    }
    assert shapes == {"image": [1, 3, *INPUT_HW], "im_shape": [1, 2], "scale_factor": [1, 2]}
    assert [one.domain for one in model.opset_import] == [""]
    assert len(model.graph.node) < len(onnx.load(str(network)).graph.node)
    for found, expected in zip(run(target), run(network), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_hard_sigmoid_is_replaced(tmp_path: Path):
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("HardSigmoid", ["image"], ["one"], alpha=1 / 6, beta=0.5),
        helper.make_node("HardSigmoid", ["one"], ["two"]),
    ]
    sides = [1, 3, 4, 4]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("image", "two")]
    graph = helper.make_graph(nodes, "gates", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", edge.OPSET)], ir_version=8)
    onnx.save(model, str(tmp_path / "network.onnx"))
    edge.write_edge_network(tmp_path / "network.onnx", tmp_path / "network_edge.onnx")
    assert "HardSigmoid" not in {
        node.op_type for node in onnx.load(str(tmp_path / "network_edge.onnx")).graph.node
    }
    image = np.linspace(-5, 5, 48, dtype=np.float32).reshape(sides)
    found, expected = (
        onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(
            None, {"image": image}
        )[0]
        for name in ("network_edge.onnx", "network.onnx")
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_without_a_fixed_size_is_refused(network: Path, tmp_path: Path):
    model = onnx.load(str(network))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, str(tmp_path / "network.onnx"))
    with pytest.raises(BackendError, match="the input image has no fixed size"):
        edge.write_edge_network(tmp_path / "network.onnx", tmp_path / "network_edge.onnx")


def test_a_damaged_network_is_refused(network: Path, tmp_path: Path):
    model = onnx.load(str(network))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(tmp_path / "network.onnx"))
    with pytest.raises(BackendError, match="cannot write an edge network of it.*NoSuchOperator"):
        edge.write_edge_network(tmp_path / "network.onnx", tmp_path / "network_edge.onnx")


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="Export.edge is set, and Global.model is SOLOv2"):
        edge.require_offered("SOLOv2")
    edge.require_offered("PP-YOLOE_seg-S")
