"""The search for image files by names that do not fit."""

import os
import time
import unicodedata
from pathlib import Path

import pytest

from paddlex_seg.data.image_search import ImageIndex, find_missing


def folder_with(root: Path, *names: str) -> ImageIndex:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return ImageIndex(root)


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("t1.jpg", "t1.jpg"),
        ("./t1.jpg", "t1.jpg"),
        ("JPEGImages/t1.jpg", "t1.jpg"),
        ("JPEGImages\\t1.jpg", "t1.jpg"),
        ("images/t1.jpg", "t1.jpg"),
        ("../images/t1.jpg", "t1.jpg"),
        ("/data/me/set/images/t1.jpg", "t1.jpg"),
        ("D:\\me\\set\\images\\t1.jpg", "t1.jpg"),
        ("file:///data/me/t1.jpg", "t1.jpg"),
        ("https://host.example/a/t1.jpg?token=3#x", "t1.jpg"),
        ("s3://bucket/set/t1.jpg", "t1.jpg"),
        ("/data/upload/1/3f2a1b4c-t1.jpg", "t1.jpg"),
        ("/data/upload/1/3f2a1b4c-my_image_1.jpg", "my image (1).jpg"),
        ("my image (1).jpg", "3f2a1b4c-my_image_1.jpg"),
        ("/data/local-files/?d=set/t1.jpg", "t1.jpg"),
        ("data/local-files/?d=set/my%20image.jpg", "my image.jpg"),
        ("t1.JPG", "t1.jpg"),
        ("IMAGES/T1.jpg", "t1.JPG"),
        ("my%20image.jpg", "my image.jpg"),
        ("my+image.jpg", "my image.jpg"),
        ("my image.jpg", "my%20image.jpg"),
        ("a%2Bb.jpg", "a+b.jpg"),
        ("set%2Ft1.jpg", "set/t1.jpg"),
        ("%E4%B8%AD.jpg", "中.jpg"),
        (unicodedata.normalize("NFC", "가é.jpg"), unicodedata.normalize("NFD", "가é.jpg")),
        (unicodedata.normalize("NFD", "가é.jpg"), unicodedata.normalize("NFC", "가é.jpg")),
        ("t1.jpeg", "t1.JPG"),
        ("t1.jpg", "t1.png"),
        ("t1", "t1.png"),
        ("t1.jpg", "t1.jpg.jpg"),
        ("IMG_1.HEIC", "IMG_1.jpg"),
        ("t1.jpg", "cam1/t1.jpg"),
        ("train/t1.jpg", "set/train/t1.jpg"),
        ("JPEGImages/t1.jpg", "train/t1.jpg"),
        ("/home/me/t1.jpg", "train/t1.jpg"),
        ("old/cam1/T1.jpg", "new/cam1/t1.jpg"),
        ("images/cam1/t1.jpg", "cam1/t1.jpg"),
        ("t1.jpg", "t1 .jpg"),
        ("set/t1.jpg", "set /t1.jpg"),
        ("my\u00a0image.jpg", "my image.jpg"),
        ("my_image.jpg", "my  image.jpg"),
        ("\ufefft1.jpg", "t1.jpg"),
        ("\uff34\uff11.jpg", "t1.jpg"),
        ("a&amp;b.jpg", "a&b.jpg"),
        ("12:30:01.jpg", "12_30_01.jpg"),
        ("my\u3000image.jpg", "my_image.png"),
    ],
)
def test_a_file_is_found_by_a_name_that_people_get(tmp_path: Path, written: str, file: str) -> None:
    index = folder_with(tmp_path, file, "other.jpg", "sub/another.png", "notes.txt")
    assert index.find(written) == file
    assert index.candidates(written) == [file]


@pytest.mark.parametrize(
    ("written", "files"),
    [
        ("t1.JPG", ["t1.jpg", "T1.jpg"]),
        ("t1.jpg", ["cam1/t1.jpg", "cam2/t1.jpg"]),
        ("t1.jpg", ["t1.png", "t1.bmp"]),
        ("my%20Image.jpg", ["my image.jpg", "MY image.jpg"]),
        ("cam2/0001.jpg", ["cam1/0001.jpg"]),  # another folder, which may hold another image
        ("train/0001.jpg", ["val/0001.jpg"]),
    ],
)
def test_files_that_may_be_meant_are_candidates_only(tmp_path: Path, written: str, files: list[str]) -> None:
    index = folder_with(tmp_path, *files, "other.jpg")
    assert index.find(written) is None
    assert sorted(index.candidates(written)) == sorted(files)


