"""Masks as PNG files: per image, one PNG of object numbers or a folder with one binary PNG per object."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from paddlex_seg.data.coco.categories import listed_name
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import (
    SourceImage,
    SourceObject,
    assemble_splits,
    labels_in_order,
)
from paddlex_seg.data.formats.brush_png import has_brush_masks, read_brush_png
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.mask_classes import UnlabelledObjects, class_of_ids
from paddlex_seg.data.formats.mask_colours import class_mask_by_list
from paddlex_seg.data.formats.mask_images import (
    MASK_SUFFIXES,
    IdMap,
    distinct,
    id_map_to_rles,
    read_binary_mask,
    read_mask_pixels,
)
from paddlex_seg.data.formats.mask_pieces import PieceCount, num_large_pieces
from paddlex_seg.data.formats.mask_smoothing import SmoothedMask, cut_at_half, expect_sharp
from paddlex_seg.data.formats.mask_sources import (
    INDEX,
    ONLY_CLASS,
    MaskSource,
    find_mask_source,
    has_masks,
    label_of_file,
    label_of_piece,
    names_of_splits,
    without_partner,
)
from paddlex_seg.data.formats.source_files import (
    IGNORED_LABELS,
    ImageNames,
    agreed_size,
    decode_text,
    files_below,
    image_sizes,
    names_of_values,
)
from paddlex_seg.data.formats.split_names import split_folders
from paddlex_seg.data.formats.target_files import (
    annotations_by_image,
    class_names,
    inside_name,
    place_image,
    unused,
    write_lines,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.images import encode_image
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, polygons_to_rle, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord, Rle


def read_mask_png(root: Path) -> Conversion:
    """Read the data set in ``root``: images in ``images/``, masks of the same names in ``masks/``.

    There are two layouts for ``images/a.jpg``. First: ``masks/a.png``, whose pixel values are object numbers
    (0 is background), with the classes in ``masks/a.json`` or ``classes/a.png``. Second: the folder
    ``masks/a/`` with one PNG per object, named ``<class>_<number>.png`` or ``<class>/<number>.png``, or
    listed in ``instances.json``. An image without masks has no objects. ``train.txt`` and ``val.txt`` list
    the images of a split; a second column may name the mask. The folders may have the names in
    `IMAGE_FOLDERS` and `MASK_FOLDERS`, and masks may have names such as ``a_mask.png``, if each fits exactly
    one image. Folders ``train`` and ``val`` may each be such a data set. Brush PNGs of Label Studio are read
    by `read_brush_png`. Raises DatasetError when there is no mask at all.
    """
    if has_brush_masks(root):
        return read_brush_png(root)
    _expect_no_panoptic(root)
    folders = {} if has_masks(root) else split_folders(root, has_masks)
    folders = folders or {ALL: root}
    file_names = ImageNames(root)
    splits: dict[str, list[SourceImage]] = {}
    known: list[str] | None = None
    findings: list[Finding] = []
    for folder_split, folder in folders.items():
        source = find_mask_source(folder, root)
        known = source.known if known is None else list(dict.fromkeys([*known, *(source.known or ())]))
        found = list(source.findings)
        names_of_split = names_of_splits(source, found)
        found += without_partner(source)
        images = _read_images(source, names_of_split, file_names, found)
        for split, names in names_of_split.items():
            members = splits.setdefault(split if folder_split == ALL else folder_split, [])
            members += [images[name] for name in names if name in images]
        prefix = "" if folder == root else f"{folder.name}/"
        findings += [replace(item, file=f"{prefix}{item.file}") for item in found]
    labels = labels_in_order(splits) if known is None else known
    if known is None and ONLY_CLASS in labels:
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


# ---- reading


def _expect_no_panoptic(root: Path) -> None:
    """Raises DatasetError if the masks are those of COCO panoptic."""
    for place in (root, root / "annotations"):
        for path in sorted(place.glob("panoptic*.json")):
            raise DatasetError(
                f"{path}: the masks of COCO panoptic also show regions such as sky, which are no objects. "
                "Use instances_train2017.json and instances_val2017.json of the same data set as COCO."
            )


def _read_images(
    source: MaskSource,
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
        self.numbers = PieceCount()
        self.pieces: list[tuple[str, int]] = []  # masks of one object and a class: number of pieces
        self.colours: list[str] = []
        self.soft: list[str] = []
        self.with_polygons: list[str] = []
        self.unlabelled = UnlabelledObjects()
        self.spelled: dict[tuple[str, str], list[str]] = {}  # masks by their label and the listed one

    def findings(self, folder: str) -> Iterator[Finding]:
        """The findings about all masks."""
        yield from self.numbers.findings(folder)
        if self.pieces:
            mask, count = self.pieces[0]
            message = (
                f"{len(self.pieces)} masks without a number in their name have several pieces, which became "
                f"one object; the first is {mask}: {count} pieces"
            )
            yield finding("mask_several_pieces", mask, message)
        if self.colours:
            message = f"{len(self.colours)} masks are colour images; the first is {self.colours[0]}"
            yield finding("mask_colours", folder, message)
        if self.with_polygons:
            message = (
                f"{len(self.with_polygons)} masks have a JSON file of EISeg beside them, whose polygons were "
                f"taken; the first is {self.with_polygons[0]}"
            )
            yield finding("mask_not_read", folder, message)
        if self.soft:
            message = f"{len(self.soft)} masks have gray values along edges; the first is {self.soft[0]}"
            yield finding("mask_soft_edges", folder, message)
        yield from self.unlabelled.findings(folder)
        for (label, listed), masks in self.spelled.items():
            message = f"{len(masks)} masks have the label {label!r}, which was read as {listed!r}"
            yield finding("label_spelling", masks[0], message)


def _read_objects(
    source: MaskSource, name: str, looks: _Looks, findings: list[Finding]
) -> Iterator[_Labelled]:
    if name in source.id_maps:
        yield from _read_numbers(source, source.id_maps[name][0], looks, findings)
    elif name in source.folders:
        yield from _read_folder(source, source.folders[name], looks, findings)
    elif name in source.pieces:
        stem = f"{source.mask_folder}/{os.path.splitext(name)[0]}"
        for mask in source.pieces[name]:
            rest = os.path.splitext(mask)[0][len(stem) + 1 :]
            label = label_of_piece(rest)
            known = source.known
            label = known[0] if label == ONLY_CLASS and known is not None and len(known) == 1 else label
            if wanted := _wanted(label, known, mask, looks, findings):
                has_number = bool(re.search(r"\d", rest))
                yield wanted, _read_one_object(source.root, mask, looks, has_number), False


def _read_folder(
    source: MaskSource, folder: str, looks: _Looks, findings: list[Finding]
) -> Iterator[_Labelled]:
    """The masks of one image: the files in the index, or all files if there is no index."""
    place = source.root / folder
    is_indexed = (place / INDEX).is_file()
    for file, label, iscrowd in _index_entries(place):
        if wanted := _wanted(label, source.known, f"{folder}/{file}", looks, findings):
            has_number = is_indexed or bool(re.search(r"\d", file))
            yield wanted, _read_one_object(source.root, f"{folder}/{file}", looks, has_number), iscrowd


def _read_one_object(root: Path, mask: str, looks: _Looks, has_number: bool) -> Rle:
    pixels, has_soft_edges = read_binary_mask(root / mask)
    if has_soft_edges:
        looks.soft.append(mask)
    if not has_number and (count := num_large_pieces(pixels)) > 1:
        looks.pieces.append((mask, count))
    return mask_to_rle(pixels)


def _index_entries(place: Path) -> list[tuple[str, str, bool]]:
    """File, label and iscrowd of each mask."""
    if not (place / INDEX).is_file():
        return [(file, label_of_file(file), False) for file in files_below(place, MASK_SUFFIXES)]
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


def _read_numbers(
    source: MaskSource, mask: str, looks: _Looks, findings: list[Finding]
) -> Iterator[_Labelled]:
    """The objects in a mask of object numbers."""
    pixels = read_mask_pixels(source.root / mask)
    ids = pixels.values
    polygons = _polygons_of_eiseg(source.root / mask)
    if polygons is not None:
        looks.with_polygons.append(mask)
        for name, points in polygons:
            if wanted := _wanted(name, source.known, mask, looks, findings):
                yield wanted, polygons_to_rle([points], (ids.shape[0], ids.shape[1])), False
        return
    if pixels.is_colour:
        looks.colours.append(mask)
    try:
        expect_sharp(pixels, source.root / mask)
    except SmoothedMask:
        sharp = None if pixels.is_jpeg or pixels.is_colour else cut_at_half(ids)
        if sharp is None:
            raise
        ids = sharp
        looks.soft.append(mask)
    rles = id_map_to_rles(ids)
    looks.numbers.add(mask, ids, rles)
    labels = _labels_of_numbers(source, mask, ids, looks)
    nameless = []
    for number, rle in rles.items():
        label = labels.get(number)
        if label is None:
            nameless.append(number)
        elif wanted := _wanted(label, source.known, mask, looks, findings):
            yield wanted, rle, False
    if nameless:
        some = ", ".join(str(number) for number in nameless[:10])
        message = (
            f"object {some} has no class"
            if len(nameless) == 1
            else (f"{len(nameless)} objects have no class: {some}{', ...' if len(nameless) > 10 else ''}")
        )
        findings.append(finding("label_unknown", mask, message))


def _polygons_of_eiseg(mask: Path) -> list[tuple[str, list[float]]] | None:
    """Label and points x1, y1, x2, y2, ... of each object, if EISeg wrote its JSON file beside the mask.

    Such a mask shows classes, so the objects are only in the JSON file. None if there is no such file.
    """
    path = next((path for path in (mask.with_suffix(".json"), Path(f"{mask}.json")) if path.is_file()), None)
    entries = None if path is None else _read_json(path)
    if not isinstance(entries, list):
        return None
    try:
        return [
            (
                str(entry["name"]),
                [float(value) for point in entry["points"] for value in (point[0], point[1])],
            )
            for entry in entries
            if len(entry["points"]) >= 3
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DatasetError(
            f"{path}: expected a list of objects with name and points, as EISeg writes"
        ) from error


def _labels_of_numbers(source: MaskSource, mask: str, ids: IdMap, looks: _Looks) -> Mapping[int, str]:
    """The class of each object number: from a JSON file, from the class mask, or the only class there is."""
    sidecar = (source.root / mask).with_suffix(".json")
    if sidecar.is_file():
        entries = _read_json(sidecar)
        if not isinstance(entries, dict):
            raise DatasetError(f'{sidecar}: expected an object such as {{"1": "bolt"}}')
        return {
            int(key): str(value) for key, value in entries.items() if re.fullmatch(r"\s*[0-9]{1,18}\s*", key)
        }
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
        labels = {}
        for number, found in class_of_ids(ids, classes.values).items():
            if found.value in classes.labels:
                labels[number] = classes.labels[found.value]
                if number:
                    looks.unlabelled.add(mask, number, found)
        return labels
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


def _wanted(
    label: str, known: Sequence[str] | None, file: str, looks: _Looks, findings: list[Finding]
) -> str | None:
    """The class that a label means; None if its mask is not wanted."""
    if label in IGNORED_LABELS or known is None:
        return None if label in IGNORED_LABELS else label
    listed = listed_name(label, known)
    if listed is None:
        findings.append(finding("label_unknown", file, f"the class {label!r} is not in the list of classes"))
    elif listed != label:
        looks.spelled.setdefault((label, listed), []).append(file)
    return listed


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
