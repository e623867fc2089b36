"""The names of all files below a folder or in a zip archive, read once and within limits."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.data.layouts.contents import HEAD_BYTES, TAIL_BYTES, JsonKind, json_kind
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.archive import is_junk, open_archive
from paddlex_seg.files.written import REGISTER, WrittenFiles

MAX_FILES = 2_000_000
MAX_DEPTH = 12
# A folder with one of these, written by this toolkit, has the results of a run, and no data set.
_OF_RUNS = {f"{mode}_result.json" for mode in ("check_dataset", "train", "evaluate", "export")}
_SAMPLED = 20  # JSON files of a folder that are looked into, at its begin and at its end


@dataclass(frozen=True)
class Tree:
    """The files below a place. Names are relative, with forward slashes; the place itself is ``""``."""

    place: Path
    files: Mapping[str, tuple[str, ...]]  # by folder: the names of its files, sorted
    is_cut: bool  # there are more files or deeper folders than the limits
    read: Callable[[str], tuple[bytes, bytes]]  # begin and end of a file, which may overlap

    @cached_property
    def folders(self) -> Mapping[str, tuple[str, ...]]:
        """By folder: the names of its direct sub-folders, sorted."""
        found: dict[str, set[str]] = {"": set()}
        for folder in self.files:
            while folder:
                parent, _, name = folder.rpartition("/")
                found.setdefault(folder, set())
                found.setdefault(parent, set()).add(name)
                folder = parent
        return {folder: tuple(sorted(names)) for folder, names in found.items()}

    def files_of(self, folder: str, *suffixes: str) -> list[str]:
        """The files directly in a folder with these endings, in any case, as names from the place."""
        names = self.files.get(folder, ())
        return [join(folder, name) for name in names if name.lower().endswith(suffixes)]

    def below(self, folder: str) -> Iterator[str]:
        """The folder and all folders below it, in order of depth."""
        waiting = [folder] if folder in self.folders else []
        for found in waiting:
            yield found
            waiting += [join(found, name) for name in self.folders[found]]

    def has_below(self, folder: str, *suffixes: str) -> bool:
        """Whether the folder or a folder below it has a file with one of these endings."""
        return any(
            name.lower().endswith(suffixes) for at in self.below(folder) for name in self.files.get(at, ())
        )

    def has_images(self, folder: str) -> bool:
        """Whether the folder or a folder below it has an image file."""
        return self.has_below(folder, *IMAGE_SUFFIXES)

    def json_kinds(self, folder: str) -> list[tuple[str, JsonKind]]:
        """The JSON files directly in a folder and what they are. Of very many files, only some are read."""
        names = self.files_of(folder, ".json")
        if len(names) > 2 * _SAMPLED:
            names = names[:_SAMPLED] + names[-_SAMPLED:]
        return [(name, self.kind_of(name)) for name in names]

    def kind_of(self, name: str) -> JsonKind:
        """What a JSON file is."""
        if name not in self._kinds:
            try:
                self._kinds[name] = json_kind(*self.read(name))
            except (OSError, DatasetError):
                self._kinds[name] = "other"  # whoever reads the whole file reports it
        return self._kinds[name]

    @cached_property
    def _kinds(self) -> dict[str, JsonKind]:
        return {}


def join(folder: str, name: str) -> str:
    """``name`` in ``folder``; the folder may be ``""``."""
    return f"{folder}/{name}" if folder else name


def scan_tree(place: Path) -> Tree:
    """The files below a folder, or in a zip archive. Raises DatasetError when the archive is not usable.

    Hidden files and what systems leave behind are left out. So are folders with runs of this toolkit and the
    results of its predictions, except for annotation files. Linked folders are followed, but no folder is
    entered from itself.
    """
    return _scan_folder(place) if place.is_dir() else _scan_archive(place)


def _is_annotation(name: str) -> bool:
    """Whether a file of a prediction is one of annotations, such as those for LabelMe."""
    return name.endswith(".json") and re.search(r"_res(_\d+)?\.json$|_result\.json$", name) is None


def _scan_archive(place: Path) -> Tree:
    archive = open_archive(place)
    files: dict[str, list[str]] = {}
    for name in archive.members:
        folder, _, file = name.rpartition("/")
        files.setdefault(folder, []).append(file)

    def read(name: str) -> tuple[bytes, bytes]:
        return archive.read_start(name, HEAD_BYTES), b""

    return Tree(place, {folder: tuple(sorted(names)) for folder, names in files.items()}, False, read)


def _scan_folder(place: Path) -> Tree:
    files: dict[str, tuple[str, ...]] = {}
    is_cut, count = False, 0
    waiting: list[tuple[str, tuple[Any, ...]]] = [("", ())]  # folder, and identities of the folders above it
    for folder, above in waiting:
        path = os.path.join(place, folder)
        try:
            status = os.stat(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            continue
        identity = (status.st_dev, status.st_ino)
        names = [entry.name for entry in entries if not is_junk(entry.name) and not _is_folder(entry)]
        has_results = any(entry.name == REGISTER for entry in entries)
        written = WrittenFiles().names(Path(path)) if has_results else set()
        if identity in above or (folder and written & _OF_RUNS):
            continue
        names = [name for name in names if name not in written or _is_annotation(name)]
        files[folder] = tuple(names)
        count += len(names)
        below = [entry.name for entry in entries if not is_junk(entry.name) and _is_folder(entry)]
        if below and (len(above) >= MAX_DEPTH or count > MAX_FILES):
            is_cut = True
            continue
        waiting += [(join(folder, name), (*above, identity)) for name in below]

    def read(name: str) -> tuple[bytes, bytes]:
        with open(os.path.join(place, name), "rb") as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return head, file.read()

    return Tree(place, files, is_cut, read)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
