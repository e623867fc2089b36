"""A converted network is published only if it gives what the model gives."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL
from tiny_model import TinyModel, TinyRoiModel

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.errors import BackendError, CertificateError
from paddlex_seg.export.graphs import export_model
from paddlex_seg.inference import conversion, onnx_proof
from paddlex_seg.inference.backends.open import open_backend
from paddlex_seg.inference.certificate import read_certificate
from paddlex_seg.inference.certify import missing_in_onnx
from paddlex_seg.inference.onnx_proof import publish_onnx
from paddlex_seg.inference.reference import PADDLE

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnxruntime", "openvino")),
    reason="needs the converter and the runtimes",
)
WITHOUT_MEND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from paddlex_seg.inference import conversion; conversion._mend_roi_align = lambda graph: None; "
    "conversion.convert(*sys.argv[2:])"
)


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    export_model(TinyModel(), find_model(MODEL), ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE), folder)
    return folder


@pytest.fixture
def folder(tiny_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_export, tmp_path / "copy"))


def assert_not_published(folder: Path, sentence: str) -> None:
    before = (folder / "certificate.json").read_bytes()
    with pytest.raises(BackendError, match=sentence):
        publish_onnx(folder)
    assert not (folder / "network.onnx").exists()
    assert (folder / "certificate.json").read_bytes() == before


def test_a_conversion_is_certified_with_each_runtime(folder: Path) -> None:
    publish_onnx(folder)
    entries = read_certificate(folder)
    assert [(one.backend, one.graph, one.verdict) for one in entries] == [
        ("paddle", "network.json", "passed"),
        ("paddle", "inference.json", "passed"),
        ("onnxruntime", "network.onnx", "passed"),
        ("openvino", "network.onnx", "passed"),
    ]
    assert {one.reference for one in entries} == {"the network in memory"}
    for one in entries[2:]:
        assert one.figures["detections"]["pairs"] == 24
        assert one.backend in one.versions
        assert open_backend(folder, one.backend).name == one.backend


def test_another_file_is_not_opened(folder: Path) -> None:
    publish_onnx(folder)
    with (folder / "network.onnx").open("ab") as file:
        file.write(b"\x5a\x00")
    with pytest.raises(CertificateError, match="is not the file that its certificate is about"):
        open_backend(folder, "onnxruntime")


def test_a_changed_number_is_not_published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 196 weights and biases, one by one unit in the last place. No detection shows that."""
    convert = onnx_proof.convert_network
    weight = TinyModel().masks.weight.numpy()
    other = weight.copy()
    other[3, 2, 1, 0] = np.nextafter(other[3, 2, 1, 0], np.float32(9))

    def changed(model_dir: Path, target: Path, opset: int) -> None:
        convert(model_dir, target, opset)
        content = target.read_bytes()
        assert content.count(weight.tobytes()) == 1
        target.write_bytes(content.replace(weight.tobytes(), other.tobytes()))

    monkeypatch.setattr(onnx_proof, "convert_network", changed)
    assert_not_published(folder, "network.onnx lacks the values of 1 parameters of inference.pdiparams")


def test_roi_align_without_its_mend_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "MaskRCNN-ResNet50-FPN"
    export_model(TinyRoiModel(), find_model(name), ModelInfo(name, CATEGORIES, (64, 107)), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "COMMAND", WITHOUT_MEND)
        assert_not_published(tmp_path, "network.onnx with onnxruntime.*the mean mask IoU of pairs is")
    assert {one.verdict for one in publish_onnx(tmp_path)} == {"passed"}


def test_without_a_runtime_nothing_is_published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_proof, "is_installed", lambda name: False)
    assert_not_published(folder, "no installed runtime can prove.*pip install onnxruntime")


def test_an_export_of_an_earlier_version_is_compared_with_paddle(folder: Path) -> None:
    (folder / "reference.json").unlink()
    (folder / "certificate.json").unlink()
    publish_onnx(folder)
    assert [(one.verdict, one.reference) for one in read_certificate(folder)] == [("passed", PADDLE)] * 2


def test_all_values_must_be_there_as_often_as_in_the_parameters(folder: Path) -> None:
    publish_onnx(folder)
    assert missing_in_onnx(folder, folder / "network.onnx", "network.json") == []
    (folder / "few.onnx").write_bytes(b"")
    (problem,) = missing_in_onnx(folder, folder / "few.onnx", "network.json")
    assert "few.onnx lacks the values of 2 parameters" in problem
