"""Files and folders that appear complete or not at all, also several files of a data set at once.

`publish`: whenever it is stopped, the old set is there or the new one. The new files are written beside the
old ones. A journal in the folder of the data set then says what is to be renamed; from that moment the new
set counts. A run that is killed between two renames is completed by `recover`, which everything calls that
opens a data set.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paddlex_seg.errors import DatasetError

_LOGGER = logging.getLogger(__name__)
JOURNAL = ".paddlex_seg_journal.json"


def publish(root: Path, files: Mapping[Path, bytes | Path | None]) -> None:
    """Put files into the data set in ``root``, all or none.

    files: by path below ``root``, the new content, a file to take it from (linked where possible), or None
    for a file that is to go. What was there becomes ``x.bak``, or ``x.bak.1`` and so on: no backup is ever
    overwritten. Files whose content stays the same are not touched. Raises DatasetError when another run
    changes the data set at the same time.
    """
    recover(root)
    _clear_away(root)
    changes = {path: source for path, source in files.items() if not _is_there(path, source)}
    if not changes:
        return
    moves = [
        {
            "new": None if source is None else _relative(root, path.with_name(f".{path.name}.new")),
            "path": _relative(root, path),
            "backup": _relative(root, free_backup(path)) if path.exists() else None,
        }
        for path, source in changes.items()
    ]
    _write_journal(root, {"committed": False, "moves": moves})
    try:
        for (path, source), move in zip(changes.items(), moves, strict=True):
            if source is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_new(root / str(move["new"]), source)
        if not all((root / move["new"]).exists() for move in moves if move["new"] is not None):
            raise DatasetError(f"{root}: another run changes this data set. Wait for its end, and run again.")
        _write_journal(root, {"committed": True, "moves": moves})
    except BaseException:
        _clear_away(root)
        raise
    _roll_forward(root, moves)
    for move in moves:
        if move["backup"] is not None:
            _say_kept(root / move["backup"])


def recover(root: Path) -> None:
    """Complete what a killed `publish` had decided on in ``root``; does not disturb one that is at work."""
    journal = _read_journal(root)
    if journal is not None and journal["committed"]:
        _roll_forward(root, journal["moves"])


def _clear_away(root: Path) -> None:
    """Remove what a `publish` that was stopped before its decision had written."""
    journal = _read_journal(root)
    if journal is not None and not journal["committed"]:
        for move in journal["moves"]:
            if move["new"] is not None:
                (root / move["new"]).unlink(missing_ok=True)
        (root / JOURNAL).unlink(missing_ok=True)
    (root / f"{JOURNAL}.new").unlink(missing_ok=True)


def _read_journal(root: Path) -> Any:
    try:
        return json.loads((root / JOURNAL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def replace_file(path: Path, content: bytes) -> None:
    """Write one file, complete or not at all; its folder is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # a temporary file is private to its owner, a data set is not
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A new folder to be filled, which takes the place of ``target`` when the context ends without an error.

    A folder that was there becomes ``target.bak``. What a killed run had filled is removed by the next one.
    Of a kill between the two renames at the end, the backup is left and no target.
    """
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        backup = free_backup(target) if target.exists() else None
        if backup is not None:
            os.replace(target, backup)
            _say_kept(backup)
        os.replace(new, target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _say_kept(backup: Path) -> None:
    _LOGGER.info(f"What was there before is kept as {backup}")


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy where the file system cannot do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _roll_forward(root: Path, moves: list[dict[str, Any]]) -> None:
    """Every step may have been done already, by the run that was killed or by one that recovers as well."""
    for move in moves:
        path = root / move["path"]
        if move["new"] is None:
            with suppress(FileNotFoundError):
                os.replace(path, root / move["backup"])
            continue
        if not (root / move["new"]).exists():
            continue
        if move["backup"] is not None:
            _back_up(path, root / move["backup"])
        with suppress(FileNotFoundError):
            os.replace(root / move["new"], path)
    (root / JOURNAL).unlink(missing_ok=True)


def _back_up(path: Path, backup: Path) -> None:
    """A second name for the file, so that there is no moment without it."""
    with suppress(FileExistsError):
        try:
            os.link(path, backup)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            temporary = backup.with_name(f".{backup.name}.new")
            shutil.copy2(path, temporary)
            os.replace(temporary, backup)


def _write_new(path: Path, source: bytes | Path) -> None:
    path.unlink(missing_ok=True)
    if isinstance(source, Path):
        link_or_copy(source, path)
        return
    with path.open("wb") as file:
        file.write(source)
        file.flush()
        os.fsync(file.fileno())


def _write_journal(root: Path, journal: Mapping[str, Any]) -> None:
    temporary = root / f"{JOURNAL}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(journal, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, root / JOURNAL)


def _is_there(path: Path, source: bytes | Path | None) -> bool:
    if source is None:
        return not path.exists()
    if not path.is_file():
        return False
    if isinstance(source, Path):
        return path.samefile(source) or path.read_bytes() == source.read_bytes()
    return path.stat().st_size == len(source) and path.read_bytes() == source


def free_backup(path: Path) -> Path:
    """``path.bak``, ``path.bak.1`` and so on: the first that is not taken."""
    return next(name for name in _backup_names(path) if not name.exists())


def _backup_names(path: Path) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.bak")
    number = 1
    while True:
        yield path.with_name(f"{path.name}.bak.{number}")
        number += 1


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
