"""What a user has in the output folder outlives every mode, also under the names of results."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_cli
from PIL import Image
from small_runs import run_slim, train_options

from paddlex_seg.files.written import REGISTER
from paddlex_seg.training.output import claimed_output, config_file

MINE = "a file of the user"


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, except the register."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != REGISTER)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lost(folder: Path, before: dict[str, bytes]) -> set[str]:
    """Which files have neither their name and content, nor their content in a backup beside it."""
    now = contents(folder)
    return {
        name
        for name, content in before.items()
        if content not in [now.get(other) for other in (name, f"{name}.bak", f"{name}.bak.1")]
    }


def predict(exported: Path, inputs: Path | str | list[str], output: Path, **options: Any) -> Outcome:
    settings = {"Predict__model_dir": exported, "Predict__threshold": 0.05, **options}
    return run_cli("predict", output, Predict__input=inputs, **settings)


@pytest.fixture
def photos(dataset: Path, tmp_path: Path) -> Path:
    """Small images of all formats that drawings keep, some under the names of results of others."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    source = Image.open(sorted((dataset / "images").iterdir())[0]).resize((96, 64))
    for name in (
        "a.jpg",
        "a_res.jpg",
        "b.png",
        "c.bmp",
        "d.webp",
        "e.tif",
        "f.ppm",
        "sub/a.jpg",
        "sub/a.png",
    ):
        source.save(folder / name)
    (folder / "b_res.json").write_text(MINE)
    (folder / "predict_result.json").write_text(MINE)
    return folder


@pytest.mark.parametrize("place", [".", "output", "link"])
def test_predicting_into_the_folder_of_the_images_twice(
    exported: Path, photos: Path, tmp_path: Path, place: str
) -> None:
    output = photos / place
    if place == "link":
        output = tmp_path / "link"
        output.symlink_to(photos)
    before = contents(photos)
    assert predict(exported, photos, output).code == 0
    first = read_result(output, "predict")["results"]
    assert {Path(row["input"]).relative_to(photos).as_posix() for row in first} == {
        name for name in before if not name.endswith(".json")
    }
    assert not {row["image"] for row in first} & {str(photos / name) for name in before}
    after_one = contents(photos)
    outcome = predict(exported, photos, output)
    assert outcome.code == 0, outcome.stderr
    assert f"{len(first)} image(s) left out because this toolkit drew them" in outcome.stdout
    assert read_result(output, "predict")["results"] == first
    assert contents(photos) == after_one
    assert lost(photos, before) == set()
    changed = {name for name in before if contents(photos)[name] != before[name]}
    assert changed <= {"predict_result.json"}  # its name is fixed; the user's file is the backup


def test_a_second_prediction_replaces_the_results_of_the_first(exported: Path, photos: Path) -> None:
    assert predict(exported, photos / "a.jpg", photos).code == 0
    (row,) = read_result(photos, "predict")["results"]
    assert Path(row["image"]).name == "a_res_2.jpg" and Path(row["json"]).name == "a_res_2.json"
    first = Path(row["json"]).read_bytes()
    assert predict(exported, photos / "a.jpg", photos, Predict__threshold=1).code == 0
    assert read_result(photos, "predict")["results"] == [row]
    assert Path(row["json"]).read_bytes() != first


def test_drawings_are_left_out_of_a_pattern_and_a_list(exported: Path, photos: Path) -> None:
    for name in ("a_res.jpg", "b_res.json"):
        (photos / name).unlink()
    inputs = [str(photos / "b.png"), str(photos / "b_res.png")]
    assert predict(exported, inputs[0], photos).code == 0
    for again in (f"{photos}/b*.png", repr(inputs)):
        assert predict(exported, again, photos).code == 0
        assert [row["input"] for row in read_result(photos, "predict")["results"]] == inputs[:1]
    outcome = predict(exported, inputs[1], photos)
    assert outcome.code == 3
    assert "b_res.png" in outcome.stderr and "drawings of this toolkit" in outcome.stderr


def test_a_drawing_that_the_user_edited_is_kept(exported: Path, photos: Path) -> None:
    assert predict(exported, photos / "c.bmp", photos).code == 0
    Image.new("RGB", (96, 64), "red").save(photos / "c_res.bmp")
    edited = (photos / "c_res.bmp").read_bytes()
    assert predict(exported, photos / "c.bmp", photos).code == 0
    assert (photos / "c_res.bmp").read_bytes() == edited
    assert (photos / "c_res_2.bmp").is_file() and (photos / "c_res_2.json").is_file()


