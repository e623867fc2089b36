"""Files and folders under final names are complete, and no temporary files are left."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from paddlex_seg.files import atomic
from paddlex_seg.files.atomic import (
    new_file,
    new_files,
    new_folder,
    remove_leftovers,
    temporary_path,
    write_text,
)
from paddlex_seg.files.json import write_json


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_file_is_there_with_its_folder_and_the_rights_of_any_new_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "été 花.json"
    write_json(path, {"a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é"\n}\n'
    (tmp_path / "plain").write_text("x")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names(tmp_path) == ["deep/er/été 花.json", "plain"]


@pytest.mark.parametrize("ending", [".png", ".JPG", ".webp"])
def test_a_native_writer_finds_the_format_in_the_ending_of_the_temporary_name(
    tmp_path: Path, ending: str
) -> None:
    with new_file(tmp_path / f"a.b{ending}") as temporary:
        Image.new("RGB", (3, 2)).save(temporary)
        assert not (tmp_path / f"a.b{ending}").exists()
    assert names(tmp_path) == [f"a.b{ending}"]


@pytest.mark.parametrize("name", ["x" * 255, "花" * 81 + ".json", "a." + "é" * 120, ".hidden", "no ending"])
def test_names_of_every_length_have_a_temporary_one_that_is_recognised(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert names(tmp_path) == [name]
    assert atomic._TEMPORARY_NAME.fullmatch(temporary_path(tmp_path / name).name)


def fill(place: Path) -> None:
    """A file, or files in a folder."""
    for path in [place / "a", place / "sub" / "b"] if place.is_dir() else [place]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("new")


@pytest.fixture(params=[new_file, new_folder], ids=["file", "folder"])
def maker(request: pytest.FixtureRequest) -> Callable:
    return request.param


@pytest.fixture(params=[False, True], ids=["nothing there", "old one there"])
def place(request: pytest.FixtureRequest, tmp_path: Path, maker: Callable) -> Path:
    """The path that is to be written."""
    if request.param:
        if maker is new_folder:
            (tmp_path / "it").mkdir()
        (tmp_path / "it" / "old" if maker is new_folder else tmp_path / "it").write_text("old")
    return tmp_path / "it"


def test_the_new_one_takes_the_place_of_the_old_one(tmp_path: Path, maker: Callable, place: Path) -> None:
    with maker(place) as temporary:
        fill(temporary)
    assert names(tmp_path) == (["it/a", "it/sub/b"] if maker is new_folder else ["it"])
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interrupted_write_leaves_the_old_one_and_no_rest(
    tmp_path: Path, maker: Callable, place: Path, error: type[BaseException]
) -> None:
    before = names(tmp_path)
    with pytest.raises(error), maker(place) as temporary:
        fill(temporary)
        raise error
    assert names(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupt_at_the_renames_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, maker: Callable, place: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    before = names(tmp_path)
    calls: list[object] = []
    real = getattr(os, call)

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(os, call, interrupted)
    try:
        with maker(place) as temporary:
            fill(temporary)
    except KeyboardInterrupt:
        pass
    assert names(tmp_path) in (before, ["it/a", "it/sub/b"] if maker is new_folder else ["it"])
    assert not list(tmp_path.glob(".*"))


def test_an_old_folder_is_kept_under_the_name_of_its_backup(tmp_path: Path) -> None:
    for _ in range(2):
        with new_folder(tmp_path / "it", backup=lambda path: path.with_name("kept")) as temporary:
            fill(temporary)
    assert names(tmp_path) == ["it/a", "it/sub/b", "kept/a", "kept/sub/b"]


def test_links_in_a_folder_are_kept_and_followed_nowhere(tmp_path: Path) -> None:
    with new_folder(tmp_path / "it") as temporary:
        (temporary / "gone").symlink_to("nowhere")
        (temporary / "up").symlink_to("..", target_is_directory=True)
    assert (tmp_path / "it" / "gone").is_symlink() and (tmp_path / "it" / "up").is_symlink()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc which file a handle is of")
def test_data_are_on_the_disk_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, maker: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        real_fsync(handle)

    def replace(source: Path, target: Path) -> None:
        order.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    with maker(tmp_path / "it") as temporary:
        fill(temporary)
    inside = {str(temporary)}
    if maker is new_folder:
        inside |= {str(temporary / name) for name in ("a", "sub", "sub/b")}
    assert set(order[:-2]) == inside
    assert order[-2:] == ["rename", str(tmp_path)]


# Disk errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_names_the_file_and_the_cause(
    tmp_path: Path, maker: Callable, place: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = names(tmp_path)

    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(f"{os.strerror(number)}: '{place}'")) as caught:
        with maker(place) as temporary:
            fill(temporary)
    assert caught.value.errno == number
    assert names(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def test_a_read_only_place_names_the_file_and_not_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match=re.escape(f"Read-only file system: '{tmp_path / 'a.txt'}'")):
        write_text(tmp_path / "a.txt", "x")


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path: Path, maker: Callable) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"'{tmp_path / 'source'}'")):
        with maker(tmp_path / "it"):
            (tmp_path / "source").read_bytes()
    with pytest.raises(OSError, match="^broken image$"), maker(tmp_path / "it"):
        raise OSError("broken image")


# Leftovers

WRITE_AND_WAIT = """
import sys
from pathlib import Path
from paddlex_seg.files.atomic import new_file, new_folder
place = Path(sys.argv[1])
with new_file(place / "a.txt") as file, new_folder(place / "b") as folder:
    file.write_text("half")
    (folder / "c").write_text("half")
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path: Path):
    """A process that has started to write a file and a folder."""
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        yield process
        process.kill()


