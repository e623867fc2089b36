"""Functions that all writers share: placing images in the target folder, choosing unique names."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.images import image_path
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import link_or_copy
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord


def place_image(record: ImageRecord, image_dir: Path, target: Path, file: str) -> list[Finding]:
    """Place the image file at ``target``, as a hard link if possible, else as a copy.

    Returns a finding for the annotation file ``file`` if the image file does not exist.
    """
    try:
        source = image_path(image_dir, record.file_name)
    except DatasetError as error:
        return [finding("image_missing", file, str(error).rstrip("."), image_id=record.id)]
    if not source.is_file():
        message = f"{source}: the image file does not exist; its annotations were left out"
        return [finding("image_missing", file, message, image_id=record.id)]
    if not target.exists():
        link_or_copy(source, target)
    return []


def inside_name(record: ImageRecord) -> PurePosixPath:
    """The ``file_name`` as a relative path without ``.`` and ``..``."""
    return PurePosixPath(os.path.normpath(record.file_name.replace("\\", "/")))


def unused(wish: PurePosixPath, taken: set[PurePosixPath]) -> PurePosixPath:
    """``wish``, with a number after its stem if it is in ``taken``. The result is added to ``taken``."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = wish.with_stem(f"{wish.stem}_{number}")
    taken.add(name)
    return name


def annotations_by_image(coco: CocoFile) -> dict[Id, list[Annotation]]:
    """The annotations of each listed image, in file order."""
    found: dict[Id, list[Annotation]] = {record.id: [] for record in coco.images}
    for annotation in coco.annotations:
        found[annotation.image_id].append(annotation)
    return found


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a UTF-8 text file."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def class_names(splits: Sequence[CocoFile]) -> list[str]:
    """The names of all categories without duplicates, in file order."""
    return list(dict.fromkeys(category.name for coco in splits for category in coco.categories))
