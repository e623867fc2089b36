"""Atomic writes of files and folders: all or nothing. Every file of the package is written this way.

A file is written under a temporary name in the same folder. When it is complete, it gets its final name by
one rename. A reader, a crash or Ctrl-C therefore never leaves an incomplete file under a final name.

**Durability.** Data is flushed to disk before the rename, and the folder after it. Without the first flush, a
file system may keep the rename but lose the data when the power fails: the new file is then empty, and the
old one is gone. Without the second flush, a file that was reported as saved may be lost. A flush took 3 ms on
an SSD with ext4 (2,000 files of 3 kB), which is little compared with writing a checkpoint, a page or a
visualization. Files of a folder are flushed in parallel, 0.1 ms each. There is no option to disable this: the
only files without a flush are logs, which are appended to.

**Temporary names** are ``.<beginning of the name>.new-<pid>-<start>-<random><ending>``. Process id and start
time identify the writer, so temporary files of killed processes are recognised by name. The start time is
needed in containers, where each run may have the same process id. The ending is that of the final name,
because many writers choose the format by it.
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
_PROBED_BYTES = 4096  # one block of most file systems
# Errors of a full or broken disk, which the system reports without a file name.
_DISK_ERRORS = {errno.ENOSPC, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to. The file becomes ``path`` when the context ends without an error.

    The folder is created if missing. After an error the temporary file is removed and an old file stays.
    Disk errors (OSError) name ``path``.
    """
    temporary = temporary_path(path)
    with naming(temporary, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            put_in_place(temporary, path)
        finally:
            with suppress(OSError):  # it is gone, or an error is on its way that tells more
                temporary.unlink()


@contextmanager
def new_folder(path: Path, *, backup: Callable[[Path], Path] | None = None) -> Iterator[Path]:
    """A temporary folder to fill. It becomes ``path`` when the context ends without an error.

    An old folder is renamed to ``backup(path)``, or deleted if ``backup`` is None. Replacing a folder takes
    two renames. After a kill between them there is no folder ``path``, but never a mixture of old and new.
    After an error the temporary folder is removed and an old folder stays. Disk errors (OSError) name
    ``path``.
    """
    temporary = temporary_path(path)
    with naming(temporary, path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _flush_tree(temporary)
            _exchange(temporary, path, backup)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """A temporary folder for files that belong together. They are then moved into ``folder``.

    All files are complete before the first is moved. Files of the same names are replaced; other files of
    ``folder`` stay. The folder is created if missing. After an error, also of a rename, the old files are
    there. Disk errors (OSError) name ``folder``.
    """
    temporary = temporary_path(folder / "files")
    with naming(temporary, folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _flush_tree(temporary)
            _move_all(temporary, folder)
            flush(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, all or nothing. Its folder is created if missing."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def append_bytes(path: Path, content: bytes) -> None:
    """Append to a file. After an error, also of a full disk, and after Ctrl-C it is as before."""
    with naming(path, path), path.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        except BaseException:
            file.truncate(size)
            raise


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 without changing line ends, in the same way as `write_bytes`.

    Bytes of a file name that are not UTF-8 are written as escapes, which JSON reads back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def reserved_space(path: Path) -> Iterator[Callable[[int], None]]:
    """Reserve space on the disk for a file that is written after the context, even if the disk is then full.

    Call the yielded function with a number of bytes, as often as more are needed. Disk errors (OSError) name
    ``path``.
    """
    temporary = temporary_path(path)
    with naming(temporary, path):
        try:
            with temporary.open("wb") as file:

                def reserve(num_bytes: int) -> None:
                    file.write(bytes(num_bytes))
                    file.flush()

                yield reserve
        finally:
            temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Create a folder if missing, and write and remove a small file in it. Raises OSError.

    Only a try tells: rights say nothing about read-only and full disks, and nothing at all to root.
    """
    probe = temporary_path(folder / "probe")
    with naming(probe, folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as file:
                if os.name != "nt":
                    probe.unlink()  # at once, so that a killed run leaves nothing
                file.write(bytes(_PROBED_BYTES))
                file.flush()
                _sync(file.fileno())
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def put_in_place(new: Path, path: Path) -> None:
    """Flush a complete file to disk and rename it to its final name in the same folder."""
    flush(new)
    os.replace(new, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file's data, or a folder's entries, to disk."""
    if os.name == "nt":  # Windows can flush neither folders nor files that are open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as problem:  # not all file systems can flush folders
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def flush_all(paths: Iterable[Path]) -> None:
    """``flush`` many files, or many folders, in parallel."""
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as threads:
        for _ in threads.map(flush, paths):
            pass


def temporary_path(path: Path) -> Path:
    """A new temporary name in the folder of ``path``, for a file or folder that becomes ``path``."""
    pid = os.getpid()
    return path.with_name(f"{_begin_of(path)}{pid}-{start_of(pid)}-{secrets.token_hex(4)}{path.suffix[:20]}")


def _begin_of(path: Path) -> str:
    # The name is shortened, so that a name of 255 bytes also has a temporary name.
    return f".{path.stem[:30]}.new-"


def remove_leftovers(folder: Path, *, older: re.Pattern[str] | None = None, of: str | None = None) -> None:
    """Delete temporary files and folders of killed processes in ``folder``, but not in its sub-folders.

    Files of running processes stay. Processes on other machines and in other containers are not visible: do
    not call this while they write into the same folder. ``older`` is a pattern for temporary names of earlier
    versions, with the process id, if any, as group ``pid``. ``of``: only those of a file with this name.
    """
    begin = "." if of is None else _begin_of(Path(of))
    for path in folder.glob(".*"):
        if not path.name.startswith(begin) or not _is_leftover(path.name, older):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _is_leftover(name: str, older: re.Pattern[str] | None) -> bool:
    found = _TEMPORARY_NAME.fullmatch(name)
    if found is not None:
        return start_of(int(found["pid"])) != int(found["start"])
    found = older.fullmatch(name) if older is not None else None
    if found is None:
        return False
    pid = int(found["pid"] or 0)
    # This process does not use such names, so its own id means an earlier process with the same id.
    return pid in (0, os.getpid()) or start_of(pid) is None


def start_of(pid: int) -> int | None:
    """The start time of a process, in clock ticks since system start; None when the process has ended.

    0 when the system does not report start times. On Windows this includes processes that have ended.
    """
    if (_PROC / "self" / "stat").is_file():
        try:
            stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the process name before it may contain spaces
        return None if fields[0] in "ZX" else int(fields[19])
    if os.name == "nt":  # there, os.kill would end the process
        return 0
    try:
        os.kill(pid, 0)
    except PermissionError:
        return 0
    except (ProcessLookupError, OverflowError):
        return None
    return 0


def _move_all(new: Path, folder: Path) -> None:
    """Move the files of ``new`` into ``folder``. After an error, undo what was done."""
    paths, old = sorted(new.iterdir()), temporary_path(new / "old")
    moved: list[Path] = []
    old.mkdir()
    try:
        for path in paths:
            target = folder / path.name
            if target.exists():
                link_or_copy(target, old / path.name)
            os.replace(path, target)
            moved.append(target)
    except BaseException:
        for target in moved:
            with suppress(OSError):
                if (old / target.name).exists():
                    os.replace(old / target.name, target)
                else:
                    target.unlink()
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file under a second name, or copy it if the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _exchange(new: Path, path: Path, backup: Callable[[Path], Path] | None) -> None:
    """Replace a folder. The old folder is removed only after the new one is in place."""
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
    """Flush all files below a folder, then the folders. Symbolic links are not followed."""
    files: list[Path] = []
    folders: list[Path] = []
    for place, _, names in os.walk(folder):
        folders.append(Path(place))
        files += [path for path in (Path(place, name) for name in names) if not path.is_symlink()]
    flush_all(files)
    flush_all(folders)


@contextmanager
def naming(temporary: Path, path: Path) -> Iterator[None]:
    """Make disk errors name the final path instead of the temporary one, which users do not know."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _DISK_ERRORS:
            error.filename = str(path)
        elif isinstance(error.filename, str | os.PathLike):
            error.filename = os.fspath(error.filename).replace(str(temporary), str(path), 1)
            if error.filename2 is not None:
                error.filename2 = os.fspath(error.filename2).replace(str(temporary), str(path), 1)
                if error.filename2 == error.filename:
                    del error.filename2  # the rename from the temporary name
        raise
