"""Masks as PNG files: per image, one PNG of object numbers or a folder with one binary PNG per object."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import (
    SourceImage,
    SourceObject,
    assemble_splits,
    labels_in_order,
)
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.mask_colours import class_mask_by_list
from paddlex_seg.data.formats.mask_images import (
    MASK_SUFFIXES,
    VOID,
    IdMap,
    SmoothedMask,
    class_of_ids,
    distinct,
    expect_sharp,
    id_map_to_rles,
    num_large_pieces,
    num_large_pieces_of_rle,
    read_binary_mask,
    read_mask_pixels,
)
from paddlex_seg.data.formats.mask_names import MASK_WORDS, PICTURE_WORDS, has_word, images_of_masks
from paddlex_seg.data.formats.source_files import (
    IGNORED_LABELS,
    SPLITS,
    ImageNames,
    agreed_size,
    decode_text,
    files_below,
    image_sizes,
    names_of_values,
    read_class_list,
    read_split_lists,
)
from paddlex_seg.data.formats.target_files import (
    annotations_by_image,
    class_names,
    inside_name,
    place_image,
    unused,
    write_lines,
)
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.images import encode_image
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_boxes_xywh, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, ImageRecord, Rle

# In lower case; the first that has files is taken.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation"),
    *("gt", "ground_truth", "groundtruth", "instances", "instance_masks"),
)
_LIST_FILES = {split: (f"{split}.txt", f"{split}_list.txt") for split in SPLITS}
INDEX = "instances.json"  # in the folder of an image's masks: file, label and iscrowd of each
ONLY_CLASS = "object"


def read_mask_png(root: Path) -> Conversion:
    """Read the data set in ``root``: images in ``images/``, masks of the same names in ``masks/``.

    There are two layouts for ``images/a.jpg``. First: ``masks/a.png``, whose pixel values are object numbers
    (0 is background), with the classes in ``masks/a.json`` or ``classes/a.png``. Second: the folder
    ``masks/a/`` with one PNG per object, named ``<class>_<number>.png`` or ``<class>/<number>.png``, or
    listed in ``instances.json``. An image without masks has no objects. ``train.txt`` and ``val.txt`` list
    the images of a split; a second column may name the mask. The folders may have the names in
    `IMAGE_FOLDERS` and `MASK_FOLDERS`, and masks may have names such as ``a_mask.png``, if each fits exactly
    one image. Raises DatasetError when there is no mask at all.
    """
    source = _find_source(root)
    findings: list[Finding] = list(source.findings)
    names_of_split = _names_of_splits(source, findings)
    findings += _without_partner(source)
    file_names = ImageNames(root)
    images = _read_images(source, names_of_split, file_names, findings)
    splits = {
        split: [images[name] for name in names if name in images] for split, names in names_of_split.items()
    }
    labels = labels_in_order(splits) if source.known is None else source.known
    if source.class_list is None and ONLY_CLASS in labels:
        message = f"nothing names the class of the objects, so it was called {ONLY_CLASS!r}"
        hint = f"Write the name into {root / 'label.txt'}, and convert again."
        findings.append(finding("classes_guessed", "label.txt", message, hint=hint))
    return Conversion(
        splits=assemble_splits(root, splits, labels),
        findings=tuple(findings),
        images=file_names.to_place,
    )


def write_mask_png(splits: Mapping[str, CocoFile], image_dir: Path, folder: Path) -> list[Finding]:
    """Write the data set into ``folder``: the images, and for each image a folder with one mask per object.

    Overlaps, holes, class names and crowd regions are kept. ``read_mask_png`` reads the same masks back.
    """
    findings: list[Finding] = []
    taken: set[PurePosixPath] = set()
    taken_folders: set[PurePosixPath] = set()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    for split, coco in splits.items():
        of_image, lines = annotations_by_image(coco), []
        label_of_id = {category.id: category.name for category in coco.categories}
        for record in coco.images:
            name = unused(inside_name(record), taken)
            missing = place_image(record, image_dir, folder / "images" / name, coco.path.name)
            findings += missing
            if missing:
                continue
            stem = name.with_suffix("")
            place = folder / "masks" / unused(name if stem in taken_folders else stem, taken_folders)
            findings += _write_masks(place, of_image[record.id], record, label_of_id, coco.path.name)
            lines.append(str(name))
        if split != ALL:
            write_lines(folder / f"{split}.txt", lines)
    write_lines(folder / "label.txt", class_names(list(splits.values())))
    return findings


# ---- finding the masks


@dataclass(frozen=True)
class _Source:
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


def _find_source(root: Path) -> _Source:
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
    if not files:
        raise DatasetError(_nothing_found(root, image_folder, images))
    if not images:
        raise DatasetError(
            f"{root}: {len(files)} masks in {mask_folder}, but no image in images/. Copy the images there."
        )
    masks = [name for name in files if not name.endswith(INDEX)]
    pictures = [name for name in masks if has_word(os.path.splitext(name)[0], PICTURE_WORDS)]
    stems = {os.path.splitext(name)[0] for name in images}
    if pictures and all(os.path.splitext(name)[0] not in stems for name in pictures):
        masks = [name for name in masks if name not in set(pictures)]
        message = f"{len(pictures)} pictures of masks were not read; the first is {mask_folder}/{pictures[0]}"
        findings.append(finding("mask_picture", mask_folder, message))
    found = _Found(image_folder, mask_folder, images, findings)
    found.add_folders(files)
    rest = found.add_id_maps([name for name in masks if not found.is_inside_folder(name)])
    rest = found.add_pieces(rest, read_class_list(root))
    return _Source(
        root=root,
        image_folder=image_folder,
        mask_folder=mask_folder,
        images=images,
        id_maps=found.id_maps,
        folders=found.folders,
        pieces=found.pieces,
        class_list=read_class_list(root),
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
    present = {}
    if root.is_dir():
        with os.scandir(root) as entries:
            present = {entry.name.lower(): entry.name for entry in entries if entry.is_dir()}
    for name in names:
        if name in present and (files := files_below(root / present[name], suffixes)):
            return present[name], files
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
            image, label = self._image_and_label(mask)
            if image is None or (label != ONLY_CLASS and label not in (class_list or ())):
                return list(masks)
            found.setdefault(image, []).append(f"{self._mask_folder}/{mask}")
        self.pieces = found
        if found:
            message = f"each mask is one object of the image whose name it begins with, such as {masks[0]}"
            self._findings.append(finding("mask_names_matched", self._mask_folder, message))
        return []

    def _image_and_label(self, mask: str) -> tuple[str | None, str]:
        stem = os.path.splitext(mask)[0]
        for end in range(len(stem) - 1, 0, -1):
            if stem[end] in "_-. " and len(names := self._images_of_stem.get(stem[:end], [])) == 1:
                return names[0], _label_of_piece(stem[end + 1 :])
        return None, ""

    def _report_shared(self, names: Sequence[str], place: str) -> None:
        if len(names) > 1:
            self.shared.update(names)
            message = f"{' and '.join(names)} share the masks {place}; the images were left out"
            self._findings.append(finding("source_shared", f"{self._image_folder}/{names[0]}", message))


def _label_of_piece(rest: str) -> str:
    """The class in the rest of the name: ``bolt`` of ``bolt_3``, `ONLY_CLASS` of ``3`` and ``mask_3``."""
    label = _label_of_file(f"{rest}.png")
    return ONLY_CLASS if label.casefold() in MASK_WORDS else label


def _without_partner(source: _Source) -> Iterator[Finding]:
    used = {mask for masks in source.id_maps.values() for mask in masks}
    for mask in source.unused:
        if f"{source.mask_folder}/{mask}" in used:
            continue
        hint = None
        if not source.id_maps and not source.folders:
            hint = (
                f"Name the masks like their images, such as {source.mask_folder}/"
                f"{os.path.splitext(source.images[0])[0]}.png for {source.image_folder}/{source.images[0]}, "
                "or "
                "list image and mask in the two columns of train.txt."
            )
        message = f"{source.image_folder}/ has no image with the same name"
        yield finding("image_missing", f"{source.mask_folder}/{mask}", message, hint=hint)
    bare = [name for name in source.images if not _has_masks(source, name)]
    if bare:
        message = f"{len(bare)} images have no mask; the first is {source.image_folder}/{bare[0]}"
        yield finding("image_without_labels", source.mask_folder, message)


def _has_masks(source: _Source, name: str) -> bool:
    return name in source.id_maps or name in source.folders or name in source.pieces


# ---- lists


def _names_of_splits(source: _Source, findings: list[Finding]) -> dict[str, list[str]]:
    """The images of each split: of the lists, else all. A mask in a second column becomes the image's "
    "mask."""
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


