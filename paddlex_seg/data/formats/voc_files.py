"""The files of a Pascal VOC data set: folders of images and masks, and the lists of its splits."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.formats.mask_names import images_of_masks
from paddlex_seg.data.formats.source_files import (
    SPLITS,
    files_below,
    read_lines,
    read_split_lists,
)
from paddlex_seg.data.formats.split_names import is_split_folder, split_folders, split_named
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError

IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "image", "img", "imgs")
OBJECT_FOLDERS = ("SegmentationObject", "SegmentationObjectPNG", "SegmentationObjectNpy")
CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassNpy")


def voc_folder(root: Path) -> Path:
    """``root`` if it has VOC folders, or folders of splits that have them, else the only such folder below.

    At most three levels below; ``root`` if there is none. Raises DatasetError if there are several.
    """
    if looks_like_voc(root) or split_folders(root, looks_like_voc):
        return root
    level = [root]
    for _ in range(3):
        level = [Path(entry) for place in level for entry in _folders_in(place)]
        found = [place for place in level if looks_like_voc(place) or split_folders(place, looks_like_voc)]
        if len(found) > 1:
            names = ", ".join(sorted(place.relative_to(root).as_posix() for place in found))
            raise DatasetError(
                f"{root}: there are several data sets of Pascal VOC in this folder: {names}. "
                "Set Global.dataset_dir to one of them."
            )
        if found:
            return found[0]
    return root


@dataclass(frozen=True)
class VocParts:
    """The files of the data set: name without extension to file name, both relative to their folder."""

    root: Path
    image_folder: str
    object_folder: str
    class_folder: str
    images: dict[str, str]
    masks: dict[str, str]
    classes: dict[str, str]
    boxes: dict[str, str]
    image_of_mask: dict[str, str]  # both without extension
    shared: dict[str, list[str]]  # images with one name without extension: paths relative to the root

    def image(self, stem: str) -> Path | None:
        """The image of the mask ``stem``, or the image of this name."""
        name = self.images.get(self.image_of_mask.get(stem, stem))
        return None if name is None else self.root / self.image_folder / name


def looks_like_voc(place: Path) -> bool:
    """Whether a folder has VOC's folders of masks, or of images and boxes."""
    return any((place / name).is_dir() for name in (*OBJECT_FOLDERS[:2], *CLASS_FOLDERS[:2])) or (
        (place / "JPEGImages").is_dir() and (place / "Annotations").is_dir()
    )


