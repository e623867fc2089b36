"""The files ``certificate.json`` and ``reference.json``, and what a file needs before it is loaded."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL
from tiny_model import TinyModel

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.errors import CertificateError
from paddlex_seg.export.graphs import export_model
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.certificate import (
    Entry,
    add_entries,
    read_certificate,
    require_certified,
)
from paddlex_seg.inference.certify import batches, certify, files_of, wrong_parameters
from paddlex_seg.inference.reference import Reference, prepared, read_reference
from paddlex_seg.inference.stored_inputs import FOLDER, NAMES, StoredInput, stored_inputs
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.recipes import MASK_RCNN
from paddlex_seg.structures import DetectionArrays, PreprocessSpec

INFO = ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE)


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    export_model(TinyModel(), find_model(MODEL), INFO, folder)
    return folder


@pytest.fixture
def folder(tiny_export: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_export, tmp_path / "copy"))


def certified_again(
    folder: Path, change: Callable[[DetectionArrays], DetectionArrays] | None = None
) -> Entry:
    """The entry of the folder on a machine that has only the folder."""
    reference, inputs = read_reference(folder / "reference.json", stored_inputs())
    backend = PaddleBackend(folder)
    loaded: Any = backend if change is None else Changed(backend, change)
    return certify(
        loaded, backend.spec, reference, inputs, name="paddle", files=files_of(folder, "network.json")
    )


class Changed:
    """A backend that gives something else, image by image or in batches."""

    def __init__(self, backend: PaddleBackend, change: Callable[[DetectionArrays], DetectionArrays]) -> None:
        self.preprocess, self.mask_frame = backend.preprocess, backend.mask_frame
        self._backend, self._change = backend, change

    def __call__(self, *inputs: np.ndarray) -> DetectionArrays:
        return self._change(self._backend(*inputs))


def test_a_folder_is_certified_with_its_own_files_alone(folder: Path) -> None:
    entry = certified_again(folder)
    assert (entry.verdict, entry.problems, entry.reference) == ("passed", (), "the network in memory")
    assert entry.figures["detections"]["pairs"] == 24
    add_entries(folder, [entry])
    written = read_certificate(folder)
    assert [one.graph for one in written] == ["inference.json", "network.json"]  # in place of the earlier one
    assert written[-1] == entry


def test_what_the_network_found_is_read_as_it_was_written(tiny_export: Path) -> None:
    reference, inputs = read_reference(tiny_export / "reference.json", stored_inputs())
    backend = NetworkBackend(TinyModel(), INFO.preprocess)
    own = Reference("", reference.finding, backend.preprocess, {}, {})
    assert reference.preprocess == own.preprocess
    entry = certify(
        backend,
        PaddleBackend(tiny_export).spec,
        reference,
        inputs,
        name="paddle",
        files=files_of(tiny_export, "network.json"),
    )
    assert entry.figures["score_difference"] == 0
    assert entry.figures["mask_iou"]["mean"] == 1


def test_a_batch_that_gives_something_else_fails(folder: Path) -> None:
    def mixed_up(found: DetectionArrays) -> DetectionArrays:
        order = np.arange(len(found.bbox)) if len(found.bbox_num) == 1 else np.arange(len(found.bbox))[::-1]
        return DetectionArrays(found.bbox[order], found.bbox_num, found.mask[order])

    assert certified_again(folder, mixed_up).verdict == "failed"


def test_stored_images_that_have_changed_are_left_out(folder: Path) -> None:
    inputs = stored_inputs()
    darker = StoredInput(inputs[0].name, inputs[0].image // 2)
    _, usable = read_reference(folder / "reference.json", [darker, *inputs[1:]])
    assert [one.name for one in usable] == list(NAMES[1:])
    with pytest.raises(CertificateError, match="has other images. Export the model again"):
        read_reference(folder / "reference.json", [darker])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"labels": 3}'])
def test_a_damaged_reference_is_refused(content: str, folder: Path) -> None:
    (folder / "reference.json").write_text(content, encoding="utf-8")
    with pytest.raises(CertificateError, match="reference.json: cannot be used"):
        read_reference(folder / "reference.json", stored_inputs())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"entries": [{"verdict": "passed"}]}'])
def test_a_damaged_certificate_is_refused(content: str, folder: Path) -> None:
    (folder / "certificate.json").write_text(content, encoding="utf-8")
    with pytest.raises(CertificateError, match="certificate.json: cannot be read"):
        read_certificate(folder)


def onnx_entry(folder: Path, **changes: Any) -> Entry:
    """An entry about ``network.onnx``."""
    return replace(
        read_certificate(folder)[0],
        backend="onnxruntime",
        graph="network.onnx",
        sha256={"network.onnx": sha256_of(folder / "network.onnx")},
        **changes,
    )


def test_a_file_needs_an_entry_that_has_not_failed_about_its_content(folder: Path) -> None:
    onnx = folder / "network.onnx"
    onnx.write_bytes(b"a")
    with pytest.raises(CertificateError, match="network.onnx has no certificate"):
        require_certified(onnx, "onnxruntime")
    add_entries(folder, [onnx_entry(folder, precision="bf16")])
    with pytest.raises(CertificateError, match="network.onnx has no certificate"):
        require_certified(onnx, "onnxruntime")
    add_entries(folder, [onnx_entry(folder)])
    require_certified(onnx, "onnxruntime")
    require_certified(onnx, "openvino")
    onnx.write_bytes(b"b")
    with pytest.raises(CertificateError, match="is not the file that its certificate is about"):
        require_certified(onnx, "onnxruntime")
    add_entries(folder, [onnx_entry(folder, verdict="failed", problems=("masks differ",))])
    with pytest.raises(CertificateError, match="failed its certificate for onnxruntime: masks differ"):
        require_certified(onnx, "onnxruntime")
    add_entries(folder, [replace(onnx_entry(folder), backend="openvino")])
    require_certified(onnx, "openvino")
    with pytest.raises(CertificateError, match="failed its certificate for onnxruntime"):
        require_certified(onnx, "onnxruntime")
    add_entries(folder, [onnx_entry(folder, verdict="proved nothing")])
    require_certified(onnx, "onnxruntime")


def test_a_folder_without_a_certificate_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"a")
    with pytest.raises(CertificateError, match="--paddle2onnx"):
        require_certified(tmp_path / "network.onnx", "openvino")


def test_parameters_are_compared_bit_by_bit(tiny_export: Path) -> None:
    model = TinyModel()
    own = {one.name: one for one in model.state_dict().values()}
    (weight, bias) = sorted(own, key=lambda name: -own[name].size)
    exported = dict(zip(sorted(names_of(tiny_export)), sorted(own), strict=True))
    expected = {name: own[exported[name]] for name in exported}
    assert wrong_parameters(tiny_export, "network.json", expected) == []
    values = own[weight].numpy()
    values[0, 0, 0, 0] = np.nextafter(values[0, 0, 0, 0], np.float32(9))
    changed = {name: values if exported[name] == weight else own[exported[name]] for name in exported}
    (problem,) = wrong_parameters(tiny_export, "network.json", changed)
    assert "1 parameters in inference.pdiparams are not those of the network" in problem
    (problem,) = wrong_parameters(tiny_export, "network.json", {})
    assert "has parameters that the network has not" in problem


def names_of(folder: Path) -> list[str]:
    document = json.loads((folder / "network.json").read_bytes())
    operators = document["program"]["regions"][0]["blocks"][0]["ops"]
    return [operator["A"][3] for operator in operators if operator["#"] == "p"]


def test_the_stored_images_are_few_small_and_of_several_shapes() -> None:
    inputs = stored_inputs()
    assert [one.name for one in inputs] == list(NAMES)
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.png" for name in NAMES} | {"SOURCE.md"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    assert any(one.size_hw[0] > one.size_hw[1] for one in inputs)
    assert len({one.size_hw for one in inputs}) >= 3
    source = (FOLDER / "SOURCE.md").read_text(encoding="utf-8")
    assert all(f"`{name}.png`" in source for name in NAMES)
    assert "modified Copernicus Sentinel data" in source


@pytest.mark.parametrize(
    "spec", [PreprocessSpec((64, 96)), MASK_RCNN.preprocess((64, 107))], ids=["one size", "keeps the ratio"]
)
def test_a_batch_has_inputs_of_one_size(spec: PreprocessSpec) -> None:
    inputs = stored_inputs()
    first, *others = batches(inputs, spec, most=3)
    assert len(first) == 3 and {len(one) for one in others} == {1}
    assert len({prepared(one, spec).image.shape for one in first}) == 1
    assert sorted(one.name for call in (first, *others) for one in call) == sorted(NAMES)
    assert {len(call) for call in batches(inputs, spec, most=1)} == {1}


def test_a_file_of_several_parts_needs_all_of_them(folder: Path) -> None:
    graph, weights = folder / "network_int8.xml", folder / "network_int8.bin"
    graph.write_bytes(b"a")
    weights.write_bytes(b"b")
    int8_entry = replace(
        read_certificate(folder)[0],
        backend="openvino",
        graph=graph.name,
        precision="int8",
        sha256={path.name: sha256_of(path) for path in (graph, weights)},
    )
    add_entries(folder, [int8_entry])
    require_certified(graph, "openvino")
    weights.write_bytes(b"c")
    with pytest.raises(CertificateError, match="network_int8.bin is not the file that the certificate of"):
        require_certified(graph, "openvino")
    weights.unlink()
    with pytest.raises(CertificateError, match="network_int8.bin is not the file that the certificate of"):
        require_certified(graph, "openvino")
