"""YOLO segmentation: a text file for each image, a class number and one polygon on each line.

A line holds one polygon. Several parts, and holes, are joined to it by bridges of no width, which a fill by
the even-odd rule passes over without a trace.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, SourceObject, assemble_splits
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.outlines import Ring, join_rings, mask_to_rings
from paddlex_seg.data.formats.source_files import (
    SPLITS,
    ImageNames,
    agreed_size,
    decode_text,
    files_below,
    image_sizes,
    read_class_names,
    read_lines,
)
from paddlex_seg.data.formats.target_files import (
    annotations_by_image,
    class_names,
    inside_name,
    place_image,
    unused,
)
from paddlex_seg.data.images import IMAGE_SUFFIXES, image_size
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle, polygons_to_rle, rle_area, rle_iou, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, ImageRecord, Rle


def read_yolo(root: Path) -> Conversion:
    """The data set in ``root``, described by its ``data.yaml``: ``names``, ``train``, ``val`` and ``test``.

    Without these keys, images are looked for in ``<split>/images``, ``images/<split>`` and ``images``. The
    labels of ``.../images/a.jpg`` are in ``.../labels/a.txt``; an image without that file shows no object.
    Coordinates become pixels of the upright image. Raises DatasetError when there are no names, no images
    or no labels.
    """
    settings = _read_settings(root)
    names = _class_names(root, settings)
    images_of_split = _find_images(root, settings)
    unique = list(dict.fromkeys(path for paths in images_of_split.values() for path in paths))
    labels = {path: _label_path(root, path) for path in unique}
    if not any(label.is_file() for label in labels.values()):
        raise DatasetError(
            f"{root}: none of {len(unique)} images has a label file; the first was looked for at "
            f"{labels[unique[0]]}. Put the *.txt files into folders 'labels' beside the folders 'images'."
        )
    findings: list[Finding] = []
    images = _read_images(root, labels, names, findings)
    file_names = ImageNames(root)
    splits = {
        split: [
            SourceImage(file_names.of_file(path, _wished_name(root, path)), *images[path])
            for path in dict.fromkeys(paths)
            if path in images
        ]
        for split, paths in images_of_split.items()
    }
    return Conversion(
        splits=assemble_splits(root, splits, dict.fromkeys(names.values())),
        findings=tuple(findings),
        images=file_names.to_place,
    )


def write_yolo(splits: Mapping[str, CocoFile], image_dir: Path, folder: Path) -> list[Finding]:
    """Write the data set into ``folder``: ``images/<split>``, ``labels/<split>`` and ``data.yaml``.

    A finding names each annotation whose line, drawn by pycocotools, is not its mask, or that was left out.
    """
    names = class_names(list(splits.values()))
    findings: list[Finding] = []
    for split, coco in splits.items():
        place = PurePosixPath("" if split == ALL else split)
        class_of_id = {category.id: names.index(category.name) for category in coco.categories}
        (folder / "images" / place).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / place).mkdir(parents=True, exist_ok=True)
        of_image = annotations_by_image(coco)
        for record, name in zip(coco.images, _target_names(coco, split), strict=True):
            image = folder / "images" / place / name
            missing = place_image(record, image_dir, image, coco.path.name)
            findings += missing or _turned(image, record, coco.path.name)
            if missing:
                continue
            lines = []
            for annotation in of_image[record.id]:
                line, found = _write_line(annotation, record, class_of_id, coco.path.name)
                lines += [line] if line else []
                findings += found
            labels = (folder / "labels" / place / name).with_suffix(".txt")
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _write_settings(folder / "data.yaml", list(splits), names)
    return findings


# ---- reading: the data set


def _read_settings(root: Path) -> dict[str, Any]:
    """What data.yaml says, or another YAML file with names."""
    candidates = [root / "data.yaml", root / "data.yml", *sorted({*root.glob("*.yaml"), *root.glob("*.yml")})]
    for path in candidates:
        if not path.is_file():
            continue
        try:
            settings = yaml.safe_load(decode_text(path.read_bytes(), path))
        except (yaml.YAMLError, OSError) as error:
            raise DatasetError(f"{path}: not YAML ({error}). Correct the file.") from error
        if isinstance(settings, dict) and ("names" in settings or path.stem == "data"):
            return settings
    return {}


def _class_names(root: Path, settings: Mapping[str, Any]) -> dict[int, str]:
    """The name of each class number, in their order."""
    names = settings.get("names")
    if names is None:
        names = read_class_names(root)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(str(key).isdecimal() for key in names):
        found = "there is no such key" if names is None else f"it is {names!r}"
        raise DatasetError(
            f"{root / 'data.yaml'}: 'names' is to say what the class numbers mean, but {found}. "
            "Write a list such as names: [bolt, washer], or put classes.txt into the folder."
        )
    return {int(key): str(name) for key, name in sorted(names.items(), key=lambda item: int(item[0]))}


def _find_images(root: Path, settings: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The images of each split; of the split "all" if nothing separates train from val."""
    found = {}
    for split in SPLITS:
        resolved = [_resolve(root, settings, str(entry)) for entry in _as_list(settings.get(split) or [])]
        places = [place for place in resolved if place is not None] or _usual_places(root, split)
        if places:
            found[split] = [image for place in places for image in _images_at(root, place)]
    if not any(found.values()):
        found = {ALL: _images_at(root, root / "images")}
    if not any(found.values()):
        raise DatasetError(
            f"{root}: no images. Expected them where data.yaml says, in images/train and images/val, in "
            "train/images and valid/images, or in images."
        )
    if "train" in found and found.get("val", found["train"]) == found["train"] and "test" not in found:
        return {ALL: found["train"]}
    return found


