"""``--serve`` and mode serve: start, settings and where they come from, the end."""

import json
import signal
import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import Outcome, read_result, run_argv, run_cli
from PIL import Image
from serve_command import serve_command
from toy_model import export_onnx_toy, export_toy, image_with

from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.config.yaml_text import dump_yaml
from paddlex_seg.pipelines.create import create_model
from paddlex_seg.serving.answers import result_fields

RED, GREEN = (slice(8, 40), slice(8, 40)), (slice(30, 60), slice(50, 90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model with an ONNX file, and ``pipeline.yaml`` for it."""
    folder = tmp_path_factory.mktemp("my sérvice")
    export_onnx_toy(folder / "model")
    (folder / "pipeline.yaml").write_text(pipeline_text(folder / "model"), encoding="utf-8")
    return folder


def pipeline_text(model: Path, **serving: Any) -> str:
    module = {"module_name": "instance_segmentation", "model_name": "PP-YOLOE_seg-S", "model_dir": str(model)}
    content: dict[str, Any] = {"pipeline_name": "instance_segmentation"}
    return dump_yaml({**content, "SubModules": {"InstanceSegmentation": module}, "Serving": serving})


def a_file() -> bytes:
    file = BytesIO()
    Image.fromarray(image_with((64, 96), red=RED, green=GREEN)).save(file, "PNG")
    return file.getvalue()


def predicted(url: str, **query: str) -> dict[str, Any]:
    reply = httpx.post(
        f"{url}/instance-segmentation",
        content=a_file(),
        params={"visualize": "false", **query},
        headers={"Content-Type": "image/png"},
        trust_env=False,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["result"]


def test_a_pipeline_is_served_as_it_predicts_and_ends_with_exit_code_0(folder: Path, tmp_path: Path) -> None:
    argv = ["--serve", "--pipeline", str(folder / "pipeline.yaml"), "--port", "0", "--backend", "onnxruntime"]
    with serve_command(*argv, "-o", "Serving.workers=2", cwd=tmp_path) as running:
        assert running.url.startswith("http://127.0.0.1:")
        served = predicted(running.url, threshold="0.2")
        labels = [one["categoryName"] for one in served["instances"]]
        assert sorted(labels) == ["red thing", "绿色"]
        (tmp_path / "image.png").write_bytes(a_file())
        model = create_model(model_dir=folder / "model", backend="onnxruntime", threshold=0.2)
        (expected,) = model.predict(tmp_path / "image.png")
        assert served == json.loads(json.dumps(result_fields(expected, "rle")))
        assert httpx.get(running.url + "/info", trust_env=False).json()["backend"] == "onnxruntime"
        assert running.stop(signal.SIGTERM) == 0
    assert "Stopped." in running.lines[-1]
    assert not any("Traceback" in line for line in running.lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.png"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_end_mode_serve(folder: Path, tmp_path: Path, number: int) -> None:
    settings = {
        "Global.mode": "serve",
        "Global.output": tmp_path / "out put",
        "Predict.model_dir": folder / "model",
        "Predict.backend": "onnxruntime",
        "Serving.port": 0,
        "Serving.page": False,
    }
    argv = ["-c", "PP-YOLOE_seg-S", *(f"-o{key}={value}" for key, value in settings.items())]
    with serve_command(*argv) as running:
        assert len(predicted(running.url)["instances"]) == 2
        assert httpx.get(running.url + "/", trust_env=False).status_code == 404
        assert running.stop(number) == 0
    result = read_result(tmp_path / "out put", "serve")
    assert (result["done_flag"], result["backend"]) == (True, "onnxruntime")


def test_a_key_is_read_from_its_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n", encoding="utf-8")
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline_text(folder / "model", api_key_file=str(tmp_path / "key")), encoding="utf-8")
    argv = ["--serve", "--pipeline", str(path), "--port", "0", "--backend", "onnxruntime"]
    with serve_command(*argv) as running:
        assert httpx.get(running.url + "/info", trust_env=False).status_code == 401
        headers = {"X-API-Key": "s3cret"}
        assert httpx.get(running.url + "/info", headers=headers, trust_env=False).status_code == 200
    assert not any("s3cret" in line for line in running.lines)


def serve(folder: Path, *options: str) -> Outcome:
    return run_argv(["--serve", "--pipeline", str(folder / "pipeline.yaml"), *options])


def test_a_port_in_use_is_told_before_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlex_seg.modes.serve_pipeline.Pipeline", None)  # calling it would fail
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        outcome = serve(folder, "--port", port)
    assert outcome.code == 2
    assert f"Serving.port: {port} on 127.0.0.1 is used by another program" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port: found '70000'; expected a whole number from 0 to 65535"),
        (["--host", "203.0.113.77"], "Serving.host: 203.0.113.77 is no address of this machine"),
        (["--host", "no.such.host.invalid"], "Serving.host"),
        (["-o", "Serving.que_size=3"], "Did you mean Serving.queue_size?"),
        (["-o", "Serving.deadline=0"], "Serving.deadline: found 0; expected a number greater than 0"),
        (["-o", "Serving.api_key_file=missing.txt"], "Serving.api_key_file: missing.txt cannot be read"),
        (["-o", "Serving.url_ports=[80,x]"], "expected numbers of ports"),
        (["-o", "SubModules.InstanceSegmentation.model_dir=nowhere"], "nowhere"),
        (["--device", "gpu:9", "--backend", "paddle"], "gpu"),
    ],
)
def test_settings_that_cannot_be_used_are_told(
    folder: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(host: str, *rest: Any, **more: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return getaddrinfo(host, *rest, **more)

    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr("socket.getaddrinfo", lookup)
    outcome = serve(folder, *options)
    assert outcome.code in (1, 2) and message in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("content", ["", "\n", "schlüssel\n"])
def test_a_file_without_a_usable_key_is_told(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    outcome = serve(folder, "-o", f"Serving.api_key_file={tmp_path / 'key'}")
    assert outcome.code == 2 and "expected a key of ASCII characters" in outcome.stderr


def test_missing_packages_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddlex_seg.modes.serve.PACKAGES", ("uvicorn", "no_such_package"))
    outcome = serve(folder)
    assert outcome.code == 2
    assert "pip install paddlex_seg[serving] (not found: no_such_package)" in outcome.stderr


def test_mode_serve_needs_a_model(tmp_path: Path) -> None:
    outcome = run_cli("serve", tmp_path)
    assert outcome.code == 1 and "Predict.model_dir" in outcome.stderr


def test_paddle_is_served_too(tmp_path: Path) -> None:
    export_toy(tmp_path / "model")
    (tmp_path / "p.yaml").write_text(pipeline_text(tmp_path / "model"), encoding="utf-8")
    with serve_command(
        "--serve", "--pipeline", str(tmp_path / "p.yaml"), "--port", "0", "--device", "cpu"
    ) as running:
        assert len(predicted(running.url)["instances"]) == 2
        assert any("in a batch of" in line for line in running.lines)  # measured at the start
        assert running.stop() == 0


def test_defaults_are_safe() -> None:
    settings = ServingConfig()
    assert (settings.host, settings.allow_urls, settings.page) == ("127.0.0.1", False, True)
