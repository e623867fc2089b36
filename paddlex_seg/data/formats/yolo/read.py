"""Reads YOLO segmentation: one text file per image. Each line has a class number and one polygon."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, SourceObject, assemble_splits
from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.name_index import NameIndex
from paddlex_seg.data.formats.source_files import (
    CLASS_LISTS,
    ImageNames,
    agreed_size,
    decode_text,
    files_below,
    files_left,
    image_sizes,
)
from paddlex_seg.data.formats.yolo.lines import (
    LabelFile,
    ObjectReader,
    common_reading,
    have_key_points,
    parse_label_file,
)
from paddlex_seg.data.formats.yolo.settings import class_names, find_images, read_settings
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError


def read_yolo(root: Path) -> Conversion:
    """Read the data set in ``root``. ``data.yaml`` has the keys ``names``, ``train``, ``val`` and ``test``.

    Without the keys of splits, images are searched in ``<split>/images``, ``images/<split>`` and ``images``.
    The labels of ``.../images/a.jpg`` are in ``.../labels/a.txt``. An image without label file has no
    objects. Coordinates become pixels of the upright image (EXIF orientation applied). Raises DatasetError
    when there are no names, no images, no labels or no outlines.
    """
    findings: list[Finding] = []
    settings = read_settings(root)
    names = class_names(settings, findings)
    if "kpt_shape" in settings.content:
        raise DatasetError(
            f"{settings.folder / settings.name}: has the key kpt_shape, so the labels are boxes with key "
            "points. Instance segmentation needs outlines. Export segmentation labels."
        )
    images_of_split = find_images(root, settings, findings)
    unique = list(dict.fromkeys(path for paths in images_of_split.values() for path in paths))
    labels = {path: _existing_or_expected(root, path) for path in unique}
    existing = {image: label for image, label in labels.items() if label.is_file()}
    unused = _unused_labels(root, existing.values())
    if not existing:
        raise DatasetError(_no_labels(root, labels, unused))
    images = _read_images(root, labels, existing, names, findings)
    findings += _shared_labels(root, existing)
    findings += _without_labels(root, [image for image in labels if image not in existing], unused)
    findings += _left_over(root, unique, unused)
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


def _label_path(root: Path, image: Path) -> Path:
    """The path of the label file: the last folder ``images`` is replaced by ``labels``.

    Without a folder ``images``, the label file is next to the image file.
    """
    parts = list(image.relative_to(root).parts) if image.is_relative_to(root) else list(image.parts)
    folders = parts[:-1]
    lower = [folder.lower() for folder in folders]
    if "images" in lower:
        last = len(folders) - 1 - lower[::-1].index("images")
        parts[last] = {"Images": "Labels", "IMAGES": "LABELS"}.get(folders[last], "labels")
    return (root / Path(*parts)).with_suffix(".txt")


def _existing_or_expected(root: Path, image: Path) -> Path:
    """The label file of an image, or where it should be. Labels beside images in ``images`` are read too."""
    expected, beside = _label_path(root, image), image.with_suffix(".txt")
    for label in (expected, expected.with_suffix(".TXT")):
        if label.is_file():
            return label
    return beside if beside.is_file() and _looks_like_labels(beside) else expected


def _wished_name(root: Path, image: Path) -> str:
    """The path relative to the root without ``images``: ``valid/a.jpg`` for ``valid/images/a.jpg``."""
    if not image.is_relative_to(root):
        return image.name
    return "/".join(part for part in image.relative_to(root).parts if part != "images")


def _relative(root: Path, path: Path) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


# ---- objects

_Content = tuple[tuple[int, int], tuple[SourceObject, ...]]  # size and objects of an image


def _read_images(
    root: Path,
    labels: Mapping[Path, Path],
    existing: Mapping[Path, Path],
    names: Mapping[int, str],
    findings: list[Finding],
) -> dict[Path, _Content]:
    """Size and objects of each readable image."""
    sizes = image_sizes(labels)
    files: dict[Path, LabelFile] = {}
    for image, label in labels.items():
        name = _relative(root, label)
        try:
            size_hw = agreed_size(sizes[image], None, "")
            text = decode_text(label.read_bytes(), label) if image in existing else ""
        except (DatasetError, OSError) as error:
            findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
            continue
        files[image] = parse_label_file(name, size_hw, text)
    parsed = list(files.values())
    if have_key_points(parsed):
        raise DatasetError(
            f"{root}: each line of the label files has a box and key points with a visibility of 0, 1 or 2. "
            "Instance segmentation needs outlines. Export segmentation labels."
        )
    reader = ObjectReader(common_reading(parsed, names), names)
    images = {image: (file.size_hw, tuple(reader.read(file, findings))) for image, file in files.items()}
    if reader.num_boxes == reader.num_lines > 0:
        raise DatasetError(
            f"{root}: all {reader.num_boxes} lines of the label files are boxes (class, centre, size). "
            "Instance segmentation needs outlines. Export segmentation labels: a class and the points of a "
            "polygon."
        )
    findings += reader.findings(parsed)
    return images


# ---- which label file is for which image


def _unused_labels(root: Path, used: Iterable[Path]) -> list[str]:
    """Text files that may be labels, but are for no image of a split; relative to the root."""
    left = files_left(root, files_below(root, (".txt",)), used)
    return [name for name in left if os.path.basename(name) not in CLASS_LISTS]


def _no_labels(root: Path, labels: Mapping[Path, Path], unused: Sequence[str]) -> str:
    index = _index_of_stems(unused)
    matches = [found for image in labels if (found := index.find(_stem(root, image))) is not None]
    elsewhere = f" {len(matches)} text files have names of images, such as {matches[0]}." if matches else ""
    return (
        f"{root}: none of {len(labels)} images has a label file. The label file of the first image was "
        f"expected at {next(iter(labels.values()))}.{elsewhere} Put the *.txt files into folders 'labels' "
        "next to the folders 'images'."
    )


def _shared_labels(root: Path, existing: Mapping[Path, Path]) -> list[Finding]:
    """A finding for each label file that several images use, such as ``a.jpg`` and ``a.png``."""
    images_of = defaultdict(list)
    for image, label in existing.items():
        images_of[label].append(_relative(root, image))
    return [
        finding(
            "source_shared",
            _relative(root, label),
            f"{len(images)} images have this label file: {', '.join(images)}; each of them got its objects",
            hint="Give each image its own name and label file, or keep one of the images.",
        )
        for label, images in images_of.items()
        if len(images) > 1
    ]


def _without_labels(root: Path, images: Sequence[Path], unused: Sequence[str]) -> list[Finding]:
    """Findings about images without a label file: background, or the labels are elsewhere."""
    index = _index_of_stems(unused)
    elsewhere = {}
    for image in images:
        found = index.find(_stem(root, image))
        if found is not None and _looks_like_labels(root / found):
            elsewhere[image] = found
    findings = []
    if elsewhere:
        image, label = next(iter(elsewhere.items()))
        message = (
            f"{len(elsewhere)} images have no label file where it is expected; the first is "
            f"{_relative(root, image)}, its labels may be {label}"
        )
        findings.append(finding("label_misplaced", label, message))
    rest = [image for image in images if image not in elsewhere]
    if rest:
        first = _relative(root, rest[0])
        message = f"{len(rest)} images have no label file and are background; the first is {first}"
        findings.append(finding("image_without_labels", "labels", message))
    return findings


def _left_over(root: Path, used: Sequence[Path], unused: Sequence[str]) -> list[Finding]:
    """Findings about labels and images that are in no split. ``unused``: text files that may be labels."""
    labels = [name for name in unused if "labels" in name.split("/")[:-1]]
    images = files_below(root, IMAGE_SUFFIXES)
    stems = {os.path.splitext(name)[0] for name in images}
    with_image = {_image_stem(name): name for name in labels if _image_stem(name) in stems}
    without = [name for name in labels if _image_stem(name) not in stems]
    findings = []
    if with_image:
        message = (
            f"{len(with_image)} label files and their images are in no split that data.yaml names; the first "
            f"is {next(iter(with_image.values()))}"
        )
        hint = "Add the images to the list or the folder of a split, or add their folder to data.yaml."
        findings.append(finding("source_unlisted", next(iter(with_image.values())), message, hint=hint))
    if without:
        message = f"{len(without)} label files have no image; the first is {without[0]}"
        findings.append(finding("label_without_image", without[0], message))
    placed = {f"images/{_wished_name(root, path)}" for path in used}  # by an earlier conversion
    rest = [
        name
        for name in files_left(root, images, used)
        if name not in placed and os.path.splitext(name)[0] not in with_image
    ]
    if rest:
        message = f"{len(rest)} images without labels are in no split; the first is {rest[0]}"
        findings.append(finding("image_unreferenced", "images", message))
    return findings


def _image_stem(label: str) -> str:
    """The path of the image of a label file, without ending: the last ``labels`` becomes ``images``."""
    folders, _, name = os.path.splitext(label)[0].rpartition("/")
    before, _, after = f"/{folders}/".rpartition("/labels/")
    return f"{before}/images/{after}{name}".lstrip("/")


def _index_of_stems(names: Sequence[str]) -> NameIndex:
    return NameIndex(names, key_of={name: os.path.splitext(name)[0] for name in names})


def _stem(root: Path, image: Path) -> str:
    return os.path.splitext(_relative(root, image))[0]


def _looks_like_labels(path: Path) -> bool:
    """Whether the first line has a class and the numbers of a box or a polygon."""
    try:
        with open(path, "rb") as file:
            words = file.readline(4096).replace(b",", b" ").split()
    except OSError:
        return False  # such as a dead link
    return len(words) >= 5 and all(word.replace(b".", b"").replace(b"-", b"").isdigit() for word in words[:5])
