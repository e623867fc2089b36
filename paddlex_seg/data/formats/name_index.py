"""Finds files by paths that do not fit exactly, such as paths from another machine."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# Folders that only say what is inside. Tools put image and annotation of the same name into two of them.
_KIND_FOLDERS = frozenset(
    ("images", "image", "imgs", "img", "jpegimages", "annotations", "annotation", "labels", "label", "json")
)


class NameIndex:
    """Paths by their last part. Finding one takes constant time for names that do not repeat."""

    def __init__(self, paths: Iterable[str], key_of: dict[str, str] | None = None):
        """``paths`` are relative, with slashes. ``key_of`` has what to compare instead of each path."""
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._by_last: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        for path in paths:
            key = path if key_of is None else key_of[path]
            self._exact[key].append(path)
            parts = _significant(key)
            self._by_last[parts[-1]].append((parts, path))

    def exact(self, path: str) -> str | None:
        """The only entry with this path; None if there is none or more than one."""
        found = self._exact.get(path, [])
        return found[0] if len(found) == 1 else None

    def find(self, path: str) -> str | None:
        """The only entry that ``path`` can mean; None if there is none or more than one.

        Case, the Unicode form, and folders such as ``images`` do not count. Folders that only one of the two
        paths has must stand at its beginning: ``data/left/a`` can mean ``left/a``, but not ``right/a``.
        """
        wanted = _significant(path)
        if not wanted:
            return None
        same = [item for item in self._by_last.get(wanted[-1], ()) if _one_ends_with_other(item[0], wanted)]
        equal = [item for item in same if item[0] == wanted]
        found = equal or same
        return found[0][1] if len(found) == 1 else None


def _significant(path: str) -> tuple[str, ...]:
    """The parts of the path as they are compared; the last part always counts."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    parts = [unicodedata.normalize("NFC", part).casefold() for part in parts]
    return (*(part for part in parts[:-1] if part not in _KIND_FOLDERS), *parts[-1:])


def _one_ends_with_other(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    count = min(len(first), len(second))
    return first[-count:] == second[-count:]
