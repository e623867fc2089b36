"""Which backend is chosen for a model on this machine."""

import importlib.util
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL
from tiny_model import TinyModel

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.errors import BackendError, CertificateError
from paddlex_seg.export.graphs import export_model
from paddlex_seg.inference.backends import choice
from paddlex_seg.inference.backends.choice import FILE, choose_backend
from paddlex_seg.structures import BackendName, DetectionArrays

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnxruntime", "openvino")),
    reason="needs the converter and the runtimes",
)
SPEEDS = {"paddle": 30.0, "onnxruntime": 20.0, "openvino": 10.0}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that was chosen a backend for, so that it has ``network.onnx``."""
    folder = tmp_path_factory.mktemp("tiny")
    export_model(TinyModel(), find_model(MODEL), ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE), folder)
    assert choose_backend(folder) in SPEEDS
    assert (folder / "network.onnx").is_file()
    return folder


@pytest.fixture
def folder(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy without a choice. Speeds are made, so that the test knows the fastest."""
    copy = Path(shutil.copytree(converted, tmp_path / "model"))
    (copy / FILE).unlink()
    monkeypatch.setattr(choice, "_measure", lambda loaded: {name: SPEEDS[name] for name in loaded})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy


def refuse(*arguments: Any) -> None:
    raise AssertionError("measured again")


def failing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let backends give masks that are shifted."""
    load = choice.load_backend

    class Shifted:
        def __init__(self, backend: Any) -> None:
            self.spec, self.preprocess, self.mask_frame = backend.spec, backend.preprocess, backend.mask_frame
            self._backend = backend

        def __call__(self, *inputs: np.ndarray) -> DetectionArrays:
            found = self._backend(*inputs)
            return found._replace(mask=np.roll(found.mask, 1, axis=2))

    def load_shifted(model_dir: Path, name: BackendName) -> Any:
        backend = load(model_dir, name)
        return Shifted(backend) if name in names else backend

    monkeypatch.setattr(choice, "load_backend", load_shifted)
    monkeypatch.setattr(choice, "_earlier_entry", lambda *arguments: None)


def test_the_fastest_is_chosen_and_the_log_has_all_times(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert choose_backend(folder) == "openvino"
    assert "Backend: openvino" in caplog.text
    assert "openvino 10 ms, onnxruntime 20 ms, paddle 30 ms" in caplog.text


def test_the_choice_is_stored_with_its_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend(folder) == "openvino"
    stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
    assert stored["milliseconds"] == SPEEDS
    assert {one["backend"]: one["verdict"] for one in stored["certificate"]} == dict.fromkeys(
        SPEEDS, "passed"
    )
    monkeypatch.setattr(choice, "_measure", refuse)
    assert choose_backend(folder) == "openvino"


@pytest.mark.parametrize("what", ["another machine", "another file", "a damaged choice"])
def test_it_is_measured_again_where_something_has_changed(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_backend(folder)
    if what == "another machine":
        monkeypatch.setattr(choice, "describe_machine", lambda: {"cpu": "another"})
    elif what == "another file":
        with (folder / "inference.yml").open("a") as file:
            file.write("\n# edited\n")
    else:
        (folder / FILE).write_text("{", encoding="utf-8")
    monkeypatch.setitem(SPEEDS, "paddle", 1.0)
    assert choose_backend(folder) == "paddle"


def test_certificates_of_this_machine_are_not_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "certify", refuse)
    assert choose_backend(folder) == "openvino"


def test_a_backend_that_fails_here_is_not_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing(monkeypatch, "openvino")
    with caplog.at_level(logging.INFO):
        assert choose_backend(folder) == "onnxruntime"
    assert "Not used: openvino failed its certificate (" in caplog.text


def test_without_a_proven_backend_there_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, *SPEEDS)
    with pytest.raises(
        CertificateError, match="no installed backend is proven.*paddle failed its certificate"
    ):
        choose_backend(folder)


def test_a_folder_that_cannot_be_written_is_remembered_in_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = choice.write_json

    def read_only(path: Path, document: Any) -> None:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        write(path, document)

    monkeypatch.setattr(choice, "write_json", read_only)
    assert choose_backend(folder) == "openvino"
    assert not (folder / FILE).exists()
    assert list((tmp_path / "cache" / "paddlex_seg" / "choices").glob("*.json"))
    monkeypatch.setattr(choice, "_measure", refuse)
    assert choose_backend(folder) == "openvino"


def test_without_a_converter_the_log_says_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "network.onnx").unlink()
    monkeypatch.setattr(choice, "can_convert", lambda: False)
    with caplog.at_level(logging.INFO):
        assert choose_backend(folder) == "paddle"
    assert f"python -m paddlex_seg --paddle2onnx --paddle_model_dir {folder}" in caplog.text
    assert "Backend: paddle, the only one" in caplog.text


def test_a_conversion_that_fails_leaves_paddle(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(model_dir: Path) -> None:
        raise BackendError("the converter aborted")

    (folder / "network.onnx").unlink()
    monkeypatch.setattr(choice, "publish_onnx", fails)
    assert choose_backend(folder) == "paddle"
    assert "network.onnx was not made: the converter aborted" in caplog.text


def test_other_devices_than_the_cpu_are_paddles(tmp_path: Path) -> None:
    assert choose_backend(tmp_path, device="gpu:0") == "paddle"


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="missing"):
        choose_backend(tmp_path)


def test_each_backend_is_measured(converted: Path) -> None:
    loaded = {name: choice.load_backend(converted, name) for name in ("paddle", "openvino")}
    measured = choice._measure(loaded)  # type: ignore[arg-type]
    assert set(measured) == set(loaded)
    assert all(time > 0 for time in measured.values())
    entries = choice.read_certificate(converted)
    files = choice._files(converted, "openvino")
    assert choice._earlier_entry(entries, "openvino", files) is not None
    other = [replace(one, machine={"cpu": "another"}) for one in entries]
    assert choice._earlier_entry(other, "openvino", files) is None
