"""Networks for small devices in npm's onnxruntime-web, which browsers use."""

from pathlib import Path

import numpy as np
import pytest
from onnxruntime_web import run_in_node, what_is_missing
from small_runs import CATEGORIES, MODEL, filled_model
from toy_model import export_toy, inputs_of_brightness

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.data.preprocess import NetworkInput, collate
from paddlex_seg.export.graphs import write_graphs
from paddlex_seg.inference.backends.base import find_instances
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.conversion import convert_network
from paddlex_seg.inference.edge import OPSET, write_edge_network
from paddlex_seg.inference.reference import prepared
from paddlex_seg.inference.stored_inputs import stored_inputs
from paddlex_seg.metrics.matches import match_instances
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")
if missing := what_is_missing():
    pytest.skip(missing, allow_module_level=True)


# Those of our network that are in ONNX Runtime's mobile_package.required_operators.config.
OF_SMALL_PACKAGES = {
    *("Add", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "CumSum", "Div", "Expand", "Floor", "Gather"),
    *("GlobalAveragePool", "GreaterOrEqual", "MatMul", "MaxPool", "Mul", "NonMaxSuppression", "Range"),
    *("ReduceMax", "ReduceMean", "ReduceMin", "Reshape", "Resize", "Round", "ScatterND", "Shape", "Sigmoid"),
    *("Slice", "Softmax", "Split", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze", "Where"),
}


class NodeBackend:
    """A `structures.Backend` that runs one image in Node."""

    def __init__(self, model: Path, preprocess: PreprocessSpec, mask_frame: MaskFrame) -> None:
        self.model, self.preprocess, self.mask_frame = model, preprocess, mask_frame

    def __call__(self, *inputs: np.ndarray) -> DetectionArrays:
        return DetectionArrays(*run_in_node(self.model, NetworkInput(*inputs)._asdict())[0])


def edge_network(folder: Path) -> Path:
    convert_network(folder, folder / "network.onnx", OPSET)
    write_edge_network(folder / "network.onnx", folder / "network_edge.onnx")
    return folder / "network_edge.onnx"


@pytest.mark.parametrize("brightness", [0.9, 0.0], ids=["one object", "no object"])
def test_a_small_network_gives_the_same_in_webassembly(tmp_path: Path, brightness: float):
    folder = export_toy(tmp_path)
    inputs = inputs_of_brightness([brightness])
    found, _ = run_in_node(
        edge_network(folder), dict(zip(("image", "im_shape", "scale_factor"), inputs, strict=True))
    )
    for one, expected in zip(found, PaddleBackend(folder)(*inputs), strict=True):
        assert one.shape == expected.shape
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_pp_yoloe_seg_finds_the_same_objects_of_a_photograph_in_webassembly(tmp_path: Path):
    name = MODEL
    info = ModelInfo(name, CATEGORIES, (160, 160))
    write_graphs(filled_model(), find_model(name), info, tmp_path)
    paddle = PaddleBackend(tmp_path)
    network = edge_network(tmp_path)
    assert {node.op_type for node in onnx.load(str(network)).graph.node} <= OF_SMALL_PACKAGES
    node = NodeBackend(network, paddle.preprocess, paddle.mask_frame)
    photograph = stored_inputs()[0]
    inputs = collate([prepared(photograph, paddle.preprocess)])
    found, expected = (
        find_instances(backend, inputs, [photograph.size_hw], score_threshold=0.05)[0]
        for backend in (node, paddle)
    )
    matches = match_instances(expected, found, least_iou=0.5)
    assert len(found) == len(expected) == len(matches.pairs) > 20
    assert matches.ious.mean() > 0.999
    scores = expected.scores[matches.pairs[:, 0]] - found.scores[matches.pairs[:, 1]]
    assert np.abs(scores).max() < 1e-3
