"""Finds files by paths that do not fit exactly, such as paths from another machine."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# Folders that only say what is inside. Tools put image and annotation of the same name into two of them.
_KIND_FOLDERS = frozenset(
    ("images", "image", "imgs", "img", "jpegimages", "annotations", "annotation", "labels", "label", "json")
)


class NameIndex:
    """Paths by their ends. Finding one takes time proportional to its number of folders."""

    def __init__(self, paths: Iterable[str], key_of: dict[str, str] | None = None):
        """``paths`` are relative, with slashes. ``key_of`` has what to compare instead of each path."""
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._whole: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._longer: dict[tuple[str, ...], list[str]] = defaultdict(list)  # two are enough to be unclear
        for path in paths:
            key = path if key_of is None else key_of[path]
            self._exact[key].append(path)
            parts = _significant(key)
            self._whole[parts].append(path)
            for start in range(1, len(parts)):
                longer = self._longer[parts[start:]]
                if len(longer) < 2:
                    longer.append(path)

    def exact(self, path: str) -> str | None:
        """The only entry with this path; None if there is none or more than one."""
        return _only(self._exact.get(path, []))

    def find(self, path: str) -> str | None:
        """The only entry that ``path`` can mean; None if there is none or more than one.

        Case, the Unicode form, and folders such as ``images`` do not count. Folders that only one of the two
        paths has must stand at its beginning: ``data/left/a`` can mean ``left/a``, but not ``right/a``.
        """
        parts = _significant(path)
        if parts in self._whole:
            return _only(self._whole[parts])
        shorter = (self._whole.get(parts[start:], []) for start in range(1, len(parts)))
        return _only([*self._longer.get(parts, []), *(found for entries in shorter for found in entries)])


def _only(found: list[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def _significant(path: str) -> tuple[str, ...]:
    """The parts of the path as they are compared; the last part always counts."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    parts = [unicodedata.normalize("NFC", part).casefold() for part in parts]
    return (*(part for part in parts[:-1] if part not in _KIND_FOLDERS), *parts[-1:])
