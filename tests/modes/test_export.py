"""Mode export: the files it writes, and the weights it refuses."""

import errno
import os
import re
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from command_line import Outcome, read_result, run_cli
from paddle.jit.dy2static import utils as conversion
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL, filled_model, run_slim, save_model

from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.errors import BackendError, CertificateError
from paddlex_seg.export import graphs
from paddlex_seg.export.graphs import FILES, PROOF
from paddlex_seg.files.written import REGISTER
from paddlex_seg.inference.backends.open import is_installed
from paddlex_seg.inference.certificate import read_certificate
from paddlex_seg.inference.conversion import can_convert
from paddlex_seg.inference.onnx_proof import RUNTIMES
from paddlex_seg.modes import export

CONVERTS = can_convert() and any(map(is_installed, RUNTIMES))


def test_the_mode_writes_its_files_and_its_result(exported: Path) -> None:
    result = read_result(exported, "export")
    assert result["done_flag"] is True
    files = {*FILES, *PROOF} | ({"network.onnx"} if CONVERTS else set())
    assert set(result["files"]) == files
    assert {path.name for path in exported.iterdir()} == {*files, "export_result.json", REGISTER}


def test_the_onnx_file_is_written_unless_that_is_not_wanted_or_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(export, "publish_onnx", made.append)
    monkeypatch.setattr(export, "can_convert", lambda: True)
    monkeypatch.setattr(export, "is_installed", lambda name: name == "openvino")
    assert [export.write_onnx(tmp_path, wanted) for wanted in (None, True, False)] == [True, True, False]
    assert made == [tmp_path] * 2
    for problem, wanted, raised in [
        (BackendError("it aborts"), None, None),
        (BackendError("it aborts"), True, BackendError),
        (CertificateError("it differs"), None, CertificateError),
    ]:
        monkeypatch.setattr(export, "publish_onnx", Mock(side_effect=problem))
        with pytest.raises(raised, match=str(problem)) if raised else nullcontext():
            assert export.write_onnx(tmp_path, wanted) is False
    assert "network.onnx was not written: it aborts" in caplog.text
    monkeypatch.setattr(export, "can_convert", lambda: False)
    assert export.write_onnx(tmp_path, None) is False


def test_an_onnx_file_that_is_asked_for_needs_the_converter(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "can_convert", lambda: False)
    outcome = run_cli("export", tmp_path, Export__weight_path=weights, Export__onnx=True)
    assert outcome.code == 2 and "pip install paddle2onnx==2.1.0" in outcome.stderr
    assert not (tmp_path / "inference.yml").exists()


def test_a_failed_export_leaves_the_older_one_untouched(
    exported: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {name: f"old {name}" for name in FILES}
    for name, text in old.items():
        (tmp_path / name).write_text(text)

    def fail(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(graphs, "_save_graph", lambda layer, inputs, prefix: prefix.with_suffix(".x").touch())
    monkeypatch.setattr(graphs.filecmp, "cmp", fail)
    assert run_cli("export", tmp_path, Export__weight_path=weights).code == 1
    assert {name: (tmp_path / name).read_text() for name in FILES} == old
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "export_result.json", REGISTER}


def test_weights_of_another_class_count_are_refused(dataset: Path, weights: Path, tmp_path: Path) -> None:
    info = ModelInfo(MODEL, CATEGORIES[:1], IMAGE_SIZE)
    wrong = save_model(filled_model(), tmp_path / "wrong", info)
    outcome = run_cli("export", tmp_path / "output", Export__weight_path=wrong)
    assert outcome.code == 1
    assert "does not fit PP-YOLOE_seg-S with 1 classes" in outcome.stderr
    assert "pred_cls" in outcome.stderr
    assert not (tmp_path / "output" / "inference.yml").exists()


def test_a_conversion_that_cannot_be_written_ends_the_export(
    trained: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tempfile.NamedTemporaryFile

    def fail_at_a_block(*args: Any, prefix: str, **options: Any) -> Any:
        if prefix.startswith("WithPastedMasks"):
            return made(*args, prefix=prefix, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(conversion.tempfile, "NamedTemporaryFile", fail_at_a_block)
    best = trained[0] / "best_model" / "best_model.pdparams"
    outcome = run_slim("export", tmp_path, Export__weight_path=best)
    assert outcome.code == 1
    assert f"paddle/to_static_tmp/{os.getpid()}: No space left on device" in outcome.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"export_result.json", REGISTER}


@pytest.mark.parametrize(
    ("model", "settings", "problem"),
    [
        ("Mask-RT-DETR-L", {"Export__int8": True}, "was not measured for other models"),
        ("Mask-RT-DETR-S", {"Export__edge": True}, "offered for PP-YOLOE_seg-S only"),
    ],
    ids=["8 bits", "small devices"],
)
def test_small_networks_that_are_not_offered_are_refused_before_anything_is_written(
    tmp_path: Path, model: str, settings: dict[str, Any], problem: str
) -> None:
    outcome = run_cli("export", tmp_path / "output", Global__model=model, **settings)
    assert outcome.code == 2
    assert re.search(problem, outcome.stderr)
    assert not (tmp_path / "output" / "inference.yml").exists()


def test_a_network_for_small_devices_is_written_with_its_certificate(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("paddle2onnx")
    outcome = run_cli("export", tmp_path, Export__weight_path=weights, Export__edge=True)
    assert outcome.code == 0, outcome.stderr
    assert "network_edge.onnx" in read_result(tmp_path, "export")["files"]
    entries = [one for one in read_certificate(tmp_path) if one.graph == "network_edge.onnx"]
    assert [(one.backend, one.precision, one.verdict) for one in entries] == [
        ("onnxruntime", "f32", "passed")
    ]