def _as_list(entries: Any) -> list[Any]:
    return entries if isinstance(entries, list) else [entries]


def _resolve(root: Path, settings: Mapping[str, Any], entry: str) -> Path | None:
    """Where a folder or list of images lies. Roboflow writes paths that lead out of the data set."""
    entry = entry.replace("\\", "/")
    stays_inside = "/".join(part for part in entry.split("/") if part not in ("", ".", ".."))
    base = str(settings.get("path") or "").replace("\\", "/")
    for candidate in (root / entry, root / base / entry, root / stays_inside):
        if candidate.exists():
            return Path(os.path.normpath(candidate))
    return None


def _usual_places(root: Path, split: str) -> list[Path]:
    folders = ("val", "valid", "validation") if split == "val" else (split,)
    places = [root / folder / "images" for folder in folders]
    places += [root / "images" / folder for folder in folders]
    return [place for place in places if place.is_dir()][:1]


def _images_at(root: Path, place: Path) -> list[Path]:
    if place.is_dir():
        return [place / name for name in files_below(place, IMAGE_SUFFIXES)]
    if place.suffix.lower() == ".txt" and place.is_file():
        listed = [root / line.removeprefix("./").replace("\\", "/") for line in read_lines(place)]
        return [Path(os.path.normpath(path)) for path in listed]
    return []


def _label_path(root: Path, image: Path) -> Path:
    """The same path with ``labels`` for the last folder ``images``; without one, beside the image."""
    parts = list(image.relative_to(root).parts) if image.is_relative_to(root) else list(image.parts)
    folders = parts[:-1]
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        parts[last] = "labels"
    return (root / Path(*parts)).with_suffix(".txt")


def _wished_name(root: Path, image: Path) -> str:
    """Below the root, without the folder ``images``: ``valid/a.jpg`` for ``valid/images/a.jpg``."""
    if not image.is_relative_to(root):
        return image.name
    return "/".join(part for part in image.relative_to(root).parts if part != "images")


# ---- reading: labels

_Content = tuple[tuple[int, int], tuple[SourceObject, ...]]  # size and objects of an image


def _read_images(
    root: Path, labels: Mapping[Path, Path], names: Mapping[int, str], findings: list[Finding]
) -> dict[Path, _Content]:
    sizes = image_sizes(labels)
    images = {}
    for image, label in labels.items():
        file = os.path.relpath(label, root).replace(os.sep, "/")
        try:
            size_hw = agreed_size(sizes[image], None, "")
            text = decode_text(label.read_bytes(), label) if label.is_file() else ""
        except (DatasetError, OSError) as error:
            code = "source_unreadable" if image.is_file() else "image_missing"
            findings.append(finding(code, file, str(error).rstrip(".")))
            continue
        images[image] = (size_hw, tuple(_read_objects(text, size_hw, names, file, findings)))
    return images


