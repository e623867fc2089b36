"""Reads LabelMe: one JSON file of shapes for each image.

Files of all versions can be read, including old ones without ``version`` and ``shape_type``, and those of
X-AnyLabeling, which have more kinds of shapes.
"""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, assemble_splits, labels_in_order
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.labelme.drafts import Draft, Drafts, describe_others, read_all, read_listed
from paddlex_seg.data.formats.labelme.images import FoundImages, find_images
from paddlex_seg.data.formats.labelme.labels import LabelReader
from paddlex_seg.data.formats.labelme.shapes import read_shapes
from paddlex_seg.data.formats.source_files import (
    SPLITS,
    ImageNames,
    agreed_size,
    embedded_size,
    read_class_names,
    read_split_lists,
)
from paddlex_seg.errors import DatasetError


def read_labelme(root: Path) -> Conversion:
    """Read the data set in ``root``: images in ``images/``, LabelMe files in any folder.

    ``train_anno_list.txt`` (``val_``, ``test_``) list the LabelMe files of a split, one path relative to
    ``root`` per line. ``train_list.txt`` of PaddleX, with an image and its file in each line, is read if
    there is no such list. ``label.txt`` lists the classes in order. Without it, classes are in order of first
    appearance. The lists are optional. Raises DatasetError when there is no LabelMe file at all.
    """
    lists = _list_files(root)
    lines_of_split = read_split_lists(lists)
    if lines_of_split:
        names_of_lists = {split: lists["train" if split == ALL else split].name for split in lines_of_split}
        drafts = read_listed(root, lines_of_split, names_of_lists)
    else:
        drafts = read_all(root, ALL)
    if not drafts.files and not any(item.severity == "error" for item in drafts.findings):
        raise DatasetError(
            f"{root}: no LabelMe file found in this folder. Expected *.json files with the key 'shapes', "
            f"usually in annotations/, and the images in images/.{describe_others(drafts.others)}"
        )
    findings = list(drafts.findings)
    names = ImageNames(root)
    known = _class_list(root, findings)
    images = _read_images(root, drafts, names, known, findings)
    splits = {
        split: [images[name] for name in members if name in images]
        for split, members in drafts.members.items()
    }
    return Conversion(
        splits=assemble_splits(root, splits, labels_in_order(splits) if known is None else known),
        findings=tuple(findings),
        images=names.to_place,
        list_lines={image.file_name: name for name, image in images.items()},
    )


def _list_files(root: Path) -> dict[str, Path]:
    """Where the list of each split is, or would be."""
    kinds = [{split: root / f"{split}{end}" for split in SPLITS} for end in ("_anno_list.txt", "_list.txt")]
    return next((paths for paths in kinds if any(path.is_file() for path in paths.values())), kinds[0])


def _class_list(root: Path, findings: list[Finding]) -> list[str] | None:
    known = read_class_names(root)
    if known == []:
        message = "the list has no class; the classes were taken from the labels of the shapes"
        findings.append(finding("names_inconsistent", "label.txt", message))
        return None
    return known


def _read_images(
    root: Path, drafts: Drafts, names: ImageNames, known: Sequence[str] | None, findings: list[Finding]
) -> dict[str, SourceImage]:
    """The images by the name of their LabelMe file."""
    found = find_images(root, drafts.files, findings)
    labels = LabelReader(known)
    images = {}
    for name, draft in drafts.files.items():
        if name in found.left_out:
            continue
        place = found.places.get(name)
        if place is None and draft.embedded is None:
            message = (
                f"image file {draft.image!r} was not found, and no image is embedded; its "
                f"shapes ({len(draft.shapes)}) were left out"
            )
            findings.append(finding("image_missing", name, message, hint=_MISSING_HINT))
            continue
        try:
            if place is None:
                file_name, size_hw = _embedded_image(name, draft, names)
            else:
                size_hw = agreed_size(found.sizes[place], draft.listed_hw, "the size in the file")
                file_name = names.of_file(place)
        except DatasetError as error:
            findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
            continue
        objects = read_shapes(draft.shapes, size_hw, name, labels, findings)
        images[name] = SourceImage(file_name=file_name, size_hw=size_hw, objects=tuple(objects))
    findings += labels.findings()
    if not drafts.listed:
        findings += _without_file(found, {image.file_name for image in images.values()})
    return images


_MISSING_HINT = "Put the image into the folder images, or write its path into imagePath."


def _embedded_image(name: str, draft: Draft, names: ImageNames) -> tuple[str, tuple[int, int]]:
    try:
        content = base64.b64decode(draft.embedded or "")
    except (binascii.Error, ValueError) as error:
        raise DatasetError(f"the embedded image cannot be decoded ({error})") from error
    size, suffix = embedded_size(content)
    size_hw = agreed_size(size, draft.listed_hw, "the size in the file")
    wish = str(PurePosixPath(name.removeprefix("annotations/")).with_suffix(suffix))
    return names.of_bytes(content, wish), size_hw


def _without_file(found: FoundImages, file_names: set[str]) -> list[Finding]:
    """A finding about images that have no LabelMe file. Copies of images that are used do not count."""
    unused = [image for image in found.unused if image.removeprefix("images/") not in file_names]
    if not unused:
        return []
    message = f"{len(unused)} images have no LabelMe file and were not used; the first is {unused[0]}"
    return [finding("image_unreferenced", "images", message)]