@pytest.mark.parametrize(
    "written",
    ["t2.jpg", "", ".", "t1.txt", "20230401-t1.jpg", "4f-t1.jpg", "http://[", "\0", "t1!.jpg", "t_1.jpg"],
)
def test_a_name_that_nothing_resembles_has_no_candidates(tmp_path: Path, written: str) -> None:
    index = folder_with(tmp_path, "t1.jpg", "._t2.jpg", ".cache/t2.jpg", "t2.txt")
    assert index.find(written) is None
    assert index.candidates(written) == []


@pytest.mark.parametrize(
    ("written", "file"),
    [("\u0915\u093f.jpg", "\u0915\u0940.jpg"), ("😀.jpg", "😁.jpg"), ("a#1.jpg", "a@1.jpg")],
)
def test_signs_that_tell_names_apart_are_read(tmp_path: Path, written: str, file: str) -> None:
    assert folder_with(tmp_path, file).candidates(written) == []


def test_the_better_name_wins(tmp_path: Path) -> None:
    index = folder_with(tmp_path, "t1.jpg", "cam1/T1.JPG", "t1.png", "cam2/t2.jpg", "t2.png")
    assert index.find("T1.jpg") == "t1.jpg"
    assert index.find("cam1/t1.jpg") == "cam1/T1.JPG"
    assert index.find("images/t1.png") == "t1.png"
    assert index.find("t2.jpg") == "cam2/t2.jpg"


def test_a_name_that_is_not_utf8_is_found_by_its_text(tmp_path: Path) -> None:
    on_disk = os.fsdecode("螺栓.jpg".encode("gbk"))
    index = folder_with(tmp_path, on_disk, "other.jpg")
    assert index.find("螺栓.jpg") == on_disk
    assert index.find("images/螺栓.JPG") == on_disk
    assert index.find(on_disk) == on_disk


def test_linked_folders_are_searched_and_loops_are_not(tmp_path: Path) -> None:
    folder_with(tmp_path / "elsewhere", "t1.jpg")
    index = folder_with(tmp_path / "images", "a/t2.jpg")
    (tmp_path / "images" / "cam1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    (tmp_path / "images" / "A again").symlink_to(tmp_path / "images" / "a")
    (tmp_path / "images" / "dead.jpg").symlink_to(tmp_path / "nothing.jpg")
    assert sorted(index.files) == ["a/t2.jpg", "cam1/t1.jpg"]
    assert index.find("t1.jpg") == "cam1/t1.jpg"
    assert index.find("DEAD.jpg") is None


def test_a_file_is_given_to_one_name_only(tmp_path: Path) -> None:
    index = folder_with(tmp_path, "t1.jpg", "0001.jpg", "t3.jpg")
    found = find_missing(
        index,
        ["images/t1.jpg", "cam1/0001.jpg", "cam2/0001.jpg", "T3.jpg", "t3.png", "t4.jpg"],
        present=["t1.jpg"],
    )
    assert {name: item.name for name, item in found.items()} == {
        "images/t1.jpg": None,  # t1.jpg has a record of its own
        "cam1/0001.jpg": None,
        "cam2/0001.jpg": None,
        "T3.jpg": "t3.jpg",
        "t3.png": None,
        "t4.jpg": None,
    }
    assert found["cam1/0001.jpg"].rivals == ("cam2/0001.jpg",)
    assert found["images/t1.jpg"].rivals == ("t1.jpg",)


@pytest.mark.parametrize(
    "written", ["folder/{:06d}/IMAGE.JPG", "other/{:06d}.jpg", "{:06d}/rgb.png", "images/{:06d}/t1.jpg"]
)
def test_the_time_grows_with_the_number_of_names(tmp_path: Path, written: str) -> None:
    def seconds(count: int) -> float:
        """CPU time, so that a busy machine does not count."""
        index = ImageIndex(tmp_path)
        index.files = ["t1.jpg", *(f"{number:06d}/image.jpg" for number in range(count))]
        start = time.process_time()
        find_missing(index, [written.format(number) for number in range(count)], present=())
        return time.process_time() - start

    seconds(100)
    small, large = (min(seconds(count) for _ in range(3)) for count in (1000, 10_000))
    assert large < 40 * small
