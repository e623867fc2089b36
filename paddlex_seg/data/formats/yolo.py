"""YOLO segmentation: one text file per image. Each line has a class number and one polygon.

If an object has several parts or holes, they are joined into one polygon by bridges of zero width. A fill
with the even-odd rule draws no pixel for such a bridge.
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
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord, Rle


def read_yolo(root: Path) -> Conversion:
    """Read the data set in ``root``. ``data.yaml`` has the keys ``names``, ``train``, ``val`` and ``test``.

    Without the keys of splits, images are searched in ``<split>/images``, ``images/<split>`` and ``images``.
    The labels of ``.../images/a.jpg`` are in ``.../labels/a.txt``. An image without label file has no
    objects. Coordinates become pixels of the upright image (EXIF orientation applied). Raises DatasetError
    when there are no names, no images or no labels.
    """
    settings = _read_settings(root)
    names = _class_names(root, settings)
    images_of_split = _find_images(root, settings)
    unique = list(dict.fromkeys(path for paths in images_of_split.values() for path in paths))
    labels = {path: _label_path(root, path) for path in unique}
    if not any(label.is_file() for label in labels.values()):
        raise DatasetError(
            f"{root}: none of {len(unique)} images has a label file. The label file of the first image was "
            f"expected at {labels[unique[0]]}. Put the *.txt files into folders 'labels' next to the folders "
            "'images'."
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

    Returns a finding for each annotation that was left out, or whose polygon, drawn by pycocotools, differs
    from its mask.
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
    """The content of data.yaml, or of another YAML file with the key ``names``."""
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
    """The class names by class number, sorted by number."""
    names = settings.get("names")
    if names is None:
        names = read_class_names(root)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(str(key).isdecimal() for key in names):
        found = "is missing" if names is None else f"is {names!r}"
        raise DatasetError(
            f"{root / 'data.yaml'}: 'names' {found}; expected the class names. "
            "Write a list such as names: [bolt, washer], or put classes.txt into the folder."
        )
    return {int(key): str(name) for key, name in sorted(names.items(), key=lambda item: int(item[0]))}


def _find_images(root: Path, settings: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The images of each split. If train and val are not separate, the only split is "all"."""
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
            f"{root}: no images found. Expected them in the folders named in data.yaml, in images/train and "
            "images/val, in train/images and valid/images, or in images."
        )
    if "train" in found and found.get("val", found["train"]) == found["train"] and "test" not in found:
        return {ALL: found["train"]}
    return found


def _as_list(entries: Any) -> list[Any]:
    return entries if isinstance(entries, list) else [entries]


def _resolve(root: Path, settings: Mapping[str, Any], entry: str) -> Path | None:
    """The path of a folder or list of images. Roboflow writes paths that point outside the data set."""
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
    """The path of the label file: the last folder ``images`` is replaced by ``labels``.

    Without a folder ``images``, the label file is next to the image file.
    """
    parts = list(image.relative_to(root).parts) if image.is_relative_to(root) else list(image.parts)
    folders = parts[:-1]
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        parts[last] = "labels"
    return (root / Path(*parts)).with_suffix(".txt")


def _wished_name(root: Path, image: Path) -> str:
    """The path relative to the root without ``images``: ``valid/a.jpg`` for ``valid/images/a.jpg``."""
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
            message = f"line {number} is {_shortened(line)!r}; expected a class number and at least 3 points"
            findings.append(finding("shape_unusable", file, message, hint="Correct the line."))
        elif len(values) == 5:
            message = f"line {number} is a box (class, centre, size), not a polygon"
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
        message = f"{count} lines have the class {index}; expected {min(names)}..{max(names)} as in 'names'"
        findings.append(finding("label_unknown", file, message))


def _numbers(line: str) -> list[float] | None:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    # Coordinates beyond 100 times the image side are invalid. NaN fails the comparison too.
    return values if all(-100 <= value <= 100 for value in values[1:]) and math.isfinite(values[0]) else None


def _shortened(line: str) -> str:
    return line if len(line) <= 40 else f"{line[:40]}..."


def _to_pixels(values: Sequence[float], size_hw: tuple[int, int]) -> list[float]:
    """x and y in pixels, rounded to remove the rounding error of the normalised coordinates."""
    height, width = size_hw
    points = np.reshape(values, (-1, 2)) * (width, height)
    return points.round(6).ravel().tolist()


# ---- writing


def _target_names(coco: CocoFile, split: str) -> list[PurePosixPath]:
    """Names below images/<split> with unique stems. A common first folder named like the split is removed."""
    names = [inside_name(record) for record in coco.images]
    if names and all(len(name.parts) > 1 and name.parts[0] == split for name in names):
        names = [PurePosixPath(*name.parts[1:]) for name in names]
    taken: set[PurePosixPath] = set()
    return [PurePosixPath(f"{unused(name.with_suffix(''), taken)}{name.suffix}") for name in names]


def _turned(image: Path, record: ImageRecord, file: str) -> list[Finding]:
    """A finding if the annotations are not made for the upright image, which YOLO's coordinates refer to."""
    try:
        shown_hw = image_size(image).shown_hw
    except DatasetError as error:
        return [finding("image_corrupt", file, str(error).rstrip("."), image_id=record.id)]
    if shown_hw == (record.height, record.width):
        return []
    listed_hw = (record.height, record.width)
    message = f"the upright image is {shown_hw} (height, width), but the annotation file lists {listed_hw}"
    return [finding("image_size_mismatch", file, message, image_id=record.id)]


def _write_line(
    annotation: Annotation, record: ImageRecord, class_of_id: Mapping[Id, int], file: str
) -> tuple[str, list[Finding]]:
    """The line, empty if the annotation cannot be written, and findings about what was lost."""
    mask = annotation_to_rle(annotation, record.height, record.width)
    line, message = "", ""
    if annotation.iscrowd:
        message = "the annotation is a crowd region, which YOLO does not support; it was left out"
    elif not rle_area(mask):
        message = "the mask covers no pixel; the annotation was left out"
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
    """The joined polygons if they draw exactly the mask, else the outline of the mask; and the IoU."""
    if not isinstance(annotation.segmentation, Mapping):
        parts = [np.reshape(part, (-1, 2)).astype(float) for part in annotation.segmentation]
        values = _normalised(join_rings(parts), record)
        if _drawn_iou(values, mask, record) == 1:  # less than 1 if parts overlap
            return values, 1.0
    values = _normalised(join_rings(mask_to_rings(rle_to_mask(mask).astype(bool))), record)
    return values, _drawn_iou(values, mask, record)


def _normalised(ring: Ring, record: ImageRecord) -> list[str]:
    return [f"{value:.12g}" for value in (ring / (record.width, record.height)).ravel().tolist()]


def _drawn_iou(values: Sequence[str], mask: Rle, record: ImageRecord) -> float:
    """The IoU of ``mask`` and the mask that a reader draws from these coordinates."""
    size_hw = (record.height, record.width)
    polygon = _to_pixels([float(value) for value in values], size_hw)
    return rle_iou(polygons_to_rle([polygon], size_hw), mask)


def _write_settings(path: Path, splits: Sequence[str], names: Sequence[str]) -> None:
    """Write data.yaml. Readers require ``val``; without a val split it gets the images of ``train``."""
    places = {split: f"images/{split}" for split in splits if split != ALL}
    train = places.get("train", "images")
    settings = {"train": train, "val": train, **places, "nc": len(names), "names": dict(enumerate(names))}
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
