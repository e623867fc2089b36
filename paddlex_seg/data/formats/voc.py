"""Pascal VOC with instance masks: a mask of object numbers and a mask of classes for each image.

CVAT (Segmentation mask 1.1) and Datumaro write this layout with colours and ``labelmap.txt``, labelme2voc
with ``class_names.txt``.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, SourceObject, assemble_splits
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.mask_classes import ClassOfObject, UnlabelledObjects, class_of_ids
from paddlex_seg.data.formats.mask_colours import (
    LABELMAP,
    META_FILE,
    ClassMask,
    Labelmap,
    class_mask_by_labelmap,
    class_mask_by_list,
    object_numbers,
    read_labelmap,
    read_meta_file,
)
from paddlex_seg.data.formats.mask_images import (
    VOID,
    id_map_to_rles,
    read_mask_pixels,
)
from paddlex_seg.data.formats.mask_pieces import PieceCount
from paddlex_seg.data.formats.mask_smoothing import SmoothedMask, expect_sharp
from paddlex_seg.data.formats.source_files import (
    CLASS_LISTS,
    IGNORED_LABELS,
    ImageNames,
    agreed_size,
    image_sizes,
    names_of_values,
    read_class_list,
)
from paddlex_seg.data.formats.split_names import split_folders
from paddlex_seg.data.formats.voc_files import (
    VocParts,
    expect_masks,
    find_parts,
    looks_like_voc,
    shared_names,
    stems_of_splits,
    voc_folder,
)
from paddlex_seg.data.images import ImageSize
from paddlex_seg.errors import DatasetError

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def read_voc(root: Path) -> Conversion:
    """Read the data set in ``root``, or in the only folder below with masks, such as ``VOCdevkit/VOC2012``.

    Images are in ``JPEGImages``, masks of objects in ``SegmentationObject``, masks of classes in
    ``SegmentationClass``; of labelme2voc also the folders ending in ``PNG``, or arrays in ``.npy`` files.
    The class of an object is the most frequent class of its pixels. ``labelmap.txt`` gives the class of each
    colour. Otherwise class 1 is the first name after ``_background_`` in ``class_names.txt``. Without these
    files the 20 classes of Pascal VOC are used, with the finding ``classes_guessed`` unless all images have
    names of Pascal VOC, such as 2007_000032. The lists in ``ImageSets/Segmentation`` (or ``Main``)
    give the splits, or folders ``train`` and ``val``, each a data set. Raises DatasetError when there are no
    masks of objects, or no images.
    """
    place = voc_folder(root)
    folders = {} if looks_like_voc(place) else split_folders(place, looks_like_voc)
    folders = folders or {ALL: place}
    file_names = ImageNames(root)
    splits: dict[str, list[SourceImage]] = {}
    names: dict[str, None] = {}
    findings: list[Finding] = []
    for folder_split, folder in folders.items():
        found = _read_folder(folder, place, file_names)
        names |= dict.fromkeys(found.names)
        for split, images in found.splits.items():
            splits.setdefault(split if folder_split == ALL else folder_split, []).extend(images)
        prefix = "" if folder == place else f"{folder.name}/"
        findings += [replace(item, file=f"{prefix}{item.file}") for item in found.findings]
    return Conversion(
        splits=assemble_splits(root, splits, names),
        findings=tuple(findings),
        images=file_names.to_place,
    )


@dataclass(frozen=True)
class _Folder:
    """What was read from one folder."""

    splits: Mapping[str, Sequence[SourceImage]]
    names: Sequence[str]  # of the classes
    findings: Sequence[Finding]


def _read_folder(folder: Path, root: Path, file_names: ImageNames) -> _Folder:
    """Read the data set in ``folder``. The list of classes is there, or in ``root``."""
    parts = find_parts(folder)
    expect_masks(parts)
    findings = list(shared_names(parts))
    if not parts.classes:
        stem = sorted(parts.masks)[0]
        message = (
            f"SegmentationClass/{os.path.splitext(parts.masks[stem])[0]}.png does not exist, nor any other "
            "mask of classes; it gives the class of each object in "
            f"{parts.object_folder}/{parts.masks[stem]}. The {len(parts.masks)} images were left out"
        )
        findings.append(finding("mask_class_missing", "SegmentationClass", message))
    coding, guessed = _class_coding(parts, root)
    findings += guessed
    stems_of_split = stems_of_splits(parts, findings)
    wanted = list(dict.fromkeys(stem for stems in stems_of_split.values() for stem in stems))
    images = _read_images(wanted, parts, coding, file_names, findings) if parts.classes else {}
    splits = {
        split: [images[stem] for stem in dict.fromkeys(stems) if stem in images]
        for split, stems in stems_of_split.items()
    }
    return _Folder(splits, coding.names, findings)


# ---- classes


@dataclass(frozen=True)
class _Coding:
    """How masks of classes are read: by the colours of a labelmap, or by a list of names from value 0."""

    names: Sequence[str]  # of the classes, without the background
    labelmap: Labelmap | None = None
    of_value: Sequence[str] = ()

    def read(self, place: Path, file: str) -> ClassMask:
        mask = read_mask_pixels(place / file)
        if self.labelmap is not None:
            return class_mask_by_labelmap(mask, self.labelmap)
        return class_mask_by_list(mask, self.of_value, file)

    def describe(self, classes: ClassMask, value: int) -> str:
        """The value of an object without a class in words, for a message."""
        shared = self.labelmap.shared.get(value) if self.labelmap and classes.is_colour else None
        return classes.describe(value) + (f", which {' and '.join(shared)} share" if shared else "")

    @property
    def expected(self) -> str:
        return f"a colour of {LABELMAP}" if self.labelmap else f"1..{len(self.of_value) - 1}"


def _class_coding(parts: VocParts, root: Path) -> tuple[_Coding, list[Finding]]:
    path = next((path for place in (parts.root, root) if (path := place / LABELMAP).is_file()), None)
    labelmap = read_meta_file(parts.root / META_FILE) if path is None else read_labelmap(path)
    if labelmap is not None:
        return _Coding(
            names=[name for name in labelmap.names if name not in IGNORED_LABELS], labelmap=labelmap
        ), []
    listed = read_class_list(parts.root)
    listed = read_class_list(root) if listed is None else listed
    of_value = names_of_values(VOC_CLASSES if listed is None else listed)
    names = list(dict.fromkeys(name for name in of_value[1:] if name not in IGNORED_LABELS))
    findings = []
    if listed is None and not _is_pascal_voc(parts):
        message = (
            "there is no list of classes, so the 20 classes of Pascal VOC were taken: 1 is "
            f"{VOC_CLASSES[0]}, 2 is {VOC_CLASSES[1]}"
        )
        hint = (
            f"Write the names into {parts.root / 'class_names.txt'}, one a line, with _background_ first, "
            f"and convert again. A file {LABELMAP} with the colours, or {', '.join(CLASS_LISTS)}, is read "
            "too."
        )
        findings.append(finding("classes_guessed", "class_names.txt", message, hint=hint))
    return _Coding(names=names, of_value=of_value), findings


def _content(path: Path) -> bytes:
    """The content of a file of boxes; nothing if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_pascal_voc(parts: VocParts) -> bool:
    """Whether all masks have names as in Pascal VOC, or the first boxes are of its classes."""
    if all(re.fullmatch(r"20\d\d_\d{6}", stem) for stem in parts.masks):
        return True
    names = {
        name
        for box in islice(parts.boxes.values(), 50)
        for name in re.findall(
            rb"<object>.*?<name>\s*(.*?)\s*</name>",
            _content(parts.root / "Annotations" / box),
            re.DOTALL,
        )
    }
    return bool(names) and names <= {name.encode() for name in VOC_CLASSES}


