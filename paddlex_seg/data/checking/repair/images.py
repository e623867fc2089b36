"""Repairs of image records: names, sizes, and images that are listed twice."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from paddlex_seg.data.checking.frames import SWAPPED, TURNED, Part, label_frames, size_problem
from paddlex_seg.data.checking.missing import search_missing
from paddlex_seg.data.checking.repair.draft import Draft, Slot
from paddlex_seg.data.checking.repair.turned import turned_values
from paddlex_seg.data.checking.scan import scan_images
from paddlex_seg.data.image_facts import ImageFacts
from paddlex_seg.data.image_search import possible_texts
from paddlex_seg.data.images import image_path
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.names import is_utf8
from paddlex_seg.structures import Bands, Id


def repair_images(drafts: Sequence[Draft], image_dir: Path, bands: Bands | None) -> None:
    """File names that do not fit, missing sizes, and images listed twice, in all files of a data set.

    Images without a usable file stay: a person may have it, and the annotations are work.
    """
    slots = [
        (draft, slot)
        for draft in drafts
        for slot in draft.records("images")
        if isinstance(slot.after.get("file_name"), str)
    ]
    for draft, slot in slots:
        name = slot.after["file_name"]
        if "\\" in name:
            slot.change("file_name_backslash", file_name=name.replace("\\", "/"))
        _give_text(draft, slot, image_dir)
        inside = _name_inside(slot.after["file_name"], image_dir)
        if inside is not None:
            slot.change("file_name_outside", file_name=inside)
    names = [slot.after["file_name"] for _, slot in slots]
    files = [draft.image_files.get(name, name) for (draft, _), name in zip(slots, names, strict=True)]
    facts = dict(zip(names, scan_images(image_dir, files, "header", bands=bands), strict=True))
    searched = search_missing(image_dir, facts)
    found = {name: item.name for name, item in searched.items() if item.name is not None}
    found_facts = scan_images(image_dir, list(found.values()), "header", bands=bands)
    facts_of_file = dict(zip(found.values(), found_facts, strict=True))
    for draft, slot in slots:
        name = slot.after["file_name"]
        if name in found:
            file = found[name]
            # Other tools cannot read a name that is not UTF-8. In the copy, the image gets the listed name.
            own = name if facts[name].problem == "image_missing" else PurePosixPath(name).name
            name = file if is_utf8(file) else own
            slot.change(str(facts[slot.after["file_name"]].problem), file_name=name)
            draft.image_files[name] = file
            facts[name] = facts_of_file[file]
        elif name in searched:
            draft.spare_images.update(searched[name].candidates)
        shown_hw, stored_hw = facts[name].shown_hw, facts[name].stored_hw
        # If EXIF swaps width and height, it is unknown which size the annotations were made for.
        if shown_hw is not None and shown_hw == stored_hw:
            _repair_size(slot, shown_hw)
    _turn_images(drafts, image_dir, facts)
    for draft in drafts:
        _merge_repeated_images(draft)


def _give_text(draft: Draft, slot: Slot, image_dir: Path) -> None:
    """In the copy, an image whose name is listed as bytes that are not UTF-8 gets a name that is text."""
    name = slot.after["file_name"]
    if is_utf8(name) or not os.path.isfile(f"{image_dir}/{name}"):
        return
    text = next(text for text in possible_texts(name) if is_utf8(text))
    if not os.path.lexists(image_dir / text):
        slot.change("image_entry_invalid", file_name=text)
        draft.image_files[text] = name


def _name_inside(name: str, image_dir: Path) -> str | None:
    """The name relative to ``image_dir``, if it is invalid there, but its file is inside; otherwise None."""
    try:
        image_path(image_dir, name)
        return None
    except DatasetError:
        pass
    path = Path(os.path.normpath(image_dir.resolve() / name))
    if path.is_relative_to(image_dir.resolve()) and os.path.isfile(path):  # a name may be too long
        return path.relative_to(image_dir.resolve()).as_posix()
    return None


def _repair_size(slot: Slot, size_hw: tuple[int, int]) -> None:
    """Set width and height if they are missing or invalid."""
    sides = {"width": size_hw[1], "height": size_hw[0]}
    wrong = [
        key for key in sides if type(slot.after.get(key)) not in (int, float) or not slot.after[key] >= 1
    ]  # not NaN either
    if wrong:
        slot.change("image_entry_invalid", **{key: sides[key] for key in wrong})


def _turn_images(drafts: Sequence[Draft], image_dir: Path, facts: Mapping[str, ImageFacts]) -> None:
    """Exchange width and height, or turn annotations, where the image and its annotations say so."""
    sizes = [
        (slot.after, facts.get(slot.after["file_name"]))
        for draft in drafts
        for slot in draft.records("images")
        if isinstance(slot.after.get("file_name"), str)
    ]
    usual = [
        fact is None
        or (fact.orientation == 1 and fact.stored_hw == (entry.get("height"), entry.get("width")))
        for entry, fact in sizes
    ]
    if all(usual):  # then the annotations need not be measured
        return
    parsed = [draft.parse() for draft in drafts]
    parts = [Part(coco, measures) for coco, measures, _ in parsed]
    annotated = [slots for _, _, slots in parsed]
    for draft, part, slots, frames in zip(
        drafts, parts, annotated, label_frames(image_dir, parts, facts), strict=True
    ):
        problems = {
            record.id: found[0]
            for record in part.coco.images
            if (found := size_problem(record, facts[record.file_name], frames.get(record.id))) is not None
        }
        draft.doubtful_sizes = {id for id, code in problems.items() if code == "image_size_mismatch"}
        for slot in draft.records("images"):
            id = slot.id()
            if id is not None and (code := problems.get(id, "")) in SWAPPED:
                slot.change(code, width=slot.after["height"], height=slot.after["width"])
        _turn_annotations(draft, part, slots, facts, {id for id, code in problems.items() if code == TURNED})


def _turn_annotations(
    draft: Draft, part: Part, slots: Sequence[Slot], facts: Mapping[str, ImageFacts], image_ids: set[Id]
) -> None:
    """Turn the annotations of these images as their orientation turns them, or all of an image or none."""
    if not image_ids:
        return
    readable = {slot.position for slot in slots}
    unreadable = {
        slot.id("image_id") for slot in draft.records("annotations") if slot.position not in readable
    }
    records = {record.id: record for record in part.coco.images if record.id in image_ids - unreadable}
    for slot, item in zip(slots, part.coco.annotations, strict=True):
        if item.image_id in records:
            record = records[item.image_id]
            orientation = facts[record.file_name].orientation
            values = turned_values(slot.after, item, orientation, (record.height, record.width))
            slot.change(TURNED, **values)


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
        if known is not record and known == record:
            slot.remove("image_id_duplicate")
        elif known is not record and sizes[0] == sizes[1] and known["id"] != record["id"]:
            new_id[record["id"]] = known["id"]
            slot.remove("file_name_duplicate")
    for slot in draft.records("annotations"):
        image_id = slot.id("image_id")
        if image_id is not None and image_id in new_id:
            slot.change("file_name_duplicate", image_id=new_id[image_id])
