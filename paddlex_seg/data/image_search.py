"""Search for image files whose name is written in another way than the file is called.

People copy data sets between systems and tools. A name then has another folder in front, other upper and
lower case, other Unicode forms of the same letters, signs of a URL, other blanks, ``_`` for the signs that a
system does not allow, or another ending.
"""

import html
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import normpath
from urllib.parse import parse_qs, unquote, urlsplit

from paddlex_seg.data.folders import files_in, is_dead_link
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.files.names import is_utf8

MOST_CANDIDATES = 20  # of a name; more files that are equally good are not listed


@dataclass(frozen=True)
class Match:
    """The files that fit a name best, all equally well."""

    names: tuple[str, ...]
    rank: tuple[int, int, int]  # smaller is better: kind of name, folders, spelling
    is_sure: bool  # False if the name has a folder of its own, and the file is in another one

    @property
    def only(self) -> str | None:
        """The file that was meant; None if that is not sure."""
        return self.names[0] if self.is_sure and len(self.names) == 1 else None


class ImageIndex:
    """The files in ``image_dir`` and its sub-folders, searchable by names that do not fit exactly.

    The folder is read once, at the first search. A search takes the same time for any number of files.
    """

    def __init__(self, image_dir: Path):
        self.image_dir = image_dir

    def find(self, name: str) -> str | None:
        """The only file that ``name`` can mean, relative to the folder, with forward slashes.

        None if there is none, or more than one that is equally good.
        """
        match = self.match(name)
        return None if match is None else match.only

    def candidates(self, name: str) -> list[str]:
        """The files that fit ``name`` best, at most `MOST_CANDIDATES`; none if nothing is like it."""
        match = self.match(name)
        return [] if match is None else list(match.names)

    def match(self, name: str) -> Match | None:
        """The files that fit ``name`` best; None if there are none.

        First the whole name counts: with the same folders, with fewer folders, in a sub-folder, in another
        folder; each time first exactly and then with another spelling. Then, in the same order, the name
        without its ending.
        """
        readings = list(_readings(name))
        if not any(self._has_like(text) for text, _ in readings):
            return None
        for kind, spellings in enumerate((_SAME_NAME, _OTHER_ENDING)):
            for place, look in enumerate((_same_folders, _fewer_folders, _more_folders, _other_folders)):
                for text, is_from_elsewhere in readings:
                    for level in spellings:
                        key = _SPELLINGS[level].of_name(text)
                        found = look(self._table(level), key)
                        names = [file for file in found if kind == 0 or _has_image_ending(file)]
                        if names:
                            sure = place != 3 or is_from_elsewhere or _shares_a_folder(key, names, level)
                            return Match(tuple(names), (kind, place, level), sure)
        return None

    @cached_property
    def files(self) -> list[str]:
        """All files, sorted, without dead links."""
        return sorted(
            name for name in files_in(self.image_dir) if not is_dead_link(f"{self.image_dir}/{name}")
        )

    @cached_property
    def _tables(self) -> "dict[int, _Table]":
        return {}

    def _table(self, level: int) -> "_Table":
        if level not in self._tables:
            self._tables[level] = _Table(self.files, _SPELLINGS[level])
        return self._tables[level]

    def _has_like(self, text: str) -> bool:
        """Whether any file has the last part of a name, in the spellings that unite most names."""
        for level in (_HASHED, *_OTHER_ENDING):
            key = _SPELLINGS[level].of_name(text).rpartition("/")[2]
            table = self._table(level)
            if key in table.whole or key in table.ends:
                return True
        return False


@dataclass(frozen=True)
class Found:
    """What a search for a missing image gave."""

    name: str | None  # the file that was meant; None if there is none, or if that is not sure
    candidates: tuple[str, ...] = ()  # files that may be meant
    rivals: tuple[str, ...] = ()  # other listed names that mean the file, such as its own


def find_missing(index: ImageIndex, missing: Iterable[str], present: Collection[str]) -> dict[str, Found]:
    """Search the files of all names in ``missing``.

    present: the listed names whose file exists. Such a file is not taken for another name. A file that two
    missing names mean is given to the one that fits better, and to none if both fit equally well.
    """
    matches = {name: index.match(name) for name in missing}
    taken = {normpath(name.replace("\\", "/")) for name in present}
    best: dict[str, tuple[tuple[int, int, int], list[str]]] = {}  # rank and names of the best fit, by file
    for name, match in matches.items():
        if match is not None and match.only is not None:
            rank, names = best.setdefault(match.only, (match.rank, []))
            if match.rank < rank:
                best[match.only] = match.rank, [name]
            elif match.rank == rank and len(names) <= _SHOWN_RIVALS:
                names.append(name)
    found = {}
    for name, match in matches.items():
        if match is None or match.only is None:
            files = () if match is None else match.names
            found[name] = Found(None, files, rivals=files if taken.issuperset(files) else ())
            continue
        names = [match.only] if match.only in taken else best[match.only][1]
        rivals = tuple(other for other in names if other != name)[:_SHOWN_RIVALS]
        found[name] = Found(None if rivals else match.only, match.names, rivals)
    return found


_SHOWN_RIVALS = 3


@dataclass(frozen=True)
class _Spelling:
    """Two names that are spelled in the same way have the same key."""

    of_file: Callable[[str], str]
    of_name: Callable[[str], str]


class _Table:
    """The files by their key: by the whole one, and by its ends after each slash."""

    def __init__(self, files: Iterable[str], spelling: _Spelling) -> None:
        self.whole: dict[str, list[str]] = {}
        self.ends: dict[str, list[str]] = {}
        for file in files:
            for text in possible_texts(file):
                key = spelling.of_file(text)
                _put(self.whole, key, file)
                for end in _ends(key):
                    _put(self.ends, end, file)


