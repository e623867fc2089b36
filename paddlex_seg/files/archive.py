"""Zip archives of users: names and sizes are checked before anything is unpacked."""

import json
import posixpath
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.errors import DatasetError
from paddlex_seg.files.atomic import new_folder, remove_leftovers
from paddlex_seg.files.json import write_json

MAX_MEMBERS = 1_000_000
MAX_BYTES = 200 * 2**30  # unpacked
_MAX_RATIO = 200  # unpacked size to size of the archive; JSON and masks reach 100
_RATIO_COUNTS_FROM = 2**30  # a small archive may have any ratio
_BLOCK = 2**20
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
_JUNK_FOLDERS = ("__MACOSX",)
_JUNK_FILES = ("thumbs.db", "desktop.ini")


def is_junk(name: str) -> bool:
    """Whether a file or folder name is one that a system leaves behind, or hidden."""
    return name.startswith(".") or name in _JUNK_FOLDERS or name.lower() in _JUNK_FILES


@dataclass(frozen=True)
class Archive:
    """The files of a zip archive, by relative name with forward slashes. What systems leave behind is out."""

    path: Path
    members: Mapping[str, zipfile.ZipInfo]

    def read_start(self, name: str, size: int) -> bytes:
        """The first bytes of a file. Raises DatasetError when it is damaged."""
        with self._naming(name), zipfile.ZipFile(self.path) as archive:
            with archive.open(self.members[name]) as file:
                return file.read(size)

    def unpack(self, target: Path) -> None:
        """Write all files below ``target``, which then has nothing else. All or nothing.

        An unchanged archive is not unpacked twice. Raises DatasetError when the archive is damaged or the
        disk has too little space.
        """
        note = target.with_name(f"{target.name}.unpacked.json")
        state = {"archive": str(self.path.resolve()), "size": self.path.stat().st_size}
        state["changed"] = self.path.stat().st_mtime_ns
        if target.is_dir() and _read_note(note) == state:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        total = sum(info.file_size for info in self.members.values())
        free = shutil.disk_usage(target.parent).free
        if total > free:
            raise DatasetError(
                f"{self.path}: its files need {_size_text(total)}, but {target.parent} has only "
                f"{_size_text(free)} left. Free space there, or set Global.output to another disk."
            )
        note.unlink(missing_ok=True)
        with new_folder(target) as new, zipfile.ZipFile(self.path) as archive:
            for name, info in self.members.items():
                place = new / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with self._naming(name), archive.open(info) as source, place.open("xb") as file:
                    shutil.copyfileobj(source, file, _BLOCK)
        write_json(note, state)

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGES as error:
            raise DatasetError(
                f"{self.path}: {name!r} in this archive cannot be unpacked ({error}). Download or export the "
                "archive again."
            ) from error


_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def open_archive(path: Path) -> Archive:
    """The checked list of files in a zip archive.

    Raises DatasetError when the file is no zip archive, is damaged or encrypted, has too many or too large
    files, or a file whose name is absolute, leads out of the folder or occurs twice, or that is a link.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _DAMAGES as error:
        raise DatasetError(
            f"{path}: not a readable zip archive ({error}). Download or export the archive again."
        ) from error
    as_gbk = _names_are_gbk(entries)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in entries:
        name = _name_of(info, as_gbk).replace("\\", "/")
        _require_safe(path, name, info)
        plain = posixpath.normpath(name)
        if name.endswith("/") or any(is_junk(part) for part in plain.split("/")):
            continue
        if plain in members:
            raise DatasetError(f"{path}: has two files named {plain!r}. Pack the archive again.")
        members[plain] = info
    folders = {str(parent) for name in members for parent in _parents(name)}
    if both := sorted(folders & members.keys()):
        raise DatasetError(f"{path}: {both[0]!r} is a file and a folder. Pack the archive again.")
    _require_sizes(path, members)
    return Archive(path, members)


def _parents(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def leads_out(name: str) -> bool:
    """Whether a name with forward slashes is absolute, or leads out of the folder to which it is relative."""
    return bool(
        name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name
    )


def _require_safe(path: Path, name: str, info: zipfile.ZipInfo) -> None:
    if leads_out(name):
        raise DatasetError(
            f"{path}: the name {name!r} leads out of the folder of the archive. Nothing was unpacked. Pack "
            "the archive again, with relative names."
        )
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError(
            f"{path}: {name!r} is a link or a special file. Nothing was unpacked. Pack the archive again, "
            "with the files themselves."
        )
    if info.flag_bits & _ENCRYPTED:
        raise DatasetError(
            f"{path}: {name!r} is encrypted. Nothing was unpacked. Unpack the archive with its password, and "
            "set Global.dataset_dir to the folder."
        )


def _require_sizes(path: Path, members: Mapping[str, zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in members.values())
    packed = max(1, path.stat().st_size)
    limits = f"at most {MAX_MEMBERS:,} files, {_size_text(MAX_BYTES)} unpacked"
    if len(members) > MAX_MEMBERS or total > MAX_BYTES:
        raise DatasetError(
            f"{path}: has {len(members):,} files, {_size_text(total)} unpacked; expected {limits}. Nothing "
            "was unpacked. Unpack it yourself, and set Global.dataset_dir to the folder."
        )
    if total > max(_RATIO_COUNTS_FROM, _MAX_RATIO * packed):
        raise DatasetError(
            f"{path}: its {_size_text(packed)} unpack to {_size_text(total)}, more than {_MAX_RATIO} times "
            "as much, as in an archive that is made to fill disks. Nothing was unpacked. If you trust it, "
            "unpack it yourself, and set Global.dataset_dir to the folder."
        )


def _size_text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _name_of(info: zipfile.ZipInfo, as_gbk: bool) -> str:
    """The name of a file. Without the mark for UTF-8 it should be cp437, but many programs write others."""
    if info.flag_bits & _UTF8_NAME:
        return info.orig_filename
    raw = _raw_name(info)
    if as_gbk:  # all names, also those that could be UTF-8 by chance
        return raw.decode("gbk")
    return raw.decode("utf-8" if _is_utf8(raw) else "cp437")


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    try:
        return info.orig_filename.encode("cp437")
    except UnicodeEncodeError:  # from an extra field with the Unicode name
        return info.orig_filename.encode()


def _names_are_gbk(entries: list[zipfile.ZipInfo]) -> bool:
    """Whether all names that are not marked as UTF-8 are Chinese in GBK, and one of them is not UTF-8.

    The letters of cp437 lie below 0xB0, the usual Chinese characters of GBK begin with bytes from 0xB0 on.
    """
    raws = [_raw_name(info) for info in entries if not info.flag_bits & _UTF8_NAME]
    if all(map(_is_utf8, raws)):
        return False
    for raw in raws:
        try:
            text = raw.decode("gbk")
        except UnicodeDecodeError:
            return False
        others = [character for character in text if not character.isascii()]
        if not all("\u4e00" <= character <= "\u9fff" for character in others):
            return False
        if not all(character.encode("gbk")[0] >= 0xB0 for character in others):
            return False
    return True


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read_note(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
