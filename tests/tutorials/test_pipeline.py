"""Commands and scripts of the tutorials about the pipeline, with the model from a host on this machine."""

import ast
import json
import os
import re
import shlex
from pathlib import Path

import paddle
import pytest
from command_line import Outcome, run_argv
from tutorial_texts import CONFIG_COMMANDS, PIPELINE_COMMANDS, REMOTE_IMAGE, commands_in, scripts_in

from paddlex_seg.config.pipeline import find_pipeline

NEEDS_NO_GPU = pytest.mark.skipif(
    paddle.device.is_compiled_with_cuda(), reason="this Paddle may have the device"
)
BY_NAME = """
from paddlex import create_pipeline

pipeline = create_pipeline(pipeline="instance_segmentation")
output = pipeline.predict("general_instance_segmentation_004.png")
for res in output:
    res.print()
    res.save_to_img("./output/")
    res.save_to_json("./output/")
"""
BY_FILE = BY_NAME.replace('"instance_segmentation"', '"./my_path/instance_segmentation.yaml"')
MODEL = """
from paddlex import create_model

model = create_model("PP-YOLOE_seg-S")
output = model.predict("general_instance_segmentation_004.png", batch_size=1)
for res in output:
    res.print()
    res.save_to_img("./output/")
    res.save_to_json("./output/res.json")
"""
SCRIPTS = {"pipeline by name": BY_NAME, "pipeline by file": BY_FILE, "model": MODEL}


def run(command: str) -> Outcome:
    program, *words = shlex.split(command)
    assert program == "paddlex"
    return run_argv(words)


def run_script(script: str) -> None:
    exec(compile(script.replace("from paddlex import", "from paddlex_seg import"), "script", "exec"), {})


@pytest.fixture
def config(place: Path) -> Path:
    """The file of the pipeline, at both places that the tutorials name."""
    for name in ("instance_segmentation.yaml", "my_path/instance_segmentation.yaml"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(find_pipeline("instance_segmentation").read_bytes())
    return place


def assert_found(outcome: Outcome, command: str) -> None:
    assert (outcome.code, outcome.stderr) == (0, "")
    (line,) = (line for line in outcome.stdout.splitlines() if line.startswith("{"))
    result = ast.literal_eval(line)["res"]
    assert result["input_path"] == shlex.split(command)[shlex.split(command).index("--input") + 1]
    assert [box["label"] for box in result["boxes"]] == ["red thing"]


@pytest.mark.parametrize("name", PIPELINE_COMMANDS)
def test_a_command_predicts(config: Path, name: str) -> None:
    """On the CPU: where the command names a device, this one is named instead."""
    command = re.sub(r"--device \S+", "--device cpu", PIPELINE_COMMANDS[name])
    assert_found(run(command), command)
    assert {path.name for path in config.iterdir()} == {
        *("general_instance_segmentation_004.png", "instance_segmentation.yaml", "my_path")
    }


@NEEDS_NO_GPU
@pytest.mark.parametrize("name", [name for name in PIPELINE_COMMANDS if name.endswith("PU")])
def test_a_device_that_is_not_there_is_an_error(config: Path, name: str) -> None:
    outcome = run(PIPELINE_COMMANDS[name])
    assert (outcome.code, len(outcome.stderr.splitlines())) == (1, 1)
    assert "device is gpu:0" in outcome.stderr or "device is npu:0" in outcome.stderr


def test_a_place_for_results_gets_drawing_and_json(place: Path) -> None:
    assert run(f"{PIPELINE_COMMANDS['an address']} --save_path ./output").code == 0
    saved = json.loads((place / "output" / "remotesensing_demo_res.json").read_text(encoding="utf-8"))
    assert saved["input_path"] == REMOTE_IMAGE
    assert (place / "output" / "remotesensing_demo_res.png").is_file()


@pytest.mark.parametrize("command", CONFIG_COMMANDS)
def test_the_file_of_the_pipeline_is_copied(place: Path, command: str) -> None:
    assert run(command).code == 0
    shipped = find_pipeline("instance_segmentation").read_bytes()
    assert (place / CONFIG_COMMANDS[command]).read_bytes() == shipped


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(config: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_script(SCRIPTS[name])
    assert_saved(config)
    assert "red thing" in capsys.readouterr().out


def assert_saved(folder: Path) -> None:
    (drawing,) = (folder / "output").glob("*_res.png")
    (file,) = (folder / "output").glob("*res.json")
    boxes = json.loads(file.read_text(encoding="utf-8"))["boxes"]
    assert drawing.is_file() and [box["label"] for box in boxes] == ["red thing"]


def test_the_older_form_of_the_file_is_read(place: Path) -> None:
    (place / "old.yaml").write_text(
        'Pipeline:\n  model: Mask-RT-DETR-S  # or a folder\n  device: "gpu"\n  batch_size: 1\n'
    )
    command = "paddlex --pipeline ./old.yaml --input general_instance_segmentation_004.png --device cpu"
    assert_found(run(command), command)


# The texts of the tutorials themselves, where they are


def tutorials() -> list[Path]:
    folder = Path(os.environ.get("PADDLEX_SEG_SHARED", "../shared")) / "spec" / "tutorials"
    return sorted(folder.glob("*.txt"))


SCRIPTS_OF_TUTORIALS = [
    pytest.param(script, id=f"{path.stem[:3]} {number}")
    for path in tutorials()
    for number, script in enumerate(scripts_in(path.read_text(encoding="utf-8")))
]
COMMANDS_OF_TUTORIALS = sorted(
    {
        command
        for path in tutorials()
        for command in commands_in(path.read_text(encoding="utf-8"))
        if command.startswith("paddlex --pipeline")
    }
)


@pytest.mark.parametrize("script", SCRIPTS_OF_TUTORIALS)
def test_a_script_of_a_tutorial_runs_as_written(config: Path, script: str) -> None:
    run_script(script)
    assert_saved(config)


@pytest.mark.parametrize("command", COMMANDS_OF_TUTORIALS)
def test_a_command_of_a_tutorial_predicts(config: Path, command: str) -> None:
    on_cpu = re.sub(r"--device \S+", "--device cpu", command)
    assert_found(run(on_cpu), on_cpu)
