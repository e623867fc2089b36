"""The scripts of PaddleX's tutorials run as written, and so do those of docs/pipeline.md."""

import json
import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from toy_model import SPEC, export_toy, image_with

DEMO_IMAGE = "general_instance_segmentation_004.png"
URL = "https://paddle-model-ecology.bj.bcebos.com/paddlex/imgs/demo_image/"
PIPELINE_BY_NAME = """
from paddlex import create_pipeline

pipeline = create_pipeline(pipeline="instance_segmentation")

output = pipeline.predict("general_instance_segmentation_004.png")
for res in output:
    res.print() # Print the structured output of the prediction
    res.save_to_img("./output/") # Save the visualization image of the result
    res.save_to_json("./output/") # Save the structured output of the prediction
"""
PIPELINE_BY_FILE = """
from paddlex import create_pipeline
pipeline = create_pipeline(pipeline="./my_path/instance_segmentation.yaml")
output = pipeline.predict("general_instance_segmentation_004.png")
for res in output:
    res.print() # Print the structured output of prediction
    res.save_to_img("./output/") # Save the visualized image of the result
    res.save_to_json("./output/") # Save the structured output of prediction
"""
PIPELINE_WITH_ADDRESS = """
from paddlex import create_pipeline
pipeline = create_pipeline(pipeline="my_path/instance_segmentation.yaml")
output = pipeline.predict("https://paddle-model-ecology.bj.bcebos.com/paddlex/imgs/demo_image/remotesensing_demo.png")
for res in output:
    res.print() # Print the structured output of the prediction
    res.save_to_img("./output/") # Save the result as a visualized image
    res.save_to_json("./output/") # Save the structured output of the prediction
"""
MODEL = """
from paddlex import create_model
model = create_model("PP-YOLOE_seg-S")
output = model.predict("general_instance_segmentation_004.png", batch_size=1)
for res in output:
    res.print()
    res.save_to_img("./output/")
    res.save_to_json("./output/res.json")
"""
SCRIPTS = {
    "pipeline by name": (PIPELINE_BY_NAME, "general_instance_segmentation_004_res"),
    "pipeline by file": (PIPELINE_BY_FILE, "general_instance_segmentation_004_res"),
    "pipeline with address": (PIPELINE_WITH_ADDRESS, "remotesensing_demo_res"),
    "model": (MODEL, "general_instance_segmentation_004_res"),
}
NEW_YAML = """
pipeline_name: instance_segmentation

SubModules:
  InstanceSegmentation:
    module_name: instance_segmentation
    model_name: Mask-RT-DETR-S
    model_dir: null # Replace this with the local path to your trained model weights
    batch_size: 1
    threshold: 0.5
"""
OLD_YAML = """
Pipeline:
  model: Mask-RT-DETR-S  # Can be modified to the local path of the fine-tuned model
  device: "gpu"
  batch_size: 1
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: with the demo image; official models and images of the tutorials can be had."""
    demo = tmp_path / DEMO_IMAGE
    Image.fromarray(image_with((120, 160), red=(slice(20, 60), slice(30, 90)))).save(demo)

    def official_model(name: str, network: Any) -> Path:
        # Without arch, which has to fit the graph.
        return export_toy(tmp_path / "cache" / name, spec=replace(SPEC, model_name=name, arch=""))

    def download(url: str, file: Path, **options: Any) -> None:
        assert url.startswith(URL)
        shutil.copy(demo, file)

    monkeypatch.setattr("paddlex_seg.pipelines.folders.official_model", official_model)
    monkeypatch.setattr("paddlex_seg.inference.sources.download", download)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(script: str) -> None:
    exec(compile(script.replace("paddlex import", "paddlex_seg import"), "script", "exec"), {})


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_the_tutorials_runs_as_written(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script, result = SCRIPTS[name]
    (place / "my_path").mkdir()
    (place / "my_path" / "instance_segmentation.yaml").write_text(NEW_YAML)
    run(script)
    image = Image.open(place / "output" / f"{result}.png")
    assert image.size == (160, 120)
    json_file = place / "output" / ("res.json" if name == "model" else f"{result}.json")
    boxes = json.loads(json_file.read_text(encoding="utf-8"))["boxes"]
    assert [box["label"] for box in boxes] == ["red thing"]
    assert "red thing" in capsys.readouterr().out


def test_the_older_form_of_the_file_gives_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paddlex_seg.runtime import device

    monkeypatch.setattr(device, "choose_device", lambda *settings: "cpu")  # the file asks for a GPU
    (place / "my_path").mkdir()
    (place / "my_path" / "instance_segmentation.yaml").write_text(OLD_YAML)
    run(PIPELINE_BY_FILE)
    assert (place / "output" / "general_instance_segmentation_004_res.json").is_file()


def without_blanks(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_scripts_are_those_of_the_tutorials(shared_dir: Path) -> None:
    files = sorted((shared_dir / "spec" / "tutorials").glob("*.txt"))
    if not files:
        pytest.skip("no tutorials found")
    tutorials = without_blanks(" ".join(file.read_text(encoding="utf-8") for file in files))
    for text in (*(script for script, _ in SCRIPTS.values()), NEW_YAML, OLD_YAML):
        assert without_blanks(text) in tutorials


PAGE = (Path(__file__).parents[2] / "docs" / "pipeline.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def documented_place(place: Path) -> Path:
    """With the folders and files that docs/pipeline.md names, and a model with the classes bolt and nut."""
    (place / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        Image.open(DEMO_IMAGE).save(name)
    spec = replace(SPEC, labels=("bolt", "nut"))
    export_toy(place / "output" / "best_model" / "inference", spec=spec)
    (place / "my_path").mkdir()
    (place / "my_path" / "instance_segmentation.yaml").write_text(YAML_BLOCKS[0])
    return place


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_a_script_of_the_page_runs(
    documented_place: Path, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.basicConfig", lambda level: None)
    run(textwrap.dedent(block))


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=["new", "old"])
def test_a_file_of_the_page_is_read(documented_place: Path, block: str) -> None:
    from paddlex_seg import create_pipeline

    Path("p.yaml").write_text(block.replace("device: gpu", "device: cpu"))
    assert len(list(create_pipeline("p.yaml").predict("photos/"))) == 2
