"""Repairs: a copy of a data set in which all is right that can be put right without guessing.

The copy has a log of every change; `undo_repair` applies it backwards. Pictures are linked, never written.
"""

import argparse
import copy
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import shapely

from paddlex_seg.data.checking.measures import FLAT, Measures, drawn, measure
from paddlex_seg.data.checking.rules import (
    area_problems,
    box_problems,
    empty_masks,
    repeated_annotations,
)
from paddlex_seg.data.checking.scan import content_digest, scan_pictures
from paddlex_seg.data.coco.categories import category_differences, unused_dummies
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import ParsedCoco, load_document, parse_coco
from paddlex_seg.data.images import image_path
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import fresh_folder, link_or_copy
from paddlex_seg.masks.rle import annotation_to_rle, rle_area, segmentation_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, Rle

LOG_NAME = "repair_log.json"

_UNUSABLE = ("image_missing", "image_empty_file", "image_truncated", "image_corrupt")


@dataclass(frozen=True)
class Repair:
    """A repaired copy of a data set."""

    root: Path
    log_file: Path
    counts: Mapping[str, int]  # repaired findings by code
    written: bool  # False if the copy was there already


def repair_dataset(dataset_dir: Path, target: Path | None = None) -> Repair:
    """Write a repaired copy of the data set in ``dataset_dir`` to ``target``, or beside it with ``_fixed``.

    What is done for each code of a finding is in ``findings.KINDS``; what only a person can decide stays as
    it is. The copy appears complete or not at all; another one that was there becomes ``x.bak``.
    Raises DatasetError when there is no annotation file, or one that cannot be read as JSON.
    """
    paths = dataset_paths(dataset_dir)
    target = target or paths.root.with_name(f"{paths.root.resolve().name}_fixed")
    root, place = paths.root.resolve(), target.resolve()
    if root.is_relative_to(place) or place.is_relative_to(root):
        raise DatasetError(
            f"{target}: the repaired copy cannot take the place of the data set, nor lie in it. Name another "
            "folder."
        )
    files = [path for path in (paths.train_json, paths.val_json, paths.test_json) if path.is_file()]
    if not files:
        raise DatasetError(f"{paths.root}: has no annotations/instance_train.json or _val.json to repair.")
    drafts = [_Draft(path, load_document(path)) for path in files]
    for draft in drafts:
        _repair_pictures(draft, paths.image_dir)
    _repair_categories(drafts)
    for draft in drafts:
        _repair_records(draft)
        _repair_geometry(draft)
        _repair_numbers(draft)
    log = {
        "source": str(paths.root.resolve()),
        "files": {draft.path.name: draft.changes(content_digest(draft.path).hex()) for draft in drafts},
    }
    counts = sum((draft.counts for draft in drafts), Counter[str]())
    written = _log_of(target) != log
    if written:
        _write_copy(target, drafts, log, paths.image_dir)
    return Repair(root=target, log_file=target / LOG_NAME, counts=dict(counts), written=written)


def undo_repair(repaired: Path) -> dict[str, Any]:
    """The annotation files as they were before the repair: by name, what the JSON held."""
    log = _log_of(repaired)
    if log is None:
        raise DatasetError(f"{repaired}: has no readable {LOG_NAME}. Name the folder of a repaired copy.")
    return {
        name: _undo(load_document(repaired / "annotations" / name), entry["changes"])
        for name, entry in log["files"].items()
    }


# ---- a document under repair


@dataclass
class _Slot:
    """A record of a list, as it was and as it is."""

    position: int  # in the list of the file
    before: Any
    after: Any
    codes: list[str] = field(default_factory=list)
    is_removed: bool = False

    def id(self, key: str = "id") -> int | None:
        """The whole number under ``key``; None where the record has none."""
        value = self.after.get(key)
        return value if type(value) is int else None

    def change(self, code: str, **values: Any) -> None:
        """Other values for some keys."""
        self._note(code)
        self.after = {**self.after, **values}

    def remove(self, code: str) -> None:
        """The record leaves the list."""
        self._note(code)
        self.after, self.is_removed = None, True

    def _note(self, code: str) -> None:
        if code not in self.codes:
            self.codes.append(code)


