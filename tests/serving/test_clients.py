"""The clients in docs/clients/, each run against a service with a small model."""

import base64
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from served_model import RunningService, coded_image, serving
from toy_model import export_toy, image_with

from paddlex_seg import create_model

CLIENTS = Path(__file__).parents[2] / "docs" / "clients"
KEY = "a key of this test"
Command = list[str | Path]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    model = create_model(model_dir=export_toy(tmp_path_factory.mktemp("toy")), device="cpu")
    with serving(model, api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "photo 1.png"
    pixels = image_with(
        (120, 200), red=(slice(10, 50), slice(20, 90)), green=(slice(60, 110), slice(99, 190))
    )
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def expected(service: RunningService, image: Path) -> dict[str, Any]:
    """The reply, without any of the clients."""
    headers = {"X-API-Key": KEY, "Content-Type": "image/png"}
    reply = httpx.post(f"{service.url}/instance-segmentation", content=image.read_bytes(), headers=headers)
    result = reply.json()["result"]
    assert [one["categoryName"] for one in result["instances"]] == ["red thing", "绿色"]
    return result


def installed(*programs: str) -> list[str]:
    """Their paths. Skips the test without them."""
    paths = [shutil.which(program) for program in programs]
    if None in paths:
        pytest.skip(f"not installed: {programs[paths.index(None)]}")
    return [path for path in paths if path is not None]


def python(work: Path) -> Command:
    return [sys.executable, CLIENTS / "client.py"]


def shell(work: Path) -> Command:
    installed("curl", "base64")
    return [*installed("sh"), CLIENTS / "client.sh"]


def node(work: Path) -> Command:
    (program,) = installed("node")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip("v\n").split(".")[0]) < 18:
        pytest.skip(f"Node.js {version.strip()} has no fetch; 18 is needed")
    return [program, CLIENTS / "client.mjs"]


def go(work: Path) -> Command:
    (program,) = installed("go")
    # Nothing outside of the standard library, so nothing may be downloaded.
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPROXY": "off",
        "GOFLAGS": "",
        "GOCACHE": str(work / "cache"),
    }
    command = [program, "build", "-o", work / "client", CLIENTS / "client.go"]
    subprocess.run(command, check=True, env=environment, cwd=work)
    return [work / "client"]


def java(work: Path) -> Command:
    program, compiler = installed("java", "javac")
    subprocess.run([compiler, "-Xlint:all", "-Werror", "-d", work, CLIENTS / "Client.java"], check=True)
    return [program, "-cp", work, "Client"]


def cpp(work: Path) -> Command:
    compiler, pkg_config = installed("g++", "pkg-config")
    found = subprocess.run([pkg_config, "--cflags", "--libs", "cpp-httplib"], capture_output=True, text=True)
    header = "#include <nlohmann/json.hpp>"
    has_json = subprocess.run([compiler, "-xc++", "-E", "-"], input=header.encode(), capture_output=True)
    if found.returncode or has_json.returncode:
        pytest.skip("not installed: libcpp-httplib-dev or nlohmann-json3-dev")
    source = CLIENTS / "client.cpp"
    flags = found.stdout.split()
    command = [compiler, "-std=c++17", "-O0", source, "-o", work / "client", *flags, "-pthread"]
    subprocess.run(command, check=True)
    return [work / "client"]


def php(work: Path) -> Command:
    (program,) = installed("php")
    modules = subprocess.run([program, "-m"], capture_output=True, text=True, check=True).stdout.split()
    if "curl" not in modules:
        pytest.skip("not installed: php-curl")
    return [program, CLIENTS / "client.php"]


def run(
    command: Command, url: str, *arguments: str | Path, key: str = KEY
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "API_KEY": key, "NO_PROXY": "127.0.0.1"}
    whole = [*command, url, *arguments]
    return subprocess.run(
        whole, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=60
    )


@pytest.mark.parametrize(
    ("prepare", "more"),
    [
        pytest.param(python, (), id="python"),
        pytest.param(shell, (), id="curl, raw bytes"),
        pytest.param(shell, ("json",), id="curl, json"),
        pytest.param(node, (), id="node"),
        pytest.param(go, (), id="go"),
        pytest.param(java, (), id="java"),
        pytest.param(cpp, (), id="c++"),
        pytest.param(php, (), id="php"),
    ],
)
def test_a_client_prints_the_objects_and_writes_the_drawing(
    prepare: Callable[[Path], Command],
    more: tuple[str, ...],
    service: RunningService,
    image: Path,
    expected: dict[str, Any],
    tmp_path: Path,
) -> None:
    command, drawing = prepare(tmp_path), tmp_path / "drawing.jpg"
    done = run(command, service.url, image, drawing, *more)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(expected["instances"]) == 2
    for (name, score, box, *_), one in zip(lines, expected["instances"], strict=True):
        assert name == one["categoryName"]
        assert float(score) == pytest.approx(one["score"], abs=6e-4)
        edges = [float(edge) for edge in box.replace(",", " ").split()]
        assert edges == pytest.approx(one["bbox"], abs=0.06)
    assert drawing.read_bytes() == base64.b64decode(expected["image"])
    with Image.open(drawing) as opened:
        assert (opened.format, opened.size) == ("JPEG", (200, 120))

    done = run(command, service.url, CLIENTS / "client.py", tmp_path / "none.jpg", *more)  # no image
    assert done.returncode != 0 and "415" in done.stderr and not (tmp_path / "none.jpg").exists()
    done = run(command, service.url, image, tmp_path / "none.jpg", *more, key="another")
    assert done.returncode != 0 and "401" in done.stderr and not (tmp_path / "none.jpg").exists()


def test_the_python_client_puts_masks_at_their_place() -> None:
    spec = importlib.util.spec_from_file_location("client", CLIENTS / "client.py")
    assert spec is not None and spec.loader is not None
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    number = 5 * 61 + 20  # the object is at x = 20, y = 5, and 7 x 9 pixels large
    with serving() as running:
        text = base64.b64encode(coded_image(number)).decode()
        reply = client.post(f"{running.url}/instance-segmentation", {"image": text, "visualize": False})
    (one,) = reply["result"]["instances"]
    assert one["mask"]["offset"] == [20, 5]
    mask = client.whole_mask(one["mask"], reply["result"]["size"])
    expected = np.zeros((64, 96), np.uint8)
    expected[5:14, 20:27] = 1
    assert np.array_equal(mask, expected)


def test_the_client_that_is_not_run_says_so() -> None:
    assert "NOT RUN" in (CLIENTS / "Client.cs").read_text(encoding="utf-8")


def test_every_client_is_known_to_the_tests_and_the_documentation() -> None:
    names = {path.name for path in CLIENTS.iterdir() if path.is_file()}
    tested = Path(__file__).read_text(encoding="utf-8")
    page = (CLIENTS.parent / "serving.md").read_text(encoding="utf-8")
    for name in names:
        assert f'"{name}"' in tested and f"(clients/{name})" in page
