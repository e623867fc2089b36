"""Repairs of categories: one list for all annotation files of a data set."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paddlex_seg.data.checking.repair.draft import Draft, highest_number
from paddlex_seg.data.coco.categories import category_differences, unused_extras
from paddlex_seg.data.coco.read import parse_coco
from paddlex_seg.structures import Category, CocoFile, Id


def repair_categories(drafts: Sequence[Draft]) -> None:
    """Give all files one list: categories are matched by name, in the order of the first file."""
    if not all(_is_unambiguous(draft.categories) for draft in drafts):
        return
    parsed = [parse_coco({**_lists_only(draft), "annotations": []}, draft.path).coco for draft in drafts]
    names_used = set().union(*(_used_names(draft) for draft in drafts))
    joined: dict[str, dict[str, Any]] = {}
    taken = {category["id"] for draft in drafts[:1] for category in draft.categories}
    highest = highest_number(category["id"] for draft in drafts for category in draft.categories)
    for draft in drafts:
        for category in draft.categories:
            if category["name"] in joined:
                continue
            id = category["id"]
            if draft is not drafts[0] and id in taken:
                highest += 1
                id = highest
            taken.add(id)
            joined[category["name"]] = {**category, "id": id}
    rows = [
        Category(entry["id"], name, str(entry.get("supercategory") or "")) for name, entry in joined.items()
    ]
    extras = unused_extras(rows, names_used)
    wanted = [entry for name, entry in joined.items() if name not in extras]
    for draft, coco in zip(drafts, parsed, strict=True):
        if _ids_and_names(draft.categories) != _ids_and_names(wanted) and isinstance(
            draft.document.get("categories"), list
        ):
            _give_categories(draft, wanted, _category_codes(draft, parsed[0], coco, extras))


def _ids_and_names(categories: Sequence[Mapping[str, Any]]) -> list[tuple[Id, str]]:
    return [(category["id"], category["name"]) for category in categories]


def _used_names(draft: Draft) -> set[str]:
    used_ids = {slot.id("category_id") for slot in draft.records("annotations")}
    return {category["name"] for category in draft.categories if category["id"] in used_ids}


def _is_unambiguous(categories: Sequence[Any]) -> bool:
    """Every entry has an id and a name, and no id has two names."""
    names: dict[Id, str] = {}
    for entry in categories:
        if not isinstance(entry, dict) or type(entry.get("id")) not in (int, str):
            return False
        if not isinstance(entry.get("name"), str) or not entry["name"].strip():
            return False
        if names.setdefault(entry["id"], entry["name"]) != entry["name"]:
            return False
    return True


def _lists_only(draft: Draft) -> dict[str, Any]:
    return {"images": [], "categories": draft.categories}


def _category_codes(draft: Draft, train: CocoFile, coco: CocoFile, extras: Mapping[str, str]) -> list[str]:
    ids = Counter(entry["id"] for entry in draft.categories)
    names = Counter(name for _, name in {(entry["id"], entry["name"]) for entry in draft.categories})
    codes = [code for code, _ in category_differences(train, coco)]
    codes += ["category_id_duplicate"] * (max(ids.values(), default=0) > 1)
    codes += ["category_name_duplicate"] * (max(names.values(), default=0) > 1)
    codes += [extras[entry["name"]] for entry in draft.categories if entry["name"] in extras]
    # The train file has no difference to itself, but it changes if another file has more classes.
    return sorted(set(codes)) or ["categories_differ_ids"]


def _give_categories(draft: Draft, wanted: Sequence[dict[str, Any]], codes: list[str]) -> None:
    id_of_name = {entry["name"]: entry["id"] for entry in wanted}
    new_id = {entry["id"]: id_of_name.get(entry["name"], entry["id"]) for entry in draft.categories}
    for slot in draft.records("annotations"):
        old = slot.id("category_id")
        if old is not None and new_id.get(old, old) != old:
            slot.change(codes[0], category_id=new_id[old])
    draft.categories = copy.deepcopy(list(wanted))
    draft.category_codes = sorted({*draft.category_codes, *codes})
