"""Reads ``data.yaml``: the class names, and where the images of each split are."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.name_index import NameIndex
from paddlex_seg.data.formats.source_files import CLASS_LISTS, SPLITS, decode_text, files_below, read_lines
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError

# CVAT names its subsets Train, Validation and Test; Roboflow writes valid.
_SPLIT_OF_KEY = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_OTHER_KEYS = ("path", "names", "nc", "download", "yaml_file")


@dataclass(frozen=True)
class Settings:
    """The content of data.yaml. All values are the texts as written."""

    folder: Path  # where the file is, or would be
    name: str = "data.yaml"
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entries(self) -> dict[str, list[tuple[str, str]]]:
        """The entries of each split that has some: the key as written, and the path with slashes."""
        found: dict[str, list[tuple[str, str]]] = {}
        for key, value in self.content.items():
            split = _SPLIT_OF_KEY.get(key.lower())
            places = [str(item).replace("\\", "/").strip() for item in _as_list(value)]
            if split is not None and any(places):
                found.setdefault(split, []).extend((key, place) for place in places if place)
        return found

    @property
    def other_entries(self) -> dict[str, str]:
        """Entries with a text that are neither splits nor known keys: perhaps splits of other names."""
        return {
            key: value
            for key, value in self.content.items()
            if isinstance(value, str) and key.lower() not in (*_SPLIT_OF_KEY, *_OTHER_KEYS)
        }


def read_settings(root: Path) -> Settings:
    """The content of data.yaml, or of another YAML file with the key ``names``.

    It is searched in ``root``, then in the folders in it. Raises DatasetError when a file is not YAML.
    """
    found = _read_in(root)
    if found is not None or any((root / name).is_file() for name in CLASS_LISTS):
        return found or Settings(root)
    below = sorted(path.parent for name in ("data.yaml", "data.yml") for path in root.glob(f"*/{name}"))
    only = [settings for folder in below if (settings := _read_in(folder)) is not None]
    return only[0] if len(only) == 1 else Settings(root)


def class_names(settings: Settings, findings: list[Finding]) -> dict[int, str]:
    """The class names by class number, sorted by number. Oddities become findings.

    Raises DatasetError when there are none.
    """
    names: Any = settings.content.get("names") or None
    where = settings.name
    if names is None:
        names, where = _listed_classes(settings.folder)
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    sound = isinstance(names, dict) and names and all(str(key).isdecimal() for key in names)
    if not sound or not all(isinstance(name, str) for name in names.values()):
        found = "is missing" if names is None else f"is {names!r}"
        raise DatasetError(
            f"{settings.folder / settings.name}: 'names' {found}; expected the class names. "
            "Write a list such as names: [bolt, washer], or put classes.txt into the folder."
        )
    by_number = {int(key): name.strip() for key, name in sorted(names.items(), key=lambda item: int(item[0]))}
    findings += [
        finding("names_inconsistent", where, message)
        for message in _odd_names(by_number, str(settings.content.get("nc") or ""))
    ]
    findings += [
        finding("label_not_text", where, f"the name of class {number} is {name!r}, which was read as text")
        for number, name in by_number.items()
        if name.lower() in ("", "null", "~", "none")
    ]
    return by_number


def find_images(root: Path, settings: Settings, findings: list[Finding]) -> dict[str, list[Path]]:
    """The images of each split. If train and val are not separate, the only split is "all".

    An entry that leads nowhere becomes a finding, and its split has no images. Raises DatasetError when there
    are no images at all.
    """
    places = _Places(root, settings)
    found: dict[str, list[Path]] = {}
    for split in SPLITS:
        entries = settings.entries.get(split, [])
        if entries:
            found[split] = [image for key, entry in entries for image in places.images(key, entry, findings)]
            if split == "test" and not found[split]:
                del found[split]
        elif usual := _usual_places(root, split) or _usual_places(settings.folder, split):
            found[split] = [image for place in usual for image in images_below(place)]
    if not any(found.values()) and not settings.entries:
        found = {ALL: images_below(settings.folder / "images") or images_below(settings.folder)}
    if not any(found.values()):
        raise DatasetError(_no_images(root, findings))
    findings += places.unknown_entries()
    if "train" in found and found.get("val", found["train"]) == found["train"] and "test" not in found:
        if "val" in found:
            message = (
                "val leads to the same images as train, so there is no val split; the "
                f"{len(found['train'])} images were divided into train and val"
            )
            findings.append(finding("split_divided", settings.name, message))
        return {ALL: found["train"]}
    return found


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and its folders."""
    return [folder / name for name in files_below(folder, IMAGE_SUFFIXES)]


