"""Repairs of image records: names, sizes, unusable image files, and images that are listed twice."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from paddlex_seg.data.checking.repair.draft import Draft, Slot
from paddlex_seg.data.checking.scan import scan_images
from paddlex_seg.data.images import image_path
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Id

_UNUSABLE = ("image_missing", "image_empty_file", "image_truncated", "image_corrupt")


def repair_images(draft: Draft, image_dir: Path) -> None:
    """File names outside the image folder, missing sizes, unusable images, and images listed twice."""
    slots = [slot for slot in draft.records("images") if isinstance(slot.after.get("file_name"), str)]
    for slot in slots:
        name = slot.after["file_name"]
        if "\\" in name:
            slot.change("file_name_backslash", file_name=name.replace("\\", "/"))
        inside = _name_inside(slot.after["file_name"], image_dir)
        if inside is not None:
            slot.change("file_name_outside", file_name=inside)
    facts = scan_images(image_dir, [slot.after["file_name"] for slot in slots], "thumbnail")
    gone: dict[Id | None, str] = {}
    for slot, fact in zip(slots, facts, strict=True):
        if fact.problem in _UNUSABLE:
            gone[slot.id()] = str(fact.problem)
            slot.remove(str(fact.problem))
        # If EXIF swaps width and height, it is unknown which size the annotations were made for.
        elif fact.shown_hw is not None and fact.shown_hw == fact.stored_hw:
            _repair_size(slot, fact.shown_hw)
    for slot in draft.records("annotations"):
        image_id = slot.id("image_id")
        if image_id is not None and image_id in gone:
            slot.remove(gone[image_id])
    _merge_repeated_images(draft)


def _name_inside(name: str, image_dir: Path) -> str | None:
    """The name relative to ``image_dir``, if it is invalid there, but its file is inside; otherwise None."""
    try:
        image_path(image_dir, name)
        return None
    except DatasetError:
        pass
    path = Path(os.path.normpath(image_dir.resolve() / name))
    if path.is_relative_to(image_dir.resolve()) and path.is_file():
        return path.relative_to(image_dir.resolve()).as_posix()
    return None


def _repair_size(slot: Slot, size_hw: tuple[int, int]) -> None:
    """Set width and height if they are missing or invalid."""
    sides = {"width": size_hw[1], "height": size_hw[0]}
    wrong = [key for key in sides if type(slot.after.get(key)) not in (int, float) or slot.after[key] < 1]
    if wrong:
        slot.change("image_entry_invalid", **sides)


def _merge_repeated_images(draft: Draft) -> None:
    first: dict[str, dict[str, Any]] = {}
    new_id: dict[Id, Id] = {}
    for slot in draft.records("images"):
        record = slot.after
        if not isinstance(record.get("file_name"), str) or slot.id() is None:
            continue
        name = PurePosixPath(record["file_name"]).as_posix()
        known = first.setdefault(name, record)
        sizes = [(entry.get("width"), entry.get("height")) for entry in (known, record)]
        if known is not record and sizes[0] == sizes[1] and known["id"] != record["id"]:
            new_id[record["id"]] = known["id"]
            slot.remove("file_name_duplicate")
    for slot in draft.records("annotations"):
        image_id = slot.id("image_id")
        if image_id is not None and image_id in new_id:
            slot.change("file_name_duplicate", image_id=new_id[image_id])
