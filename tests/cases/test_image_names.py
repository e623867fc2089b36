"""Images whose file is called in another way than the annotation file says."""

import json
import shutil
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from cases import Desk, check_dataset, copy_case

FIX: dict[str, Any] = {"CheckDataset__fix__enable": True}


def documents(root: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in (root / "annotations").glob("*.json")}


def listed_names(root: Path) -> list[str]:
    return [image["file_name"] for image in documents(root)["instance_train"]["images"]]


def num_objects(root: Path) -> int:
    return sum(len(document["annotations"]) for document in documents(root).values())


def rename(root: Path, listed: str, file: str, split: str = "train", place: int = 0) -> None:
    """List an image of the sound data set by another name, and call its file by yet another one."""
    path = root / "annotations" / f"instance_{split}.json"
    document = json.loads(path.read_text("utf-8"))
    image = document["images"][place]
    source, target = root / "images" / image["file_name"], root / "images" / file
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    image["file_name"] = listed
    path.write_text(json.dumps(document), encoding="utf-8")


def checked(data: Path, tmp_path: Path) -> tuple[Desk, Desk]:
    """The check, and the check with the repair."""
    return check_dataset(data, tmp_path / "plain"), check_dataset(data, tmp_path / "fixed", **FIX)


@pytest.mark.parametrize(
    ("case", "looked_for", "file"),
    [
        (
            "F02-nfc-nfd",
            unicodedata.normalize("NFC", "가운데é.jpg"),
            unicodedata.normalize("NFD", "가운데é.jpg"),
        ),
        ("F06-jpegimages-prefix", "JPEGImages/t1.jpg", "t1.jpg"),
        ("F07-extension-case", "t1.JPG", "t1.jpg"),
    ],
)
def test_an_image_under_another_name_is_named_and_repaired_to(
    tmp_path: Path, case: str, looked_for: str, file: str
) -> None:
    data = copy_case(case, tmp_path / "data")
    plain, fixed = checked(data, tmp_path)
    assert plain.exit_code == 3
    (message,) = plain.messages("image_missing")
    assert message.startswith(f"images/{looked_for} does not exist, but images/{file} does")
    assert "image_unreferenced" not in plain.codes  # the file has been named already
    assert fixed.exit_code == 0
    assert listed_names(tmp_path / "data_fixed") == [file, "t2.jpg"]
    assert (tmp_path / "data_fixed" / "images" / file).is_file()
    assert num_objects(tmp_path / "data_fixed") == num_objects(data)


def test_a_missing_image_of_a_subfolder_is_named_in_full_and_kept(tmp_path: Path) -> None:
    data = copy_case("F13-subfolder-missing", tmp_path / "data")
    plain, fixed = checked(data, tmp_path)
    for desk in (plain, fixed):
        assert desk.exit_code == 3
        (message,) = desk.messages("image_missing")
        assert message == "images/cam2/0001.jpg does not exist; images/cam1/0001.jpg is listed itself"
        assert "passed" not in desk.text
    assert listed_names(tmp_path / "data_fixed") == ["cam1/0001.jpg", "cam2/0001.jpg"]
    assert num_objects(tmp_path / "data_fixed") == num_objects(data)


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("/data/me/set/images/t1.jpg", "t1.jpg"),
        ("C:\\Users\\me\\set\\images\\cam1\\t1.jpg", "cam1/t1.jpg"),
        ("/data/upload/1/3f2a1b4c-t1.jpg", "t1.jpg"),
        ("https://host.example/files/my%20part.jpg?sign=7", "my part.jpg"),
        (f"https://host.example/files/t1.jpg?sign={'7' * 300}", "t1.jpg"),
        ("../pictures/T1.JPG", "t1.jpg"),
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_repaired_to_the_file_inside(
    tmp_path: Path, listed: str, file: str
) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    rename(data, listed, file)
    plain, fixed = checked(data, tmp_path)
    assert plain.exit_code == 3
    (message,) = plain.messages("image_missing") or plain.messages("file_name_outside")
    assert f"images/{file}" in message
    assert fixed.exit_code == 0
    assert listed_names(tmp_path / "data_fixed")[0] == file
    assert num_objects(tmp_path / "data_fixed") == 3


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("Größe.JPG", unicodedata.normalize("NFD", "größe.jpg")),
        ("my+part.jpg", "my part.jpg"),
        ("my part.jpg", "my%20part.jpg"),
        ("t1.png", "t1.jpg"),
        ("t1.jpg", "line 1/cam1/t1.jpg"),
        ("IMAGES\\Cam1\\t1.jpeg", "cam1/t1.jpg"),
    ],
)
def test_an_image_is_found_by_names_that_people_get(tmp_path: Path, listed: str, file: str) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    rename(data, listed, file)
    plain, fixed = checked(data, tmp_path)
    assert plain.exit_code == 3
    assert f"images/{file} does" in plain.messages("image_missing")[0]
    assert fixed.exit_code == 0
    assert listed_names(tmp_path / "data_fixed")[0] == file


def test_two_files_that_may_be_meant_are_both_named(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    rename(data, "t1.JPG", "t1.jpg")
    shutil.copy(data / "images" / "t1.jpg", data / "images" / "T1.jpg")
    for desk in checked(data, tmp_path):
        assert desk.exit_code == 3
        (message,) = desk.messages("image_missing")
        assert "images/T1.jpg" in message
        assert "images/t1.jpg" in message
    assert listed_names(tmp_path / "data_fixed") == ["t1.JPG", "t2.jpg"]
    assert num_objects(tmp_path / "data_fixed") == 3


def test_one_file_is_not_given_to_two_images(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    rename(data, "cam1/0001.jpg", "0001.jpg")
    rename(data, "cam2/0001.jpg", "other.jpg", place=1)
    (data / "images" / "other.jpg").unlink()
    for desk in checked(data, tmp_path):
        assert desk.exit_code == 3
        assert len(desk.messages("image_missing")) == 2
    assert listed_names(tmp_path / "data_fixed") == ["cam1/0001.jpg", "cam2/0001.jpg"]


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "damaged"])
def test_an_image_without_a_usable_file_keeps_its_record(tmp_path: Path, kind: str) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    path = data / "images" / "t1.jpg"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[:700], "damaged": content[200:]}.get(kind, b""))
    if kind == "missing":
        path.unlink()
    for desk in checked(data, tmp_path):
        assert desk.exit_code == 3
        assert "Check dataset passed" not in desk.text
    assert listed_names(tmp_path / "data_fixed") == ["t1.jpg", "t2.jpg"]
    assert num_objects(tmp_path / "data_fixed") == 3


def test_thousands_of_names_in_the_wrong_case_take_seconds(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    path = data / "annotations" / "instance_train.json"
    document = json.loads(path.read_text("utf-8"))
    template = (data / "images" / "t1.jpg").read_bytes()
    for number in range(6000):
        (data / "images" / f"part_{number}.jpg").write_bytes(template)
        image = {"id": 1000 + number, "file_name": f"part_{number}.JPG", "width": 96, "height": 64}
        document["images"].append(image)
    path.write_text(json.dumps(document), encoding="utf-8")
    start = time.perf_counter()
    desk = check_dataset(data, tmp_path / "output", CheckDataset__decode="header")
    assert desk.codes["image_missing"] == 6000
    assert time.perf_counter() - start < 60  # a search of the folder for each name took 100 s
