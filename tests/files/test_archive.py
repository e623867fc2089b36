"""Zip archives of users: what is refused, and how names are read."""

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_seg.errors import DatasetError
from paddlex_seg.files import archive as archive_module
from paddlex_seg.files.archive import open_archive


def write_zip(path: Path, names: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return path


def with_raw_name(path: Path, raw: bytes) -> Path:
    """An archive whose only name has these bytes, and no mark for UTF-8."""
    placeholder = "x" * len(raw)
    write_zip(path, {placeholder: b"content"})
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), raw))
    return path


def link(path: Path) -> None:
    info = zipfile.ZipInfo("images")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc")


def encrypted(path: Path) -> None:
    write_zip(path, {"a.txt": b"secret"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(signature) + offset
        content[place : place + 2] = struct.pack("<H", 1)
    path.write_bytes(content)


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "1")
        archive.writestr("./a.txt", "2")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: write_zip(path, {"/etc/passwd": b""}), "leads out of the folder"),
        (lambda path: write_zip(path, {"../../above.txt": b""}), "leads out of the folder"),
        (lambda path: write_zip(path, {"a/../../above.txt": b""}), "leads out of the folder"),
        (lambda path: write_zip(path, {"..\\above.txt": b""}), "leads out of the folder"),
        (lambda path: write_zip(path, {"C:\\Windows\\x": b""}), "leads out of the folder"),
        (lambda path: write_zip(path, {"\\\\server\\x": b""}), "leads out of the folder"),
        (link, "is a link"),
        (encrypted, "is encrypted"),
        (twice, "two files named 'a.txt'"),
        (lambda path: write_zip(path, {"a": b"", "a/b": b""}), "is a file and a folder"),
        (lambda path: path.write_bytes(b"<html>404</html>"), "not a readable zip archive"),
        (lambda path: path.write_bytes(b""), "not a readable zip archive"),
    ],
    ids=[
        *("absolute", "above", "above_inside", "backslashes", "drive", "share", "link", "encrypted", "twice"),
        *("file_and_folder", "html", "empty"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_archive_is_refused_before_anything_is_written(
    make: Callable[[Path], object], problem: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.zip")
    with pytest.raises(DatasetError, match=problem):
        open_archive(tmp_path / "x.zip").unpack(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_an_archive_that_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.json": bytes(3_000_000)})
    open_archive(path).unpack(tmp_path / "small")  # below the size from which the ratio counts
    monkeypatch.setattr(archive_module, "_RATIO_COUNTS_FROM", 2_000_000)
    with pytest.raises(DatasetError, match="made to fill disks"):
        open_archive(path)
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1_000_000)
    with pytest.raises(DatasetError, match="unpacked; expected at most"):
        open_archive(path)
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 0)
    with pytest.raises(DatasetError, match="has 1 files"):
        open_archive(path)


def test_a_full_disk_is_told_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.json": bytes(3_000_000)})
    usage = archive_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DatasetError, match="need 2.9 MiB"):
        open_archive(path).unpack(tmp_path / "out")


def test_a_damaged_file_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"a" * 1000)
        archive.writestr("b.txt", b"b" * 1000)
    path.write_bytes(path.read_bytes().replace(b"b" * 1000, b"b" * 999 + b"c"))
    with pytest.raises(DatasetError, match=r"'b\.txt' in this archive cannot be unpacked"):
        open_archive(path).unpack(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("螺栓/图像1.jpg".encode("gbk"), "螺栓/图像1.jpg"),
        ("螺栓.jpg".encode(), "螺栓.jpg"),
        ("café/t1.jpg".encode("cp437"), "café/t1.jpg"),
        (b"images\\train\\t1.jpg", "images/train/t1.jpg"),
    ],
    ids=["gbk", "utf8", "cp437", "backslashes"],
)
def test_names_in_other_encodings(raw: bytes, name: str, tmp_path: Path) -> None:
    archive = open_archive(with_raw_name(tmp_path / "x.zip", raw))
    assert list(archive.members) == [name]
    archive.unpack(tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == b"content"


def test_all_names_of_an_archive_have_one_encoding(tmp_path: Path) -> None:
    """The first name in GBK could be UTF-8 by chance."""
    path = write_zip(tmp_path / "x.zip", {"AA0.jpg": b"1", "BBBB1.jpg": b"2"})
    content = path.read_bytes()
    for plain, raw in ((b"AA0", "图0".encode("gbk")), (b"BBBB1", "螺栓1".encode("gbk"))):
        content = content.replace(plain, raw)
    path.write_bytes(content)
    assert sorted(open_archive(path).members) == ["图0.jpg", "螺栓1.jpg"]


def test_what_systems_leave_behind_is_left_out(tmp_path: Path) -> None:
    names = ["a.jpg", "__MACOSX/._a.jpg", ".DS_Store", "x/Thumbs.db", "x/desktop.ini", "x/._b.jpg", "x/b.jpg"]
    archive = open_archive(write_zip(tmp_path / "x.zip", dict.fromkeys(names, b"")))
    assert sorted(archive.members) == ["a.jpg", "x/b.jpg"]


def test_an_archive_is_unpacked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.txt": b"1"})
    open_archive(path).unpack(tmp_path / "out")
    (tmp_path / "out" / "mark").touch()
    open_archive(path).unpack(tmp_path / "out")
    assert (tmp_path / "out" / "mark").exists()
    write_zip(path, {"b.txt": b"22"})
    open_archive(path).unpack(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b.txt"]
