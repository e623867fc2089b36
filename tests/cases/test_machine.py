"""Names that are not UTF-8, linked folders, and dead links."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cases import check_dataset, copy_case

from paddlex_seg.data.checking.cache import fingerprint_of
from paddlex_seg.data.checking.check import check

FIX: dict[str, Any] = {"CheckDataset__fix__enable": True}


def on_disk(text: str, encoding: str) -> str:
    """The name of a file whose bytes are ``text`` in another encoding than UTF-8."""
    name = os.fsdecode(text.encode(encoding))
    assert not name.isprintable()
    return name


def relist(root: Path, old: str, new: str, split: str = "train") -> None:
    path = root / "annotations" / f"instance_{split}.json"
    document = json.loads(path.read_text("utf-8"))
    for image in document["images"]:
        if image["file_name"] == old:
            image["file_name"] = new
    path.write_text(json.dumps(document), encoding="utf-8")


def assert_files_are_utf8(output: Path) -> None:
    for path in output.rglob("*"):
        if path.suffix in (".json", ".html", ".jsonl", ".log"):
            path.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "encoding"), [("螺栓.jpg", "gbk"), ("größe.jpg", "cp1252"), ("ボルト.jpg", "cp932")]
)
def test_a_name_that_is_not_utf8_is_found_by_the_listed_text(
    tmp_path: Path, text: str, encoding: str
) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "t1.jpg").rename(data / "images" / on_disk(text, encoding))
    relist(data, "t1.jpg", text)
    plain = check_dataset(data, tmp_path / "plain")
    assert plain.exit_code == 3
    (message,) = plain.messages("image_missing")
    assert message.startswith(f"images/{text} does not exist, but images/")
    assert message.endswith("with a name that is not UTF-8")
    fixed = check_dataset(data, tmp_path / "fixed", **FIX)
    assert fixed.exit_code == 0
    assert fixed.result["attributes"]["train_annotations"] == 2
    assert (tmp_path / "data_fixed" / "images" / text).is_file()
    for output in (tmp_path / "plain", tmp_path / "fixed"):
        assert_files_are_utf8(output)


def test_names_that_are_not_utf8_and_not_listed_are_shown(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    folder = data / "images" / on_disk("第二", "gbk")
    folder.mkdir()
    for path in (folder / "x.jpg", data / "images" / on_disk("中.jpg", "gbk")):
        shutil.copy(data / "images" / "t1.jpg", path)
    for name in ("first", "first"):  # the second check takes the result from the cache
        desk = check_dataset(data, tmp_path / name)
        assert desk.exit_code == 0
        messages = desk.messages("image_unreferenced")
        assert len(messages) == 2
        assert all("\\x" in message and message.isprintable() for message in messages)
    assert_files_are_utf8(tmp_path / "first")


def test_a_name_that_is_listed_as_bytes_gets_text_in_the_copy(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    name = on_disk("中.jpg", "gbk")
    (data / "images" / "t1.jpg").rename(data / "images" / name)
    relist(data, "t1.jpg", name)
    plain = check_dataset(data, tmp_path / "plain")
    assert (plain.exit_code, plain.codes["image_entry_invalid"]) == (3, 1)
    fixed = check_dataset(data, tmp_path / "fixed", **FIX)
    assert fixed.exit_code == 0
    assert (tmp_path / "data_fixed" / "images" / "中.jpg").is_file()
    assert fixed.result["attributes"]["train_annotations"] == 2
    assert_files_are_utf8(tmp_path / "data_fixed")


@pytest.mark.parametrize("missing", [False, True])
def test_the_folder_of_a_data_set_may_have_a_name_that_is_not_utf8(tmp_path: Path, missing: bool) -> None:
    data = copy_case("00-sound", tmp_path / on_disk("数据", "gbk"))
    if missing:
        (data / "images" / "t1.jpg").unlink()
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == (3 if missing else 0)
    assert_files_are_utf8(tmp_path / "output")


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    cameras = tmp_path / "cameras"
    cameras.mkdir()
    (data / "images" / "t1.jpg").rename(cameras / "t1.jpg")
    shutil.copy(data / "images" / "t2.jpg", cameras / "more.jpg")
    (data / "images" / "cam1").symlink_to(cameras)
    (data / "images" / "train").mkdir()
    (data / "images" / "train" / "camA").symlink_to(cameras)
    (data / "annotations").rename(tmp_path / "labels")
    (data / "annotations").symlink_to(tmp_path / "labels")
    relist(data, "t1.jpg", "train/camA/t1.jpg")
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.result["attributes"]["train_annotations"] == 2
    # The file that is listed through one link is not unlisted through the other.
    assert desk.messages("image_unreferenced") == ["cam1/more.jpg is in no annotation file"]
    assert check_dataset(data, tmp_path / "fixed", **FIX).exit_code == 0
    assert (tmp_path / "data_fixed" / "images" / "train" / "camA" / "t1.jpg").is_file()


def test_an_image_in_a_linked_folder_is_found_by_its_name(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    cameras = tmp_path / "cameras"
    cameras.mkdir()
    (data / "images" / "t1.jpg").rename(cameras / "t1.jpg")
    (data / "images" / "cam1").symlink_to(cameras)
    desk = check_dataset(data, tmp_path / "output")
    assert "but images/cam1/t1.jpg does" in desk.messages("image_missing")[0]
    assert check_dataset(data, tmp_path / "fixed", **FIX).exit_code == 0


@pytest.mark.parametrize("target", [".", "..", "../images", "loop"])
def test_links_in_a_circle_end(tmp_path: Path, target: str) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "loop").symlink_to(target)
    (data / "images" / "T9.png").symlink_to("T9.png")
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == 0
    assert len(desk.messages("image_unreferenced")) == 1
    assert fingerprint_of(data, "thumbnail") is None or target == "loop"


def test_dead_links_are_named_as_such(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "cam1").mkdir()
    (data / "images" / "cam1" / "t1.jpg").symlink_to("/no/such/t1.jpg")
    (data / "images" / "dead.jpg").symlink_to("gone.jpg")
    (data / "images" / "t1.jpg").unlink()
    relist(data, "t1.jpg", "cam1/t1.jpg")
    desk = check_dataset(data, tmp_path / "output")
    assert desk.exit_code == 3
    (message,) = desk.messages("image_missing")
    assert message == "images/cam1/t1.jpg is a link to /no/such/t1.jpg, which does not exist"
    assert desk.messages("image_unreferenced") == [
        "dead.jpg is in no annotation file and is a link that leads nowhere"
    ]
    fixed = check_dataset(data, tmp_path / "fixed", **FIX)
    assert (fixed.exit_code, fixed.codes["image_missing"]) == (3, 1)


@pytest.mark.parametrize("target", ["t1.jpg", "v1.jpg/t1.jpg"])
def test_a_link_that_cannot_be_followed_is_dead(tmp_path: Path, target: str) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "t1.jpg").unlink()
    (data / "images" / "t1.jpg").symlink_to(target)
    (error,) = check(data).errors
    assert error.message == f"images/t1.jpg is a link to {target}, which does not exist"


def test_a_dead_link_is_not_offered_for_a_missing_name(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    (data / "images" / "t1.jpg").unlink()
    (data / "images" / "T1.jpg").symlink_to("gone.jpg")
    (error,) = check(data).errors
    assert error.message == "images/t1.jpg does not exist"
