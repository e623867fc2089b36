"""Finds the masks of each image of a data set with masks as PNG files, and the images of each split."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from paddlex_seg.data.coco.categories import listed_name
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.mask_images import MASK_SUFFIXES
from paddlex_seg.data.formats.mask_names import MASK_WORDS, SHOWING_WORDS, has_word, images_of_masks
from paddlex_seg.data.formats.source_files import (
    IGNORED_LABELS,
    SPLITS,
    files_below,
    read_class_list,
    read_split_lists,
)
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError

# In lower case; the first that has files is taken.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation"),
    *("gt", "ground_truth", "groundtruth", "instances", "instance_masks"),
)
_LIST_FILES = {split: (f"{split}.txt", f"{split}_list.txt") for split in SPLITS}
INDEX = "instances.json"  # in the folder of an image's masks: file, label and iscrowd of each
ONLY_CLASS = "object"


@dataclass(frozen=True)
class MaskSource:
    """The files of the data set. Masks and folders of masks are relative to ``root``."""

    root: Path
    image_folder: str
    mask_folder: str
    images: Sequence[str]  # relative to the folder of images
    id_maps: dict[str, list[str]]  # masks of object numbers of each image
    folders: dict[str, str]  # folder of masks of each image
    pieces: dict[str, list[str]]  # masks of one object each, beside each other: <image>_<class>_<number>.png
    class_list: Sequence[str] | None
    unused: Sequence[str]  # masks without an image
    shared: set[str]  # images that share their masks with another image
    findings: Sequence[Finding]

    @property
    def known(self) -> list[str] | None:
        """The classes, if they are listed."""
        lines = self.class_list
        return None if lines is None else [line for line in lines if line not in IGNORED_LABELS]


def has_masks(root: Path) -> bool:
    """Whether ``root`` has a folder of images and a folder of masks."""
    images, masks = (
        _first_folder(root, IMAGE_FOLDERS, IMAGE_SUFFIXES),
        _first_folder(root, MASK_FOLDERS, (".png",)),
    )
    return bool(images[1] and masks[1])


def find_mask_source(root: Path, class_list_dir: Path) -> MaskSource:
    """The images and masks below ``root``. The list of classes is there, or in ``class_list_dir``.

    Raises DatasetError when there are no masks, or no images.
    """
    image_folder, images = _first_folder(root, IMAGE_FOLDERS, IMAGE_SUFFIXES)
    mask_folder, files = _first_folder(root, MASK_FOLDERS, (*MASK_SUFFIXES, INDEX))
    findings = []
    if not files:  # masks beside the images
        mask_folder = image_folder
        stems = {os.path.splitext(name)[0] for name in images if not has_word(name, MASK_WORDS)}
        beside = [name for name in images if os.path.splitext(name)[0] not in stems]
        if len(images_of_masks([os.path.splitext(name)[0] for name in beside], stems)) == len(beside):
            files = beside
            images = [name for name in images if name not in set(beside)]
    class_list = read_class_list(root)
    class_list = read_class_list(class_list_dir) if class_list is None else class_list
    if not files:
        raise DatasetError(_nothing_found(root, image_folder, images))
    if not images:
        raise DatasetError(
            f"{root}: {len(files)} masks in {mask_folder}, but no image in images/. Copy the images there."
        )
    masks = [name for name in files if not name.endswith(INDEX)]
    copies = [name for name in masks if has_word(os.path.splitext(name)[0], SHOWING_WORDS)]
    stems = {os.path.splitext(name)[0] for name in images}
    if copies and all(os.path.splitext(name)[0] not in stems for name in copies):
        masks = [name for name in masks if name not in set(copies)]
        first = f"{mask_folder}/{copies[0]}"
        message = f"{len(copies)} images that only show masks were not read; the first is {first}"
        findings.append(finding("mask_not_read", mask_folder, message))
    found = _Found(image_folder, mask_folder, images, findings)
    found.add_folders(files)
    rest = found.add_id_maps([name for name in masks if not found.is_inside_folder(name)])
    rest = found.add_pieces(rest, class_list)
    return MaskSource(
        root=root,
        image_folder=image_folder,
        mask_folder=mask_folder,
        images=images,
        id_maps=found.id_maps,
        folders=found.folders,
        pieces=found.pieces,
        class_list=class_list,
        unused=rest,
        shared=found.shared,
        findings=findings,
    )


def _nothing_found(root: Path, image_folder: str, images: Sequence[str]) -> str:
    found = f"{len(images)} images in {image_folder}/" if images else "no images"
    return (
        f"{root}: no *.png in masks/, but {found}. Expected masks/<image name>.png or "
        "masks/<image name>/*.png, and the images in images/."
    )


def _first_folder(root: Path, names: Sequence[str], suffixes: tuple[str, ...]) -> tuple[str, list[str]]:
    """The first of the folders that has files with these endings, and the files."""
    present: dict[str, list[str]] = {}
    for folder in sorted(os.listdir(root)) if root.is_dir() else ():
        present.setdefault(folder.lower(), []).append(folder)
    for name in names:
        for folder in present.get(name, ()):
            if files := files_below(root / folder, suffixes):
                return folder, files
    return names[0], []


class _Found:
    """Collects the masks of each image."""

    def __init__(self, image_folder: str, mask_folder: str, images: Sequence[str], findings: list[Finding]):
        self.id_maps: dict[str, list[str]] = {}
        self.folders: dict[str, str] = {}
        self.pieces: dict[str, list[str]] = {}
        self.shared: set[str] = set()
        self._image_folder, self._mask_folder = image_folder, mask_folder
        self._findings = findings
        self._images = images
        self._images_of_stem: dict[str, list[str]] = {}
        for name in images:
            self._images_of_stem.setdefault(os.path.splitext(name)[0], []).append(name)
        self._owned: set[str] = set()

    def add_folders(self, files: Sequence[str]) -> None:
        """Folders of masks: named as an image, with or without its ending."""
        folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
        users: dict[str, list[str]] = {}
        for name in self._images:
            stem = os.path.splitext(name)[0]
            folder = name if name in folders else stem
            if folder in folders:
                self.folders[name] = f"{self._mask_folder}/{folder}"
                users.setdefault(folder, []).append(name)
        self._owned = set(users)
        for folder, names in users.items():
            self._report_shared(names, f"{self._mask_folder}/{folder}/")

    def is_inside_folder(self, mask: str) -> bool:
        """Whether the mask is in the folder of an image."""
        return any(str(folder) in self._owned for folder in PurePosixPath(mask).parents)

    def add_id_maps(self, masks: Sequence[str]) -> list[str]:
        """Masks of object numbers, by name. Returns the masks without an image."""
        rest, masks_of_stem = [], dict[str, list[str]]()
        for mask in masks:
            stem = os.path.splitext(mask)[0]
            stem = mask if mask in self._images_of_stem else stem
            masks_of_stem.setdefault(stem, []).append(mask)
        image_of = images_of_masks(masks_of_stem, self._images_of_stem)
        renamed = [stem for stem, image in image_of.items() if stem != image]
        if renamed:
            first = masks_of_stem[renamed[0]][0]
            message = (
                f"{len(renamed)} masks belong to images of another name: {first} to "
                f"{self._images_of_stem[image_of[renamed[0]]][0]}"
            )
            self._findings.append(finding("mask_names_matched", self._mask_folder, message))
        for stem, files in masks_of_stem.items():
            if stem not in image_of:
                rest += files
                continue
            names = self._images_of_stem[image_of[stem]]
            names = [name for name in names if name not in self.folders] or names
            self._report_shared(names, f"{self._mask_folder}/{files[0]}")
            for name in names:
                self.id_maps.setdefault(name, []).extend(f"{self._mask_folder}/{file}" for file in files)
        return rest

    def add_pieces(self, masks: Sequence[str], class_list: Sequence[str] | None) -> list[str]:
        """Masks of one object each named ``<image>_<number>`` or ``<image>_<class>_<number>``.

        Only if each mask fits exactly one image in this way, and every class is listed. Returns the others.
        """
        found: dict[str, list[str]] = {}
        for mask in masks:
            image, rest = self._image_and_rest(mask)
            label = label_of_piece(rest)
            is_known = re.search(r"\d", rest) if label == ONLY_CLASS else listed_name(label, class_list or ())
            if image is None or not is_known:
                return list(masks)
            found.setdefault(image, []).append(f"{self._mask_folder}/{mask}")
        self.pieces = found
        if found:
            message = f"each mask is one object of the image whose name it begins with, such as {masks[0]}"
            self._findings.append(finding("mask_names_matched", self._mask_folder, message))
        return []

    def _image_and_rest(self, mask: str) -> tuple[str | None, str]:
        stem = os.path.splitext(mask)[0]
        for end in range(len(stem) - 1, 0, -1):
            if stem[end] in "_-. " and len(names := self._images_of_stem.get(stem[:end], [])) == 1:
                return names[0], stem[end + 1 :]
        return None, ""

    def _report_shared(self, names: Sequence[str], place: str) -> None:
        if len(names) > 1:
            self.shared.update(names)
            message = f"{' and '.join(names)} share the masks {place}; the images were left out"
            self._findings.append(finding("source_shared", f"{self._image_folder}/{names[0]}", message))


def label_of_piece(rest: str) -> str:
    """The class in the rest of the name: ``bolt`` of ``bolt_3``, `ONLY_CLASS` of ``3`` and ``mask_3``."""
    label = label_of_file(f"{rest}.png")
    return ONLY_CLASS if label.casefold() in MASK_WORDS else label


def without_partner(source: MaskSource) -> Iterator[Finding]:
    """Findings about masks without an image, and images without a mask."""
    used = {mask for masks in source.id_maps.values() for mask in masks}
    for mask in source.unused:
        if f"{source.mask_folder}/{mask}" in used:
            continue
        hint = None
        if not source.id_maps and not source.folders:
            hint = (
                f"Name the masks like their images, such as {source.mask_folder}/"
                f"{os.path.splitext(source.images[0])[0]}.png for {source.image_folder}/{source.images[0]}, "
                "or list image and mask in the two columns of train.txt."
            )
        message = f"{source.image_folder}/ has no image with the same name"
        yield finding("image_missing", f"{source.mask_folder}/{mask}", message, hint=hint)
    bare = [name for name in source.images if not _has_masks(source, name)]
    if bare:
        message = f"{len(bare)} images have no mask; the first is {source.image_folder}/{bare[0]}"
        yield finding("image_without_labels", source.mask_folder, message)


def _has_masks(source: MaskSource, name: str) -> bool:
    return name in source.id_maps or name in source.folders or name in source.pieces


# ---- lists


def names_of_splits(source: MaskSource, findings: list[Finding]) -> dict[str, list[str]]:
    """The images of each split: of the lists, else all.

    A mask in the second column of a list becomes the mask of its image.
    """
    paths = {
        split: next(
            (path for name in names if (path := source.root / name).is_file()), source.root / f"{split}.txt"
        )
        for split, names in _LIST_FILES.items()
    }
    lists = read_split_lists(paths)
    if not lists:
        return {ALL: list(source.images)}
    by_line: dict[str, list[str]] = {}
    for name in source.images:
        by_line.setdefault(os.path.splitext(name)[0], []).append(name)
    for name in source.images:
        by_line[name] = [name]
    names_of_split = {}
    for split, lines in lists.items():
        names, lost = list[str](), list[str]()
        for line in lines:
            image = _listed(line, source, by_line)
            if image is None:
                lost.append(line)
            else:
                names.append(image)
        if lost:
            message = f"{len(lost)} of {len(lines)} entries lead to no image; the first is {lost[0]!r}"
            file = paths.get(split, paths["train"]).name
            findings.append(finding("list_entry_missing", file, message))
        names_of_split[split] = list(dict.fromkeys(names))
    listed = {name for names in names_of_split.values() for name in names}
    unlisted = [name for name in source.images if name not in listed and _has_masks(source, name)]
    if unlisted:
        message = (
            f"{len(unlisted)} images with masks are in no list and were left out; the first is "
            f"{source.image_folder}/{unlisted[0]}"
        )
        findings.append(finding("source_unlisted", paths["train"].name, message))
    return names_of_split


def _listed(line: str, source: MaskSource, by_line: Mapping[str, list[str]]) -> str | None:
    """The image of a line: a name or a path, with or without ending; a second column may name the mask."""
    name = _only_image(line, source, by_line)
    if name is not None:
        return name
    columns = re.split(r"\s*[,;\t]\s*|\s+", line)
    for cut in range(1, len(columns)):
        mask = " ".join(columns[cut:]).replace("\\", "/").lstrip("./")
        name = _only_image(" ".join(columns[:cut]), source, by_line)
        if name is not None and os.path.isfile(source.root / mask):
            source.id_maps[name] = [mask]
            source.shared.discard(name)
            return name
    if columns[-1].lower().endswith(MASK_SUFFIXES):
        return None  # a mask that does not exist
    return _only_image(columns[0], source, by_line)


def _only_image(text: str, source: MaskSource, by_line: Mapping[str, list[str]]) -> str | None:
    path = text.replace("\\", "/").lstrip("/").removeprefix("./").removeprefix(f"{source.image_folder}/")
    names = by_line.get(path, [])
    return names[0] if len(names) == 1 else None


def label_of_file(file: str) -> str:
    """``bolt`` for ``bolt/3.png``, ``bolt_3.png``, ``3_bolt.png`` and ``bolt.png``."""
    if "/" in file:
        return file.split("/")[0]
    stem = os.path.splitext(file)[0]
    return re.sub(r"^\d+[_-](?=.)|(?<=.)[_-]\d+$", "", stem) if not stem.isdigit() else ONLY_CLASS
