"""Pascal VOC with instance masks: a PNG of object numbers and a PNG of classes for each image."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, SourceObject, assemble_splits
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.mask_images import class_of_ids, id_map_to_rles, read_id_map
from paddlex_seg.data.formats.source_files import (
    IGNORED_LABELS,
    SPLITS,
    ImageNames,
    agreed_size,
    files_below,
    image_sizes,
    names_of_values,
    read_class_list,
    read_split_lists,
)
from paddlex_seg.data.images import IMAGE_SUFFIXES
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
VOID = 255  # pixel value of object borders and unlabelled regions


def read_voc(root: Path) -> Conversion:
    """Read the data set in ``root``: ``JPEGImages``, ``SegmentationObject`` and ``SegmentationClass``.

    The class of an object is the most frequent class of its pixels. Class 1 is the first name after
    ``_background_`` in ``class_names.txt``. Without that file, the 20 classes of Pascal VOC are used.
    ``train.txt``, ``val.txt`` and ``test.txt`` in ``ImageSets/Segmentation`` list the splits. Raises
    DatasetError when there are no masks.
    """
    parts = _find_parts(root)
    if not parts.masks:
        boxes = "; the boxes in Annotations/ are not masks" if parts.boxes else ""
        raise DatasetError(
            f"{root}: no *.png in SegmentationObject{boxes}. Expected two PNGs for each image in JPEGImages: "
            "one in SegmentationObject, whose pixel values are object numbers, and one in SegmentationClass, "
            "whose pixel values are classes."
        )
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in SPLITS}
    stems_of_split = read_split_lists(lists)
    findings: list[Finding] = []
    if not stems_of_split:
        stems_of_split = {ALL: sorted({*parts.masks, *parts.boxes})}
        findings += _unlabelled(parts)
    names = names_of_values(read_class_list(root) or VOC_CLASSES)
    wanted = list(dict.fromkeys(stem for stems in stems_of_split.values() for stem in stems))
    file_names = ImageNames(root)
    images = _read_images(wanted, parts, names, file_names, findings)
    splits = {
        split: [images[stem] for stem in dict.fromkeys(stems) if stem in images]
        for split, stems in stems_of_split.items()
    }
    class_names = dict.fromkeys(name for name in names[1:] if name not in IGNORED_LABELS)
    return Conversion(
        splits=assemble_splits(root, splits, class_names),
        findings=tuple(findings),
        images=file_names.to_place,
    )


@dataclass(frozen=True)
class _Parts:
    """The files of the data set: name without extension to file name, both relative to their folder."""

    root: Path
    images: dict[str, str]
    masks: dict[str, str]
    boxes: dict[str, str]

    def image(self, stem: str) -> Path | None:
        return self.root / "JPEGImages" / self.images[stem] if stem in self.images else None


def _find_parts(root: Path) -> _Parts:
    kinds = (("JPEGImages", IMAGE_SUFFIXES), ("SegmentationObject", (".png",)), ("Annotations", (".xml",)))
    images, masks, boxes = (
        {os.path.splitext(name)[0]: name for name in files_below(root / folder, suffixes)}
        for folder, suffixes in kinds
    )
    return _Parts(root=root, images=images, masks=masks, boxes=boxes)


def _unlabelled(parts: _Parts) -> list[Finding]:
    stems = sorted(set(parts.images) - set(parts.masks) - set(parts.boxes))
    if not stems:
        return []
    message = f"{len(stems)} images without a mask were left out; the first is {parts.images[stems[0]]}"
    return [finding("image_unreferenced", "JPEGImages", message)]


def _read_images(
    stems: Sequence[str],
    parts: _Parts,
    names: Sequence[str],
    file_names: ImageNames,
    findings: list[Finding],
) -> dict[str, SourceImage]:
    places = {stem: place for stem in stems if (place := parts.image(stem)) is not None}
    sizes = image_sizes(places.values())
    images = {}
    for stem in stems:
        lack = _what_lacks(stem, parts)
        if lack is not None:
            findings.append(lack)
            continue
        mask = f"SegmentationObject/{parts.masks[stem]}"
        try:
            ids = read_id_map(parts.root / mask)
            classes = read_id_map(parts.root / "SegmentationClass" / parts.masks[stem])
            if ids.shape != classes.shape:
                raise DatasetError(
                    f"the mask of objects is {ids.shape} (height, width), "
                    f"but the mask of classes is {classes.shape}"
                )
            size_hw = agreed_size(sizes[places[stem]], ids.shape, "the mask")
        except DatasetError as error:
            findings.append(finding("source_unreadable", mask, str(error).rstrip(".")))
            continue
        values = class_of_ids(ids, classes, VOID)
        objects = []
        for number, rle in id_map_to_rles(ids).items():
            if number == VOID:
                continue
            value = values[number]
            if 0 < value < len(names) and value != VOID:
                objects.append(SourceObject(names[value], rle))
            else:
                message = f"object {number} has the class {value}; expected 1..{len(names) - 1}"
                findings.append(finding("label_unknown", mask, message))
        file_name = file_names.of_file(places[stem], parts.images[stem])
        images[stem] = SourceImage(file_name=file_name, size_hw=size_hw, objects=tuple(objects))
    return images


def _what_lacks(stem: str, parts: _Parts) -> Finding | None:
    if stem not in parts.masks:
        if stem not in parts.boxes:
            message = f"SegmentationObject/{stem}.png does not exist; the image was left out"
            return finding("source_unreadable", stem, message)
        xml = f"Annotations/{parts.boxes[stem]}"
        num_boxes = (parts.root / xml).read_bytes().count(b"<object>")
        message = f"the image has {num_boxes} boxes and no mask; boxes are not masks; it was left out"
        return finding("shape_without_area", xml, message, hint="Draw masks into SegmentationObject.")
    if stem not in parts.images:
        message = f"JPEGImages has no image {stem}; the mask was left out"
        return finding("image_missing", f"SegmentationObject/{parts.masks[stem]}", message)
    return None