def test_an_image_like_its_own_drawing_stays_an_input(exported: Path, tmp_path: Path) -> None:
    """Without objects, the drawing of a PNG can have the same bytes as the PNG."""
    Image.new("RGB", (96, 64), "white").save(tmp_path / "a.png")
    for _ in range(2):
        assert predict(exported, tmp_path, tmp_path, Predict__threshold=1).code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a_res.png").read_bytes()
    assert [row["input"] for row in read_result(tmp_path, "predict")["results"]] == [str(tmp_path / "a.png")]


def put_own_files(folder: Path, *names: str) -> dict[str, bytes]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{MINE}: {name}")
    return contents(folder)


def test_evaluate_keeps_files_of_the_user(findable: Path, weights: Path, tmp_path: Path) -> None:
    before = put_own_files(tmp_path, "bbox.json", "segm.json", "evaluate_result.json", "config.yaml")
    settings = {"Global__dataset_dir": findable, "Evaluate__weight_path": weights, "Train__num_workers": 0}
    backups = []
    for _ in range(2):  # the second run replaces only files of the first
        outcome = run_cli("evaluate", tmp_path, **settings)
        assert outcome.code == 0, outcome.stderr
        assert lost(tmp_path, before) == set()
        backups.append({path.name for path in tmp_path.glob("*.bak*")})
    assert backups == [{"bbox.json.bak", "segm.json.bak", "evaluate_result.json.bak"}] * 2


def test_export_keeps_files_of_the_user(weights: Path, tmp_path: Path) -> None:
    before = put_own_files(tmp_path, "inference.yml", "inference.pdiparams", "network.json", "a.pdmodel")
    outcome = run_cli("export", tmp_path, Export__weight_path=weights)
    assert outcome.code == 0, outcome.stderr
    assert f"It is kept as {tmp_path / 'inference.yml.bak'}" in outcome.stdout
    assert lost(tmp_path, before) == set()


def test_check_dataset_keeps_files_of_the_user(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path, dirs_exist_ok=True)
    own = ("report.html", "histogram.png", "demo_img/line_0001.jpg")
    before = put_own_files(tmp_path, "check_dataset_result.json", *(f"check_dataset/{name}" for name in own))
    names = []
    for decode in ("header", "thumbnail"):  # the same check again would only show its result again
        settings = {"Global__dataset_dir": tmp_path, "CheckDataset__decode": decode}
        assert run_cli("check_dataset", tmp_path, **settings).code == 0
        assert lost(tmp_path, before) == set()
        names.append(set(contents(tmp_path)))
    assert names[0] == names[1]
    samples = read_result(tmp_path, "check_dataset")["attributes"]["train_sample_paths"]
    assert samples[0] == "check_dataset/demo_img/line_0001_2.jpg"


def test_training_keeps_files_of_the_user(dataset: Path, tmp_path: Path) -> None:
    own = ("train.log", "training.html", "metrics.jsonl", "schedule.json", "curves.png", "bad_samples.json")
    viewers = ("tensorboard/events.1", "vdlrecords.1.log")
    before = put_own_files(tmp_path, "config.yaml", "train_result.json", *own, *viewers)
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__epochs_iters=1))
    assert outcome.code == 0, outcome.stderr
    moved = {name.replace("tensorboard/", "tensorboard.bak/"): content for name, content in before.items()}
    assert lost(tmp_path, moved) == set()
    assert (tmp_path / "config.yaml").read_bytes() == before["config.yaml"]  # it may be that of the run
    assert read_result(tmp_path, "train")["config"] == "config_2.yaml"
    backups = {path.name for path in tmp_path.glob("*.bak*")}
    with claimed_output(tmp_path):  # by a second training
        assert config_file(tmp_path).name == "config_2.yaml"
        assert {path.name for path in tmp_path.glob("*.bak*")} == backups


def test_files_of_a_run_of_an_earlier_version_are_not_taken_for_the_users(tmp_path: Path) -> None:
    before = put_own_files(tmp_path, "train.log", "metrics.jsonl", "config.yaml", "checkpoints/step_1/x")
    with claimed_output(tmp_path):
        assert contents(tmp_path) == before
        assert config_file(tmp_path).name == "config.yaml"
