"""Conversion of data sets from other annotation formats to COCO, and from COCO to other formats."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import coco_to_json
from paddlex_seg.data.conversion_errors import ERRORS_FILE, errors_to_json
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.coco_export import entries_of, read_coco_export
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.data.formats.labelme.write import write_labelme
from paddlex_seg.data.formats.mask_png import read_mask_png, write_mask_png
from paddlex_seg.data.formats.split_names import is_split_folder, split_named
from paddlex_seg.data.formats.voc import read_voc
from paddlex_seg.data.formats.yolo import read_yolo, write_yolo
from paddlex_seg.data.layouts.found import AUTO, find_layout, has_layout_of_paddlex, require_place
from paddlex_seg.data.layouts.recognise import Layout
from paddlex_seg.data.preparation.coco_documents import with_val
from paddlex_seg.data.preparation.divide import divide, divide_dataset, divide_into_folds
from paddlex_seg.data.preparation.layouts import SPLITS, annotation_files, existing_annotations, list_files
from paddlex_seg.data.preparation.merge import in_name_order, merge_coco
from paddlex_seg.data.preparation.new_place import is_writable, new_place, require_usable, write_dataset
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.files.archive import open_archive
from paddlex_seg.files.publish import fresh_folder, publish, recover
from paddlex_seg.structures import CocoFile

_LOGGER = logging.getLogger(__name__)

READERS: Mapping[str, Callable[[Path], Conversion]] = {
    "LabelMe": read_labelme,
    "VOC": read_voc,
    "YOLO": read_yolo,
    "MaskPNG": read_mask_png,
}
SOURCES = (*READERS, "COCO", AUTO)
WRITERS: Mapping[str, Callable[[Mapping[str, CocoFile], Path, Path], list[Finding]]] = {
    "LabelMe": write_labelme,
    "YOLO": write_yolo,
    "MaskPNG": write_mask_png,
}


@dataclass(frozen=True)
class Prepared:
    """A data set after its preparation."""

    dataset_dir: Path  # where it is now
    findings: tuple[Finding, ...] = ()
    entry: Mapping[str, Any] | None = None  # of the result file: what was converted, and to where


class NothingConverted(DatasetError):
    """A conversion that kept no image. Nothing was written."""

    def __init__(self, source: Path, findings: list[Finding]):
        self.source = source
        self.findings = tuple(findings)
        super().__init__(f"{source}: no image could be converted. {findings[0]}")


def convert_dataset(
    dataset_dir: Path, output_dir: Path, settings: ConvertSettings, split: SplitSettings
) -> Prepared:
    """Convert the data set in ``dataset_dir``, which may be a zip archive, to COCO in a new folder.

    LabelMe files beside ``images/`` are converted in their own folder, if it can be written. The data set is
    split into train and val if ``split`` is enabled or the source has no val split. Raises ConfigError for a
    format that is not supported or not there, UnclearDataset when no data set or more than one is
    recognised, and NothingConverted.
    """
    source = settings.src_dataset_type
    if source not in SOURCES:
        raise ConfigError(
            f"CheckDataset.convert.src_dataset_type is {source}. Expected the format of the source: "
            f"{', '.join(SOURCES)}."
        )
    place = require_place(dataset_dir)
    layout = find_layout(dataset_dir, place, source or AUTO)
    _LOGGER.info(f"Recognised: {layout.at(place)} is {layout.name}, format {layout.format}.")
    if place.is_dir():
        root = layout.at(place)
        if layout.is_own and settings.dst_dir is None:
            return _already_there(root, output_dir, split)
        if has_layout_of_paddlex(root, layout) and settings.dst_dir is None and is_writable(root):
            return _convert_in_place(root, layout, split)
    else:
        unpacked = output_dir / "unpacked" / place.stem
        _LOGGER.info(f"Unpacking {place} to {unpacked}")
        open_archive(place).unpack(unpacked)
        root = layout.at(unpacked)
    target = new_place(output_dir, settings.dst_dir)
    require_usable(target, root)
    _LOGGER.info(f"Converting into {target}. Nothing in {place} is changed.")
    convert = _convert_export if layout.format == "COCO" else _convert_other
    return convert(root, target, layout, place, split)


def write_dataset_as(target: str, dataset_dir: Path, folder: Path) -> list[Finding]:
    """Write the COCO data set in ``dataset_dir`` to ``folder`` in the format ``target``.

    Returns findings about annotations that this format cannot store exactly.
    """
    paths = dataset_paths(dataset_dir)
    splits = {name: read_coco(path) for name, path in existing_annotations(paths.root).items()}
    with fresh_folder(folder) as new:
        findings = WRITERS[target](splits, paths.image_dir, new)
    _LOGGER.info(f"Convert dataset successfully ! Written to {folder}.")
    return findings


def _already_there(root: Path, output_dir: Path, split: SplitSettings) -> Prepared:
    _LOGGER.info("This is the layout that is used here. Nothing needs to be converted.")
    return Prepared(divide_dataset(root, split, new_place(output_dir, None)) if split.enable else root)


def _convert_in_place(root: Path, layout: Layout, split: SplitSettings) -> Prepared:
    recover(root)
    conversion = _read(layout, root)
    splits, is_new_split = _divided(conversion, root / "images", split)
    files = annotation_files(root, splits)
    # Lists without the files that could not be used would hide those files from the next conversion.
    is_complete = not any(item.severity == "error" for item in conversion.findings)
    if is_new_split and conversion.list_lines and is_complete:
        files |= list_files(root, splits, conversion.list_lines)
    files |= {root / "images" / name: place for name, place in conversion.images.items()}
    files[root / ERRORS_FILE] = errors_to_json(conversion.findings)
    publish(root, files)
    if split.folds:
        divide_into_folds(root, merge_coco(list(splits.values())), split)
    return _finished(root, conversion.findings, _origin(layout, root), _counts(splits), split)


def _convert_other(root: Path, target: Path, layout: Layout, place: Path, split: SplitSettings) -> Prepared:
    """Convert from a format that has a reader of its own."""
    conversion = _with_splits_of_folders(_read(layout, root))
    names = (record.file_name for coco in conversion.splits.values() for record in coco.images)
    images = {name: conversion.images.get(name, root / "images" / name) for name in names}
    origin = _origin(layout, place)
    # Images with almost the same content are found in one folder only, so they are written first.
    if split.group_by == "duplicates":
        write_dataset(target, {}, images, origin)
    splits, _ = _divided(conversion, target / "images", split)
    write_dataset(target, _annotation_files(splits, conversion.findings), images, origin)
    if split.folds:
        divide_into_folds(target, merge_coco(list(splits.values())), split)
    return _finished(target, conversion.findings, origin, _counts(splits), split)


def _with_splits_of_folders(conversion: Conversion) -> Conversion:
    """Give a source without lists of splits the splits that the folders of all its images name."""
    if ALL not in conversion.splits:
        return conversion
    whole = conversion.splits[ALL]
    split_of = {}
    for record in whole.images:
        folders = conversion.list_lines.get(record.file_name, record.file_name).split("/")[:-1]
        split_of[record.id] = next((split_named(name) for name in folders if is_split_folder(name)), None)
    found = set(split_of.values())
    if "train" not in found or not found <= set(SPLITS) or len(found) == 1:
        return conversion
    splits = {}
    for split in (name for name in SPLITS if name in found):
        images = tuple(record for record in whole.images if split_of[record.id] == split)
        annotations = tuple(item for item in whole.annotations if split_of[item.image_id] == split)
        path = whole.path.with_name(f"instance_{split}.json")
        splits[split] = replace(whole, path=path, images=images, annotations=annotations)
    return replace(conversion, splits=splits)


def _convert_export(root: Path, target: Path, layout: Layout, place: Path, split: SplitSettings) -> Prepared:
    """Convert COCO files as another tool exports them."""
    export = read_coco_export(root)
    listed = sum(len(entries_of(document, "images")) for document in export.documents.values())
    if not export.images:
        message = f"none of the {listed} listed images is there"
        hint = "Export again together with the images. In CVAT, switch on 'Save images'."
        raise NothingConverted(
            root, [finding("conversion_empty", root.name, message, hint=hint), *export.findings]
        )
    origin = _origin(layout, place)
    if split.group_by == "duplicates":
        write_dataset(target, {}, export.images, origin)
    documents, found = with_val(export, partial(divide, image_dir=target / "images", split=split))
    is_divided = len(export.documents) == 1 and documents.keys() != export.documents.keys()
    counts = {
        name: {
            "images": len(entries_of(document, "images")),
            "objects": len(entries_of(document, "annotations")),
        }
        for name, document in documents.items()
    }
    files: dict[str, bytes | None] = dict.fromkeys(f"annotations/instance_{name}.json" for name in SPLITS)
    files |= {
        f"annotations/instance_{name}.json": json.dumps(document, ensure_ascii=False).encode(
            "utf-8", "backslashreplace"
        )
        for name, document in documents.items()
    }
    files[ERRORS_FILE] = errors_to_json(export.findings)
    write_dataset(target, files, export.images, origin)
    if split.enable and not (is_divided and not split.folds):
        divide_dataset(target, split, target)
    return _finished(target, (*export.findings, *found), origin, counts, split)


def _divided(
    conversion: Conversion, image_dir: Path, split: SplitSettings
) -> tuple[dict[str, CocoFile], bool]:
    """The splits, and whether they are new."""
    splits = dict(conversion.splits)
    if not split.enable and ALL not in splits:
        return splits, False
    whole = in_name_order(merge_coco(list(splits.values())), number=True)
    missing = {name: place for name, place in conversion.images.items() if not (image_dir / name).exists()}
    return divide(whole, image_dir, split, to_place=missing), True


def _annotation_files(splits: Mapping[str, CocoFile], findings: Iterable[Finding]) -> dict[str, bytes | None]:
    """The files of a converted data set, without its images."""
    files: dict[str, bytes | None] = dict.fromkeys(f"annotations/instance_{name}.json" for name in SPLITS)
    files[ERRORS_FILE] = errors_to_json(findings)
    return files | {
        f"annotations/instance_{name}.json": coco_to_json(coco).encode() for name, coco in splits.items()
    }


def _read(layout: Layout, root: Path) -> Conversion:
    """What the reader of the format finds. Raises NothingConverted when it refuses all, or finds no image."""
    try:
        conversion = READERS[layout.format](root)
    except DatasetError as error:
        why = str(error).removeprefix(f"{root}: ").removesuffix(".")
        hint = "Correct this, and convert again."
        raise NothingConverted(root, [finding("conversion_empty", root.name, why, hint=hint)]) from error
    if not any(coco.images for coco in conversion.splits.values()):
        message = "no image could be converted; nothing was written"
        raise NothingConverted(root, [finding("conversion_empty", root.name, message), *conversion.findings])
    return conversion


def _counts(splits: Mapping[str, CocoFile]) -> dict[str, dict[str, int]]:
    return {
        name: {"images": len(coco.images), "objects": len(coco.annotations)} for name, coco in splits.items()
    }


def _origin(layout: Layout, source: Path) -> dict[str, Any]:
    """Where a converted data set comes from. It is kept in its folder."""
    return {
        "layout": layout.name,
        "format": layout.format,
        "source": str(source.resolve()),
        "root": layout.root,
    }


def _finished(
    target: Path,
    findings: tuple[Finding, ...],
    origin: Mapping[str, Any],
    splits: Mapping[str, Mapping[str, int]],
    split: SplitSettings,
) -> Prepared:
    """Say what was converted. splits: the number of images and objects of each."""
    in_order = sorted(splits.items(), key=lambda item: SPLITS.index(item[0]))
    counts = ", ".join(f"{name} {count['images']}" for name, count in in_order)
    _LOGGER.info(f"Convert dataset successfully ! Images: {counts}.")
    if split.enable:
        _LOGGER.info("Split dataset successfully !")
    _LOGGER.info(f"The data set is in {target}. Train on it with -o Global.dataset_dir={target}")
    return Prepared(target, findings, {**origin, "path": str(target.resolve()), "splits": dict(splits)})
