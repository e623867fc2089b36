"""The files of a folder tree, through symbolic links."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path


def files_in(folder: Path) -> Iterator[str]:
    """All files in a folder and its sub-folders, as names relative to it with forward slashes.

    Linked folders are followed, each folder is visited once, and a link to a folder above ``folder`` is not
    followed. So there are no endless loops. Hidden files and folders are left out; dead links are not.
    """
    start = os.path.realpath(folder)
    seen: set[str] = set()
    links = deque([""])
    while links:  # folders come before links, so that a file has the name without links if it has one
        waiting = [links.popleft()]
        while waiting:
            place = waiting.pop()
            target = os.path.realpath(os.path.join(folder, place))
            is_above = target != start and start.startswith(os.path.join(target, ""))
            if is_above or target in seen:
                continue
            seen.add(target)
            for entry in _entries(target):
                name = f"{place}/{entry.name}" if place else entry.name
                if not _is_folder(entry):
                    yield name
                else:
                    (links if entry.is_symlink() else waiting).append(name)


def is_dead_link(path: str | Path) -> bool:
    """Whether the path is a symbolic link that leads nowhere."""
    return os.path.islink(path) and not os.path.exists(path)


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError:
        return []  # a folder that may not be read


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself
