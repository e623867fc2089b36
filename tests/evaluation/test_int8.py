"""8-bit networks are published with what they cost, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_model import INPUT_HW, SPEC, export_toy

from paddlex_seg.errors import BackendError, CertificateError
from paddlex_seg.evaluation.int8 import AnnotatedData, add_int8
from paddlex_seg.inference import quantization
from paddlex_seg.inference.backends.open import open_backend
from paddlex_seg.inference.certificate import read_certificate
from paddlex_seg.inference.conversion import convert_network
from paddlex_seg.inference.edge import write_edge_network
from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")
INT8 = "network_edge_int8.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = export_toy(tmp_path_factory.mktemp("exported"))
    convert_network(folder, folder / "network.onnx")
    write_edge_network(folder / "network.onnx", folder / "network_edge.onnx")
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "exported"))


def data_of(folder: Path, objects: int = 4) -> AnnotatedData:
    """Dark images with a red half; the network finds it."""
    folder.mkdir()
    records, annotations = [], []
    for number in range(4):
        mask = np.zeros(INPUT_HW, np.uint8)
        mask[:, : 32 + 16 * number] = 1
        image = np.zeros((*INPUT_HW, 3), np.uint8)
        image[mask > 0] = (0, 0, 250)  # BGR
        cv2.imwrite(str(folder / f"{number}.png"), image)
        records.append(ImageRecord(number, f"{number}.png", width=INPUT_HW[1], height=INPUT_HW[0]))
        rle = mask_to_rle(mask)
        annotations.append(Annotation(number + 1, image_id=number, category_id=1, segmentation=rle))
    categories = tuple(Category(id + 1, name) for id, name in enumerate(SPEC.labels))
    coco = CocoFile(folder / "val.json", tuple(records), tuple(annotations[:objects]), categories)
    return AnnotatedData(coco, coco, folder, [1, 2])


def shifted_weights(change: float) -> Callable[..., None]:
    """A quantizer whose network finds darker or brighter things."""

    def quantize(source: Path, target: Path, inputs: quantization.Inputs) -> None:
        assert all(load().image.shape == (3, *INPUT_HW) for load in inputs)
        model = onnx.load(str(source))
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        weight = next(one for one in model.graph.initializer if one.name == conv.input[1])
        values = onnx.numpy_helper.to_array(weight) + np.float32(change)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, str(target))

    return quantize


def test_a_network_that_costs_little_is_published_with_both_aps(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantization, "quantize_for_onnxruntime", shifted_weights(1e-5))
    data = data_of(tmp_path / "data")
    entry = add_int8(folder, "onnxruntime", data)
    assert (entry.precision, entry.graph, entry.verdict) == ("int8", INT8, "passed")
    ap = entry.figures["mask_ap"]
    assert ap["f32"] > 0.9 and ap["drop"] == ap["f32"] - ap["int8"] == pytest.approx(0, abs=0.01)
    assert entry.figures["data"]["val"]["images"] == 4
    assert read_certificate(folder) == [entry]
    opened = open_backend(folder, "onnxruntime", precision="int8")
    assert opened.spec.labels == SPEC.labels
    (folder / INT8).write_bytes((folder / INT8).read_bytes() + b" ")
    with pytest.raises(CertificateError, match="is not the file that its certificate is about"):
        open_backend(folder, "onnxruntime", precision="int8")


@pytest.mark.parametrize(
    ("change", "objects", "problem"),
    [
        pytest.param(-1 / 32, 4, "less; expected at most 0.01 less", id="costs too much"),
        pytest.param(0.0, 0, "nan in float32; expected at least 0.1", id="no objects"),
    ],
)
def test_a_network_is_not_published(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: float,
    objects: int,
    problem: str,
):
    monkeypatch.setattr(quantization, "quantize_for_onnxruntime", shifted_weights(change))
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(CertificateError, match=f"{INT8} was not written: .*{problem}"):
        add_int8(folder, "onnxruntime", data_of(tmp_path / "data", objects))
    after = {path.name for path in folder.iterdir()} - {".paddlex_seg_files.jsonl"}
    assert sorted(after) == before
    with pytest.raises(BackendError, match=r"Export\.int8=True -o Export\.edge=True"):
        open_backend(folder, "onnxruntime", precision="int8")


def test_a_model_that_finds_nothing_cannot_be_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantization, "quantize_for_onnxruntime", shifted_weights(0.0))
    data = data_of(tmp_path / "data")
    for path in (tmp_path / "data").iterdir():
        cv2.imwrite(str(path), np.zeros((*INPUT_HW, 3), np.uint8))
    with pytest.raises(CertificateError, match="0.0000 in float32; expected at least 0.1"):
        add_int8(folder, "onnxruntime", data)
