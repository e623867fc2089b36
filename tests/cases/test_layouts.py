"""Exports as they come, through the command line."""

import html
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cases import Desk, check_dataset, copy_case
from command_line import run_cli
from exports import coco, cvat_coco, draw, flat_coco, label_studio_yolo, put, roboflow_coco, vocdevkit
from exports import coco_2017 as build_coco_2017

from paddlex_seg.data.preparation import new_place

CONVERT = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "auto"}
IMAGES = {
    "L1-cvat-coco": {"train": 2, "val": 1},
    "L2-roboflow-coco": {"test": 1, "train": 2, "val": 1},
    "L4-coco2017": {"train": 2, "val": 1},
    "L7-flat": {"train": 1, "val": 1},
    "V04-vocdevkit": {"train": 2, "val": 1},
}


def convert(dataset_dir: Path, output: Path, **options: Any) -> Desk:
    return check_dataset(dataset_dir, output, **CONVERT, **options)


def contents(root: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", IMAGES)
def test_an_export_is_converted_to_a_new_place_and_passes(case: str, tmp_path: Path) -> None:
    data = copy_case(case, tmp_path / "data")
    before = contents(data)
    desk = convert(data, tmp_path / "output")
    assert desk.exit_code == 0, desk.text
    target = tmp_path / "output" / "dataset"
    splits = {split: {"images": count, "objects": count} for split, count in IMAGES[case].items()}
    if case == "V04-vocdevkit":  # two objects in each image
        splits = {split: {"images": count, "objects": 2 * count} for split, count in IMAGES[case].items()}
    assert desk.result["convert"]["splits"] == splits
    assert desk.result["convert"]["path"] == str(target)
    assert desk.result["convert"]["source"] == str(data)
    assert f"Train on it with -o Global.dataset_dir={target}" in desk.text
    assert contents(data) == before
    again = check_dataset(target, tmp_path / "again")
    assert again.exit_code == 0
    assert again.result["attributes"]["train_samples"] == IMAGES[case]["train"]


@pytest.mark.parametrize("case", ["V02-labelme2voc-old", "K03-mask-suffix"])
def test_folders_of_splits_are_one_data_set(case: str, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        copy_case(case, tmp_path / "data" / split)
    desk = convert(tmp_path / "data", tmp_path / "output")
    assert desk.exit_code == 0, desk.text
    counts = {"images": 3, "objects": 6}
    assert desk.result["convert"]["splits"] == {"train": counts, "val": counts}


def test_a_data_set_of_val_alone_says_how_to_divide_it(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "annotations" / "instance_train.json").unlink()
    desk = check_dataset(data, tmp_path / "output")
    assert (desk.exit_code, desk.codes["json_missing"]) == (3, 1)
    assert "CheckDataset.split.enable=True" in desk.text


def test_lists_above_the_folder_of_labelme_files_are_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    copy_case("M05-number-label", data / "cam1")
    (data / "train_anno_list.txt").write_text("cam1/p2.json\ncam1/p0.json\n")
    (data / "val_anno_list.txt").write_text("cam1/p1.json\n")
    (data / "label.txt").write_text("bolt\n1\n")
    desk = convert(data, tmp_path / "output")
    assert desk.exit_code == 0, desk.text
    written = Path(desk.result["convert"]["path"]) / "annotations" / "instance_val.json"
    document = json.loads(written.read_text())
    assert [Path(image["file_name"]).name for image in document["images"]] == ["p1.jpg"]
    assert [category["name"] for category in document["categories"]] == ["bolt", "1"]


@pytest.mark.parametrize("case", [*IMAGES, "V01-cvat-smask", "Y03-ds-below", "K03-mask-suffix"])
def test_without_a_conversion_the_message_names_the_layout_and_the_command(case: str, tmp_path: Path) -> None:
    data = copy_case(case, tmp_path / "my data")
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == 3
    command = shlex.split(desk.text.splitlines()[-1])
    assert command == [
        *("python", "main.py", "-c", "PP-YOLOE_seg-S.yaml"),
        *("-o", "Global.mode=check_dataset", "-o", f"Global.dataset_dir={data}"),
        *("-o", "CheckDataset.convert.enable=True", "-o", "CheckDataset.convert.src_dataset_type=auto"),
    ]
    assert desk.result["done_flag"] is False


def test_the_command_of_the_message_works(tmp_path: Path) -> None:
    """As it is printed, in a shell, from the folder of main.py."""
    data = copy_case("L1-cvat-coco", tmp_path / "my data; $HOME 'x'")
    line = check_dataset(data, tmp_path / "output").text.splitlines()[-1]
    repository = Path(__file__).parents[2]
    line = f"{line.replace('python', shlex.quote(sys.executable), 1)} -o Global.output={tmp_path}/new"
    outcome = subprocess.run(line, shell=True, cwd=repository, env=os.environ, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "new" / "dataset" / "annotations" / "instance_train.json").is_file()


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_other_modes_name_the_layout_too(mode: str, tmp_path: Path) -> None:
    data = copy_case("L2-roboflow-coco", tmp_path / "data")
    outcome = run_cli(mode, tmp_path / "output", Global__dataset_dir=data)
    assert outcome.code == 3
    assert "this is Roboflow's COCO export" in outcome.stderr
    assert "CheckDataset.convert.src_dataset_type=auto" in outcome.stderr


def test_a_file_with_an_s_is_the_same_file(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("L5-instances-with-s", tmp_path / "data"), tmp_path / "output")
    assert (desk.exit_code, desk.codes) == (0, {})
    assert desk.result["attributes"]["train_samples"] == 2


def test_of_two_files_for_one_split_the_message_says_which_is_used(tmp_path: Path) -> None:
    data = copy_case("L5-instances-with-s", tmp_path / "data")
    annotations = data / "annotations"
    shutil.copy(annotations / "instances_train.json", annotations / "instance_train.json")
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == 0
    expected = "instance_train.json is used, instances_train.json is not; both exist"
    assert desk.messages("annotation_file_twin") == [expected]


def test_a_file_with_an_s_whose_images_are_in_folders_of_the_splits_is_an_export(tmp_path: Path) -> None:
    for split in ("train", "val"):
        draw(tmp_path / "data" / "images" / split / "1.jpg", len(split))
        put(tmp_path / "data" / "annotations" / f"instances_{split}.json", coco(["1.jpg"]))
    desk = check_dataset(tmp_path / "data", tmp_path / "output")
    assert desk.exit_code == 3 and "a COCO export of CVAT or Datumaro" in desk.text
    assert convert(tmp_path / "data", tmp_path / "output").exit_code == 0


@pytest.mark.parametrize("build", [cvat_coco, roboflow_coco, build_coco_2017, flat_coco, vocdevkit])
def test_an_archive_is_converted_as_its_folder(build: Any, tmp_path: Path) -> None:
    build(tmp_path / "export")
    shutil.make_archive(str(tmp_path / "task 7"), "zip", tmp_path / "export")
    archive = tmp_path / "task 7.zip"
    desk = check_dataset(archive, tmp_path / "output")
    assert desk.exit_code == 3 and shlex.quote(f"Global.dataset_dir={archive}") in desk.text
    assert convert(archive, tmp_path / "output").exit_code == 0


def test_an_archive_of_a_data_set_in_the_own_layout(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    shutil.make_archive(str(tmp_path / "data"), "zip", data)
    desk = convert(tmp_path / "data.zip", tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.result["attributes"]["train_samples"] == 2


def test_a_hostile_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    desk = convert(tmp_path / "x.zip", tmp_path / "output")
    assert desk.exit_code == 3 and "no data set was recognised" in desk.text


def test_what_is_not_recognised_is_described(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "photos" / "a.jpg", 1)
    put(tmp_path / "data" / "scene.json", {"frames": [], "camera": {}})
    for options in ({}, CONVERT):
        desk = check_dataset(tmp_path / "data", tmp_path / "output", **options)
        assert desk.exit_code == 3
        for text in ("photos/", "scene.json (keys frames, camera)", "1 in photos", "Expected images/"):
            assert text in desk.text


def page_of(output: Path) -> str:
    return html.unescape((output / "check_dataset" / "report.html").read_text(encoding="utf-8"))


def test_what_is_not_recognised_has_a_report(tmp_path: Path) -> None:
    """Also when an earlier run left the report of another data set."""
    check_dataset(copy_case("00-sound", tmp_path / "sound"), tmp_path / "output")
    put(tmp_path / "data" / "scene.json", {"frames": [], "camera": {}})
    for options in ({}, CONVERT):
        desk = check_dataset(tmp_path / "data", tmp_path / "output", **options)
        [message] = desk.messages("json_missing")
        assert message.startswith("no data set was recognised. Found no folders; 1 JSON file: scene.json")
        assert message in page_of(tmp_path / "output") and message in desk.text
        assert desk.result["check_pass"] is False


def test_an_export_that_is_not_converted_has_a_report(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("L2-roboflow-coco", tmp_path / "data"), tmp_path / "output")
    [message] = desk.messages("json_missing")
    assert message.startswith("this is Roboflow's COCO export")
    assert message in page_of(tmp_path / "output")
    assert "Set CheckDataset.convert.enable=True" in desk.result["findings"][0]["hint"]


def test_a_set_that_a_reader_refuses_has_a_report(tmp_path: Path) -> None:
    label_studio_yolo(tmp_path / "data")
    for path in (tmp_path / "data" / "labels").iterdir():
        path.write_text("0 0.5 0.5 0.2 0.2\n")
    desk = convert(tmp_path / "data", tmp_path / "output")
    assert desk.exit_code == 3
    [message] = desk.messages("conversion_empty")
    assert message in page_of(tmp_path / "output") and message in desk.text
    assert not (tmp_path / "output" / "dataset").exists()


def test_an_empty_folder_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    desk = check_dataset(tmp_path / "empty", tmp_path / "output")
    assert desk.exit_code == 3 and "no folders; no JSON files; no images" in desk.text
    put(tmp_path / "a.json", {})
    desk = check_dataset(tmp_path / "a.json", tmp_path / "output")
    assert desk.exit_code == 3 and "this is a file" in desk.text


def test_a_wrong_source_is_an_error_that_names_the_right_one(tmp_path: Path) -> None:
    data = copy_case("L1-cvat-coco", tmp_path / "data")
    options = {**CONVERT, "CheckDataset__convert__src_dataset_type": "labelme"}
    desk = check_dataset(data, tmp_path / "output", **options)
    assert desk.exit_code == 2
    assert "is LabelMe, but" in desk.text and "Set it to COCO or auto" in desk.text


def test_a_conversion_that_keeps_nothing_fails_with_its_findings(tmp_path: Path) -> None:
    data = copy_case("V05-no-class", tmp_path / "data")
    desk = convert(data, tmp_path / "output")
    assert desk.exit_code == 3
    assert desk.result["check_pass"] is False
    assert desk.codes["conversion_empty"] == 1 and len(desk.codes) > 1
    reasons = [item["message"] for item in desk.result["findings"]]
    page = (tmp_path / "output" / "check_dataset" / "report.html").read_text(encoding="utf-8")
    assert reasons[0] in page and reasons[0] in desk.text
    assert (
        any("SegmentationClass/p0.png" in reason for reason in reasons) and "SegmentationClass/p0.png" in page
    )
    assert not (tmp_path / "output" / "dataset").exists()


def test_a_data_set_that_cannot_be_written_is_split_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(30, "Read-only file system", str(folder))

    data = copy_case("00-sound", tmp_path / "data")
    before = contents(data)
    monkeypatch.setattr(new_place, "require_writable", refuse)
    options = {
        "CheckDataset__split__enable": True,
        "CheckDataset__split__train_percent": 34,
        "CheckDataset__split__val_percent": 66,
    }
    desk = check_dataset(data, tmp_path / "output", **options)
    assert desk.exit_code == 0, desk.text
    assert contents(data) == before
    target = tmp_path / "output" / "dataset"
    assert f"cannot be written. The new split is in {target}" in desk.text
    assert desk.result["attributes"]["train_samples"] == 1
    assert len(json.loads((target / "annotations" / "instance_val.json").read_text())["images"]) == 2


def test_labelme_files_that_cannot_be_written_beside_are_converted_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(30, "Read-only file system", str(folder))

    data = copy_case("M13-annotate-more", tmp_path / "data")
    before = contents(data)
    monkeypatch.setattr(new_place, "require_writable", refuse)
    convert(data, tmp_path / "output")
    assert contents(data) == before
    assert (tmp_path / "output" / "dataset" / "annotations" / "instance_train.json").is_file()
