"""Reads COCO files as annotation tools export them: other file names, images in other folders.

Records are not interpreted here, so that nothing is lost. Only the names of images change. Whoever reads the
written files reports what is wrong in them.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlex_seg.data.coco.categories import unused_dummies
from paddlex_seg.data.coco.other_content import other_content
from paddlex_seg.data.coco.read import UnreadableFile, load_with_encoding
from paddlex_seg.data.findings import Finding, FindingLog, finding
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.source_files import IGNORED_LABELS
from paddlex_seg.data.formats.split_names import is_split_folder, split_named
from paddlex_seg.data.image_search import ImageIndex
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.data.layouts.recognise import coco_files
from paddlex_seg.data.layouts.tree import Tree, join, scan_tree
from paddlex_seg.errors import UnclearDataset
from paddlex_seg.structures import Category

# Files of the same images for other tasks. They are read only if there is no other file for a split.
_OTHER_TASKS = re.compile(r"(captions|person_keypoints|keypoints|panoptic|stuff|labels)_", re.IGNORECASE)
# Folders with drawings and masks, whose files nobody lists.
_NO_PHOTOS = re.compile(
    r"visuali[sz]ation|demo_img|panoptic|stuff|masks?$|labels?$|segmentation", re.IGNORECASE
)


@dataclass(frozen=True)
class CocoExport:
    """The COCO files of an export, by split; ``all`` for a file of no split. Image names are new."""

    documents: Mapping[str, dict[str, Any]]
    findings: tuple[Finding, ...] = ()
    images: Mapping[str, Path] = field(default_factory=dict)  # by file_name: where the file is now


def read_coco_export(root: Path) -> CocoExport:
    """Read the COCO files and find the images of the data set in ``root``.

    A file belongs to the split that its name or its folder says. An image is searched in the folder of the
    file, in folders with the name of the split, in the folders of images, and then under every name that it
    may have (`ImageIndex`). Its new name is its path in ``root``, without ``images/``. An image that is not
    found keeps its record. Raises UnclearDataset when two files are for the same split.
    """
    tree = scan_tree(root)
    findings: list[Finding] = []
    documents: dict[str, dict[str, Any]] = {}
    places = _Images(tree, root)
    files, left_out = files_by_split(tree, "")
    findings += left_out
    for split, name in files.items():
        try:
            document, about_encoding = load_with_encoding(root / name)
        except UnreadableFile as error:
            findings.append(finding(error.finding.code, name, error.finding.message))
            continue
        if about_encoding is not None:
            code, message = about_encoding
            findings.append(finding(code, name, message))
        other = other_content(document)
        if other is not None:
            findings.append(finding("json_top_level", name, other))
            continue
        documents[split] = _with_new_names(document, name, places, findings)
    documents = _without_dead_classes(documents, findings)
    findings += places.unlisted()
    return CocoExport(documents=documents, findings=tuple(findings), images=places.used)


def entries_of(document: Mapping[str, Any], key: str) -> list[Any]:
    """The records under a key; none if there is no list."""
    entries = document.get(key)
    return entries if isinstance(entries, list) else []


# ---- files


def files_by_split(tree: Tree, folder: str) -> tuple[dict[str, str], list[Finding]]:
    """The file of each split of the export that begins in ``folder``, with findings about the others.

    Names are relative to ``folder``. Files for other tasks, and a file of all images beside splits, are left
    out. Raises UnclearDataset when two files are for the same split.
    """
    files: dict[str, list[str]] = {}
    findings: list[Finding] = []
    for name in (path[len(folder) :].lstrip("/") for path in coco_files(tree, folder)):
        if posixpath.basename(name).startswith("image_info_"):
            findings.append(_left_out(name, "it lists images without annotations"))
        else:
            files.setdefault(_split_of(name), []).append(name)
    chosen = {}
    for split, names in files.items():
        best = [name for name in names if not _OTHER_TASKS.match(posixpath.basename(name))] or names
        if len(best) > 1:
            both = "both" if len(best) == 2 else "all"
            images = "all images" if split == ALL else f"the split {split!r}"
            raise UnclearDataset(
                f"{tree.place / folder}: {' and '.join(best)} are {both} for {images}. Move all but one out "
                "of the folder, or give each the name of its split, such as instances_train.json."
            )
        chosen[split] = best[0]
        findings += [
            _left_out(name, f"{best[0]} is used for the split {split!r}") for name in names if name != best[0]
        ]
    if ALL in chosen and "train" in chosen:
        name = chosen.pop(ALL)
        findings.append(_left_out(name, f"{chosen['train']} and others have the splits"))
    return chosen, findings


def _left_out(name: str, why: str) -> Finding:
    return finding("annotation_file_unused", name, f"the file was left out, because {why}")


def _split_of(name: str) -> str:
    """The split that a file is for: by its own name, else by the folder nearest to it."""
    *folders, file = name.split("/")
    for part in (posixpath.splitext(file)[0], *reversed(folders)):
        if (split := split_named(part)) is not None:
            return split
    return ALL


# ---- images


class _Images:
    """Finds the images of an export, and gives them their new names."""

    def __init__(self, tree: Tree, root: Path):
        self.used: dict[str, Path] = {}
        self._tree, self._root, self._index = tree, root, ImageIndex(root)
        self._files = {join(folder, name) for folder, names in tree.files.items() for name in names}
        self._name_of: dict[str, str] = {}  # by path from the root

    def search_folders(self, document_name: str) -> list[str]:
        """The folders whose images a file may list, in the order in which they are searched."""
        own = posixpath.dirname(document_name)
        subset = _subset(document_name)
        split = _split_of(document_name)
        with_files = list(self._tree.folders)
        named = [name for name in with_files if name and posixpath.basename(name).casefold() == subset]
        of_split = [
            name
            for name in with_files
            if name
            and is_split_folder(posixpath.basename(name))
            and split_named(posixpath.basename(name)) == split
        ]
        usual = [join(own, "images"), "images", "JPEGImages", own, posixpath.dirname(own), ""]
        first = [own] if self._tree.files_of(own, *IMAGE_SUFFIXES) else []
        others = [name for name in with_files if not self._is_of_other_split(name, split)]
        folders = dict.fromkeys([*first, *named, *of_split, *usual, *others])
        # Masks often have the names of their images, so their folders come last.
        return sorted((folder for folder in folders if folder in self._tree.folders), key=_has_no_photos)

    def find(self, name: str, folders: Iterable[str], split: str) -> str | None:
        """The path of an image from the root; None if it is not found."""
        plain = posixpath.normpath(name.replace("\\", "/"))
        for folder in folders:
            path = join(folder, plain)
            if path in self._files:
                return path
        match = self._index.match(name)
        if match is None or not match.is_sure:
            return None
        fitting = [
            file for file in match.names if not self._is_of_other_split(posixpath.dirname(file), split)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def new_name(self, path: str) -> str:
        """The new name of the image at ``path``."""
        if path not in self._name_of:
            short = re.sub(r"^(images|JPEGImages)/", "", path)
            name = path if short in self.used else short
            self._name_of[path] = name
            self.used[name] = self._root / path
        return self._name_of[path]

    def unlisted(self) -> Iterator[Finding]:
        """A finding about the images that no file lists."""
        listed = self._name_of.keys()
        left = [
            name
            for folder in self._tree.files
            if not _has_no_photos(folder)
            for name in self._tree.files_of(folder, *IMAGE_SUFFIXES)
            if name not in listed
        ]
        if left:
            message = (
                f"{len(left)} images are in no annotation file and were left out; the first is {left[0]}"
            )
            yield finding("image_unreferenced", self._root.name, message)

    def _is_of_other_split(self, folder: str, split: str) -> bool:
        others = (split_named(part) for part in folder.split("/") if is_split_folder(part))
        return split != ALL and any(other not in (None, ALL, split) for other in others)


def _has_no_photos(folder: str) -> bool:
    return _NO_PHOTOS.match(posixpath.basename(folder)) is not None


def _subset(document_name: str) -> str:
    """The name of the subset in the name of a file: ``train2017`` for ``instances_train2017.json``."""
    stem = posixpath.splitext(posixpath.basename(document_name))[0]
    return re.sub(r"^(instances?|person_keypoints|annotations?)_", "", stem, flags=re.IGNORECASE).casefold()


def _with_new_names(
    document: Mapping[str, Any], name: str, places: _Images, findings: list[Finding]
) -> dict[str, Any]:
    """The document with the new names of its images."""
    folders, split = places.search_folders(name), _split_of(name)
    log, images = FindingLog(name), []
    for entry in entries_of(document, "images"):
        old = entry.get("file_name") if isinstance(entry, dict) else None
        if isinstance(old, str):
            path = places.find(old, folders, split)
            new = old.replace("\\", "/") if path is None else places.new_name(path)
            if path is not None and posixpath.basename(path) != posixpath.basename(old.replace("\\", "/")):
                log.add("image_name_differs", f"{old!r} is the file {path}, which is used")
            entry = {**entry, "file_name": new}
        images.append(entry)
    findings += log.kept
    return {**document, "images": images} if "images" in document else dict(document)


# ---- classes


def _without_dead_classes(
    documents: Mapping[str, dict[str, Any]], findings: list[Finding]
) -> dict[str, dict[str, Any]]:
    """Remove classes that tools write for their own use, and that have no annotations in any file.

    Roboflow lists the project as class 0, the supercategory of all others. LabelMe's script and X-AnyLabeling
    list ``_background_``.
    """
    used = {
        entry.get("category_id")
        for document in documents.values()
        for entry in entries_of(document, "annotations")
        if isinstance(entry, dict) and isinstance(entry.get("category_id"), int | str)
    }
    listed = [entry for document in documents.values() for entry in _categories(document)]
    used_names = {entry["name"] for entry in listed if entry.get("id") in used}
    categories = [_category(entry) for entry in listed]
    dead = {*unused_dummies(categories, used_names)} | ({*IGNORED_LABELS} - used_names)
    for name in dict.fromkeys(entry["name"] for entry in listed if entry["name"] in dead):
        message = f"class {name!r} has no annotations and was left out; the tool lists it for its own use"
        findings.append(finding("category_left_out", "categories", message))
    return {
        split: {**document, "categories": _living(document, dead)} if _categories(document) else document
        for split, document in documents.items()
    }


def _categories(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = entries_of(document, "categories")
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)]


def _category(entry: Mapping[str, Any]) -> Category:
    supercategory = entry.get("supercategory")
    return Category(0, entry["name"], supercategory if isinstance(supercategory, str) else "")


def _living(document: Mapping[str, Any], dead: set[str]) -> list[Any]:
    entries = entries_of(document, "categories")
    return [entry for entry in entries if not (isinstance(entry, dict) and entry.get("name") in dead)]
