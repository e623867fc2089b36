"""Small files in the log folder of a distributed run, by which its processes report to the command."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from paddlex_seg.files.json import write_json

TERMINAL_LOG = "terminal.log"  # the log lines of rank 0, which the command prints
LAUNCHER_LOG = "launcher.log"


@dataclass(frozen=True)
class Failure:
    """How a run failed: the texts for the terminal and for the result file."""

    message: str  # for the terminal; an unexpected error has its traceback
    err_type: str
    err_msg: str
    exit_code: int
    time: float = 0.0  # seconds since 1970
    ended_pid: int | None = None  # of a rank that ended without a message of its own

    @classmethod
    def of(cls, error: BaseException, message: str, exit_code: int) -> "Failure":
        """The failure for an exception."""
        kind = type(error)
        name = f"<class '{kind.__module__}.{kind.__qualname__}'>"
        return cls(message, name, str(error), exit_code, time.time())


def clear_notes(log_dir: Path) -> None:
    """Create the folder and remove the files of an earlier run."""
    log_dir.mkdir(parents=True, exist_ok=True)
    for pattern in ("worker.*.json", "failure.*.json", "workerlog.*", "envlog.*", "backup_env.*", "*.log"):
        for path in log_dir.glob(pattern):
            path.unlink()


def note_worker(log_dir: Path, rank: int, pid: int) -> None:
    """Write the process id of a rank."""
    write_json(log_dir / f"worker.{rank}.json", {"pid": pid})


def forget_worker(log_dir: Path, rank: int) -> None:
    """Remove the file of ``note_worker``, because the system may reuse the process id."""
    (log_dir / f"worker.{rank}.json").unlink()


def read_workers(log_dir: Path) -> dict[int, int]:
    """Process ids by rank, of the ranks that run on this machine."""
    return {int(path.name.split(".")[1]): data["pid"] for path, data in _read(log_dir, "worker.*.json")}


def note_failure(log_dir: Path, rank: int, failure: Failure) -> None:
    """Write why a rank ends. Only the first reason of a rank is kept."""
    path = log_dir / f"failure.{rank}.json"
    if not path.exists():
        write_json(path, asdict(failure))


def read_failures(log_dir: Path) -> list[Failure]:
    """All failures on this machine, the earliest first."""
    failures = [Failure(**data) for _, data in _read(log_dir, "failure.*.json")]
    return sorted(failures, key=lambda failure: failure.time)


def _read(log_dir: Path, pattern: str) -> Iterator[tuple[Path, dict]]:
    for path in sorted(log_dir.glob(pattern)):
        with suppress(FileNotFoundError):
            yield path, json.loads(path.read_text(encoding="utf-8"))
