"""Consoles that are closed, full or without Chinese characters: the work goes on, the log is whole."""

import errno
import io
import os
import pty
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command_line import read_result
from small_runs import change_split, copy_dataset, train_options

from paddlex_seg import streams
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.streams import insist, lasting_stream, new_problem, require_written
from paddlex_seg.structures import Category

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells, pseudo-terminals and /dev/full")
PROJECT = Path(__file__).parent.parent
HELPERS = PROJECT / "tests" / "helpers"
NAMES = ("螺栓 مسمار 😀", "垫圈")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose classes have names that neither ASCII nor GBK can write."""
    folder = tmp_path_factory.mktemp("data")
    write_demo_dataset(folder, num_train=4, num_val=2)
    dataset = copy_dataset(folder / COCO_FOLDER, folder / "foreign")
    for split in ("train", "val"):
        coco = read_coco(dataset / "annotations" / f"instance_{split}.json")
        ids = [category.id for category in coco.categories]
        change_split(dataset, split, categories=tuple(map(Category, ids, NAMES)))
    return dataset


def command(program: list[Any], mode: str, output: Path, **options: Any) -> list[str]:
    settings = {"Global.mode": mode, "Global.output": output, "Global.device": "cpu"}
    settings |= {name.replace("__", "."): value for name, value in options.items()}
    return [
        *(sys.executable, *map(str, program), "-c", "PP-YOLOE_seg-S"),
        *(f"-o{key}={value}" for key, value in settings.items()),
    ]


def environment(**changes: str) -> dict[str, str]:
    paths = [str(PROJECT), str(HELPERS), str(PROJECT / "tests" / "reference")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **changes}


# Streams


class Broken(io.RawIOBase):
    """A file that takes some bytes and then fails."""

    def __init__(self, room: int) -> None:
        self.room, self.taken, self.null = room, b"", os.open(os.devnull, os.O_WRONLY)

    def fileno(self) -> int:
        return self.null

    def close(self) -> None:
        super().close()
        os.close(self.null)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)[: self.room - len(self.taken)]
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.taken += part
        return len(part)


def test_a_stream_takes_what_fits_drops_the_rest_and_tells_the_reason_once() -> None:
    raw = Broken(room=8)
    stream = lasting_stream(raw, "ascii")
    print("é", file=stream)
    assert new_problem(stream) is None
    print("dropped in part", file=stream)
    problem = new_problem(stream)
    assert problem is not None and problem.errno == errno.ENOSPC
    print("dropped", file=stream)
    assert new_problem(stream) is None
    stream.close()
    assert raw.taken == b"\\xe9\ndro"
    assert new_problem(sys.stderr) is None


def test_nobody_waits_for_long_for_a_reader_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE_SECONDS", 0.3)
    ours, theirs = os.pipe()
    stream = lasting_stream(io.FileIO(theirs, "w"), "utf-8")
    start = time.monotonic()
    for number in range(20_000):  # a pipe takes 64 kB
        print("line", number, file=stream)
    assert 0.3 <= time.monotonic() - start < 5
    problem = new_problem(stream)
    assert problem is not None and "its reader has read nothing for 0.3 seconds" in str(problem)
    seen = os.read(ours, 1 << 20)
    assert seen.startswith(b"line 0\nline 1\n") and len(seen) > 30_000
    print("read again", file=stream)
    assert os.read(ours, 1 << 20).endswith(b"read again\n")
    stream.close()
    os.close(ours)


def test_results_wait_for_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE_SECONDS", 0.1)
    ours, theirs = os.pipe()
    stream = lasting_stream(io.FileIO(theirs, "w"), "utf-8")
    insist(stream)

    def read_late() -> int:
        time.sleep(0.4)
        with open(ours, "rb") as reader:
            return len(reader.read().splitlines())

    with ThreadPoolExecutor() as pool:
        lines = pool.submit(read_late)
        for number in range(20_000):  # a pipe takes 64 kB
            print("line", number, file=stream)
        require_written(stream)
        stream.close()
        assert lines.result() == 20_000


def test_results_without_a_reader_are_an_error() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    stream = lasting_stream(io.FileIO(theirs, "w"), "utf-8")
    require_written(stream)
    print("line", file=stream)
    with pytest.raises(BrokenPipeError):
        require_written(stream)
    require_written(io.StringIO())


# Commands


@pytest.mark.parametrize(
    "redirection",
    ["| head -1", "> /dev/full 2>&1", "<&- >&- 2>&-"],
    ids=["pipe", "full", "closed"],
)
def test_a_console_that_takes_nothing_changes_nothing(
    foreign: Path, tmp_path: Path, redirection: str
) -> None:
    words = command([PROJECT / "main.py"], "check_dataset", tmp_path / "output", Global__dataset_dir=foreign)
    script = f'set -o pipefail; "$@" {redirection}'
    done = subprocess.run(["bash", "-c", script, "bash", *words], env=environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read_result(tmp_path / "output", "check_dataset")["done_flag"] is True


@pytest.mark.parametrize(
    ("variables", "encoding"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "ascii"),
        ({"PYTHONIOENCODING": "gbk"}, "gbk"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, "ascii"),
    ],
    ids=["ascii", "gbk", "locale C"],
)
def test_a_console_without_the_characters_shows_their_numbers(
    foreign: Path, tmp_path: Path, variables: dict[str, str], encoding: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"Global: {{mode: train}}\nTrain: {{epochs_iters: '{NAMES[0]}'}}\n", encoding="utf-8")
    words = [sys.executable, str(PROJECT / "main.py"), "-c", str(config), f"-oGlobal.output={tmp_path}"]
    done = subprocess.run(words, env=environment(**variables), capture_output=True)
    assert done.returncode == 2
    assert NAMES[0].encode(encoding, "backslashreplace") in done.stderr
    assert NAMES[0] in read_result(tmp_path, "train")["err_msg"]


def test_another_program_ends_well_without_a_reader(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "paddlex_seg.modes.summary", str(tmp_path)]
    script = ["bash", "-c", '"$@" > /dev/full', "bash"]
    done = subprocess.run([*script, *words], env=environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


# Trainings in a terminal


def in_terminal(words: list[str], **options: Any) -> tuple[subprocess.Popen, int]:
    """Start a program with a terminal of its own. Returns the process and the other end of the terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(TERM="xterm", COLUMNS="200"),
        start_new_session=True,
        **options,
    )
    os.close(slave)
    return process, master