def test_what_a_living_process_writes_stays_and_what_a_killed_one_wrote_goes(
    tmp_path: Path, writer: subprocess.Popen
) -> None:
    (tmp_path / ".gitignore").write_text("mine")
    (tmp_path / ".a.new-1-2.txt").write_text("mine")
    begun = {path.name for path in tmp_path.glob(".*.new-*-*-*")}
    assert len(begun) == 2
    remove_leftovers(tmp_path)
    assert begun <= {path.name for path in tmp_path.iterdir()}
    writer.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".a.new-1-2.txt", ".gitignore"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="start times are those of /proc")
def test_a_process_that_got_the_number_of_a_killed_one_is_not_taken_for_it(tmp_path: Path) -> None:
    mine = temporary_path(tmp_path / "a.txt")
    earlier = tmp_path / re.sub(r"-(\d+)-(?=[0-9a-f]{8}\.)", "-1-", mine.name)
    for path in (mine, earlier):
        path.write_text("half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_names_of_other_rules_are_known_by_their_pattern(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    older = re.compile(r"\.best_model\.(?P<pid>\d+)|\.page\.html\.[a-z]{8}")
    for name in (f"best_model.{ended.pid}", f"best_model.{os.getppid()}", "page.html.abcdefgh", "other.1"):
        (tmp_path / f".{name}").mkdir()
    remove_leftovers(tmp_path, older=older)
    assert {path.name for path in tmp_path.iterdir()} == {f".best_model.{os.getppid()}", ".other.1"}


def test_without_the_start_time_of_processes_their_ids_decide(
    tmp_path: Path, writer: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_PROC", tmp_path / "no proc")
    assert temporary_path(tmp_path / "a").name.startswith(f".a.new-{os.getpid()}-0-")
    (tmp_path / f".a.new-{writer.pid}-0-00000000").write_text("half")
    (tmp_path / f".a.new-{2**22 + 1}-0-00000000").write_text("half")  # more than any id on Linux
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.glob(".a.new-*-0-*")] == [f".a.new-{writer.pid}-0-00000000"]


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_files_that_belong_together_are_moved_all_or_none(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "c"):
        (tmp_path / name).write_text("old")
    replace, targets = os.replace, []

    def fail(source: Path, target: Path) -> None:
        targets.append(target)
        if len(targets) == failing + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO), source, None, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"Input/output error: '[^']*/[abc]'$"), new_files(tmp_path) as new:
        for name in ("a", "b", "c"):
            (new / name).write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "c": "old"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its run by fork")
def test_a_run_that_is_killed_while_it_tries_a_folder_leaves_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        atomic.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
        try:
            atomic.require_writable(tmp_path)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