class _Places:
    """Finds what the entries of data.yaml lead to, even if their paths are from another machine."""

    def __init__(self, root: Path, settings: Settings):
        self._root, self._settings = root, settings
        self._base = str(settings.content.get("path") or "").replace("\\", "/").strip()
        self._dropped = 0  # number of leading folders that the last line of a list had too many

    def images(self, key: str, entry: str, findings: list[Finding]) -> list[Path]:
        """The images that an entry leads to. Those that it leads to in vain become a finding."""
        place = self.resolve(entry)
        if place is None:
            findings.append(self._leads_nowhere(key, entry))
            return []
        if place.is_dir():
            images = images_below(place)
            if not images:
                findings.append(
                    self._missing(key, f"the entry {key}: {entry} leads to a folder without images")
                )
            return images
        return self._listed(key, place, findings)

    def unknown_entries(self) -> list[Finding]:
        """A finding for each entry that leads to images, but is no split."""
        found = []
        for key, value in self._settings.other_entries.items():
            place = self.resolve(value.replace("\\", "/"))
            if place is not None and (place.is_dir() or place.suffix.lower() == ".txt"):
                message = f"the entry {key}: {value} is neither train, val nor test; its images were left out"
                hint = "Give the entry one of these names, or add its path to the list of another entry."
                found.append(finding("source_unlisted", self._settings.name, message, hint=hint))
        return found

    def resolve(self, entry: str) -> Path | None:
        """The existing folder or list of images; places inside the data set first.

        Roboflow writes paths that point outside the data set.
        """
        candidates = list(self._candidates(entry))
        for candidate in candidates:
            if self._is_inside(candidate) and candidate.exists():
                return candidate
        return self._below(entry) or next((place for place in candidates if place.exists()), None)

    def _is_inside(self, place: Path) -> bool:
        return Path(os.path.abspath(place)).is_relative_to(os.path.abspath(self._root))

    def _candidates(self, entry: str) -> Iterator[Path]:
        for start in (self._settings.folder / self._base, self._settings.folder, self._root):
            yield Path(os.path.normpath(start / entry))
        parts = _inside(entry)
        for start_of_end in range(len(parts)):
            end = parts[start_of_end:]
            if start_of_end and len(end) == 1 and end[0].lower() in ("images", "labels", "data"):
                return
            yield self._settings.folder.joinpath(*end)

    def _below(self, entry: str) -> Path | None:
        """The only folder or list deeper in the data set whose path ends with the entry."""
        end = _inside(entry)
        same = [parts for parts in self._all_below if end and parts[-len(end) :] == end]
        return self._root.joinpath(*same[0]) if len(same) == 1 else None

    @cached_property
    def _all_below(self) -> list[tuple[str, ...]]:
        """The folders and text files in the data set, as parts relative to the root; no hidden ones."""
        found = []
        for place, folders, names in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            parts = Path(place).relative_to(self._root).parts
            texts = (name for name in names if name.lower().endswith(".txt"))
            # Label files are not lists of images.
            found += [(*parts, name) for name in (*folders, *(texts if "labels" not in parts else ()))]
        return found

    def _listed(self, key: str, place: Path, findings: list[Finding]) -> list[Path]:
        """The images in a list of images. Lines that lead nowhere become one finding."""
        lines = [line.replace("\\", "/") for line in read_lines(place)]
        images, missing = [], []
        for line in lines:
            image = self._image_of_line(line, place.parent)
            if image is None:
                missing.append(line)
            else:
                images.append(image)
        name = os.path.relpath(place, self._root).replace(os.sep, "/")
        if not lines:
            findings.append(self._missing(key, f"the list {name} of the entry {key} has no lines"))
        if missing:
            message = f"{len(missing)} of {len(lines)} lines lead to no image; the first is {missing[0]!r}"
            findings.append(finding("list_entry_missing", name, message))
        return images

    def _image_of_line(self, line: str, folder: Path) -> Path | None:
        parts = _inside(line)
        for start in (folder, self._settings.folder / self._base, self._root):
            if (path := Path(os.path.normpath(start / line))).is_file():
                return path
        # CVAT writes data/ in front of each path.
        for dropped in dict.fromkeys((self._dropped, *range(len(parts)))):
            if parts[dropped:] and (path := folder.joinpath(*parts[dropped:])).is_file():
                self._dropped = dropped
                return path
        found = self._images.find(line)
        return None if found is None else self._root / found

    @cached_property
    def _images(self) -> NameIndex:
        return NameIndex(files_below(self._root, IMAGE_SUFFIXES))

    def _leads_nowhere(self, key: str, entry: str) -> Finding:
        split = _SPLIT_OF_KEY[key.lower()]
        shown = dict.fromkeys(str(place) for place in self._candidates(entry))
        message = f"the entry {key}: {entry} leads nowhere; looked for {', '.join(list(shown)[:3])}"
        usual = _usual_places(self._settings.folder, split)
        hint = None
        if usual:
            name = os.path.relpath(usual[0], self._settings.folder).replace(os.sep, "/")
            hint = f"There is a folder {name}. If it has the images of this split, write {key}: {name}."
        return self._missing(key, message, hint)

    def _missing(self, key: str, message: str, hint: str | None = None) -> Finding:
        is_test = _SPLIT_OF_KEY[key.lower()] == "test"
        code = "test_entry_missing" if is_test else "list_entry_missing"
        return finding(code, self._settings.name, message, hint=hint)


