"""Pascal VOC with instance masks: a mask of object numbers and a mask of classes for each image.

CVAT (Segmentation mask 1.1) and Datumaro write this layout with colours and ``labelmap.txt``, labelme2voc
with ``class_names.txt``.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, SourceObject, assemble_splits
from paddlex_seg.data.formats.conversion import ALL, Conversion
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
    SmoothedMask,
    class_of_ids,
    expect_sharp,
    id_map_to_rles,
    read_mask_pixels,
)
from paddlex_seg.data.formats.mask_names import images_of_masks
from paddlex_seg.data.formats.mask_pieces import PieceCount
from paddlex_seg.data.formats.source_files import (
    CLASS_LISTS,
    IGNORED_LABELS,
    SPLITS,
    ImageNames,
    agreed_size,
    files_below,
    image_sizes,
    names_of_values,
    read_class_list,
    read_lines,
    read_split_lists,
)
from paddlex_seg.data.formats.split_folders import SPLIT_OF_NAME, split_folders
from paddlex_seg.data.images import IMAGE_SUFFIXES, ImageSize
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
IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "image", "img", "imgs")
OBJECT_FOLDERS = ("SegmentationObject", "SegmentationObjectPNG", "SegmentationObjectNpy")
CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassNpy")


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
    folders = {} if _looks_like_voc(place) else split_folders(place, _looks_like_voc)
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
    parts = _find_parts(folder)
    _expect_masks(parts)
    findings = list(_shared_names(parts))
    if not parts.classes:
        stem = sorted(parts.masks)[0]
        message = (
            f"SegmentationClass/{os.path.splitext(parts.masks[stem])[0]}.png does not exist, nor any other "
            "mask of "
            f"classes; it gives the class of each object in {parts.object_folder}/{parts.masks[stem]}. The "
            f"{len(parts.masks)} images were left out"
        )
        findings.append(finding("mask_class_missing", "SegmentationClass", message))
    coding, guessed = _class_coding(parts, root)
    findings += guessed
    stems_of_split = _stems_of_splits(parts, findings)
    wanted = list(dict.fromkeys(stem for stems in stems_of_split.values() for stem in stems))
    images = _read_images(wanted, parts, coding, file_names, findings) if parts.classes else {}
    splits = {
        split: [images[stem] for stem in dict.fromkeys(stems) if stem in images]
        for split, stems in stems_of_split.items()
    }
    return _Folder(splits, coding.names, findings)


def voc_folder(root: Path) -> Path:
    """``root`` if it has VOC folders, or folders of splits that have them, else the only such folder below.

    At most three levels below; ``root`` if there is none. Raises DatasetError if there are several.
    """
    if _looks_like_voc(root) or split_folders(root, _looks_like_voc):
        return root
    level = [root]
    for _ in range(3):
        level = [Path(entry) for place in level for entry in _folders_in(place)]
        found = [place for place in level if _looks_like_voc(place) or split_folders(place, _looks_like_voc)]
        if len(found) > 1:
            names = ", ".join(sorted(place.relative_to(root).as_posix() for place in found))
            raise DatasetError(
                f"{root}: there are several data sets of Pascal VOC in this folder: {names}. "
                "Set Global.dataset_dir to one of them."
            )
        if found:
            return found[0]
    return root


# ---- files


@dataclass(frozen=True)
class _Parts:
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


def _looks_like_voc(place: Path) -> bool:
    return any((place / name).is_dir() for name in (*OBJECT_FOLDERS[:2], *CLASS_FOLDERS[:2])) or (
        (place / "JPEGImages").is_dir() and (place / "Annotations").is_dir()
    )


def _folders_in(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _find_parts(root: Path) -> _Parts:
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
    return _Parts(
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


def _expect_masks(parts: _Parts) -> None:
    """Raises DatasetError if there are no masks of objects, or no images."""
    if not parts.masks:
        boxes = "; the boxes in Annotations/ are not masks" if parts.boxes else ""
        classes = ""
        if parts.classes:
            classes = (
                f"; the {len(parts.classes)} masks in {parts.class_folder} show classes, not where one "
                "object "
                "ends and the next begins, so objects that touch cannot be told apart"
            )
        raise DatasetError(
            f"{parts.root}: no *.png in SegmentationObject{boxes}{classes}. Expected two PNGs for each image "
            "in "
            "JPEGImages: one in SegmentationObject, whose pixel values are object numbers, and one in "
            "SegmentationClass, whose pixel values are classes. Export the masks of objects too."
        )
    if not parts.images:
        raise DatasetError(
            f"{parts.root}: {len(parts.masks)} masks in {parts.object_folder}, but no image in JPEGImages. "
            "CVAT "
            "exports images only if 'Save images' is on. Copy the images to "
            f"{parts.root / 'JPEGImages'}, such as {sorted(parts.masks)[0]}.jpg."
        )


def _shared_names(parts: _Parts) -> Iterator[Finding]:
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


def _class_coding(parts: _Parts, root: Path) -> tuple[_Coding, list[Finding]]:
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
            f"{VOC_CLASSES[0]}, "
            f"2 is {VOC_CLASSES[1]}"
        )
        hint = (
            f"Write the names into {parts.root / 'class_names.txt'}, one a line, with _background_ first, "
            "and "
            f"convert again. A file {LABELMAP} with the colours, or {', '.join(CLASS_LISTS)}, is read too."
        )
        findings.append(finding("classes_guessed", "class_names.txt", message, hint=hint))
    return _Coding(names=names, of_value=of_value), findings


def _content(path: Path) -> bytes:
    """The content of a file of boxes; nothing if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_pascal_voc(parts: _Parts) -> bool:
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


# ---- lists