class _Draft:
    """An annotation file whose records can be changed, each with the code that is the reason."""

    def __init__(self, path: Path, document: Any) -> None:
        self.path = path
        self.document = document if isinstance(document, dict) else {}
        self.original = document
        self.images, self.annotations = (
            [_Slot(i, entry, entry) for i, entry in enumerate(_list(self.document, key))]
            for key in ("images", "annotations")
        )
        self.categories: list[Any] = list(_list(self.document, "categories"))
        self.category_codes: list[str] = []

    def records(self, kind: str) -> Iterator[_Slot]:
        """The slots whose record is an object, which they still have."""
        return (slot for slot in getattr(self, kind) if isinstance(slot.after, dict))

    def current(self) -> Any:
        """The document as it is now."""
        if not isinstance(self.original, dict):
            return self.original
        lists = {
            "images": [slot.after for slot in self.images if not slot.is_removed],
            "categories": self.categories,
            "annotations": [slot.after for slot in self.annotations if not slot.is_removed],
        }
        return {
            key: lists[key] if isinstance(value, list) and key in lists else value
            for key, value in self.document.items()
        }

    def parse(self) -> tuple[ParsedCoco, Measures, list[_Slot]]:
        """The sound records, their measures, and the slot of each annotation."""
        document = self.current()
        slots = [slot for slot in self.annotations if not slot.is_removed]
        parsed = parse_coco(
            {**document, "annotations": list(document.get("annotations") or [])}
            if isinstance(document, dict)
            else {},
            self.path,
        )
        return parsed, measure(parsed.coco), [slots[position] for position in parsed.positions]

    @property
    def counts(self) -> Counter[str]:
        """How many records were changed for each code."""
        slots = [*self.images, *self.annotations]
        return Counter(code for slot in slots for code in slot.codes) + Counter(self.category_codes)

    def changes(self, digest: str) -> dict[str, Any]:
        """What the log says of this file."""
        changes: list[dict[str, Any]] = []
        if self.category_codes:
            before = _list(self.document, "categories")
            changes.append(
                {
                    "list": "categories",
                    "codes": self.category_codes,
                    "before": before,
                    "after": self.categories,
                }
            )
        for name, slots in (("images", self.images), ("annotations", self.annotations)):
            changes += [
                {
                    "list": name,
                    "position": slot.position,
                    "codes": slot.codes,
                    "before": slot.before,
                    "after": slot.after,
                }
                for slot in slots
                if slot.codes
            ]
        return {"blake2b": digest, "changes": changes}


def _undo(document: Any, changes: Sequence[Mapping[str, Any]]) -> Any:
    restored = dict(document) if isinstance(document, dict) else document
    for name in ("images", "annotations"):
        of_position = {change["position"]: change for change in changes if change["list"] == name}
        if of_position:
            restored[name] = _undo_list(document[name], of_position)
    for change in changes:
        if change["list"] == "categories":
            restored["categories"] = change["before"]
    return restored


def _undo_list(entries: Sequence[Any], changes: Mapping[int, Mapping[str, Any]]) -> list[Any]:
    restored: list[Any] = []
    remaining = iter(entries)
    total = len(entries) + sum(change["after"] is None for change in changes.values())
    for position in range(total):
        change = changes.get(position)
        if change is None or change["after"] is not None:
            entry = next(remaining)
        restored.append(entry if change is None else change["before"])
    return restored


# ---- repairs, in their order


