"""``--paddle2onnx``, and mode export with ``Export.onnx``."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import run_argv
from toy_model import export_toy

from paddlex_seg.inference import conversion
from paddlex_seg.inference.backends.open import available_backends, open_backend
from paddlex_seg.modes import paddle2onnx

pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxruntime")


def convert(source: Path, *more: object) -> Any:
    return run_argv(["--paddle2onnx", "--paddle_model_dir", str(source), *map(str, more)])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_toy(tmp_path_factory.mktemp("toy") / "model", pasted=True)


def opset_of(file: Path) -> int:
    onnx = pytest.importorskip("onnx")
    return max(one.version for one in onnx.load(file).opset_import)


def test_the_target_is_an_exported_folder_of_its_own(exported: Path, tmp_path: Path):
    before = sorted(path.name for path in exported.iterdir())
    outcome = convert(exported, "--onnx_model_dir", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert sorted(path.name for path in exported.iterdir()) == before
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert names == {"network.onnx", "inference.yml", "certificate.json"}
    assert "paddle" not in available_backends(tmp_path / "out")
    assert open_backend(tmp_path / "out", "onnxruntime").spec.labels == ("red thing", "绿色")
    assert opset_of(tmp_path / "out" / "network.onnx") == 16


def test_without_a_target_the_file_is_put_beside_the_others(exported: Path, tmp_path: Path):
    folder = shutil.copytree(exported, tmp_path / "model")
    outcome = convert(folder, "--opset_version", "7")
    assert outcome.code == 0, outcome.stderr
    assert "--opset_version 7 is too low" in outcome.stdout
    assert available_backends(folder)[:2] == ["paddle", "onnxruntime"]
    assert opset_of(folder / "network.onnx") == 13


def test_a_folder_with_only_an_official_graph_is_refused_before_the_converter_aborts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(conversion, "COMMAND", "raise SystemExit('must not run')")
    official = export_toy(tmp_path / "official", small=False, pasted=True)
    outcome = convert(official, "--onnx_model_dir", tmp_path / "out")
    assert outcome.code == 1 and not (tmp_path / "out").exists()
    assert f"{official} has no network.json" in outcome.stderr
    assert "Export the weights with mode export" in outcome.stderr


def test_wrong_options_are_named(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "nowhere does not exist" in convert(tmp_path / "nowhere").stderr
    assert "--opset_version: found 'x'" in convert(exported, "--opset_version", "x").stderr
    monkeypatch.setattr(paddle2onnx, "can_convert", lambda: False)
    outcome = convert(exported)
    assert outcome.code == 2 and "pip install paddle2onnx==2.1.0" in outcome.stderr


def test_a_failed_conversion_leaves_the_target_as_it_was(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(conversion, "COMMAND", "import os; os.abort()")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inference.yml").write_text("precious")
    outcome = convert(exported, "--onnx_model_dir", tmp_path / "out")
    assert outcome.code == 1 and "was ended by signal 6" in outcome.stderr
    assert (tmp_path / "out" / "inference.yml").read_text() == "precious"
    assert not (tmp_path / "out" / "network.onnx").exists()