def _stems_of_splits(parts: _Parts, findings: list[Finding]) -> dict[str, list[str]]:
    """The masks of each split, in the order of the lists."""
    lists = _read_lists(parts.root)
    if not lists:
        findings += _unlabelled(parts)
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
            if split := SPLIT_OF_NAME.get(path.stem.lower()):
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


def _stem_of(line: str, parts: _Parts) -> str | None:
    """The image or mask that an entry names: a name or a path, perhaps with columns behind it."""
    for text in (line, line.split()[0]):
        path = text.strip("\"'").replace("\\", "/").lstrip("/").removeprefix("./")
        for folder in (f"{parts.image_folder}/", "JPEGImages/", f"{parts.object_folder}/"):
            path = path.removeprefix(folder)
        for stem in (path, os.path.splitext(path)[0], os.path.splitext(path.rpartition("/")[2])[0]):
            if stem in parts.images or stem in parts.masks or stem in parts.boxes:
                return stem
    return None


def _unlabelled(parts: _Parts) -> list[Finding]:
    with_mask = {*parts.image_of_mask.values(), *parts.classes}
    stems = sorted(set(parts.images) - with_mask - set(parts.boxes))
    if not stems:
        return []
    message = f"{len(stems)} images without a mask were left out; the first is {parts.images[stems[0]]}"
    return [finding("image_unreferenced", parts.image_folder, message)]


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


def _read_images(
    stems: Sequence[str],
    parts: _Parts,
    coding: _Coding,
    file_names: ImageNames,
    findings: list[Finding],
) -> dict[str, SourceImage]:
    places = {stem: place for stem in stems if (place := parts.image(stem)) is not None}
    sizes = image_sizes(places.values())
    images: dict[str, SourceImage] = {}
    unknown, empty, without = _Unknown(), list[str](), list[str]()
    pieces, bare = PieceCount(), list[tuple[str, str]]()
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
                size_hw, objects = _read_masks(
                    stem, parts, coding, sizes[places[stem]], unknown, empty, pieces, bare
                )
            elif (
                coding.labelmap is not None and stem not in parts.classes
            ):  # listed by CVAT: an image that was looked at, without objects
                size_hw, objects = agreed_size(sizes[places[stem]], None, ""), ()
                without.append(f"{parts.image_folder}/{name}")
            else:
                raise DatasetError(
                    f"{parts.object_folder}/{stem}.png does not exist; the image {parts.image_folder}/{name} "
                    "was "
                    "left out"
                )
        except DatasetError as error:
            mask = f"{parts.object_folder}/{parts.masks[stem]}" if stem in parts.masks else stem
            code = "mask_interpolated" if isinstance(error, SmoothedMask) else "source_unreadable"
            findings.append(finding(code, mask, str(error).rstrip(".")))
            continue
        images[stem] = SourceImage(file_names.of_file(places[stem], name), size_hw, objects)
    findings += unknown.findings(coding.expected)
    if empty:
        message = (
            f"{len(empty)} masks of objects have no value but {VOID}, which means 'not labelled', so their "
            "images "
            f"have no objects; the first is {empty[0]}"
        )
        findings.append(finding("mask_void_only", parts.object_folder, message))
    findings += pieces.findings(parts.object_folder)
    if bare:
        message = (
            f"{len(bare)} masks of classes have pixels of a class where the mask of objects has no object; "
            "the "
            f"first is {bare[0][0]} with pixels of {bare[0][1]}"
        )
        findings.append(finding("mask_class_without_object", parts.class_folder, message))
    if without:
        message = f"{len(without)} listed images have no mask; the first is {without[0]}"
        findings.append(finding("image_without_labels", parts.object_folder, message))
    return images


def _read_masks(
    stem: str,
    parts: _Parts,
    coding: _Coding,
    image_size: ImageSize | DatasetError,
    unknown: _Unknown,
    empty: list[str],
    pieces: PieceCount,
    bare: list[tuple[str, str]],
) -> tuple[tuple[int, int], tuple[SourceObject, ...]]:
    mask = f"{parts.object_folder}/{parts.masks[stem]}"
    pixels = read_mask_pixels(parts.root / mask)
    ids = object_numbers(pixels)
    rles = id_map_to_rles(ids)
    expect_sharp(pixels, ids, rles, parts.root / mask)
    if stem not in parts.classes:
        raise DatasetError(
            f"{parts.class_folder}/{os.path.splitext(parts.masks[stem])[0]}.png does not exist, which gives "
            "the "
            "class of each object"
        )
    classes = coding.read(parts.root, f"{parts.class_folder}/{parts.classes[stem]}")
    if ids.shape != classes.values.shape:
        raise DatasetError(
            f"the mask of objects is {ids.shape} (height, width), "
            f"but the mask of classes is {classes.values.shape}"
        )
    size_hw = agreed_size(image_size, ids.shape, "the mask")
    values = class_of_ids(ids, classes.values, classes.unlabelled)
    objects, has_void = [], False
    pieces.add(mask, ids, {number: rle for number, rle in rles.items() if number != VOID})
    if values.get(0) in classes.labels:
        bare.append((f"{parts.class_folder}/{parts.classes[stem]}", classes.labels[values[0]]))
    for number, rle in rles.items():
        value = values[number]
        if number == VOID and (coding.labelmap is None or value in classes.unlabelled):
            has_void = True
        elif value in classes.labels:
            objects.append(SourceObject(classes.labels[value], rle))
        else:
            unknown.add(coding.describe(classes, value), mask, number)
    if has_void and len(values) == 1 + (0 in values):
        empty.append(mask)
    return size_hw, tuple(objects)


def _what_lacks(stem: str, parts: _Parts) -> Finding | None:
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