def _repair_pictures(draft: _Draft, image_dir: Path) -> None:
    slots = [slot for slot in draft.records("images") if isinstance(slot.after.get("file_name"), str)]
    for slot in slots:
        name = slot.after["file_name"]
        if "\\" in name:
            slot.change("file_name_backslash", file_name=name.replace("\\", "/"))
        inside = _name_inside(slot.after["file_name"], image_dir)
        if inside is not None:
            slot.change("file_name_outside", file_name=inside)
    facts = scan_pictures(image_dir, [slot.after["file_name"] for slot in slots], "thumbnail")
    gone: dict[int | None, str] = {}
    for slot, fact in zip(slots, facts, strict=True):
        if fact.problem in _UNUSABLE:
            gone[slot.id()] = str(fact.problem)
            slot.remove(str(fact.problem))
        elif (
            fact.shown_hw is not None and fact.shown_hw == fact.stored_hw
        ):  # nobody knows which way otherwise
            _repair_size(slot, fact.shown_hw)
    for slot in draft.records("annotations"):
        image_id = slot.id("image_id")
        if image_id is not None and image_id in gone:
            slot.remove(gone[image_id])
    _merge_repeated_pictures(draft)


def _name_inside(name: str, image_dir: Path) -> str | None:
    """A name that leads out of the folder or is absolute, but whose picture lies inside: relative to it."""
    try:
        image_path(image_dir, name)
        return None
    except DatasetError:
        pass
    path = Path(os.path.normpath(image_dir.resolve() / name))
    if path.is_relative_to(image_dir.resolve()) and path.is_file():
        return path.relative_to(image_dir.resolve()).as_posix()
    return None


def _repair_size(slot: _Slot, size_hw: tuple[int, int]) -> None:
    """Width and height where the file has none, or none that a picture can have."""
    sides = {"width": size_hw[1], "height": size_hw[0]}
    wrong = [key for key in sides if type(slot.after.get(key)) not in (int, float) or slot.after[key] < 1]
    if wrong:
        slot.change("image_entry_invalid", **sides)


def _merge_repeated_pictures(draft: _Draft) -> None:
    first: dict[str, dict[str, Any]] = {}
    new_id: dict[int, int] = {}
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


def _repair_categories(drafts: Sequence[_Draft]) -> None:
    """One list for all files, joined by name in the order of the first file."""
    if not all(_is_unambiguous(draft.categories) for draft in drafts):
        return
    parsed = [parse_coco({**_lists_only(draft), "annotations": []}, draft.path).coco for draft in drafts]
    names_used = set().union(*(_used_names(draft) for draft in drafts))
    joined: dict[str, dict[str, Any]] = {}
    taken = {category["id"] for draft in drafts[:1] for category in draft.categories}
    highest = max((category["id"] for draft in drafts for category in draft.categories), default=0)
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
        Category(entry["id"], name, str(entry.get("supercategory", ""))) for name, entry in joined.items()
    ]
    dummies = unused_dummies(rows, names_used)
    wanted = [entry for name, entry in joined.items() if name not in dummies]
    for draft, coco in zip(drafts, parsed, strict=True):
        if _ids_and_names(draft.categories) != _ids_and_names(wanted) and isinstance(
            draft.document.get("categories"), list
        ):
            _give_categories(draft, wanted, _category_codes(draft, parsed[0], coco, dummies))