def close_after(master: int, text: str) -> None:
    """Read from a terminal until a text has appeared, then close the terminal."""
    seen = b""
    while text.encode() not in seen:
        seen += os.read(master, 1 << 16)
    os.close(master)


def test_a_closed_terminal_does_not_end_a_training(foreign: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    words = command(
        [HELPERS / "slim_command.py"],
        "train",
        output,
        **train_options(foreign, Train__epochs_iters=4, Train__log_interval=1),
    )
    process, master = in_terminal(words)  # without a controlling terminal there is no SIGHUP
    close_after(master, "Training starts from random weights.")
    assert process.wait(600) == 0
    log = (output / "train.log").read_text(encoding="utf-8")
    assert "The terminal cannot be written: " in log and log.count("cannot be written") == 1
    assert all(f"Epoch: [{epoch}] [1/1]" in log for epoch in range(4)) and NAMES[0] in log
    assert read_result(output, "train")["done_flag"] is True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how a terminal is made the controlling one")
def test_the_hangup_of_a_terminal_saves_and_says_how_to_go_on(foreign: Path, tmp_path: Path) -> None:
    import fcntl
    import termios

    output = tmp_path / "output"
    words = command(
        [HELPERS / "slim_command.py", "slowly"],
        "train",
        output,
        **train_options(foreign, Train__epochs_iters=400, Train__log_interval=1, Train__num_workers=1),
    )
    process, master = in_terminal(words, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    close_after(master, "Epoch: [1] [1/1]")
    os.kill(process.pid, signal.SIGHUP)  # as shells do after the system
    assert process.wait(60) == 1
    message = read_result(output, "train")["err_msg"]
    assert "a checkpoint is saved" in message and "Train.resume=auto" in message


def test_under_nohup_a_hangup_is_ignored(foreign: Path, tmp_path: Path) -> None:
    words = command(
        [HELPERS / "slim_command.py", "slowly"],
        "train",
        tmp_path / "output",
        **train_options(foreign, Train__epochs_iters=2, Train__log_interval=1),
    )
    with (tmp_path / "nohup.out").open("wb") as console:
        process = subprocess.Popen(["nohup", *words], env=environment(), stdout=console, stderr=console)
    while "Epoch: [0] [1/1]" not in (tmp_path / "nohup.out").read_text(encoding="utf-8"):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(600) == 0
    assert read_result(tmp_path / "output", "train")["done_flag"] is True
