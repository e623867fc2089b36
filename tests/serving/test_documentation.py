"""docs/serving.md says what the service does: its settings, its statuses, and examples that run."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from served_model import RunningService, TwentyMsModel, coded_image, serving

from paddlex_seg.config.schema import ServingConfig

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
IMAGE = coded_image(5 * 61 + 20)  # one object: x = 20, y = 5, 7 x 9 pixels
OF_PADDLEX = {"return_urls", "extra"}


def section(title: str) -> str:
    """The text of a section, up to the next heading."""
    return re.split(r"^##+ ", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]


def block(title: str, language: str = "") -> str:
    """The first example in a section."""
    return section(title).split(f"```{language}\n", 1)[1].split("```", 1)[0]


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with serving() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the images of the examples."""
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(IMAGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_setting_has_a_row_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("Settings"), flags=re.MULTILINE))
    fields = {name: field.default for name, field in ServingConfig.model_fields.items()}
    for name in OF_PADDLEX:
        assert fields.pop(name) is None and f"`{name}`" in section("Settings")
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        value = list(default) if isinstance(default, tuple) else default
        text = value if isinstance(value, str) else json.dumps(value)
        written = rows[name].strip()
        assert written.strip("`") == text or written.startswith("null (") and default is None, name


def test_the_example_of_a_request_runs_in_all_forms(service: RunningService, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("not installed: curl")
    script = block("A request").replace("http://127.0.0.1:8080", service.url)
    # Debian's curl may be older than 7.82, which brought --json.
    script = script.replace("--json @-", "-H 'Content-Type: application/json' --data-binary @-")
    script = script.replace("instance-segmentation\n", "instance-segmentation -w '\\n'\n")
    script = script.replace('maskFormat=none"', "maskFormat=none\" -w '\\n'")
    done = subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, timeout=60)
    replies = [json.loads(line)["result"] for line in done.stdout.splitlines()]
    assert len(replies) == 3, done.stderr
    assert replies[0]["instances"][0]["mask"]["polygons"]
    assert "mask" not in replies[1]["instances"][0]
    assert [len(one["instances"]) for one in replies[2]["results"]] == [1, 1]


def test_the_example_of_a_mask_puts_it_into_the_image(service: RunningService) -> None:
    result = post(service, {"image": base64.b64encode(IMAGE).decode(), "visualize": False})["result"]
    names: dict[str, Any] = {"np": np, "mask": result["instances"][0]["mask"], "result": result}
    exec(block("Masks", "python"), names)
    expected = np.zeros((64, 96), np.uint8)
    expected[5:14, 20:27] = 1
    assert np.array_equal(names["whole"], expected)


def test_the_example_of_the_protocol_runs(service: RunningService, folder: Path) -> None:
    code = block("Open Inference Protocol", "python").replace("http://127.0.0.1:8080", service.url)
    names: dict[str, Any] = {}
    exec(code.replace("PP-YOLOE_seg-S", TwentyMsModel.model_name), names)
    assert names["outputs"]["num_detections"] == [1]
    assert names["outputs"]["class_names"] == ["nut"]
    assert len(names["outputs"]["boxes"]) == 4


def test_the_example_of_a_reply_has_its_keys(service: RunningService) -> None:
    example = json.loads(block("The reply", "json"))
    reply = post(service, {"image": base64.b64encode(IMAGE).decode()})

    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: keys(one) for name, one in value.items()}
        return [keys(value[0])] if isinstance(value, list) else type(value)

    found = keys(reply)
    assert list(found) == list(keys(example))
    assert found["result"].keys() == keys(example)["result"].keys()
    one, shown = reply["result"]["instances"][0], example["result"]["instances"][0]
    assert one.keys() == shown.keys() and one["mask"].keys() == shown["mask"].keys()


def post(service: RunningService, fields: dict[str, Any]) -> dict[str, Any]:
    return httpx.post(f"{service.url}/instance-segmentation", json=fields).json()