def _listed(line: str, source: _Source, by_line: Mapping[str, list[str]]) -> str | None:
    """The image of a line: a name or a path, with or without ending; a second column names the mask."""
    name = _only_image(line, source, by_line)
    if name is not None:
        return name
    columns = re.split(r"\s*[,;\t]\s*|\s+", line)
    for cut in range(1, len(columns)):
        mask = " ".join(columns[cut:]).replace("\\", "/").lstrip("./")
        name = _only_image(" ".join(columns[:cut]), source, by_line)
        if name is not None and (source.root / mask).is_file():
            source.id_maps[name] = [mask]
            source.shared.discard(name)
            return name
    return None


def _only_image(text: str, source: _Source, by_line: Mapping[str, list[str]]) -> str | None:
    path = text.replace("\\", "/").lstrip("/").removeprefix("./").removeprefix(f"{source.image_folder}/")
    names = by_line.get(path, [])
    return names[0] if len(names) == 1 else None


# ---- reading


def _read_images(
    source: _Source,
    names_of_split: Mapping[str, Sequence[str]],
    file_names: ImageNames,
    findings: list[Finding],
) -> dict[str, SourceImage]:
    place = source.root / source.image_folder
    names = list(dict.fromkeys(name for members in names_of_split.values() for name in members))
    sizes = image_sizes(place / name for name in names)
    images, looks = {}, _Looks()
    for name in names:
        places = [*source.id_maps.get(name, ())]
        places += [f"{source.folders[name]}/"] if name in source.folders else []
        if len(places) > 1:
            message = f"{' and '.join(places)} are both for this image; it was left out"
            findings.append(finding("source_shared", f"{source.image_folder}/{name}", message))
            continue
        if name in source.shared:
            continue
        try:
            size = sizes[place / name]
            size_hw = agreed_size(size, None, "")
            labelled = list(_read_objects(source, name, looks, findings))
            for _, rle, _ in labelled:
                size_hw = agreed_size(size, (rle["size"][0], rle["size"][1]), "the mask")
        except SmoothedMask as error:
            findings.append(finding("mask_interpolated", places[0], str(error)))
            continue
        except DatasetError as error:
            file = f"{source.image_folder}/{name}"
            findings.append(finding("source_unreadable", file, str(error).rstrip(".")))
            continue
        objects = tuple(SourceObject(label, rle, iscrowd) for label, rle, iscrowd in labelled)
        images[name] = SourceImage(file_names.of_file(place / name, name), size_hw, objects)
    findings += looks.findings(source.mask_folder)
    return images


