"""Exported networks in ONNX Runtime and OpenVINO."""

import shutil
import threading
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from toy_model import export_onnx_toy, inputs_of_brightness

from paddlex_seg.errors import BackendError, CertificateError, ConfigError
from paddlex_seg.inference.backends import open as opening
from paddlex_seg.inference.backends.open import BackendName, available_backends, load_backend, open_backend

pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
each_backend = pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])


@pytest.fixture(scope="module")
def onnx_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx_toy(tmp_path_factory.mktemp("onnx"))


@each_backend
@pytest.mark.parametrize("brightness", [[0.9], [0.0], [0.9, 0.0, 0.6], [0.0, 0.0]], ids=str)
def test_a_batch_gives_the_rows_that_paddle_gives(
    small_dir: Path, onnx_dir: Path, backend: BackendName, brightness: list[float]
):
    inputs = inputs_of_brightness(brightness)
    found, expected = open_backend(onnx_dir, backend)(*inputs), open_backend(small_dir)(*inputs)
    assert found.bbox_num.tolist() == expected.bbox_num.tolist() == [int(one > 0) for one in brightness]
    assert found.mask.shape == expected.mask.shape
    np.testing.assert_allclose(found.bbox, expected.bbox, atol=1e-4)
    np.testing.assert_allclose(found.mask, expected.mask, atol=1e-4)


@each_backend
def test_detections_stay_as_they_are_after_the_next_run(onnx_dir: Path, backend: BackendName):
    opened = open_backend(onnx_dir, backend)
    first = opened(*inputs_of_brightness([0.9]))
    opened(*inputs_of_brightness([0.6]))
    assert first.bbox[0, 1] == pytest.approx(0.9, abs=1e-5)


@each_backend
def test_threads_get_their_own_detections(onnx_dir: Path, backend: BackendName):
    opened, wrong = open_backend(onnx_dir, backend), []

    def work(brightness: float) -> None:
        for _ in range(50):
            bbox = opened(*inputs_of_brightness([brightness, brightness])).bbox
            if bbox.shape != (2, 6) or abs(bbox[:, 1] - brightness).max() > 1e-4:
                wrong.append(bbox)

    threads = [threading.Thread(target=work, args=(0.3 + number / 10,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@each_backend
def test_a_damaged_file_is_named(onnx_dir: Path, tmp_path: Path, backend: BackendName):
    folder = tmp_path / "copy"
    shutil.copytree(onnx_dir, folder)
    content = (folder / "network.onnx").read_bytes()
    (folder / "network.onnx").write_bytes(content[:-100])
    with pytest.raises(CertificateError, match="network.onnx is not the file that"):
        open_backend(folder, backend)
    with pytest.raises(BackendError, match="network.onnx: (ONNX Runtime|OpenVINO) .*cannot load it"):
        load_backend(folder, backend)


@each_backend
def test_a_folder_without_the_network_says_what_makes_it(small_dir: Path, backend: BackendName):
    with pytest.raises(BackendError, match=r"network.onnx is missing.*\[convert\]"):
        open_backend(small_dir, backend)


def test_what_is_available_depends_on_files_and_libraries(
    small_dir: Path, onnx_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(small_dir, tmp_path / "all")
    shutil.copy(onnx_dir / "network.onnx", tmp_path / "all")
    assert available_backends(tmp_path / "all") == ["paddle", "onnxruntime", "openvino"]
    assert available_backends(small_dir) == ["paddle"]
    assert available_backends(onnx_dir) == ["onnxruntime", "openvino"]
    assert available_backends(tmp_path) == []
    monkeypatch.setattr(opening, "is_installed", lambda name: name == "onnxruntime")
    assert available_backends(tmp_path / "all") == ["onnxruntime"]
    with pytest.raises(ConfigError, match=r"OpenVINO is not installed: .*\[openvino\]"):
        open_backend(onnx_dir, "openvino")
    with pytest.raises(ConfigError, match="PaddlePaddle is not installed"):
        open_backend(small_dir)


def test_what_a_backend_does_not_offer_is_an_error(small_dir: Path, onnx_dir: Path):
    with pytest.raises(BackendError, match="bf16.*ONNX Runtime.*openvino"):
        open_backend(onnx_dir, "onnxruntime", precision="bf16")
    with pytest.raises(BackendError, match="int8.*paddle.*openvino"):
        open_backend(small_dir, precision="int8")
    with pytest.raises(BackendError, match="gpu:0.*onnxruntime.*device=cpu"):
        open_backend(onnx_dir, "onnxruntime", device="gpu:0")


class _Cpu:
    """OpenVINO on a CPU without bf16."""

    @staticmethod
    def get_property(device: str, name: str) -> list[str]:
        return ["FP32", "INT8"]


def test_bf16_needs_a_cpu_that_has_it(onnx_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("openvino.Core", _Cpu)
    with pytest.raises(BackendError, match="bf16.*this CPU"):
        open_backend(onnx_dir, "openvino", precision="bf16")


class _Opened:
    """A loaded model of this name."""

    def __init__(self, name: str) -> None:
        self.spec = Namespace(model_name=name)


@pytest.mark.parametrize("name", ["Mask-RT-DETR-S", "SOLOv2", ""])
def test_bf16_is_refused_where_its_cost_is_high_or_unknown(
    name: str, onnx_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(opening, "load_backend", lambda *args, **kwargs: _Opened(name))
    with pytest.raises(BackendError, match=f"bf16.*{name}.*PP-YOLOE_seg-S.*f32"):
        open_backend(onnx_dir, "openvino", precision="bf16")


def test_bf16_is_offered_where_it_costs_little(onnx_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opening, "load_backend", lambda *args, **kwargs: _Opened("PP-YOLOE_seg-S"))
    assert open_backend(onnx_dir, "openvino", precision="bf16").spec.model_name == "PP-YOLOE_seg-S"
