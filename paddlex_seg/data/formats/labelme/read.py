"""Reads LabelMe: one JSON file of shapes for each image.

Files of all versions can be read, including old ones without ``version`` and ``shape_type``.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceImage, assemble_splits, labels_in_order
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.labelme.shapes import read_shapes
from paddlex_seg.data.formats.source_files import (
    SPLITS,
    ImageNames,
    agreed_size,
    decode_text,
    embedded_size,
    files_below,
    image_sizes,
    read_class_names,
    read_split_lists,
)
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError


def read_labelme(root: Path) -> Conversion:
    """Read the data set in ``root``: images in ``images/``, LabelMe files in any folder.

    ``train_anno_list.txt`` (``val_``, ``test_``) list the LabelMe files of a split, one path relative to
    ``root`` per line. ``label.txt`` lists the classes in order. Without it, classes are in order of first
    appearance. The lists are optional. Raises DatasetError when there is no LabelMe file at all.
    """
    findings: list[Finding] = []
    names_of_split = read_split_lists({split: root / f"{split}_anno_list.txt" for split in SPLITS})
    listed = bool(names_of_split)
    if not listed:
        names_of_split = {ALL: _scan(root)}
    drafts = _read_drafts(root, names_of_split, listed, findings)
    if not drafts and not findings:
        raise DatasetError(
            f"{root}: no LabelMe file found in this folder. Expected *.json files with the key 'shapes', "
            "usually in annotations/, and the images in images/."
        )
    names = ImageNames(root)
    known = read_class_names(root)
    images = _finish_drafts(root, drafts, names, known, findings)
    splits = {
        split: [images[name] for name in members if name in images]
        for split, members in names_of_split.items()
    }
    return Conversion(
        splits=assemble_splits(root, splits, labels_in_order(splits) if known is None else known),
        findings=tuple(findings),
        images=names.to_place,
        list_lines={image.file_name: name for name, image in images.items()},
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """The content of a LabelMe file. Shapes are not validated yet, and the image file is not located yet."""

    shapes: list[Any]
    image: str  # imagePath with slashes
    embedded: str | None  # imageData
    listed_hw: tuple[int, int] | None


def _scan(root: Path) -> list[str]:
    """All JSON files, except the COCO files that a conversion writes."""
    return [name for name in files_below(root, (".json",)) if not _is_coco_name(name)]


def _is_coco_name(name: str) -> bool:
    return PurePosixPath(name).match("annotations/instance_*.json")


def _read_drafts(
    root: Path, names_of_split: dict[str, list[str]], listed: bool, findings: list[Finding]
) -> dict[str, _Draft]:
    """The LabelMe files by name. ``names_of_split`` gets normalised names.

    Unreadable files become findings. JSON files of another kind become findings only if they are listed.
    """
    drafts: dict[str, _Draft] = {}
    failed: set[str] = set()
    for split, lines in names_of_split.items():
        names = list(dict.fromkeys(os.path.normpath(line.replace("\\", "/")) for line in lines))
        for name in names:
            if name in drafts or name in failed:
                continue
            try:
                draft = _read_draft(root / name)
            except DatasetError as error:
                findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
                draft = None
            else:
                if draft is None and listed:
                    message = "the file has no list 'shapes', so it is not a LabelMe file"
                    findings.append(finding("source_unreadable", name, message))
            if draft is None:
                failed.add(name)
            else:
                drafts[name] = draft
        names_of_split[split] = names
    return drafts


def _read_draft(path: Path) -> _Draft | None:
    """The content of a LabelMe file; None for other JSON. Raises DatasetError if it is not JSON."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DatasetError(f"the file cannot be read ({error.strerror})") from error
    try:
        document = json.loads(content)
    except UnicodeDecodeError:
        document = _parse(decode_text(content, path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON ({error})") from error
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        return None
    image, embedded = document.get("imagePath"), document.get("imageData")
    return _Draft(
        shapes=document["shapes"],
        image=image.replace("\\", "/") if isinstance(image, str) else "",
        embedded=embedded if isinstance(embedded, str) and embedded else None,
        listed_hw=_listed_size(document.get("imageHeight"), document.get("imageWidth")),
    )


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON ({error})") from error


def _listed_size(height: Any, width: Any) -> tuple[int, int] | None:
    sides = [int(side) for side in (height, width) if type(side) in (int, float) and 0 < side < 1e6]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _finish_drafts(
    root: Path,
    drafts: Mapping[str, _Draft],
    names: ImageNames,
    known: Sequence[str] | None,
    findings: list[Finding],
) -> dict[str, SourceImage]:
    finder = _ImageFinder(root)
    places = {name: finder.find(name, draft) for name, draft in drafts.items()}
    sizes = image_sizes(place for place in places.values() if place is not None)
    images = {}
    for name, draft in drafts.items():
        place = places[name]
        if place is None and draft.embedded is None:
            message = (
                f"image file {draft.image!r} was not found, and no image is embedded; the annotations of "
                "this image were left out"
            )
            findings.append(finding("image_missing", name, message))
            continue
        try:
            if place is None:
                file_name, size_hw = _embedded_image(name, draft, names)
            else:
                size_hw = agreed_size(sizes[place], draft.listed_hw, "the size in the file")
                file_name = names.of_file(place)
        except DatasetError as error:
            findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
            continue
        objects = read_shapes(draft.shapes, size_hw, name, known, findings)
        images[name] = SourceImage(file_name=file_name, size_hw=size_hw, objects=tuple(objects))
    return images


def _embedded_image(name: str, draft: _Draft, names: ImageNames) -> tuple[str, tuple[int, int]]:
    try:
        content = base64.b64decode(draft.embedded or "")
    except (binascii.Error, ValueError) as error:
        raise DatasetError(f"the embedded image cannot be decoded ({error})") from error
    size, suffix = embedded_size(content)
    size_hw = agreed_size(size, draft.listed_hw, "the size in the file")
    wish = str(PurePosixPath(name.removeprefix("annotations/")).with_suffix(suffix))
    return names.of_bytes(content, wish), size_hw


class _ImageFinder:
    """Finds the image file of a LabelMe file, even if its path is from another machine."""

    def __init__(self, root: Path):
        self._root, self._image_dir = str(root), str(root / "images")
        self._stems: dict[str, str] | None = None

    def find(self, name: str, draft: _Draft) -> Path | None:
        """The image file of the LabelMe file ``name`` (relative to the root); None if it is not found."""
        for candidate in self._candidates(name, draft.image):
            if os.path.isfile(candidate):
                return Path(candidate)
        return None

    def _candidates(self, name: str, image: str) -> Iterator[str]:
        absolute = image.startswith("/") or image[1:2] == ":"
        if image and not absolute:
            yield os.path.normpath(os.path.join(self._root, os.path.dirname(name), image))
        parts = [part for part in image.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            yield os.path.join(self._image_dir, *parts[start:])
        stem = os.path.splitext(name)[0].split("/")
        for start in range(len(stem)):
            found = self._by_stem().get("/".join(stem[start:]))
            if found is not None:
                yield os.path.join(self._image_dir, found)
        if absolute:
            yield os.path.normpath(image)

    def _by_stem(self) -> dict[str, str]:
        if self._stems is None:
            files = files_below(Path(self._image_dir), IMAGE_SUFFIXES)
            self._stems = {os.path.splitext(file)[0]: file for file in reversed(files)}
        return self._stems