_Labelled = tuple[str, Rle, bool]  # label, mask, iscrowd


class _Looks:
    """Counts what is unusual about the masks of the data set."""

    def __init__(self) -> None:
        self.binary: list[tuple[str, int, int]] = []  # mask, value, number of pieces
        self.pieces: list[tuple[str, int]] = []  # masks of one object and a class: number of pieces
        self.num_numbers = 0
        self.in_pieces: list[str] = []  # a mask for each number that covers several pieces
        self.colours: list[str] = []
        self.soft: list[str] = []

    def add_numbers(self, mask: str, rles: Mapping[int, Rle]) -> None:
        """The objects of a mask of numbers."""
        boxes = rle_boxes_xywh(list(rles.values())).tolist()
        counts = [num_large_pieces_of_rle(rle, box) for rle, box in zip(rles.values(), boxes, strict=True)]
        self.num_numbers += len(rles)
        self.in_pieces += [mask for count in counts if count > 1]
        if len(rles) == 1 and set(rles) <= {1, VOID} and counts[0] > 1:
            self.binary.append((mask, next(iter(rles)), counts[0]))

    def findings(self, folder: str) -> Iterator[Finding]:
        """The findings about all masks."""
        if self.binary:
            mask, value, count = self.binary[0]
            message = (
                f"{len(self.binary)} masks have one value and several pieces, which became one object; "
                f"the first is {mask}: one value, {value}, {count} pieces"
            )
            yield finding("mask_several_pieces", mask, message)
        elif self.num_numbers > 1 and len(self.in_pieces) > self.num_numbers / 2:
            message = (
                f"{len(self.in_pieces)} of {self.num_numbers} object numbers cover several pieces each; the "
                "first "
                f"is in {self.in_pieces[0]}; the numbers may be classes"
            )
            yield finding("mask_several_pieces", folder, message)
        if self.pieces:
            mask, count = self.pieces[0]
            message = (
                f"{len(self.pieces)} masks without a number in their name have several pieces, which became "
                "one "
                f"object; the first is {mask}: {count} pieces"
            )
            yield finding("mask_several_pieces", mask, message)
        if self.colours:
            message = f"{len(self.colours)} masks are colour images; the first is {self.colours[0]}"
            yield finding("mask_colours", folder, message)
        if self.soft:
            message = f"{len(self.soft)} masks have gray values along edges; the first is {self.soft[0]}"
            yield finding("mask_soft_edges", folder, message)


