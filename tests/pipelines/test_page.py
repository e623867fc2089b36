"""The scripts and files of docs/pipeline.md run as written."""

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from toy_model import SPEC, export_toy, image_with

PAGE = (Path(__file__).parents[2] / "docs" / "pipeline.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what the page names, and a model with the classes bolt and nut."""

    def official_model(name: str, network: Any) -> Path:
        # Without arch, which has to fit the graph.
        return export_toy(tmp_path / "cache" / name, spec=replace(SPEC, model_name=name, arch=""))

    monkeypatch.setattr("paddlex_seg.pipelines.folders.official_model", official_model)
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "my_path"):
        Path(name).mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        Image.fromarray(image_with((120, 160), red=(slice(20, 60), slice(30, 90)))).save(name)
    export_toy(Path("output/best_model/inference"), spec=replace(SPEC, labels=("bolt", "nut")))
    Path("my_path/instance_segmentation.yaml").write_text(YAML_BLOCKS[0])
    return tmp_path


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_a_script_of_the_page_runs(place: Path, block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.basicConfig", lambda level: None)
    exec(compile(textwrap.dedent(block), "script", "exec"), {})


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=["new", "old"])
def test_a_file_of_the_page_is_read(place: Path, block: str) -> None:
    from paddlex_seg import create_pipeline

    Path("p.yaml").write_text(block.replace("device: gpu", "device: cpu"))
    assert len(list(create_pipeline("p.yaml").predict("photos/"))) == 2
