"""The tutorials about the module, one command after the other, with small data and a network of few channels.

Options at the end of the commands make trainings short. Everything else is as the tutorials tell it.
"""

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from command_line import Outcome, run_argv
from slim_mask_rt_detr import slim_model
from tutorial_texts import (
    CHECK,
    CHECK_LABELME,
    CONVERT,
    CONVERT_YAML,
    DATA_COMMANDS,
    DEMO_IMAGE,
    EVALUATE,
    HOST,
    L_YAML,
    LABELME,
    PREDICT,
    REMOTE_CHECK,
    REMOTE_EVALUATE,
    REMOTE_PREDICT,
    REMOTE_TRAIN,
    SPLIT,
    SPLIT_YAML,
    TRAIN,
)

from paddlex_seg.catalog import MODELS
from paddlex_seg.config.read import load_config
from paddlex_seg.data.coco.read import read_coco

SHORT = {
    "Train.epochs_iters": 1,
    "Train.image_size": 64,
    "Train.num_workers": 0,
    "Train.self_check": False,  # its export is slower than everything else
}


def run(command: str, **settings: Any) -> Outcome:
    """Run ``python main.py`` in the current folder, with more settings at the end."""
    python, main, *words = shlex.split(command)
    assert (python, main) == ("python", "main.py")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Mask-RT-DETR-L", "Mask-RT-DETR-H"):
            patch.setitem(MODELS, name, replace(MODELS[name], build=slim_model))
        return run_argv([*words, *(f"-o{key}={value}" for key, value in settings.items())])


def result(mode: str) -> dict[str, Any]:
    return json.loads(Path(f"output/{mode}_result.json").read_text(encoding="utf-8"))


@pytest.fixture
def data(place: Path, redirected: str) -> Path:
    """The current folder, after the commands that fetch the data sets; the host is this machine."""
    for command in DATA_COMMANDS:
        program, *words = shlex.split(command.replace(HOST, redirected))
        if program == "wget":
            url, option, folder = words
            assert option == "-P"
            fetch(url, Path(folder))
        else:
            subprocess.run([program, *words], check=True)
    return place


def fetch(url: str, folder: Path) -> None:
    """What wget does, where it is not installed, too."""
    folder.mkdir(exist_ok=True)
    with build_opener(ProxyHandler({})).open(url, timeout=30) as answer:
        (folder / url.rpartition("/")[2]).write_bytes(answer.read())


def test_a_data_set_is_checked(data: Path) -> None:
    outcome = run(CHECK)
    assert outcome.code == 0, outcome.stderr
    assert "Check dataset passed !" in outcome.stdout
    found = result("check_dataset")
    assert (found["done_flag"], found["check_pass"], found["dataset_type"]) == (
        True,
        True,
        "COCOInstSegDataset",
    )
    assert (found["attributes"]["num_classes"], found["attributes"]["train_samples"]) == (2, 6)
    assert Path("output", found["analysis"]["histogram"]).is_file()


@pytest.mark.parametrize("way", ["options", "file"])
def test_a_labelme_data_set_is_converted(data: Path, way: str) -> None:
    if way == "file":
        Path(L_YAML).parent.mkdir(parents=True)
        Path(L_YAML).write_text(f"Global:\n  model: Mask-RT-DETR-L\n{CONVERT_YAML}")
    outcome = run(CONVERT if way == "options" else CHECK_LABELME)
    assert outcome.code == 0, outcome.stderr
    assert "Check dataset passed !" in outcome.stdout
    assert len(read_coco(data / LABELME / "annotations" / "instance_train.json").images) == 6


@pytest.mark.parametrize("way", ["options", "file"])
def test_a_data_set_is_split_anew(data: Path, way: str) -> None:
    assert run(CONVERT).code == 0
    if way == "file":
        Path(L_YAML).parent.mkdir(parents=True)
        Path(L_YAML).write_text(f"Global:\n  model: Mask-RT-DETR-L\n{SPLIT_YAML}")
    outcome = run(SPLIT if way == "options" else CHECK_LABELME)
    assert outcome.code == 0, outcome.stderr
    folder = data / LABELME / "annotations"
    counts = [len(read_coco(folder / f"instance_{split}.json").images) for split in ("train", "val")]
    assert counts == [7, 1]
    assert (folder / "instance_train.json.bak").is_file()


def test_a_model_is_trained_evaluated_and_used(data: Path) -> None:
    assert run(TRAIN, **SHORT).code == 0
    assert result("train")["done_flag"] is True
    for name in ("train.log", "config.yaml", "best_model/best_model.pdparams"):
        assert Path("output", name).is_file(), name
    evaluation = run(EVALUATE)
    assert evaluation.code == 0, evaluation.stderr
    assert "AP" in result("evaluate")["metrics"]
    named = run(EVALUATE, **{"Evaluate.weight_path": "./output/best_model/best_model.pdparams"})
    assert named.code == 0, named.stderr
    prediction = run(PREDICT)
    assert prediction.code == 0, prediction.stderr
    assert [row["input"] for row in result("predict")["results"]] == [DEMO_IMAGE]
    assert Path("output", DEMO_IMAGE.replace(".png", "_res.png")).is_file()
    # The model in the file of a pipeline.
    assert run_argv(["--get_pipeline_config", "instance_segmentation", "--save_path", "./my_path"]).code == 0
    file = Path("my_path/instance_segmentation.yaml")
    text = file.read_text(encoding="utf-8").replace("Mask-RT-DETR-S", "Mask-RT-DETR-L")
    file.write_text(text.replace("model_dir: null", "model_dir: ./output/best_model/inference"))
    outcome = run_argv(["--pipeline", str(file), "--input", DEMO_IMAGE, "--save_path", "pipeline"])
    assert outcome.code == 0, outcome.stderr
    assert Path("pipeline", DEMO_IMAGE.replace(".png", "_res.json")).is_file()


def test_the_way_from_remote_images_to_predictions(data: Path) -> None:
    check = run(REMOTE_CHECK)
    assert check.code == 0, check.stderr
    assert result("check_dataset")["attributes"]["num_classes"] == 10
    training = run(REMOTE_TRAIN, **SHORT)
    assert training.code == 0, training.stderr
    assert run(REMOTE_EVALUATE).code == 0
    prediction = run(REMOTE_PREDICT)
    assert prediction.code == 0, prediction.stderr
    assert Path("output/remotesensing_demo_res.png").is_file()


def test_a_split_by_other_shares(data: Path) -> None:
    shares = {"enable": "True", "train_percent": 80, "val_percent": 20}
    outcome = run(REMOTE_CHECK, **{f"CheckDataset.split.{key}": value for key, value in shares.items()})
    assert outcome.code == 0, outcome.stderr


def test_settings_of_the_tutorials_are_valid() -> None:
    options = ["Global.device=gpu:0,1", "Train.epochs_iters=10"]
    cfg = load_config("Mask-RT-DETR-L.yaml", options)
    assert (cfg.Global.device, cfg.Train.epochs_iters) == ("gpu:0,1", 10)
    for rate in (0.0005, 0.0001, 0.00005):
        options = ["Train.epochs_iters=80", "Train.batch_size=2", f"Train.learning_rate={rate:f}"]
        assert load_config("Mask-RT-DETR-H.yaml", options).Train.learning_rate == pytest.approx(rate)
