"""The lock of an output folder: one holder, who is named, and who cannot block others by dying."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddlex_seg.errors import ConfigError
from paddlex_seg.files import lock
from paddlex_seg.files.lock import LOCK_FILE, held, require_free

HOLD = """
import os, sys, time
from pathlib import Path
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.lock import held
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
start = float(sys.stdin.readline())
for number in range(rounds):
    time.sleep(max(0, start + number * 0.4 - time.time()))
    try:
        with held(folder / str(number)):
            (folder / f"{number}.won.{os.getpid()}").touch()
            time.sleep(0.3)
    except ConfigError as error:
        assert "is in use by process" in str(error), error
"""


def kill_holder(folder: Path) -> None:
    """Leave the lock of a killed process in a folder."""
    code = (
        "import os, sys; from pathlib import Path; from paddlex_seg.files.lock import held\n"
        "with held(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert ended.returncode == -signal.SIGKILL and (folder / LOCK_FILE).is_file()


def change_lock(folder: Path, *, age: float = 0.0, text: str | None = None, **fields: object) -> None:
    """Change a lock file as if it were of another process, last touched ``age`` seconds ago."""
    path = folder / LOCK_FILE
    path.write_text(text if text is not None else json.dumps(json.loads(path.read_text()) | fields))
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize("left_by", ["nobody", "a killed process"])
def test_of_processes_that_start_at_the_same_instant_exactly_one_gets_the_folder(
    tmp_path: Path, left_by: str
) -> None:
    rounds = 8
    if left_by != "nobody":
        kill_holder(tmp_path)
        for number in range(rounds):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / LOCK_FILE).write_bytes((tmp_path / LOCK_FILE).read_bytes())
    command = [sys.executable, "-c", HOLD, str(tmp_path), str(rounds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(5)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    start = time.time() + 0.2
    for process in processes:
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0] * 5
    winners = [len(list(tmp_path.glob(f"{number}.won.*"))) for number in range(rounds)]
    # A process that comes late, on a busy machine, may find the folder free again.
    assert winners.count(1) >= rounds - 2 and min(winners) == 1, winners
    assert not list(tmp_path.glob(f"*/{LOCK_FILE}"))


def test_who_holds_a_folder_is_named_and_nothing_changes(tmp_path: Path) -> None:
    with held(tmp_path):
        before = (tmp_path / LOCK_FILE).read_bytes()
        for attempt in (lambda: held(tmp_path).__enter__(), lambda: require_free(tmp_path)):
            with pytest.raises(ConfigError) as caught:
                attempt()
            assert f"in use by process {os.getpid()} on {socket.gethostname()}" in str(caught.value)
            assert f"since {time.strftime('%Y-%m-%d')}" in str(caught.value)
            assert "another Global.output" in str(caught.value)
        assert (tmp_path / LOCK_FILE).read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    assert list(tmp_path.iterdir()) == []
    require_free(tmp_path)


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    kill_holder(tmp_path)
    require_free(tmp_path)
    with held(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_later_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    with held(tmp_path):
        change_lock(tmp_path, start=1)
        require_free(tmp_path)


@pytest.mark.parametrize("text", [None, "", "{", "[1, 2]", '{"pid": 1}'])
@pytest.mark.parametrize(("age", "is_free"), [(0, False), (110, False), (130, True)])
def test_a_holder_that_cannot_be_looked_up_counts_for_two_minutes_without_a_sign_of_life(
    tmp_path: Path, text: str | None, age: float, is_free: bool
) -> None:
    kill_holder(tmp_path) if text is None else (tmp_path / LOCK_FILE).touch()
    change_lock(tmp_path, age=age, text=text, host="node7", machine="another")
    if is_free:
        with held(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
        return
    with pytest.raises(ConfigError, match=f"last sign of life was {age}.*after 120 s") as caught:
        held(tmp_path).__enter__()
    assert ("on node7" if text is None else "another training") in str(caught.value)


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with held(tmp_path):
        os.utime(tmp_path / LOCK_FILE, (1.0, 1.0))
        deadline = time.monotonic() + 5
        while (tmp_path / LOCK_FILE).stat().st_mtime == 1.0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - (tmp_path / LOCK_FILE).stat().st_mtime < 5


def test_the_lock_of_another_process_is_neither_touched_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    with held(tmp_path):
        change_lock(tmp_path, age=60, pid=1)
        before = (tmp_path / LOCK_FILE).stat().st_mtime
        time.sleep(0.2)
    assert (tmp_path / LOCK_FILE).stat().st_mtime == before


def test_without_hard_links_it_works_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with held(tmp_path):
        with pytest.raises(ConfigError, match="in use by process"):
            held(tmp_path).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_user_has_locked_is_no_obstacle(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with held(tmp_path):
            assert (tmp_path / LOCK_FILE).is_file()
    finally:
        os.close(handle)


def test_a_folder_that_cannot_be_written_is_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file cannot be written: .*another folder"):
        held(tmp_path / "file").__enter__()