def _read_objects(
    text: str, size_hw: tuple[int, int], names: Mapping[int, str], file: str, findings: list[Finding]
) -> Iterator[SourceObject]:
    unknown: dict[int, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        values = _numbers(line)
        if values is None or len(values) < 5 or len(values) % 2 == 0 or not values[0].is_integer():
            message = f"line {number} is {_shortened(line)!r}; expected a class number and 3 points or more"
            findings.append(finding("shape_unusable", file, message, hint="Correct the line."))
        elif len(values) == 5:
            message = f"line {number} is a box (class, centre, size), which says nothing of the outline"
            findings.append(
                finding(
                    "shape_without_area", file, message, hint="Draw a polygon, or export segmentation labels."
                )
            )
        elif int(values[0]) not in names:
            unknown[int(values[0])] = unknown.get(int(values[0]), 0) + 1
        else:
            yield SourceObject(names[int(values[0])], [_to_pixels(values[1:], size_hw)])
    for index, count in unknown.items():
        listed = f"{min(names)}..{max(names)}"
        message = f"{count} lines have the class {index}; the names list {listed}"
        findings.append(finding("label_unknown", file, message))


def _numbers(line: str) -> list[float] | None:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    # A hundred times the side of an image is no place in it; NaN fails the comparison too.
    return values if all(-100 <= value <= 100 for value in values[1:]) and math.isfinite(values[0]) else None


def _shortened(line: str) -> str:
    return line if len(line) <= 40 else f"{line[:40]}..."


def _to_pixels(values: Sequence[float], size_hw: tuple[int, int]) -> list[float]:
    """x and y in pixels, without the rounding error of the division that made them."""
    height, width = size_hw
    points = np.reshape(values, (-1, 2)) * (width, height)
    return points.round(6).ravel().tolist()


# ---- writing


def _target_names(coco: CocoFile, split: str) -> list[PurePosixPath]:
    """Names below images/<split>, whose stems differ; a folder that all of them share with the split goes."""
    names = [inside_name(record) for record in coco.images]
    if names and all(len(name.parts) > 1 and name.parts[0] == split for name in names):
        names = [PurePosixPath(*name.parts[1:]) for name in names]
    taken: set[PurePosixPath] = set()
    return [PurePosixPath(f"{unused(name.with_suffix(''), taken)}{name.suffix}") for name in names]


def _turned(image: Path, record: ImageRecord, file: str) -> list[Finding]:
    """YOLO's coordinates are parts of the upright image; those of an unturned one would be turned."""
    try:
        shown_hw = image_size(image).shown_hw
    except DatasetError as error:
        return [finding("image_corrupt", file, str(error).rstrip("."), image_id=record.id)]
    if shown_hw == (record.height, record.width):
        return []
    message = f"the upright image is {shown_hw} (height, width), listed is {(record.height, record.width)}"
    return [finding("image_size_mismatch", file, message, image_id=record.id)]


def _write_line(
    annotation: Annotation, record: ImageRecord, class_of_id: Mapping[int, int], file: str
) -> tuple[str, list[Finding]]:
    """The line, empty if there can be none, and what was lost."""
    mask = annotation_to_rle(annotation, record.height, record.width)
    line, message = "", ""
    if annotation.iscrowd:
        message = "it is a crowd region, which YOLO does not have; it was left out"
    elif not rle_area(mask):
        message = "its mask covers no pixel; it was left out"
    else:
        values, iou = _best_polygon(annotation, mask, record)
        line = " ".join([str(class_of_id[annotation.category_id]), *values])
        if iou < 1:
            message = f"the polygon has an IoU of {iou:.3f} with the mask"
    if not message:
        return line, []
    return line, [
        finding("mask_approximated", file, message, image_id=record.id, annotation_id=annotation.id)
    ]


def _best_polygon(annotation: Annotation, mask: Rle, record: ImageRecord) -> tuple[list[str], float]:
    """The polygons as drawn if joining them loses nothing, else the outline of the pixels."""
    if not isinstance(annotation.segmentation, Mapping):
        parts = [np.reshape(part, (-1, 2)).astype(float) for part in annotation.segmentation]
        values = _normalised(join_rings(parts), record)
        if _drawn_iou(values, mask, record) == 1:  # not where parts overlap
            return values, 1.0
    values = _normalised(join_rings(mask_to_rings(rle_to_mask(mask).astype(bool))), record)
    return values, _drawn_iou(values, mask, record)


def _normalised(ring: Ring, record: ImageRecord) -> list[str]:
    return [f"{value:.12g}" for value in (ring / (record.width, record.height)).ravel().tolist()]


def _drawn_iou(values: Sequence[str], mask: Rle, record: ImageRecord) -> float:
    """The IoU of ``mask`` and what a reader of these coordinates draws."""
    size_hw = (record.height, record.width)
    polygon = _to_pixels([float(value) for value in values], size_hw)
    return rle_iou(polygons_to_rle([polygon], size_hw), mask)


def _write_settings(path: Path, splits: Sequence[str], names: Sequence[str]) -> None:
    """``val`` is required by those who read it; without a split it is the images of ``train``."""
    places = {split: f"images/{split}" for split in splits if split != ALL}
    train = places.get("train", "images")
    settings = {"train": train, "val": train, **places, "nc": len(names), "names": dict(enumerate(names))}
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