def _read_objects(source: _Source, name: str, looks: _Looks, findings: list[Finding]) -> Iterator[_Labelled]:
    if name in source.id_maps:
        yield from _read_numbers(source, source.id_maps[name][0], looks, findings)
    elif name in source.folders:
        yield from _read_folder(source, source.folders[name], looks, findings)
    elif name in source.pieces:
        stem = f"{source.mask_folder}/{os.path.splitext(name)[0]}"
        for mask in source.pieces[name]:
            label = _label_of_piece(os.path.splitext(mask)[0][len(stem) + 1 :])
            known = source.known
            label = known[0] if label == ONLY_CLASS and known is not None and len(known) == 1 else label
            if _is_wanted(label, known, mask, findings):
                yield label, _read_one_object(source.root, mask, looks), False


def _read_folder(source: _Source, folder: str, looks: _Looks, findings: list[Finding]) -> Iterator[_Labelled]:
    """The masks of one image: the files in the index, or all files if there is no index."""
    place = source.root / folder
    is_indexed = (place / INDEX).is_file()
    for file, label, iscrowd in _index_entries(place):
        if _is_wanted(label, source.known, f"{folder}/{file}", findings):
            has_number = is_indexed or bool(re.search(r"\d", file))
            yield label, _read_one_object(source.root, f"{folder}/{file}", looks, has_number), iscrowd


def _read_one_object(root: Path, mask: str, looks: _Looks, has_number: bool = True) -> Rle:
    pixels, has_soft_edges = read_binary_mask(root / mask)
    if has_soft_edges:
        looks.soft.append(mask)
    if not has_number and (count := num_large_pieces(pixels)) > 1:
        looks.pieces.append((mask, count))
    return mask_to_rle(pixels)


def _index_entries(place: Path) -> list[tuple[str, str, bool]]:
    """File, label and iscrowd of each mask."""
    if not (place / INDEX).is_file():
        return [(file, _label_of_file(file), False) for file in files_below(place, MASK_SUFFIXES)]
    entries = _read_json(place / INDEX)
    try:
        found = [(entry["file"], entry["label"], bool(entry.get("iscrowd"))) for entry in entries]
    except (KeyError, TypeError, AttributeError):
        found = [("", 0, False)]
    for file, label, _ in found:
        if not isinstance(label, str) or not isinstance(file, str) or not re.fullmatch(r"[^/\\]+", file):
            raise DatasetError(
                f"{place / INDEX}: expected a list of entries with 'file' (a name without folder) and 'label'"
            )
    return found


def _label_of_file(file: str) -> str:
    """``bolt`` for ``bolt/3.png``, ``bolt_3.png``, ``3_bolt.png`` and ``bolt.png``."""
    if "/" in file:
        return file.split("/")[0]
    stem = os.path.splitext(file)[0]
    return re.sub(r"^\d+[_-](?=.)|(?<=.)[_-]\d+$", "", stem) if not stem.isdigit() else ONLY_CLASS