def _read_in(folder: Path) -> Settings | None:
    others = sorted({*folder.glob("*.yaml"), *folder.glob("*.yml")})
    for path in (folder / "data.yaml", folder / "data.yml", *others):
        if not path.is_file():
            continue
        try:
            # BaseLoader keeps every value as it is written: the names no, 007 and null stay texts.
            content = yaml.load(decode_text(path.read_bytes(), path), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, OSError) as error:
            raise DatasetError(f"{path}: not YAML ({error}). Correct the file.") from error
        if isinstance(content, dict) and ("names" in content or path.stem == "data"):
            return Settings(folder, path.name, content)
    return None


def _listed_classes(folder: Path) -> tuple[list[str] | None, str]:
    """The lines of the class list, and its name. Line 1 is class 0."""
    for name in CLASS_LISTS:
        if (folder / name).is_file():
            return read_lines(folder / name), name
    return None, CLASS_LISTS[0]


def _odd_names(names: Mapping[int, str], count: str) -> Iterator[str]:
    """What is odd about the class names, as messages."""
    missing = sorted(set(range(max(names))) - set(names))
    if missing:
        yield f"'names' has no class {', '.join(map(str, missing[:5]))}{' ...' if len(missing) > 5 else ''}"
    if count.isdecimal() and int(count) not in (len(names), max(names) + 1):
        yield f"nc is {count}, but 'names' has {len(names)} classes, {min(names)}..{max(names)}"
    numbers_of: dict[str, list[int]] = {}
    for number, name in names.items():
        numbers_of.setdefault(name, []).append(number)
    for name, numbers in numbers_of.items():
        if len(numbers) > 1:
            listed = " and ".join(map(str, numbers))
            yield f"the classes {listed} have the same name {name!r}; they became one class"


def _usual_places(root: Path, split: str) -> list[Path]:
    folders = ("val", "valid", "validation") if split == "val" else (split,)
    places = [root / folder / "images" for folder in folders]
    places += [root / "images" / folder for folder in folders]
    return [place for place in places if place.is_dir()][:1]


def _no_images(root: Path, findings: Iterable[Finding]) -> str:
    nowhere = [item.message for item in findings if item.code in ("list_entry_missing", "test_entry_missing")]
    texts = sum(1 for name in files_below(root, (".txt",)) if "labels" in name.split("/"))
    found = f" {texts} label files were found: put the images beside them." if texts else ""
    told = f" In data.yaml, {'; '.join(nowhere)}." if nowhere else ""
    return (
        f"{root}: no images found. Expected them in the folders named in data.yaml, in images/train and "
        f"images/val, in train/images and valid/images, or in images.{told}{found}"
    )


def _inside(path: str) -> tuple[str, ...]:
    """The parts of a path without a drive and without ``.`` and ``..``."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return tuple(parts[1:] if parts and parts[0].endswith(":") else parts)


def _as_list(entries: Any) -> list[Any]:
    return entries if isinstance(entries, list) else [entries]