def _put(table: dict[str, list[str]], key: str, file: str) -> None:
    names = table.setdefault(key, [])
    if len(names) < MOST_CANDIDATES and file not in names:
        names.append(file)


def _ends(key: str) -> Iterator[str]:
    """The parts of a path after each slash, the longest first."""
    while "/" in key:
        key = key.partition("/")[2]
        yield key


def _same_folders(table: _Table, key: str) -> list[str]:
    return table.whole.get(key, [])


def _fewer_folders(table: _Table, key: str) -> list[str]:
    return next((table.whole[end] for end in _ends(key) if end in table.whole), [])


def _more_folders(table: _Table, key: str) -> list[str]:
    return table.ends.get(key, [])


def _other_folders(table: _Table, key: str) -> list[str]:
    return next((table.ends[end] for end in _ends(key) if end in table.ends), [])


def _shares_a_folder(key: str, files: list[str], level: int) -> bool:
    """Whether the folder of a name says nothing against the files: it is theirs, or one of any data set."""
    folder = key.split("/")[-2]
    folders = {_SPELLINGS[level].of_file(file).split("/")[-2] for file in files}
    return folder.casefold() in _FOLDERS_OF_ANY_SET or folders == {folder}


# Folders that tools and people put around the images of any data set. They do not tell two images apart.
_FOLDERS_OF_ANY_SET = frozenset(
    "images image imgs img jpegimages pictures pics photos data dataset datasets default media upload "
    "uploads files obj_train_data leftimg8bit raw".split()
)


def _readings(name: str) -> Iterator[tuple[str, bool]]:
    """The paths that ``name`` may mean, and whether each led to a place on another machine."""
    text = name.replace("\\", "/")
    yield _relative(text)
    if "://" in text or "?d=" in text:
        try:
            parts = urlsplit(text)
        except ValueError:
            return  # not a URL
        for path in (*parse_qs(parts.query).get("d", ()), parts.path):
            yield _relative(path)[0], True


def _relative(text: str) -> tuple[str, bool]:
    path = re.sub(r"^[A-Za-z]:", "", text.strip())
    is_absolute = path != text.strip() or path.startswith("/") or "://" in path
    path = normpath(path).lstrip("/")
    inside = re.sub(r"^(\.\./)+", "", path)
    return inside, is_absolute or inside != path


def possible_texts(file: str) -> Iterator[str]:
    """The name of a file, and what a name that is not UTF-8 reads in the encodings of other systems."""
    yield file
    for encoding in () if is_utf8(file) else ("gb18030", "cp932", "cp949", "big5", "cp1252", "cp437"):
        try:
            yield os.fsencode(file).decode(encoding)
        except UnicodeDecodeError:
            continue


def _one_form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _one_case(text: str) -> str:
    return _one_form(_one_form(text).casefold())


def _unquoted(text: str) -> str:
    while "%" in text and (plain := unquote(text, errors="surrogateescape")) != text:
        text = plain
    return _one_case(text)


def _spaces_for_plus(text: str) -> str:
    return _unquoted(text).replace("+", " ")


def _visible(text: str) -> str:
    """Full and half width, and all kinds of blanks, as one; without characters that cannot be seen.

    Such are the byte order mark and the joiners of zero width.
    """
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text)
    return "".join(character for character in plain if unicodedata.category(character) != "Cf")


def _plain(text: str) -> str:
    """Also without HTML escapes and blanks at the ends, and with ``_`` for blanks and what Windows forbids.

    Other signs stay: they may be all that tells two names apart.
    """
    text = _one_case(_visible(html.unescape(_spaces_for_plus(text))))
    text = re.sub(r"^\s+|\s*([/.]|$)\s*", r"\1", text)
    return re.sub(r'[\s<>:"|?*_]+', "_", text)


def _without_ending(text: str) -> str:
    text = _plain(text)
    while (parts := os.path.splitext(text))[1] in _ENDINGS:
        text = parts[0]
    return text


# Cameras write the last two. They cannot be read here, but people convert such images and keep the stem.
_ENDINGS = frozenset((*IMAGE_SUFFIXES, ".heic", ".heif"))


def _has_image_ending(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in ("", *IMAGE_SUFFIXES)


def _uploaded(text: str, with_hash: str, without_hash: str) -> str:
    """A key of names as Label Studio stores uploads: ``3f2a1b4c-my_image.jpg`` for ``my image.jpg``."""
    folder, slash, base = _unquoted(text).rpartition("/")
    stripped = re.sub(r"^(?!(?:19|20)\d{6})[0-9a-f]{8}-(?=.)", "", base)
    mark = without_hash if stripped == base else with_hash
    return folder + slash + mark + re.sub(r"[^-\w.]", "", stripped.strip().replace(" ", "_"))


# From the exact spelling to those that unite more names. Each unites what the one before it unites. _HASHED,
# the last, stands apart: it unites a name that has the hash of an upload with one that does not.
_SPELLINGS = (
    *(
        _Spelling(key, key)
        for key in (str, _one_form, _one_case, _unquoted, _spaces_for_plus, _plain, _without_ending)
    ),
    _Spelling(lambda text: _uploaded(text, "<", ">"), lambda text: _uploaded(text, ">", "<")),
)
_OTHER_ENDING = (6,)
_HASHED = 7
_SAME_NAME = (0, 1, 2, 3, 4, 5, _HASHED)
