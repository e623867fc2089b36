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
from paddlex_seg.data.formats.mask_images import (
    IdMap,
    class_of_ids,
    id_map_to_rles,
    read_binary_mask,
    read_id_map,
)
from paddlex_seg.data.formats.source_files import (
    IGNORED_LABELS,
    SPLITS,
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
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord, Rle

INDEX = "instances.json"  # in the folder of an image's masks: file, label and iscrowd of each
ONLY_CLASS = "object"


def read_mask_png(root: Path) -> Conversion:
    """Read the data set in ``root``: images in ``images/``, masks of the same names in ``masks/``.

    There are two layouts for ``images/a.jpg``. First: ``masks/a.png``, whose pixel values are object numbers
    (0 is background), with the classes in ``masks/a.json`` or ``classes/a.png``. Second: the folder
    ``masks/a/`` with one PNG per object, named ``<class>_<number>.png`` or ``<class>/<number>.png``, or
    listed in ``instances.json``. An image without masks has no objects. ``train.txt`` and ``val.txt`` list
    the images of a split. Raises DatasetError when there is no mask at all.
    """
    source = _find_source(root)
    if not source.masks:
        raise DatasetError(
            f"{root}: no *.png in masks/. Expected masks/<image name>.png or masks/<image name>/*.png, and "
            "the images in images/."
        )
    findings: list[Finding] = []
    files = files_below(root / "images", IMAGE_SUFFIXES)
    by_line = {**{os.path.splitext(name)[0]: name for name in files}, **{name: name for name in files}}
    lists = read_split_lists({split: root / f"{split}.txt" for split in SPLITS})
    names_of_split = {
        split: list(_listed(lines, by_line, f"{split}.txt", findings)) for split, lines in lists.items()
    } or {ALL: files}
    findings += _masks_without_image(source, files)
    images = _read_images(source, names_of_split, findings)
    splits = {
        split: [images[name] for name in names if name in images] for split, names in names_of_split.items()
    }
    labels = labels_in_order(splits) if source.known is None else source.known
    return Conversion(splits=assemble_splits(root, splits, labels), findings=tuple(findings))


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


# ---- reading


@dataclass(frozen=True)
class _Source:
    root: Path
    masks: frozenset[str]  # relative to masks/
    folders: frozenset[str]  # folders with masks or an index, and their parent folders
    class_list: Sequence[str] | None

    @property
    def known(self) -> list[str] | None:
        """The classes, if they are listed."""
        lines = self.class_list
        return None if lines is None else [line for line in lines if line not in IGNORED_LABELS]

    def id_map(self, name: str) -> str | None:
        """The PNG of object numbers of the image ``name``; None if there is none."""
        mask = f"{os.path.splitext(name)[0]}.png"
        return mask if mask in self.masks else None

    def folder(self, name: str) -> str | None:
        """The mask folder of the image ``name``, with or without file extension; None if missing."""
        for folder in (name, os.path.splitext(name)[0]):
            if folder in self.folders:
                return folder
        return None


def _find_source(root: Path) -> _Source:
    files = files_below(root / "masks", (".png", INDEX))
    return _Source(
        root=root,
        masks=frozenset(name for name in files if not name.endswith(INDEX)),
        folders=frozenset(str(folder) for name in files for folder in PurePosixPath(name).parents),
        class_list=read_class_list(root),
    )


def _listed(
    lines: Sequence[str], by_line: Mapping[str, str], file: str, findings: list[Finding]
) -> Iterator[str]:
    for line in dict.fromkeys(lines):
        name = line.replace("\\", "/").removeprefix("images/")
        if name in by_line:
            yield by_line[name]
        else:
            findings.append(finding("image_missing", file, f"images/{name} does not exist; it was left out"))


def _masks_without_image(source: _Source, files: Sequence[str]) -> Iterator[Finding]:
    owned = {place for name in files for place in (source.id_map(name), source.folder(name))}
    for mask in sorted(source.masks):
        if mask not in owned and not any(str(folder) in owned for folder in PurePosixPath(mask).parents):
            yield finding("image_missing", f"masks/{mask}", "images/ has no image with the same name")


def _read_images(
    source: _Source, names_of_split: Mapping[str, Sequence[str]], findings: list[Finding]
) -> dict[str, SourceImage]:
    names = list(dict.fromkeys(name for members in names_of_split.values() for name in members))
    sizes = image_sizes(source.root / "images" / name for name in names)
    images = {}
    for name in names:
        try:
            size = sizes[source.root / "images" / name]
            size_hw = agreed_size(size, None, "")
            labelled = list(_read_objects(source, name, findings))
            for _, rle, _ in labelled:
                size_hw = agreed_size(size, (rle["size"][0], rle["size"][1]), "the mask")
        except DatasetError as error:
            findings.append(finding("source_unreadable", f"images/{name}", str(error).rstrip(".")))
            continue
        objects = tuple(SourceObject(label, rle, iscrowd) for label, rle, iscrowd in labelled)
        images[name] = SourceImage(file_name=name, size_hw=size_hw, objects=objects)
    return images


_Labelled = tuple[str, Rle, bool]  # label, mask, iscrowd


def _read_objects(source: _Source, name: str, findings: list[Finding]) -> Iterator[_Labelled]:
    folder, id_map = source.folder(name), source.id_map(name)
    if id_map is not None:
        yield from _read_numbers(source, id_map, findings)
    elif folder is not None:
        yield from _read_folder(source, folder, findings)


def _read_folder(source: _Source, folder: str, findings: list[Finding]) -> Iterator[_Labelled]:
    """The masks of one image: the files in the index, or all files if there is no index."""
    place = source.root / "masks" / folder
    for file, label, iscrowd in _index_entries(place):
        if _is_wanted(label, source.known, f"masks/{folder}/{file}", findings):
            yield label, mask_to_rle(read_binary_mask(place / file)), iscrowd


def _index_entries(place: Path) -> list[tuple[str, str, bool]]:
    """File, label and iscrowd of each mask."""
    if not (place / INDEX).is_file():
        return [(file, _label_of_file(file), False) for file in files_below(place, (".png",))]
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


def _read_numbers(source: _Source, mask: str, findings: list[Finding]) -> Iterator[_Labelled]:
    """The objects in a PNG of object numbers."""
    ids = read_id_map(source.root / "masks" / mask)
    labels = _labels_of_numbers(source, mask, ids)
    for number, rle in id_map_to_rles(ids).items():
        label = labels.get(number)
        if label is None:
            message = f"object {number} has no class"
            findings.append(finding("label_unknown", f"masks/{mask}", message))
        elif _is_wanted(label, source.known, f"masks/{mask}", findings):
            yield label, rle, False


def _labels_of_numbers(source: _Source, mask: str, ids: IdMap) -> Mapping[int, str]:
    """The class of each object number: from a JSON file, from the class mask, or the only class there is."""
    known = source.known
    sidecar = (source.root / "masks" / mask).with_suffix(".json")
    if sidecar.is_file():
        entries = _read_json(sidecar)
        if not isinstance(entries, dict):
            raise DatasetError(f'{sidecar}: expected an object such as {{"1": "bolt"}}')
        return {int(key): str(value) for key, value in entries.items() if key.strip().isdecimal()}
    if (source.root / "classes" / mask).is_file():
        classes = read_id_map(source.root / "classes" / mask)
        if classes.shape != ids.shape:
            raise DatasetError(
                f"the mask of objects is {ids.shape} (height, width), "
                f"but the mask of classes is {classes.shape}"
            )
        if source.class_list is None:
            raise DatasetError(f"{source.root}: label.txt with the class names is missing; classes/ needs it")
        names = dict(enumerate(names_of_values(source.class_list)))
        values = class_of_ids(ids, classes)
        return {number: names[value] for number, value in values.items() if names.get(value) and value}
    if known is not None and len(known) != 1:
        raise DatasetError(
            f"neither {sidecar} nor classes/{mask} exists; one of them must give the class of each object, "
            f"because there are {len(known)} classes"
        )
    return dict.fromkeys(range(1, int(ids.max()) + 1), ONLY_CLASS if known is None else known[0])


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
    label_of_id: Mapping[Id, str],
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
