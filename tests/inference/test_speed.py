"""The measurement of exported models: parts, processes of their own, table and JSON."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_model import image_with

from paddlex_seg import benchmark
from paddlex_seg.errors import DatasetError, PaddlexSegError
from paddlex_seg.inference import speed
from paddlex_seg.inference.backends.base import find_instances
from paddlex_seg.inference.backends.open import open_backend
from paddlex_seg.inference.speed import PARTS, Cost, Job, NotMeasured, Speed, SpeedReport, measure_all


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "été 1.png"
    Image.fromarray(image_with((128, 192), red=np.s_[40:90, 40:120], green=np.s_[8:20, 8:20])).save(path)
    return path


def test_the_measured_way_finds_what_prediction_finds(small_dir: Path, image: Path) -> None:
    backend = open_backend(small_dir)
    for thresholds in (np.zeros(2, np.float32), np.array([0, 1], np.float32)):
        parts, found = speed.find_in_file(backend, image, thresholds)
        loaded = speed.load_image(image)
        inputs = speed.collate([speed.preprocess(loaded, backend.preprocess)])
        (instances,) = find_instances(backend, inputs, [loaded.shape[:2]], score_threshold=thresholds)
        assert found.masks == instances.masks and len(found)
        assert list(parts) == list(PARTS) and all(seconds >= 0 for seconds in parts.values())
    assert len(instances) == 1  # the threshold of the second class is 1


def test_each_backend_is_measured_alone_and_what_cannot_run_is_listed_with_its_reason(
    small_dir: Path, image: Path
) -> None:
    lines: list[str] = []
    report = measure_all(
        small_dir, [image], [("paddle", "f32"), ("openvino", "int8")], threshold=0.0, tell=lines.append
    )
    (measured,), (missing,) = report.measured, report.missing
    assert (measured.backend, measured.precision, measured.objects) == ("paddle", "f32", 2)
    assert measured.runs >= speed.LEAST_RUNS and 0 < measured.p50 <= measured.p95
    assert set(measured.parts) == set(PARTS) and 0 < measured.rest < 1
    assert measured.peak_memory_mb is None or measured.peak_memory_mb > 50
    assert (missing.backend, missing.precision) == ("openvino", "int8")
    assert "network_int8" in missing.reason or "not installed" in missing.reason
    assert lines[:2] == ["paddle f32 ...", "openvino int8 ..."]
    assert report.cost.network_gflop is None and report.cost.peak_gflops > 0  # there is no ONNX file


def test_a_process_that_ends_badly_is_a_reason(small_dir: Path, image: Path, monkeypatch) -> None:
    monkeypatch.setattr(speed, "COMMAND", "import os; os.kill(os.getpid(), 9)")
    found = speed.measure_alone(Job(str(small_dir), [str(image)], "paddle", "f32"))
    assert isinstance(found, NotMeasured) and "signal 9" in found.reason
    monkeypatch.setattr(speed, "COMMAND", "raise SystemError('very wrong')")
    found = speed.measure_alone(Job(str(small_dir), [str(image)], "paddle", "f32"))
    assert isinstance(found, NotMeasured) and "very wrong" in found.reason


def test_without_any_backend_the_error_has_all_reasons(small_dir: Path, image: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        speed, "measure_alone", lambda job: NotMeasured(job.backend, job.precision, "no luck")
    )
    with pytest.raises(PaddlexSegError, match="openvino bf16: no luck"):
        measure_all(small_dir, [image], speed.candidates())


def test_the_operations_of_the_network_are_counted(small_dir: Path, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("paddle2onnx")
    from paddlex_seg.inference.conversion import convert_network

    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(small_dir / "inference.yml", folder)
    convert_network(small_dir, folder / "network.onnx")
    # One convolution: 2 channels of 16 x 24 cells, each from 3 channels of 4 x 4 pixels.
    assert speed.network_gflop(folder, image) == 2 * 2 * 16 * 24 * 3 * 4 * 4 / 1e9


def test_only_image_files_are_measured(tmp_path: Path, image: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    assert speed.image_files([str(tmp_path)]) == [image]
    with pytest.raises(DatasetError, match="not a readable image"):
        speed.image_files([str(tmp_path / "text.png")])


REPORT = SpeedReport(
    model="a model",
    measured=[
        Speed(
            backend="openvino",
            precision="bf16",
            runs=7,
            objects=3,
            p50=0.1,
            p95=0.2,
            images_per_second=9.5,
            parts=dict(zip(PARTS, (0.01, 0.005, 0.075, 0.0, 0.01), strict=True)),
            load=1.5,
            peak_memory_mb=321.4,
        )
    ],
    missing=[NotMeasured("onnxruntime", "f32", "It is not installed.")],
    cost=Cost(network_gflop=5.0, peak_gflops=100.0),
)


def test_the_table_has_all_figures_in_milliseconds() -> None:
    lines = REPORT.table().splitlines()
    row = next(line for line in lines if line.startswith("| openvino"))
    assert row == (
        "| openvino | bf16 | 100.0 | 200.0 | 9.50 | 321 | 10.0 | 5.0 | 75.0 | 0.0 | 10.0 | 25% | 3 |"
    )
    header = lines[2]
    assert header.count("|") == row.count("|") == lines[3].count("|")
    assert "take 50 ms" in REPORT.table() and "1.50 times" in REPORT.table()
    assert lines[-1] == "onnxruntime f32: not measured. It is not installed."


def test_the_command_prints_the_table_and_writes_the_same_as_json(
    small_dir: Path, image: Path, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "new" / "speed.json"
    code = benchmark.main([str(small_dir), str(image), "--backends", "paddle", "--json", str(file)])
    assert code == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    assert [one["backend"] for one in written["measured"]] == ["paddle"]
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| paddle"))
    assert f"| {1000 * written['measured'][0]['p50']:.1f} |" in row


def test_the_command_tells_what_is_wrong(small_dir: Path, tmp_path: Path, capsys) -> None:
    assert benchmark.main([str(small_dir), str(tmp_path / "absent.jpg")]) == 3
    assert "absent.jpg" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    Image.fromarray(image_with((64, 64))).save(tmp_path / "a.png")
    assert benchmark.main([str(tmp_path / "empty"), str(tmp_path / "a.png")]) != 0
    assert "empty" in capsys.readouterr().err
