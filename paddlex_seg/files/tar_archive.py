"""Tar archives from servers and users, plain or compressed with gzip. Nothing in them is trusted.

All members are looked at before the first file is written: names that lead elsewhere, links, devices, sizes
and counts. Files are then written under names that the caller chooses. `tarfile.extractall` is never used.
"""

import gzip
import io
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from paddlex_seg.files.archive import leads_out

MAX_MEMBERS = 1000
MAX_BYTES = 10_000_000_000  # of all files, unpacked
_MAX_READ = 2**24  # at once: a header of tar may say that it is as long as the archive
_BLOCK = 2**20
_DAMAGES = (tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError, OverflowError)


class ArchiveError(Exception):
    """An archive that is damaged or refused. The message says why, without the path of the archive."""


def list_files(path: Path) -> dict[str, int]:
    """The size of each file in an archive, by relative name with forward slashes.

    Raises ArchiveError when the file is no tar archive, is damaged, has too many or too large files, a name
    that is absolute, leads out of the folder or occurs twice, or a member that is neither file nor folder.
    """
    with _opened(path) as archive:
        return {name: member.size for name, member in _members(archive)}


def unpack_files(path: Path, names: Mapping[str, str], target: Path) -> None:
    """Write files of an archive into the folder ``target``. names: new file name by name in the archive.

    Raises ArchiveError as ``list_files``, and then some files may have been written.
    """
    with _opened(path) as archive:
        for name, member in _members(archive):
            if name not in names:
                continue
            source = archive.extractfile(member)
            if source is None:
                raise ArchiveError(f"{name!r} cannot be read")
            with source, (target / names[name]).open("xb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
                if file.tell() != member.size:
                    raise ArchiveError(f"it ends within {name!r}")


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            if _is_web_page(start):
                raise ArchiveError("it is a web page, not a tar archive")
            content = gzip.GzipFile(fileobj=file) if start.startswith(b"\x1f\x8b") else file
            with tarfile.open(fileobj=_Bounded(content), mode="r:") as archive:
                yield archive
    except _DAMAGES as error:
        raise ArchiveError(
            f"it is no tar archive, or it is damaged ({error or type(error).__name__})"
        ) from error
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise ArchiveError(f"it is damaged ({error})") from error
        raise


def _is_web_page(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<?xml"))


class _Bounded(io.RawIOBase):
    """A file that refuses to read much at once, because tarfile would keep all of it in memory."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise ValueError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The files of an archive in its order, each with its name. Members are checked before they are given."""
    seen: set[str] = set()
    total = 0
    for count, member in enumerate(archive, start=1):
        name = member.name.replace("\\", "/")
        if leads_out(name):
            raise ArchiveError(f"the name {member.name!r} leads out of the folder of the archive")
        is_file = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
        if not (is_file or member.isdir()):
            raise ArchiveError(f"{member.name!r} is a link, a device or another special member")
        total += member.size
        if count > MAX_MEMBERS or member.size < 0 or total > MAX_BYTES:
            raise ArchiveError(
                f"it has more than {MAX_MEMBERS} members or {MAX_BYTES / 1e9:g} GB at {member.name!r}"
            )
        plain = posixpath.normpath(name)
        if member.isdir():
            continue
        if plain in seen:
            raise ArchiveError(f"it has two files named {plain!r}")
        seen.add(plain)
        yield plain, member
