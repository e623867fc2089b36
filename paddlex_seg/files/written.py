"""Which files the toolkit wrote. Results replace only these; every other file belongs to the user.

Each folder with results has a register, `REGISTER`. A line has the name of a file, and size and hash of the
content that was written. A file that a user put there, replaced or edited has another content. Lines are only
appended, so that two runs can share a folder. They are written before the file appears: a kill in between
leaves a line without a file, which says nothing, and never a file of ours that is taken for a user's. A line
may name the source of a result, such as an image. Results of other sources then do not replace it.

Without its register, a result counts as a file of the user. That errs on the safe side: it is kept.
"""

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from paddlex_seg.files.atomic import append_bytes, new_file
from paddlex_seg.files.publish import free_backup

_LOGGER = logging.getLogger(__name__)
REGISTER = ".paddlex_seg_files.jsonl"
# Instead of a content: the run that writes the file has not ended, or the file is a folder.
_ANY = "any"
_NOTHING = "nothing"  # the run that was to write the file failed before that


class WrittenFiles:
    """What the toolkit wrote, from the registers of the folders. Lines are read once."""

    def __init__(self) -> None:
        self._registers: dict[Path, _Register] = {}

    def wrote(self, path: Path) -> bool:
        """Whether ``path`` is as the toolkit left it. False if it does not exist or cannot be read."""
        contents = [line.content for line in self._of(path)]
        if not contents:
            return False
        if contents[-1] == _ANY:
            return True
        try:
            if not any(content.startswith(f"{path.stat().st_size}-") for content in contents):
                return False
            return _content_of(path) in contents
        except OSError:
            return False

    def knows(self, path: Path) -> bool:
        """Whether the toolkit has written a file of this name into this folder, whatever is there now."""
        return bool(self._of(path))

    def names(self, folder: Path) -> set[str]:
        """The names of all files that the toolkit has written into a folder."""
        return self._register(folder).names()

    def adopt(self, path: Path) -> None:
        """Count a file or folder as written by the toolkit."""
        if os.path.lexists(path):
            self.note(path, _ANY)

    def may_write(self, path: Path, source: str | None = None) -> bool:
        """Whether nothing is lost when ``path`` is written: nothing of the user, no result of another source.

        source: of what is to be written; None is any.
        """
        if not os.path.lexists(path):
            return True
        sources = {line.source for line in self._of(path)[-1:]}
        return self.wrote(path) and (source is None or sources <= {source, None})

    def free_name(self, path: Path, source: str | None = None) -> Path:
        """``path``, or if nothing may be written there, the first of ``x_2.png``, ``x_3.png`` that may be."""
        numbered = (path.with_stem(f"{path.stem}_{number}") for number in count(2))
        return next(name for name in chain([path], numbered) if self.may_write(name, source))

    def put(self, path: Path, content: bytes, source: str | None = None) -> None:
        """Write a file, as `atomic.write_bytes`, and note that the toolkit wrote it. source: of a result."""
        with new_file(path) as temporary:
            temporary.write_bytes(content)
            self.note(path, _content_of(temporary), source)

    def append(self, path: Path, content: bytes) -> None:
        """Append to a file that the toolkit wrote, as `atomic.append_bytes`."""
        self.note(path, _ANY)  # to hash a growing file each time would take quadratic time
        append_bytes(path, content)

    def note(self, path: Path, content: str, source: str | None = None) -> None:
        """Append a line to the register of the folder of ``path``, unless it says so already."""
        if self._of(path)[-1:] == [_Line(content, source)]:
            return
        entry = {"name": path.name, "content": content} | ({} if source is None else {"source": source})
        # The line break comes first: the last line may be incomplete after a kill.
        with (path.parent / REGISTER).open("ab") as file:
            file.write(("\n" + json.dumps(entry)).encode())

    def _of(self, path: Path) -> "list[_Line]":
        """What the toolkit wrote under the name of ``path``, the last one at the end."""
        return self._register(path.parent).lines(path.name)

    def _register(self, folder: Path) -> "_Register":
        place = folder.resolve()
        return self._registers.setdefault(place, _Register(place / REGISTER))


@dataclass(frozen=True)
class _Line:
    content: str  # as `_content_of`, or `_ANY` or `_NOTHING`
    source: str | None


class _Register:
    """The lines of a register. Those that were appended since, by any process, are read at the next look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def lines(self, name: str) -> list[_Line]:
        """The lines about a file."""
        self._read_on()
        return self._lines.get(name, [])

    def names(self) -> set[str]:
        """The names of all files."""
        self._read_on()
        return set(self._lines)

    def _read_on(self) -> None:
        try:
            size = self._path.stat().st_size
            if size < self._read:  # another file
                self._forget()
            if size > self._read:
                with self._path.open("rb") as file:
                    file.seek(self._read)
                    self._take(file.read())
        except OSError:
            self._forget()

    def _forget(self) -> None:
        self._lines: dict[str, list[_Line]] = defaultdict(list)
        self._read = 0  # bytes

    def _take(self, content: bytes) -> None:
        *whole, last = content.split(b"\n")
        for line in whole:
            self._add(line)
        # The last line may still be written by another process.
        self._read += len(content) - (0 if self._add(last) else len(last))

    def _add(self, line: bytes) -> bool:
        """Add a line, unless it is empty or a kill left it incomplete."""
        try:
            row = json.loads(line)
            found = _Line(str(row["content"]), row.get("source"))
            self._lines[str(row["name"])].append(found)
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        return True


def keep_foreign(path: Path) -> Path | None:
    """Rename a file or folder that the toolkit did not write to ``path.bak``, and log that.

    Returns the new path; None when there is nothing to keep.
    """
    if WrittenFiles().may_write(path):
        return None
    backup = free_backup(path)
    os.replace(path, backup)
    _LOGGER.warning(
        "%s was not written by this toolkit, or has been changed since. It is kept as %s.", path, backup
    )
    return backup


@contextmanager
def claimed(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """While the context lasts, a run writes files of these fixed names into ``folder``, in any way.

    Files of the user with these names are kept, see `keep_foreign`. They get their names back if the run
    fails before it has written its own. names: may contain wildcards. The folder is created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    patterns = tuple(names)
    plain = [folder / name for name in patterns if "*" not in name]
    there = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    kept = {path: backup for path in there if (backup := keep_foreign(path)) is not None}
    written = WrittenFiles()
    for path in plain:
        written.note(path, _ANY)
    try:
        yield
    except BaseException:
        for path in plain:
            if not os.path.lexists(path):
                written.note(path, _NOTHING)
        for path, backup in kept.items():
            if not os.path.lexists(path):
                os.replace(backup, path)
        raise
    for pattern in patterns:
        for path in folder.glob(pattern):
            written.note(path, _content_of(path) if path.is_file() else _ANY)


def _content_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return f"{file.tell()}-{digest.hexdigest()}"
