"""An installation with ONNX Runtime or OpenVINO, and without Paddle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from toy_model import export_onnx_toy, image_with

pytest.importorskip("paddle2onnx")

# As if it were not installed: find_spec gives None, and an import fails.
BLOCK = "import sys; sys.modules.update(dict.fromkeys({}))\n"
COMMAND = "from paddlex_seg.cli import main; sys.exit(main(sys.argv[1:]))"
PYTHON = """
from paddlex_seg import create_model, create_pipeline
file = {"SubModules": {"InstanceSegmentation": {"model_name": "PP-YOLOE_seg-S", "model_dir": sys.argv[1]}}}
for name in (None, sys.argv[3]):
    for opened in (create_model(model_dir=sys.argv[1], backend=name), create_pipeline(file, backend=name)):
        (result,) = opened.predict(sys.argv[2])
        print(opened.backend, opened.device, len(result.instances))
print([name for name in ("paddle", "onnxruntime", "openvino") if sys.modules.get(name)])
"""


@pytest.fixture(scope="module")
def onnx_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx_toy(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    image = Image.fromarray(image_with((64, 96), red=(slice(8, 40), slice(8, 80))))
    image.save(tmp_path / "in" / "photo.png")
    return tmp_path / "in" / "photo.png"


def run(code: str, missing: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(missing) + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("backend, other", [("onnxruntime", "openvino"), ("openvino", "onnxruntime")])
def test_python_predicts_with_what_is_installed(onnx_dir: Path, photo: Path, backend: str, other: str):
    pytest.importorskip(backend)
    ended = run(PYTHON, ["paddle", other], onnx_dir, photo, backend)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{backend} cpu 1"] * 4 + [f"['{backend}']"]


def test_the_command_line_predicts(onnx_dir: Path, photo: Path, tmp_path: Path):
    pytest.importorskip("openvino")
    file = tmp_path / "pipeline.yaml"
    model = {"model_name": "PP-YOLOE_seg-S", "model_dir": str(onnx_dir)}
    file.write_text(json.dumps({"SubModules": {"InstanceSegmentation": model}}))
    out = tmp_path / "out"
    ended = run(COMMAND, ["paddle"], "--pipeline", file, "--input", photo, "--save_path", out, "--use_hpip")
    assert ended.returncode == 0, ended.stderr
    assert (
        json.loads((out / "photo_res.json").read_text(encoding="utf-8"))["boxes"][0]["label"] == "red thing"
    )


def predict(onnx_dir: Path, photo: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    keys = {
        "Global.mode": "predict",
        "Global.output": output,
        "Predict.model_dir": onnx_dir,
        "Predict.input": photo,
    }
    options = [f"{key}={value}" for key, value in keys.items()]
    return run(COMMAND, ["paddle"], "-c", "PP-YOLOE_seg-S.yaml", "-o", *options, *more)


def test_mode_predict_predicts_and_says_what_ran(onnx_dir: Path, photo: Path, tmp_path: Path):
    pytest.importorskip("openvino")
    ended = predict(onnx_dir, photo, tmp_path / "out", "Predict.backend=openvino")
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "out" / "predict_result.json").read_text(encoding="utf-8"))
    assert result["backend"] == "openvino" and result["precision"] == "f32"
    assert result["weights"]["path"] == str(onnx_dir / "network.onnx")
    assert len(result["results"]) == 1


@pytest.mark.parametrize(
    "option, message",
    [
        ("Predict.backend=paddle", "PaddlePaddle is not installed. For the CPU: pip install paddlepaddle"),
        ("Global.device=gpu", "PaddlePaddle is not installed"),
        ("Global.mode=evaluate", "PaddlePaddle is not installed"),
    ],
)
def test_what_needs_paddle_says_so(onnx_dir: Path, photo: Path, tmp_path: Path, option: str, message: str):
    ended = predict(onnx_dir, photo, tmp_path / "out", option)
    assert ended.returncode == 2
    assert message in ended.stderr and "Traceback" not in ended.stderr


def test_another_device_with_a_backend_of_the_cpu_is_refused(onnx_dir: Path, photo: Path, tmp_path: Path):
    options = ("Global.device=gpu", "Predict.backend=onnxruntime")
    ended = predict(onnx_dir, photo, tmp_path / "out", *options)
    assert ended.returncode == 1
    assert "Global.device is gpu, and the backend is onnxruntime, which runs on the CPU" in ended.stderr