def _folders_in(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def find_parts(root: Path) -> VocParts:
    """The files of the data set in ``root``."""
    object_folder, masks = _first_with_masks(root, OBJECT_FOLDERS)
    class_folder, classes = _first_with_masks(root, CLASS_FOLDERS)
    image_folder, names = next(
        (
            (folder, found)
            for folder in IMAGE_FOLDERS
            if (found := files_below(root / folder, IMAGE_SUFFIXES))
        ),
        ("JPEGImages", []),
    )
    if not names and root.is_dir():  # images beside the folders of masks
        names = sorted(name for name in os.listdir(root) if name.lower().endswith(IMAGE_SUFFIXES))
        image_folder = "." if names else image_folder
    images, of_stem = _by_stem(names), defaultdict[str, list[str]](list)
    for name in names:
        of_stem[os.path.splitext(name)[0]].append(f"{image_folder}/{name}")
    return VocParts(
        root=root,
        image_folder=image_folder,
        object_folder=object_folder,
        class_folder=class_folder,
        images=images,
        masks=masks,
        classes=classes,
        boxes=_by_stem(files_below(root / "Annotations", (".xml",))),
        image_of_mask=images_of_masks(masks, images),
        shared={stem: paths for stem, paths in of_stem.items() if len(paths) > 1},
    )


def _first_with_masks(root: Path, folders: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The first folder with images of masks, else the first with arrays."""
    for suffix in (".png", ".npy"):
        for folder in folders:
            if names := files_below(root / folder, (suffix,)):
                return folder, _by_stem(names)
    return folders[0], {}


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    return {os.path.splitext(name)[0]: name for name in names}


def expect_masks(parts: VocParts) -> None:
    """Raises DatasetError if there are no masks of objects, or no images."""
    if not parts.masks:
        boxes = "; the boxes in Annotations/ are not masks" if parts.boxes else ""
        classes = ""
        if parts.classes:
            classes = (
                f"; the {len(parts.classes)} masks in {parts.class_folder} show classes, not where one "
                "object ends and the next begins, so objects that touch cannot be told apart"
            )
        raise DatasetError(
            f"{parts.root}: no *.png in SegmentationObject{boxes}{classes}. Expected two PNGs for each image "
            "in JPEGImages: one in SegmentationObject, whose pixel values are object numbers, and one in "
            "SegmentationClass, whose pixel values are classes. Export the masks of objects too."
        )
    if not parts.images:
        raise DatasetError(
            f"{parts.root}: {len(parts.masks)} masks in {parts.object_folder}, but no image in JPEGImages. "
            "CVAT exports images only if 'Save images' is on. Copy the images to "
            f"{parts.root / 'JPEGImages'}, such as {sorted(parts.masks)[0]}.jpg."
        )


def shared_names(parts: VocParts) -> Iterator[Finding]:
    """A finding for each mask that two images share."""
    for stem, names in parts.shared.items():
        if stem in parts.masks:
            message = f"{' and '.join(names)} share the mask {parts.masks[stem]}; they were left out"
            yield finding("source_shared", names[0], message)
    renamed = [mask for mask, image in parts.image_of_mask.items() if mask != image]
    if renamed:
        message = (
            f"{len(renamed)} masks belong to images of another name: {parts.masks[renamed[0]]} to "
            f"{parts.images[parts.image_of_mask[renamed[0]]]}"
        )
        yield finding("mask_names_matched", parts.object_folder, message)


def stems_of_splits(parts: VocParts, findings: list[Finding]) -> dict[str, list[str]]:
    """The masks of each split, in the order of the lists."""
    lists = _read_lists(parts.root)
    if not lists:
        findings += unlabelled(parts)
        return {ALL: sorted({*parts.masks, *parts.boxes, *parts.classes})}
    mask_of_image = {image: mask for mask, image in parts.image_of_mask.items()}
    stems_of_split = {}
    for split, (file, lines) in lists.items():
        stems, lost = [], []
        for line in lines:
            stem = _stem_of(line, parts)
            if stem is None:
                lost.append(line)
            else:
                stems.append(mask_of_image.get(stem, stem))
        if lost:
            message = (
                f"{len(lost)} of {len(lines)} entries have neither an image nor a mask; "
                f"the first is {lost[0]!r}"
            )
            findings.append(finding("list_entry_missing", file, message))
        stems_of_split[split] = stems
    listed = {stem for stems in stems_of_split.values() for stem in stems}
    unlisted = [stem for stem in sorted(parts.masks) if stem not in listed]
    if unlisted:
        message = (
            f"{len(unlisted)} masks are in no list and were left out; the first is "
            f"{parts.object_folder}/{parts.masks[unlisted[0]]}"
        )
        findings.append(finding("source_unlisted", ", ".join(file for file, _ in lists.values()), message))
    return stems_of_split


def _read_lists(root: Path) -> dict[str, tuple[str, list[str]]]:
    """File and lines of the list of each split; of the split "all" if no list is for training alone."""
    for folder in ("Segmentation", "Main"):
        place = root / "ImageSets" / folder
        files = sorted(place.glob("*.txt")) if place.is_dir() else []
        paths: dict[str, Path] = {}
        for path in files:
            split = split_named(path.stem) if is_split_folder(path.stem) else None
            if split in SPLITS:
                paths.setdefault(split, path)
        whole = [path for path in files if path.stem.lower() in ("default", "trainval")]
        if folder == "Segmentation" and not whole:
            whole = [path for path in files if path not in paths.values()]
        if "train" not in paths and whole:
            lines = [line for path in [*whole, *paths.values()] for line in read_lines(path)]
            return {ALL: (whole[0].relative_to(root).as_posix(), lines)}
        expected = {split: paths.get(split, place / f"{split}.txt") for split in SPLITS}
        if lists := read_split_lists(expected):
            return {
                split: (expected.get(split, expected["train"]).relative_to(root).as_posix(), lines)
                for split, lines in lists.items()
            }
    return {}


def _stem_of(line: str, parts: VocParts) -> str | None:
    """The image or mask that an entry names: a name or a path, perhaps with columns behind it."""
    for text in (line, line.split()[0]):
        path = text.strip("\"'").replace("\\", "/").lstrip("/").removeprefix("./")
        for folder in (f"{parts.image_folder}/", "JPEGImages/", f"{parts.object_folder}/"):
            path = path.removeprefix(folder)
        for stem in (path, os.path.splitext(path)[0], os.path.splitext(path.rpartition("/")[2])[0]):
            if stem in parts.images or stem in parts.masks or stem in parts.boxes:
                return stem
    return None


def unlabelled(parts: VocParts) -> list[Finding]:
    """A finding about the images that have neither masks nor boxes."""
    with_mask = {*parts.image_of_mask.values(), *parts.classes}
    stems = sorted(set(parts.images) - with_mask - set(parts.boxes))
    if not stems:
        return []
    message = f"{len(stems)} images without a mask were left out; the first is {parts.images[stems[0]]}"
    return [finding("image_unreferenced", parts.image_folder, message)]
