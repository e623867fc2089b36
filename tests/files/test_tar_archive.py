"""Tar archives: what is refused, and that nothing else than the chosen files is written."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_seg.files import tar_archive
from paddlex_seg.files.tar_archive import ArchiveError, list_files, unpack_files

Add = Callable[[tarfile.TarFile], object]


def add(
    archive: tarfile.TarFile, name: str, content: bytes = b"content", kind: bytes = tarfile.REGTYPE
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    archive.addfile(info, io.BytesIO(content))


def link(archive: tarfile.TarFile, kind: bytes) -> None:
    info = tarfile.TarInfo("inner")
    info.type, info.linkname = kind, "/etc/passwd"
    archive.addfile(info)


def sparse(archive: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("inner")
    info.pax_headers = {"GNU.sparse.map": "0,7", "GNU.sparse.size": "1000000", "GNU.sparse.name": "inner"}
    info.size = 7
    archive.addfile(info, io.BytesIO(b"content"))


def long_header(archive: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("inner")
    info.pax_headers = {"comment": "x" * 20_000_000}
    archive.addfile(info)


def negative_size(archive: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("inner")
    info.pax_headers = {"size": "-512"}
    archive.addfile(info)


def write(path: Path, *members: Add, mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for member in members:
            member(archive)
    return path


def good(archive: tarfile.TarFile) -> None:
    folder = tarfile.TarInfo("model")
    folder.type = tarfile.DIRTYPE
    archive.addfile(folder)
    add(archive, "model/a.yml", b"a: 1")
    add(archive, "./model/b.json", b"{}")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_chosen_files_are_unpacked_under_chosen_names(tmp_path: Path, mode: str) -> None:
    path = write(tmp_path / "x.tar", good, mode=mode)
    assert list_files(path) == {"model/a.yml": 4, "model/b.json": 2}
    target = tmp_path / "target"
    target.mkdir()
    unpack_files(path, {"model/b.json": "c.json"}, target)
    assert [(one.name, one.read_bytes()) for one in target.iterdir()] == [("c.json", b"{}")]


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (lambda archive: add(archive, "/etc/passwd"), "'/etc/passwd' leads out"),
        (lambda archive: add(archive, "../above"), "'../above' leads out"),
        (lambda archive: add(archive, "a/../../above"), "'a/../../above' leads out"),
        (lambda archive: add(archive, "..\\above"), "above' leads out"),
        (lambda archive: add(archive, "C:\\above"), "above' leads out"),
        (lambda archive: add(archive, "..", b"", tarfile.DIRTYPE), "'..' leads out"),
        (lambda archive: link(archive, tarfile.SYMTYPE), "'inner' is a link"),
        (lambda archive: link(archive, tarfile.LNKTYPE), "'inner' is a link"),
        (lambda archive: add(archive, "inner", b"", tarfile.FIFOTYPE), "'inner' is a link, a device"),
        (lambda archive: add(archive, "inner", b"", tarfile.CHRTYPE), "'inner' is a link, a device"),
        (lambda archive: add(archive, "inner", b"", tarfile.BLKTYPE), "'inner' is a link, a device"),
        (lambda archive: add(archive, "inner", b"", b"?"), "'inner' is a link, a device"),
        (sparse, "'inner' is a link, a device or another special member"),
        (lambda archive: add(archive, "model/../model/a.yml"), "leads out"),
        (lambda archive: add(archive, "model/a.yml"), "two files named 'model/a.yml'"),
        (lambda archive: add(archive, "./model//a.yml"), "two files named 'model/a.yml'"),
        (long_header, "no tar archive, or it is damaged"),
        (negative_size, "at 'inner'"),
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_hostile_member_is_named(
    tmp_path: Path, member: Add, words: str, mode: str, is_first: bool
) -> None:
    path = write(tmp_path / "x.tar", *((member, good) if is_first else (good, member)), mode=mode)
    if is_first and "two files" in words:
        words = "two files named 'model/a.yml'"
    with pytest.raises(ArchiveError, match=words):
        list_files(path)
    assert list(tmp_path.iterdir()) == [path]


def test_many_members_and_large_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.tar", *(lambda archive, i=i: add(archive, f"{i}") for i in range(20)))
    assert len(list_files(path)) == 20
    monkeypatch.setattr(tar_archive, "MAX_MEMBERS", 12)
    with pytest.raises(ArchiveError, match="more than 12 members or .* at '12'"):
        list_files(path)
    monkeypatch.setattr(tar_archive, "MAX_BYTES", 50)
    with pytest.raises(ArchiveError, match="at '7'"):
        list_files(path)


def test_an_archive_that_unpacks_to_very_much_is_refused_without_unpacking(tmp_path: Path) -> None:
    header = tarfile.TarInfo("inference.json")
    header.size = 10**13
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(format=tarfile.GNU_FORMAT) + bytes(10_000)))
    with pytest.raises(ArchiveError, match="'inference.json'"):
        list_files(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no tar archive"),
        (b"\n <!DOCTYPE html><html>404</html>", "a web page"),
        (b"\xef\xbb\xbf<HTML>", "a web page"),
        (b"PK\x03\x04" + bytes(1000), "no tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\n" * 20, "no tar archive"),
        (b"\x1f\x8b" + bytes(1000), "damaged"),
        (gzip.compress(b"no archive" * 100), "no tar archive"),
    ],
    ids=["empty", "html", "html with mark", "zip", "lfs", "no gzip", "gzip of text"],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=words):
        list_files(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_cut_archive_never_gives_a_cut_file(tmp_path: Path, mode: str) -> None:
    content = bytes(range(256)) * 20
    whole = write(tmp_path / "x.tar", lambda archive: add(archive, "a", content), mode=mode).read_bytes()
    path = tmp_path / "cut.tar"
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        target = tmp_path / f"target {length}"
        target.mkdir()
        try:
            unpack_files(path, {"a": "a"}, target)
        except ArchiveError:
            continue
        assert (target / "a").read_bytes() == content
