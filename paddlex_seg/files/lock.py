"""A lock file in a folder: at most one process writes there. It says who holds it.

On the same machine, process id and start time decide whether the holder still runs, so the lock of a killed
process is taken over at once. Elsewhere (another machine, another container, or a system without start times)
the holder is taken for dead when it has not touched the file for `SILENT_SECONDS`. A holder that is stopped
for longer than that on another machine therefore loses its lock.

The lock appears by a hard link, so it is complete from the beginning and exactly one of several processes
gets it. A file system without hard links has it empty for a moment, and an empty or damaged lock counts until
it is silent.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import flush, start_of, temporary_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOGGER = logging.getLogger(__name__)
LOCK_FILE = "train.lock"
BEAT_SECONDS = 15.0
SILENT_SECONDS = 120.0
TURN_SECONDS = 2.0  # how long to wait for another process that is just looking at the lock
_BOOT_ID, _PROCESS_TABLE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    host: str
    machine: str  # equal where process ids mean the same processes
    pid: int
    start: int  # of the process, see `start_of`; 0 when unknown
    since: str


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if missing, while the context lasts.

    Raises ConfigError when another process holds it, or when the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        content = _take(path)
    except OSError as error:
        raise ConfigError(
            f"Global.output: {folder} cannot be written: {error.strerror}. Correct the cause, or set another "
            "folder."
        ) from error
    ended = threading.Event()
    threading.Thread(target=_beat, args=(path, content, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            if path.read_bytes() == content:
                path.unlink()


def require_free(folder: Path) -> None:
    """Raise ConfigError when a running process holds the lock of a folder. Changes nothing."""
    path = folder / LOCK_FILE
    with suppress(FileNotFoundError):
        _require_ended(path, now=time.time())


def _take(path: Path) -> bytes:
    """Write the lock and return its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(asdict(_this_process()), ensure_ascii=False).encode()
    new = temporary_path(path)
    try:
        new.write_bytes(content)
        flush(new)
        with _in_turn(path.parent):
            while not _put(new, path, content):
                # The time of the new file is of the same clock as the time of the lock, also on a server.
                with suppress(FileNotFoundError):  # it was released just now
                    _require_ended(path, now=new.stat().st_mtime)
                    path.unlink()
    finally:
        new.unlink(missing_ok=True)
    return content


def _put(new: Path, path: Path, content: bytes) -> bool:
    """Give a complete file its final name. Return False when there is such a file."""
    try:
        try:
            os.link(new, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("xb") as file:
                file.write(content)
    except FileExistsError:
        return False
    return True


def _require_ended(path: Path, *, now: float) -> None:
    """Raise ConfigError when the holder of a lock still runs. Raises FileNotFoundError without a lock."""
    silent = now - path.stat().st_mtime
    holder = _read(path)
    if not _runs(holder, silent):
        return
    who = "another training" if holder is None else f"process {holder.pid} on {holder.host}"
    since = "" if holder is None else f" since {holder.since}"
    told = (
        ""
        if holder is not None and _is_checkable(holder)
        else f" Its last sign of life was {max(0, silent):.0f} s ago; after {SILENT_SECONDS:.0f} s without "
        "one the folder is free."
    )
    raise ConfigError(
        f"Global.output: {path.parent} is in use by {who}, which trains there{since}.{told} Wait until it "
        "has ended, stop that process, or set another Global.output."
    )


def _runs(holder: Holder | None, silent: float) -> bool:
    """Whether the holder of a lock still runs. silent: seconds since its last sign of life."""
    if holder is not None and holder.machine == _machine():
        if start_of(holder.pid) != holder.start:
            return False
        if holder.start:
            return True
    return silent < SILENT_SECONDS


def _is_checkable(holder: Holder) -> bool:
    """Whether the system can tell if the holder runs."""
    return holder.start != 0 and holder.machine == _machine()


def _read(path: Path) -> Holder | None:
    """The holder of a lock; None when the file is damaged."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None


def _this_process() -> Holder:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return Holder(socket.gethostname(), _machine(), pid, start_of(pid) or 0, since)


def _machine() -> str:
    """A name of this system since its start, and of its process ids: containers have their own."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {os.readlink(_PROCESS_TABLE)}"
    except OSError:
        return socket.gethostname()


def _beat(path: Path, content: bytes, ended: threading.Event) -> None:
    """Touch the lock regularly, as long as it is the one of this process."""
    while not ended.wait(BEAT_SECONDS):
        with suppress(OSError):  # a disk that fails for a moment
            if path.read_bytes() == content:
                os.utime(path)


@contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """Let the processes of this machine look at a lock one after the other.

    Otherwise two of them could both find the lock of a killed process, and the slower one would remove the
    new lock of the faster one. Where folders cannot be locked, nothing is done.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + TURN_SECONDS
        while time.monotonic() < deadline:  # not for ever: users lock folders, too
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(handle)
