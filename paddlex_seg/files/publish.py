"""Replace several files of a data set in one transaction, and replace folders with a backup.

`publish` leaves either all old files or all new files, whenever it is stopped. It writes the new files next
to the old ones. Then a journal in the folder of the data set lists all renames, which commits the new files.
If a run is killed between two renames, `recover` completes them; all code that opens a data set calls it. New
files in a journal must survive the process that wrote them, so they do not have temporary names of
`files.atomic`.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paddlex_seg.errors import DatasetError
from paddlex_seg.files.atomic import flush_all, link_or_copy, naming, new_file, new_folder, remove_leftovers
from paddlex_seg.files.json import write_json

_LOGGER = logging.getLogger(__name__)
JOURNAL = ".paddlex_seg_journal.json"


def publish(root: Path, files: Mapping[Path, bytes | Path | None]) -> None:
    """Write files into the data set in ``root``, all or none.

    files: by path below ``root``: the new content, a source file (linked if possible), or None to remove the
    file. An old file is kept as ``x.bak``, or ``x.bak.1`` and so on; no backup is ever overwritten. Files
    with unchanged content are not touched. Raises DatasetError when another run changes the data set at the
    same time.
    """
    recover(root)
    _clear_away(root)
    changes = {path: source for path, source in files.items() if not _is_there(path, source)}
    if not changes:
        return
    moves = [
        {
            "new": None if source is None else _relative(root, _name_of_new(path, number)),
            "path": _relative(root, path),
            "backup": _relative(root, free_backup(path)) if path.exists() else None,
        }
        for number, (path, source) in enumerate(changes.items())
    ]
    write_json(root / JOURNAL, {"committed": False, "moves": moves}, indent=None)
    try:
        for (path, source), move in zip(changes.items(), moves, strict=True):
            if source is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with naming(root / str(move["new"]), path):
                    _write_new(root / str(move["new"]), source)
        new = [root / move["new"] for move in moves if move["new"] is not None]
        if not all(path.exists() for path in new):
            raise DatasetError(
                f"{root}: another run is changing this data set. Wait until it ends, and run again."
            )
        flush_all(new)
        flush_all({path.parent for path in new})
        write_json(root / JOURNAL, {"committed": True, "moves": moves}, indent=None)
    except BaseException:
        _clear_away(root)
        raise
    _roll_forward(root, moves)
    for move in moves:
        if move["backup"] is not None:
            _say_kept(root / move["backup"])


def recover(root: Path) -> None:
    """Complete the committed changes of a killed `publish` in ``root``. Safe while another one runs."""
    journal = _read_journal(root)
    if journal is not None and journal["committed"]:
        _roll_forward(root, journal["moves"])


def _clear_away(root: Path) -> None:
    """Remove the files of a `publish` that was stopped before it committed."""
    journal = _read_journal(root)
    if journal is not None and not journal["committed"]:
        for move in journal["moves"]:
            if move["new"] is not None:
                (root / move["new"]).unlink(missing_ok=True)
        (root / JOURNAL).unlink(missing_ok=True)
    remove_leftovers(root)  # temporary files of the journal


def _read_journal(root: Path) -> Any:
    try:
        return json.loads((root / JOURNAL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill. It replaces ``target`` when the context ends without an error.

    An old folder is kept as ``target.bak``. The temporary folder of a killed run is removed by the next run.
    After a kill between the two renames at the end, only the backup exists.
    """
    remove_leftovers(target.parent)
    shutil.rmtree(
        target.with_name(f".{target.name}.new"), ignore_errors=True
    )  # name used by earlier versions
    with new_folder(target, backup=_kept_backup) as new:
        yield new


def _kept_backup(path: Path) -> Path:
    backup = free_backup(path)
    _say_kept(backup)
    return backup


def _say_kept(backup: Path) -> None:
    _LOGGER.info(f"The previous version is kept as {backup}")


def _roll_forward(root: Path, moves: list[dict[str, Any]]) -> None:
    """Do the renames of a journal. The killed run, or another recovery, may have done some already."""
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
    folders = {(root / move["path"]).parent for move in moves}
    flush_all(folder for folder in folders if folder.is_dir())
    (root / JOURNAL).unlink(missing_ok=True)


def _back_up(path: Path, backup: Path) -> None:
    """Link the backup as a second name of the file, so that the file itself is never missing."""
    with suppress(FileExistsError):
        try:
            os.link(path, backup)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with new_file(backup) as temporary:
                shutil.copy2(path, temporary)


def _write_new(path: Path, source: bytes | Path) -> None:
    path.unlink(missing_ok=True)
    if isinstance(source, Path):
        link_or_copy(source, path)
    else:
        path.write_bytes(source)


def _name_of_new(path: Path, number: int) -> Path:
    """The name is shortened, so that one of 255 bytes also has a temporary name."""
    return path.with_name(f".{number}-{path.name[:30]}.new")


def _is_there(path: Path, source: bytes | Path | None) -> bool:
    if source is None:
        return not path.exists()
    if not path.is_file():
        return False
    if isinstance(source, Path):
        return path.samefile(source) or path.read_bytes() == source.read_bytes()
    return path.stat().st_size == len(source) and path.read_bytes() == source


def free_backup(path: Path) -> Path:
    """The first unused name of ``path.bak``, ``path.bak.1`` and so on."""
    return next(name for name in _backup_names(path) if not name.exists())


def _backup_names(path: Path) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.bak")
    number = 1
    while True:
        yield path.with_name(f"{path.name}.bak.{number}")
        number += 1


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