def _read_numbers(source: _Source, mask: str, looks: _Looks, findings: list[Finding]) -> Iterator[_Labelled]:
    """The objects in a mask of object numbers."""
    pixels = read_mask_pixels(source.root / mask)
    ids = pixels.values
    expect_sharp(pixels, ids, source.root / mask)
    if pixels.is_colour:
        looks.colours.append(mask)
    rles = id_map_to_rles(ids)
    looks.add_numbers(mask, rles)
    labels = _labels_of_numbers(source, mask, ids)
    nameless = []
    for number, rle in rles.items():
        label = labels.get(number)
        if label is None:
            nameless.append(number)
        elif _is_wanted(label, source.known, mask, findings):
            yield label, rle, False
    if nameless:
        some = ", ".join(str(number) for number in nameless[:10])
        message = (
            f"object {some} has no class"
            if len(nameless) == 1
            else (f"{len(nameless)} objects have no class: {some}{', ...' if len(nameless) > 10 else ''}")
        )
        findings.append(finding("label_unknown", mask, message))


def _labels_of_numbers(source: _Source, mask: str, ids: IdMap) -> Mapping[int, str]:
    """The class of each object number: from a JSON file, from the class mask, or the only class there is."""
    sidecar = (source.root / mask).with_suffix(".json")
    if sidecar.is_file():
        entries = _read_json(sidecar)
        if not isinstance(entries, dict):
            raise DatasetError(f'{sidecar}: expected an object such as {{"1": "bolt"}}')
        return {int(key): str(value) for key, value in entries.items() if key.strip().isdecimal()}
    class_mask = f"classes/{mask.removeprefix(source.mask_folder + '/')}"
    if (source.root / class_mask).is_file():
        if source.class_list is None:
            raise DatasetError(f"{source.root}: label.txt with the class names is missing; classes/ needs it")
        names = names_of_values(source.class_list)
        classes = class_mask_by_list(read_mask_pixels(source.root / class_mask), names, class_mask)
        if classes.values.shape != ids.shape:
            raise DatasetError(
                f"the mask of objects is {ids.shape} (height, width), "
                f"but the mask of classes is {classes.values.shape}"
            )
        values = class_of_ids(ids, classes.values)
        return {number: classes.labels[value] for number, value in values.items() if value in classes.labels}
    listed = source.class_list
    classes_left = (
        None
        if listed is None
        else [name for name in names_of_values(listed)[1:] if name not in IGNORED_LABELS]
    )
    if classes_left is not None and len(classes_left) != 1:
        raise DatasetError(
            f"neither {sidecar} nor {class_mask} exists; one of them must give the class of each object, "
            f"because there are {len(classes_left)} classes"
        )
    return dict.fromkeys(distinct(ids), ONLY_CLASS if classes_left is None else classes_left[0])


def _is_wanted(label: str, known: Sequence[str] | None, file: str, findings: list[Finding]) -> bool:
    if label in IGNORED_LABELS:
        return False
    if known is not None and label not in known:
        findings.append(finding("label_unknown", file, f"the class {label!r} is not in the list of classes"))
        return False
    return True


def _read_json(path: Path) -> Any:
    try:
        return json.loads(decode_text(path.read_bytes(), path))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error})") from error


# ---- writing


def _write_masks(
    place: Path,
    annotations: Sequence[Annotation],
    record: ImageRecord,
    label_of_id: Mapping[int, str],
    file: str,
) -> list[Finding]:
    place.mkdir(parents=True, exist_ok=True)
    findings, index = [], []
    for annotation in annotations:
        mask = rle_to_mask(annotation_to_rle(annotation, record.height, record.width))
        if not mask.any():
            message = "the mask covers no pixel; the annotation was left out"
            findings.append(
                finding("mask_approximated", file, message, image_id=record.id, annotation_id=annotation.id)
            )
            continue
        label = label_of_id[annotation.category_id]
        name = f"{annotation.id}_{re.sub(r'[^A-Za-z0-9-]+', '-', label)[:40]}.png"
        (place / name).write_bytes(encode_image(Image.fromarray(mask * 255), ".png"))
        index.append({"file": name, "label": label, "iscrowd": annotation.iscrowd})
    (place / INDEX).write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    return findings
