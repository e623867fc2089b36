import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_seg.errors import DatasetError
from paddlex_seg.files import publish as module
from paddlex_seg.files.publish import fresh_folder, link_or_copy, publish, recover


def read(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("old a")
    (tmp_path / "b.txt").write_text("old b")
    return tmp_path


def new_files(root: Path) -> dict[Path, bytes | Path | None]:
    return {
        root / "annotations" / "a.json": b"new a",
        root / "b.txt": b"new b",
        root / "images" / "deep" / "c.txt": b"new c",
    }


def test_what_was_there_is_kept_under_another_name(root: Path) -> None:
    publish(root, new_files(root))
    assert read(root) == {
        "annotations/a.json": "new a",
        "annotations/a.json.bak": "old a",
        "b.txt": "new b",
        "b.txt.bak": "old b",
        "images/deep/c.txt": "new c",
    }


def test_no_backup_is_ever_overwritten(root: Path) -> None:
    for number in range(4):
        publish(root, {root / "b.txt": f"version {number}".encode()})
    names = ["b.txt.bak", "b.txt.bak.1", "b.txt.bak.2", "b.txt.bak.3"]
    assert [(root / name).read_text() for name in names] == ["old b", "version 0", "version 1", "version 2"]


def test_files_that_stay_the_same_are_left_alone(root: Path) -> None:
    before = (root / "b.txt").stat().st_ino
    publish(root, {root / "b.txt": b"old b", root / "gone.txt": None})
    assert (root / "b.txt").stat().st_ino == before
    assert sorted(read(root)) == ["annotations/a.json", "b.txt"]


def test_a_file_that_is_to_go_becomes_a_backup(root: Path) -> None:
    publish(root, {root / "b.txt": None})
    assert read(root) == {"annotations/a.json": "old a", "b.txt.bak": "old b"}


def test_a_file_can_be_taken_from_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("other") / "image.png"
    source.write_text("pixels")
    publish(root, {root / "images" / "p.png": source})
    assert (root / "images" / "p.png").read_text() == "pixels"
    assert source.read_text() == "pixels"


def test_files_are_copied_where_there_are_no_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    publish(root, new_files(root))
    link_or_copy(root / "b.txt", root / "copies" / "b.txt")
    assert (root / "b.txt.bak").read_text() == "old b"
    assert (root / "copies" / "b.txt").read_text() == "new b"


STEPS = ["replace", "link", "fsync", "unlink"]


def publish_and_die(root: Path, step: int) -> bool:
    """Publish in a process that is killed at a step. Returns whether it was killed before the end."""
    child = os.fork()
    if child == 0:
        steps = itertools.count()

        def counted(function: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: object, **options: object) -> None:
                if next(steps) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                function(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            publish(root, new_files(root))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its runs by fork")
def test_a_kill_at_any_step_leaves_the_old_files_or_the_new_ones(root: Path, tmp_path: Path) -> None:
    old = read(root)
    new = {"annotations/a.json": "new a", "b.txt": "new b", "images/deep/c.txt": "new c"}
    ends = []
    killed = True
    while killed:
        copy = tmp_path / "runs" / str(len(ends))
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("runs"))
        killed = publish_and_die(copy, step=len(ends))
        recover(copy)
        found = {name: text for name, text in read(copy).items() if not Path(name).name.startswith(".")}
        kept = {name: found.pop(name) for name in list(found) if name.endswith(".bak")}
        assert found in (old, new)
        assert killed or found == new
        if found == new:
            assert kept == {"annotations/a.json.bak": "old a", "b.txt.bak": "old b"}
        publish(copy, {copy / "other.txt": b"of the next run"})
        assert not list(copy.rglob(".*"))
        ends.append(found == new)
    assert ends == sorted(ends) and len(ends) > 25


def test_a_reader_does_not_disturb_a_run_at_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module._write_new

    def write_while_another_reads(path: Path, source: bytes | Path) -> None:
        write(path, source)
        recover(root)

    monkeypatch.setattr(module, "_write_new", write_while_another_reads)
    publish(root, new_files(root))
    assert (root / "annotations" / "a.json").read_text() == "new a"


def test_two_runs_at_once_do_not_mix(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module._write_new
    began = []

    def write_while_another_publishes(path: Path, source: bytes | Path) -> None:
        write(path, source)
        if not began:
            began.append(path)
            publish(root, {root / "b.txt": b"theirs"})

    monkeypatch.setattr(module, "_write_new", write_while_another_publishes)
    with pytest.raises(DatasetError, match="another run"):
        publish(root, new_files(root))
    assert (root / "b.txt").read_text() == "theirs"
    assert (root / "annotations" / "a.json").read_text() == "old a"


def test_a_full_disk_leaves_the_old_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = read(root)
    write = module._write_new

    def fail_at_third(path: Path, source: bytes | Path) -> None:
        if path.name.endswith("c.txt.new"):
            raise OSError(28, "No space left on device")
        write(path, source)

    monkeypatch.setattr(module, "_write_new", fail_at_third)
    with pytest.raises(OSError, match="No space left") as caught:
        publish(root, new_files(root))
    assert caught.value.filename == str(root / "images" / "deep" / "c.txt")
    assert read(root) == old


def test_names_of_255_bytes_can_be_written(root: Path) -> None:
    for name in ("x" * 251 + ".txt", "日" * 83 + "é.txt"):
        assert len(os.fsencode(name)) == 255
        publish(root, {root / name: b"content"})
        assert (root / name).read_bytes() == b"content"


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with fresh_folder(tmp_path / "data") as new:
            (new / "file").write_text(name)
    assert read(tmp_path) == {"data/file": "second", "data.bak/file": "first"}


def test_a_folder_that_could_not_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("old")
    with pytest.raises(ValueError), fresh_folder(tmp_path / "data") as new:
        (new / "file").write_text("half")
        raise ValueError
    assert read(tmp_path) == {"data/file": "old"}
