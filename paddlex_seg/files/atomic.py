"""Files and folders that appear whole or not at all. Every file of the package is made this way.

What is written goes under a temporary name beside its place, and gets its own name by one rename when it is
complete. A reader, a crash or Ctrl-C therefore never meets half a file under a final name.

**Durability.** Data are flushed to the disk before the rename, and the folder after it. Without the first
flush, a file system may keep the rename and lose the data when the power fails: an empty file then stands
under the final name, and the old one is gone. Without the second, what was reported as saved may be gone. A
flush took 3 ms on an SSD with ext4 (2,000 files of 3 kB), which is little against making a checkpoint, a page
or a drawing; those of a folder are flushed side by side, 0.1 ms each. There is no switch: a file is either
worth that, or it is a log, which is appended.

**Temporary names** are ``.<beginning of the name>.new-<pid>-<start>-<random><ending>``. Process id and start
time say who writes, so that leftovers of killed processes are known by their names alone. The start time
matters in containers, where each run may have the same id. The ending is that of the final name, because
many writers choose the format by it.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY_NAME = re.compile(
    r"\..*\.new-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}(?P<ending>\.[^.]*)?", re.DOTALL
)
_PROC = Path("/proc")
_FLUSHED_AT_ONCE = 16
# What the system reports of a full or broken disk without naming the file.
_DISK_ERRORS = {errno.ENOSPC, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; it becomes ``path`` when the context ends without an error.

    The folder is made when missing. After an error the temporary file is gone and an old file is untouched.
    An OSError of the disk names ``path``.
    """
    temporary = temporary_path(path)
    with _naming(temporary, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, backup: Callable[[Path], Path] | None = None) -> Iterator[Path]:
    """A new folder to fill; it becomes ``path`` when the context ends without an error.

    A folder that was there is renamed to ``backup(path)``, or deleted. Folders cannot be exchanged in one
    step: of a kill between the two renames, the new folder or none is under the name, never a mixture. After
    an error the temporary folder is gone and an old one is untouched. An OSError of the disk names ``path``.
    """
    temporary = temporary_path(path)
    with _naming(temporary, path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _flush_tree(temporary)
            _exchange(temporary, path, backup)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """A temporary folder for files that belong together; they become files of ``folder``, which has others.

    All are complete before the first gets its name; those of the same names are replaced. The folder is made
    when missing. After an error nothing of them is there. An OSError of the disk names ``folder``.
    """
    temporary = temporary_path(folder / "files")
    with _naming(temporary, folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _flush_tree(temporary)
            for path in sorted(temporary.iterdir()):
                os.replace(path, folder / path.name)
            flush(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; its folder is made when missing."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, line ends as they are; whole or not at all, as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def put_in_place(new: Path, path: Path) -> None:
    """Give a complete file its final name, in the same folder, once its data are on the disk."""
    flush(new)
    os.replace(new, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Have a file's data, or a folder's names, on the disk before this returns."""
    if os.name == "nt":  # where neither folders nor files that are open for reading can be flushed
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:  # not all file systems can do that for folders
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def flush_all(paths: Iterable[Path]) -> None:
    """``flush`` of many files, or of many folders, side by side."""
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as threads:
        for _ in threads.map(flush, paths):
            pass


def temporary_path(path: Path) -> Path:
    """A name for what this process writes before it becomes ``path``: in the same folder, and new."""
    pid = os.getpid()
    # Cut, so that a name of 255 bytes still has a temporary one.
    return path.with_name(
        f".{path.stem[:30]}.new-{pid}-{_start_of(pid)}-{secrets.token_hex(4)}{path.suffix[:20]}"
    )


def remove_leftovers(folder: Path, *, older: re.Pattern[str] | None = None) -> None:
    """Delete what killed processes have left under temporary names in ``folder``, not below it.

    What a living process writes stays. Processes of other machines and containers cannot be seen: call this
    for folders that they do not write into at the same time. ``older`` is a pattern for temporary names of
    other rules, with the process id as group ``pid`` where they have one.
    """
    for path in folder.glob(".*"):
        if not _is_leftover(path.name, older):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _is_leftover(name: str, older: re.Pattern[str] | None) -> bool:
    found = _TEMPORARY_NAME.fullmatch(name)
    if found is not None:
        return _start_of(int(found["pid"])) != int(found["start"])
    found = older.fullmatch(name) if older is not None else None
    if found is None:
        return False
    pid = int(found["pid"] or 0)
    # This process writes under no such name, so its own id is that of one before it.
    return pid in (0, os.getpid()) or _start_of(pid) is None


def _start_of(pid: int) -> int | None:
    """When a process began, in clock ticks since the system did; None when it has ended.

    0 where the system does not say when it began, and on Windows also for one that has ended.
    """
    if (_PROC / "self" / "stat").is_file():
        try:
            stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks
        return None if fields[0] in "ZX" else int(fields[19])
    if os.name == "nt":  # os.kill would end the process
        return 0
    try:
        os.kill(pid, 0)
    except PermissionError:
        return 0
    except (ProcessLookupError, OverflowError):
        return None
    return 0


def _exchange(new: Path, path: Path, backup: Callable[[Path], Path] | None) -> None:
    """Put a folder in the place of another, which goes only after the new one is there."""
    old = None
    if path.exists():
        old = temporary_path(path) if backup is None else backup(path)
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if old is not None and not path.exists():
            os.replace(old, path)
        raise
    flush(path.parent)
    if old is not None and backup is None:
        shutil.rmtree(old, ignore_errors=True)


def _flush_tree(folder: Path) -> None:
    """Flush all files below a folder, then the folders; links are followed nowhere."""
    files: list[Path] = []
    folders: list[Path] = []
    for place, _, names in os.walk(folder):
        folders.append(Path(place))
        files += [path for path in (Path(place, name) for name in names) if not path.is_symlink()]
    flush_all(files)
    flush_all(folders)


@contextmanager
def _naming(temporary: Path, path: Path) -> Iterator[None]:
    """Have errors of the disk name the final path, since nobody knows the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _DISK_ERRORS:
            error.filename = str(path)
        elif isinstance(error.filename, str | os.PathLike) and error.filename2 is None:
            error.filename = os.fspath(error.filename).replace(str(temporary), str(path), 1)
        raise
