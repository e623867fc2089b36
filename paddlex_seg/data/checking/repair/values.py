"""Repairs of values that have one meaning, but are not written as the format wants them."""

from collections.abc import Callable, Mapping
from typing import Any

from paddlex_seg.data.checking.repair.draft import Draft
from paddlex_seg.data.coco.records import (
    ANNOTATION_FIELDS,
    ANNOTATION_OPTIONS,
    CATEGORY_FIELDS,
    CATEGORY_OPTIONS,
    IMAGE_FIELDS,
    id_or_none,
)
from paddlex_seg.data.coco.references import meant_ids
from paddlex_seg.data.coco.wrong_value import OddValue, WrongValue
from paddlex_seg.data.findings import KINDS

_Readers = Mapping[str, Callable[[Any], Any]]


def repair_values(draft: Draft) -> None:
    """Write numbers and ids that are text as numbers: every odd value as it is read, if nothing is lost.

    Masks have repairs of their own.
    """
    of_annotations = {**ANNOTATION_FIELDS, **ANNOTATION_OPTIONS}
    del of_annotations["segmentation"]
    for kind, readers in (("images", IMAGE_FIELDS), ("annotations", of_annotations)):
        for slot in draft.records(kind):
            for key, (code, value) in _odd_values(slot.after, readers).items():
                slot.change(code, **{key: value})
    for place, entry in enumerate(draft.categories):
        if isinstance(entry, dict):
            odd = _odd_values(entry, CATEGORY_FIELDS | CATEGORY_OPTIONS)
            draft.categories[place] = {**entry, **{key: value for key, (_, value) in odd.items()}}
            draft.category_codes = sorted({*draft.category_codes, *(code for code, _ in odd.values())})
    _repair_references(draft)


def _repair_references(draft: Draft) -> None:
    """References that are the name of an image or of a category."""
    images = [slot.after for slot in draft.records("images")]
    for kind, entries, name_key in (("image", images, "file_name"), ("category", draft.categories, "name")):
        key = f"{kind}_id"
        known = {id_or_none(entry.get("id")) for entry in entries if isinstance(entry, dict)}
        used = {id for slot in draft.records("annotations") if (id := slot.id(key)) is not None}
        meant = meant_ids(used - known, entries, name_key)
        for slot in draft.records("annotations") if meant else ():
            id = slot.id(key)
            if id is not None and id in meant:
                slot.change(f"{key}_dangling", **{key: meant[id]})


def _odd_values(entry: Mapping[str, Any], readers: _Readers) -> dict[str, tuple[str, Any]]:
    """Code and value to write, by key, of the odd values of a record that have a repair."""
    odd: dict[str, tuple[str, Any]] = {}
    for key, read in readers.items():
        try:
            read(entry.get(key))
        except OddValue as found:
            if found.value is not None and KINDS[found.code].repair:
                as_json = {tuple: list, bool: int}.get(type(found.value), lambda value: value)
                odd[key] = (found.code, as_json(found.value))
        except WrongValue:
            continue  # reported by the check, and repaired elsewhere if it can be
    return odd
