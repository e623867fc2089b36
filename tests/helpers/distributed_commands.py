"""Run the command line as a separate program with two CPU processes, and find processes that it leaves."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small_runs import MODEL

from paddlex_seg.runtime.rank_notes import read_workers

HELPERS = Path(__file__).parent
PROJECT = HELPERS.parent.parent
MARK = "PADDLEX_SEG_TEST_RUN"  # in the environment of all processes of a run
START_SECONDS, END_SECONDS = (
    600,
    15,
)  # Paddle is imported three times before a run starts, which is slow on a busy machine


@dataclass(frozen=True)
class Run:
    """A running command and its output."""

    process: subprocess.Popen
    output: Path
    mark: str
    printed: Path

    def wait(self, seconds: float = START_SECONDS) -> int:
        return self.process.wait(seconds)

    def text(self) -> str:
        return self.printed.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + START_SECONDS
        while text not in self.text():
            assert self.process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(0.05)

    def workers(self, mode: str = "train") -> dict[int, int]:
        return read_workers(self.output / f"distributed_{mode}_logs")

    def processes(self) -> list[str]:
        """The command lines of all processes of this run that are alive or zombies."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
            except OSError:  # of another user, or just ended
                continue
        return found

    def assert_all_end(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < end, left
            time.sleep(0.1)


@contextmanager
def started(scenario: str, output: Path, **options: Any) -> Iterator[Run]:
    """Start `run_cli` as a separate program with two processes. Processes left at the end are killed."""
    settings = {"Global.mode": "train", "Global.output": output, "Global.device": "cpu"}
    settings |= {"Train.num_processes": 2}
    settings |= {name.replace("__", "."): value for name, value in options.items()}
    mark = f"{os.getpid()}-{time.time()}"
    paths = [
        str(PROJECT),
        str(HELPERS),
        str(HELPERS.with_name("reference")),
        os.environ.get("PYTHONPATH", ""),
    ]
    printed = output.with_name(f"{output.name}.txt")
    with printed.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, HELPERS / "distributed_run.py", scenario, "-c", MODEL]
            + [f"-o{key}={value}" for key, value in settings.items()],
            env={**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    run = Run(process, output, mark, printed)
    try:
        yield run
    finally:
        process.kill()
        process.wait()
        run.assert_all_end(END_SECONDS)