def _ids_and_names(categories: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    return [(category["id"], category["name"]) for category in categories]


def _used_names(draft: _Draft) -> set[str]:
    used_ids = {slot.id("category_id") for slot in draft.records("annotations")}
    return {category["name"] for category in draft.categories if category["id"] in used_ids}


def _is_unambiguous(categories: Sequence[Any]) -> bool:
    """Every entry has an id and a name, and no id has two names."""
    names: dict[int, str] = {}
    for entry in categories:
        if not isinstance(entry, dict) or type(entry.get("id")) is not int:
            return False
        if not isinstance(entry.get("name"), str) or not entry["name"].strip():
            return False
        if names.setdefault(entry["id"], entry["name"]) != entry["name"]:
            return False
    return True


def _lists_only(draft: _Draft) -> dict[str, Any]:
    return {"images": [], "categories": draft.categories}


def _category_codes(draft: _Draft, train: CocoFile, coco: CocoFile, dummies: Sequence[str]) -> list[str]:
    ids = Counter(entry["id"] for entry in draft.categories)
    names = Counter(name for _, name in {(entry["id"], entry["name"]) for entry in draft.categories})
    codes = [code for code, _ in category_differences(train, coco)]
    codes += ["category_id_duplicate"] * (max(ids.values(), default=0) > 1)
    codes += ["category_name_duplicate"] * (max(names.values(), default=0) > 1)
    codes += ["category_dummy"] * any(entry["name"] in dummies for entry in draft.categories)
    # The train file also changes where another one has more classes.
    return sorted(set(codes)) or ["categories_differ_ids"]


def _give_categories(draft: _Draft, wanted: Sequence[dict[str, Any]], codes: list[str]) -> None:
    id_of_name = {entry["name"]: entry["id"] for entry in wanted}
    new_id = {entry["id"]: id_of_name.get(entry["name"], entry["id"]) for entry in draft.categories}
    for slot in draft.records("annotations"):
        old = slot.id("category_id")
        if old is not None and new_id.get(old, old) != old:
            slot.change(codes[0], category_id=new_id[old])
    draft.categories = copy.deepcopy(list(wanted))
    draft.category_codes = codes


def _repair_records(draft: _Draft) -> None:
    """Ids, references and lists of polygons."""
    image_ids = {slot.id() for slot in draft.records("images")}
    # A picture without an id may be the one that an annotation means.
    all_known = None not in image_ids and len(image_ids) > 0
    highest = max((slot.id() or 0 for slot in draft.records("annotations")), default=0)
    seen: set[int] = set()
    for slot in draft.records("annotations"):
        id, image_id = slot.id(), slot.id("image_id")
        if all_known and image_id is not None and image_id not in image_ids:
            slot.remove("image_id_dangling")
            continue
        is_missing = slot.after.get("id") is None
        if is_missing or id in seen:
            highest += 1
            slot.change("annotation_entry_invalid" if is_missing else "annotation_id_duplicate", id=highest)
            id = highest
        if id is not None:
            seen.add(id)
        _repair_polygon_lists(slot)


def _repair_polygon_lists(slot: _Slot) -> None:
    parts = slot.after.get("segmentation")
    if isinstance(parts, list) and parts and all(type(value) in (int, float) for value in parts):
        parts = [parts]
        slot.change("polygon_flat_list", segmentation=parts)
    if isinstance(parts, list) and parts and all(isinstance(part, list) for part in parts):
        solid = [part for part in parts if len(part) >= 6 or len(part) % 2]
        if not solid:
            slot.remove("polygon_too_few_points")
        elif len(solid) < len(parts):
            slot.change("polygon_too_few_points", segmentation=solid)


def _repair_geometry(draft: _Draft) -> None:
    """Polygons without area and beyond the picture, masks without pixels, and objects that count twice."""
    parsed, measures, slots = draft.parse()
    coco = parsed.coco
    for row in repeated_annotations(coco, measures):
        slots[row].remove("annotation_duplicate")
    for row in np.flatnonzero(empty_masks(coco, measures)):
        slots[row].remove("mask_empty")
    for row in np.flatnonzero(measures.has_flat_part):
        _drop_flat_parts(slots[row], is_flat=bool(measures.is_flat[row]))
    for row in np.flatnonzero(measures.reach_outside > 1):
        if not slots[row].is_removed:
            height, width = (int(side) for side in measures.picture_hw[row])
            _cut(slots[row], height, width)


def _drop_flat_parts(slot: _Slot, is_flat: bool) -> None:
    if slot.is_removed:
        return
    if is_flat:
        slot.remove("polygon_zero_area")
        return
    corners = [np.array(part, float).reshape(-1, 2) for part in slot.after["segmentation"]]
    areas = [float(shapely.Polygon(xy).area) for xy in corners]
    solid = [part for part, area in zip(slot.after["segmentation"], areas, strict=True) if area >= FLAT]
    slot.change("polygon_zero_area", segmentation=solid)


def _cut(slot: _Slot, height: int, width: int) -> None:
    """What lies in the picture: of polygons their part; of those that cross themselves, or of which a sliver
    would remain that draws nothing, the drawn mask.
    """
    frame = shapely.box(0, 0, width, height)
    polygons = [shapely.Polygon(np.array(part, float).reshape(-1, 2)) for part in slot.after["segmentation"]]
    segmentation: Any = _drawn_mask(slot.after["segmentation"], height, width)
    if all(polygon.is_valid for polygon in polygons):
        pieces = [shapely.get_parts(polygon.intersection(frame)) for polygon in polygons]
        solid = [piece for group in pieces for piece in group if piece.area >= FLAT]
        parts = [shapely.get_coordinates(piece.exterior)[:-1].reshape(-1).tolist() for piece in solid]
        if parts and rle_area(_drawn_mask(parts, height, width)):
            segmentation = parts
    slot.change("polygon_outside", segmentation=segmentation_to_json(segmentation))


def _drawn_mask(parts: list[list[float]], height: int, width: int) -> Rle:
    return annotation_to_rle(Annotation(0, 0, 0, parts), height, width)


def _repair_numbers(draft: _Draft) -> None:
    """Boxes and areas that are missing or not those of the masks."""
    parsed, measures, slots = draft.parse()
    problems = {**box_problems(parsed.coco, measures), **area_problems(parsed.coco, measures)[0]}
    cut = np.array(["polygon_outside" in slot.codes for slot in slots], bool)
    rows = np.flatnonzero(np.any([*problems.values(), cut], axis=0)) if slots else np.zeros(0, np.int64)
    areas, boxes = drawn(parsed.coco, rows)
    for row, area, box in zip(rows.tolist(), areas.tolist(), boxes.tolist(), strict=True):
        for code, flags in problems.items():
            if flags[row]:
                value = {"bbox": box} if code.startswith("bbox") else {"area": int(area)}
                slots[row].change(code, **value)
        if cut[row]:
            slots[row].change("polygon_outside", bbox=box, area=int(area))


# ---- the copy


def _write_copy(target: Path, drafts: Sequence[_Draft], log: Mapping[str, Any], image_dir: Path) -> None:
    with fresh_folder(target) as new:
        (new / "annotations").mkdir()
        (new / "images").mkdir()
        for draft in drafts:
            _dump(draft.current(), new / "annotations" / draft.path.name)
            for slot in draft.records("images"):
                _share_picture(slot.after, image_dir, new / "images")
        _dump(log, new / LOG_NAME)


def _share_picture(record: Mapping[str, Any], image_dir: Path, target_dir: Path) -> None:
    try:
        source, target = (image_path(folder, record["file_name"]) for folder in (image_dir, target_dir))
    except (DatasetError, KeyError, AttributeError):
        return  # a record that only a person can repair
    if source.is_file() and not target.exists():
        link_or_copy(source, target)


def _dump(document: Any, path: Path) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _log_of(target: Path) -> Any:
    try:
        return json.loads((target / LOG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the annotation files as they were before a repair."""
    parser = argparse.ArgumentParser(
        description="Undo a repair: write the annotation files as they were before."
    )
    parser.add_argument("repaired", type=Path, help="folder of the repaired copy")
    parser.add_argument("--into", type=Path, required=True, help="folder for the annotation files")
    options = parser.parse_args(arguments)
    options.into.mkdir(parents=True, exist_ok=True)
    for name, document in undo_repair(options.repaired).items():
        _dump(document, options.into / name)
        print(f"wrote {options.into / name}")


if __name__ == "__main__":
    main()
