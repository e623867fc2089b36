"""The conversion of exported networks to ONNX."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec

from paddlex_seg.errors import BackendError
from paddlex_seg.inference import conversion
from paddlex_seg.inference.conversion import convert_network
from paddlex_seg.ops.nms import multiclass_nms

onnx = pytest.importorskip("onnx")
pytest.importorskip("paddle2onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def save_graph(layer: paddle.nn.Layer, prefix: Path, shapes: dict[str, list[int]]) -> None:
    inputs = [InputSpec(shape, "float32", name=name) for name, shape in shapes.items()]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=inputs, full_graph=True), str(prefix))
    (prefix.parent / "inference.pdiparams").write_bytes(b"")


class Pooled(paddle.nn.Layer):
    """What the R-CNNs do with the features of each box."""

    def forward(self, image: paddle.Tensor, boxes: paddle.Tensor) -> paddle.Tensor:
        num = paddle.full([1], 2, "int32")
        return paddle.vision.ops.roi_align(image, boxes, num, 4, spatial_scale=0.25, aligned=False)


@pytest.fixture(scope="module")
def pooled_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pooled")
    inputs = [InputSpec([1, 3, 32, 32], "float32", name="image"), InputSpec([2, 4], "float32", name="boxes")]
    paddle.jit.save(
        paddle.jit.to_static(Pooled(), input_spec=inputs, full_graph=True), str(folder / "network")
    )
    (folder / "inference.pdiparams").write_bytes(b"")
    return folder


@pytest.mark.parametrize("opset", [13, 16])
def test_boxes_are_pooled_where_paddle_pools_them(pooled_dir: Path, tmp_path: Path, opset: int):
    convert_network(pooled_dir, tmp_path / "network.onnx", opset)
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, 32, 32), np.float32)
    boxes = np.float32([[5, 9, 60, 100], [30, 2, 90, 40]])
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    (found,) = session.run(None, {"image": image, "boxes": boxes})
    expected = Pooled()(paddle.to_tensor(image), paddle.to_tensor(boxes)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Suppressed(paddle.nn.Layer):
    """Of 6 boxes in two classes, the best 4 of each class are looked at, and 3 boxes are kept."""

    def forward(self, boxes: paddle.Tensor, scores: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        return multiclass_nms(boxes, scores, 0.1, 0.5, nms_top_k=4, keep_top_k=3)


def test_suppression_looks_at_as_many_boxes_as_in_paddle(tmp_path: Path):
    save_graph(Suppressed(), tmp_path / "network", {"boxes": [1, 6, 4], "scores": [1, 2, 6]})
    convert_network(tmp_path, tmp_path / "network.onnx")
    at = np.float32([0, 0, 0, 1, 50, 100])  # the first four overlap, the others stand alone
    boxes = np.stack([at, at, at + 20, at + 20], 1)[None]  # [1, 6, 4]
    scores = np.float32([[[0.9, 0.85, 0.8, 0.75, 0.7, 0.65], [0.05, 0.2, 0.01, 0.3, 0.95, 0.6]]])
    rows = Suppressed()(paddle.to_tensor(boxes), paddle.to_tensor(scores))[0].numpy()
    assert rows[:, :2].tolist() == np.float32([[0, 0.9], [1, 0.95], [1, 0.6]]).tolist()
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    found, positions, num = session.run(None, {"boxes": boxes, "scores": scores})
    np.testing.assert_allclose(found[np.lexsort((-found[:, 1], found[:, 0]))], rows, atol=1e-6)
    assert num.tolist() == [3]


def test_the_same_network_gives_the_same_file(small_dir: Path, tmp_path: Path):
    for name in ("one.onnx", "other.onnx"):
        convert_network(small_dir, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx", "other.onnx"]


FAILURES = {
    "abort": ("import os; os.abort()", "was ended by signal 6 .*without a message"),
    "exception": ("raise ValueError('no such operator')", "failed .*no such operator"),
    "half a file": (
        "import os, sys; open(sys.argv[4], 'wb').write(b'half'); print('full', file=sys.stderr); os._exit(3)",
        "failed .*full",
    ),
    "no file": ("pass", "failed .*without a message"),
    "hangs": ("import time; time.sleep(60)", "took over 2 s"),
}


@pytest.mark.parametrize("command, message", FAILURES.values(), ids=FAILURES)
def test_a_converter_that_fails_leaves_nothing(
    small_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str
):
    monkeypatch.setattr(conversion, "COMMAND", command)
    monkeypatch.setattr(conversion, "TIMEOUT_SECONDS", 2.0)
    target = tmp_path / "network.onnx"
    target.write_bytes(b"old")
    with pytest.raises(BackendError, match=message) as error:
        convert_network(small_dir, target)
    assert str(small_dir / "network.json") in str(error.value)
    assert os.listdir(tmp_path) == ["network.onnx"] and target.read_bytes() == b"old"


def test_a_damaged_network_is_named(small_dir: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "network.json").write_text("{}")
    (tmp_path / "in" / "inference.pdiparams").write_bytes(b"")
    with pytest.raises(BackendError, match="network.json: the conversion to ONNX"):
        convert_network(tmp_path / "in", tmp_path / "out" / "network.onnx")


def test_without_the_converter_it_says_how_to_install_it(
    small_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def find_spec(name: str) -> Any:
        assert name == "paddle2onnx"

    monkeypatch.setattr(conversion.importlib.util, "find_spec", find_spec)
    with pytest.raises(BackendError, match=r"pip install paddle2onnx==2\.1\.0"):
        convert_network(small_dir, tmp_path / "network.onnx")