# ---- images


@dataclass
class _Unknown:
    """Counts the objects whose class is not known, by what their class mask says."""

    objects: Counter[str] = field(default_factory=Counter)
    files: dict[str, list[str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, file: str, number: int) -> None:
        self.objects[what] += 1
        files = self.files.setdefault(what, [])
        if not files or files[-1] != file:
            files.append(file)
        self.first.setdefault(what, f"object {number}")

    def findings(self, expected: str) -> Iterator[Finding]:
        for what, count in self.objects.items():
            files = self.files[what]
            if count == 1:
                message = f"{self.first[what]} has {what}; expected {expected}"
            else:
                message = (
                    f"{count} objects in {len(files)} masks have {what}; expected {expected}; "
                    f"the first is {self.first[what]}"
                )
            yield finding("label_unknown", files[0], message)


@dataclass
class _Looks:
    """Counts what is unusual about the masks."""

    unknown: _Unknown = field(default_factory=_Unknown)
    pieces: PieceCount = field(default_factory=PieceCount)
    unlabelled: UnlabelledObjects = field(default_factory=UnlabelledObjects)
    empty: list[str] = field(default_factory=list)  # masks of objects without an object
    bare: list[tuple[str, str]] = field(default_factory=list)  # masks of classes, and a class without object

    def findings(self, parts: VocParts, expected: str) -> Iterator[Finding]:
        """The findings about all masks. ``expected``: the values that have a class."""
        yield from self.unknown.findings(expected)
        if self.empty:
            message = (
                f"{len(self.empty)} masks of objects have no value but {VOID}, which means 'not labelled', "
                f"so their images have no objects; the first is {self.empty[0]}"
            )
            yield finding("mask_void_only", parts.object_folder, message)
        yield from self.pieces.findings(parts.object_folder)
        yield from self.unlabelled.findings(parts.object_folder)
        if self.bare:
            mask, label = self.bare[0]
            message = (
                f"{len(self.bare)} masks of classes have pixels of a class where the mask of objects has no "
                f"object; the first is {mask} with pixels of {label}"
            )
            yield finding("mask_class_without_object", parts.class_folder, message)


def _read_images(
    stems: Sequence[str],
    parts: VocParts,
    coding: _Coding,
    file_names: ImageNames,
    findings: list[Finding],
) -> dict[str, SourceImage]:
    places = {stem: place for stem in stems if (place := parts.image(stem)) is not None}
    sizes = image_sizes(places.values())
    images: dict[str, SourceImage] = {}
    looks, without = _Looks(), list[str]()
    for stem in stems:
        if parts.image_of_mask.get(stem, stem) in parts.shared and stem in parts.masks:
            continue
        lack = _what_lacks(stem, parts)
        if lack is not None:
            findings.append(lack)
            continue
        name = parts.images[parts.image_of_mask.get(stem, stem)]
        try:
            if stem in parts.masks:
                size_hw, objects = _read_masks(stem, parts, coding, sizes[places[stem]], looks)
            elif (
                coding.labelmap is not None and stem not in parts.classes
            ):  # listed by CVAT: an image that was looked at, without objects
                size_hw, objects = agreed_size(sizes[places[stem]], None, ""), ()
                without.append(f"{parts.image_folder}/{name}")
            else:
                raise DatasetError(
                    f"{parts.object_folder}/{stem}.png does not exist; the image {parts.image_folder}/{name} "
                    "was left out"
                )
        except DatasetError as error:
            mask = f"{parts.object_folder}/{parts.masks[stem]}" if stem in parts.masks else stem
            code = "mask_interpolated" if isinstance(error, SmoothedMask) else "source_unreadable"
            findings.append(finding(code, mask, str(error).rstrip(".")))
            continue
        images[stem] = SourceImage(file_names.of_file(places[stem], name), size_hw, objects)
    findings += looks.findings(parts, coding.expected)
    if without:
        message = f"{len(without)} listed images have no mask; the first is {without[0]}"
        findings.append(finding("image_without_labels", parts.object_folder, message))
    return images


def _read_masks(
    stem: str,
    parts: VocParts,
    coding: _Coding,
    image_size: ImageSize | DatasetError,
    looks: _Looks,
) -> tuple[tuple[int, int], tuple[SourceObject, ...]]:
    mask = f"{parts.object_folder}/{parts.masks[stem]}"
    pixels = read_mask_pixels(parts.root / mask)
    ids = object_numbers(pixels)
    rles = id_map_to_rles(ids)
    expect_sharp(pixels, parts.root / mask)
    if stem not in parts.classes:
        raise DatasetError(
            f"{parts.class_folder}/{os.path.splitext(parts.masks[stem])[0]}.png does not exist, which gives "
            "the class of each object"
        )
    classes = coding.read(parts.root, f"{parts.class_folder}/{parts.classes[stem]}")
    if ids.shape != classes.values.shape:
        raise DatasetError(
            f"the mask of objects is {ids.shape} (height, width), "
            f"but the mask of classes is {classes.values.shape}"
        )
    size_hw = agreed_size(image_size, ids.shape, "the mask")
    class_of = class_of_ids(ids, classes.values, classes.unlabelled)
    has_void = _has_void(class_of)
    no_objects = {0, VOID} if has_void else {0}
    objects = {number: rle for number, rle in rles.items() if number not in no_objects}
    looks.pieces.add(mask, ids, objects)
    values = [class_of[number].value for number in sorted(no_objects & class_of.keys())]
    if has_void and not objects:
        looks.empty.append(mask)
    elif names := [classes.labels[value] for value in values if value in classes.labels]:
        looks.bare.append((f"{parts.class_folder}/{parts.classes[stem]}", names[0]))
    labelled = []
    for number, rle in objects.items():
        found = class_of[number]
        if found.value in classes.labels:
            labelled.append(SourceObject(classes.labels[found.value], rle))
            looks.unlabelled.add(mask, number, found)
        else:
            looks.unknown.add(coding.describe(classes, found.value), mask, number)
    return size_hw, tuple(labelled)


def _has_void(class_of: Mapping[int, ClassOfObject]) -> bool:
    """Whether 255 stands for borders and regions that are not labelled.

    It is an object only in a mask that counts so far, up to 254, and if most of its pixels have a class.
    """
    if VOID not in class_of:
        return False
    return VOID - 1 not in class_of or class_of[VOID].is_mostly_unlabelled


def _what_lacks(stem: str, parts: VocParts) -> Finding | None:
    if stem not in parts.masks and stem in parts.boxes:
        xml = f"Annotations/{parts.boxes[stem]}"
        num_boxes = _content(parts.root / xml).count(b"<object>")
        message = f"the image has {num_boxes} boxes and no mask; boxes are not masks; it was left out"
        return finding("shape_without_area", xml, message, hint="Draw masks into SegmentationObject.")
    if parts.image(stem) is None:
        message = f"{parts.image_folder} has no image {stem}; the mask was left out"
        is_object = stem in parts.masks
        folder, masks = (
            (parts.object_folder, parts.masks) if is_object else (parts.class_folder, parts.classes)
        )
        return finding("image_missing", f"{folder}/{masks.get(stem, stem)}", message)
    return None
