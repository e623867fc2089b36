"""Dataset checks: every picture and every annotation, looked at by rules.

A rule looks at one thing, reads nothing from disk and writes what it finds into a log. What it may find is
listed in `findings.KINDS`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.checking.duplicates import near_duplicates
from paddlex_seg.data.checking.measures import Measures, drawn, measure
from paddlex_seg.data.checking.scan import content_digest, scan_pictures
from paddlex_seg.data.checking.statistics import SplitShapes
from paddlex_seg.data.coco.categories import category_differences, unused_dummies
from paddlex_seg.data.coco.paths import DatasetPaths, dataset_paths
from paddlex_seg.data.coco.read import ParsedCoco, UnreadableFile, load_document, parse_coco
from paddlex_seg.data.findings import KINDS, Finding, FindingLog, summarize_problems
from paddlex_seg.data.images import Decode, PictureFacts
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import CocoFile, ImageRecord

Progress = Callable[[int, int], None]  # pictures finished since the last call, pictures in all


@dataclass(frozen=True)
class CheckReport:
    """A data set and what the rules found in it."""

    paths: DatasetPaths
    splits: Mapping[str, CocoFile]  # their sound records, by name: train, val, and test if there is one
    shapes: Mapping[str, SplitShapes]
    findings: tuple[Finding, ...]  # the first thousand of each code and file
    counts: Mapping[str, int]  # all of them, by code

    @property
    def train(self) -> CocoFile:
        """The annotations to train on."""
        return self.splits["train"]

    @property
    def val(self) -> CocoFile:
        """The annotations to evaluate on."""
        return self.splits["val"]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the data set unusable, as far as they are kept."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def number_of(self, severity: str) -> int:
        """How many findings of a severity there are, kept or not."""
        return sum(count for code, count in self.counts.items() if KINDS[code].severity == severity)

    def with_findings(self, findings: Sequence[Finding]) -> "CheckReport":
        """The same with findings of another origin in front."""
        counts = Counter(finding.code for finding in findings)
        return replace(self, findings=(*findings, *self.findings), counts=dict(counts + Counter(self.counts)))

    def raise_for_errors(self) -> None:
        """Raises DatasetError listing the first errors, and how many more there are, if there are any."""
        if self.errors:
            where = f"Check dataset failed, {self.paths.root}"
            problems = [str(finding) for finding in self.errors]
            raise DatasetError(summarize_problems(where, problems, count=self.number_of("error")))


@dataclass(frozen=True)
class Split:
    """What a rule sees of an annotation file: its sound records, what they measure, and their pictures."""

    parsed: ParsedCoco
    measures: Measures
    facts: Mapping[int, PictureFacts]  # by image id

    @property
    def coco(self) -> CocoFile:
        """The sound records."""
        return self.parsed.coco

    def ids_of(self, row: int) -> dict[str, Any]:
        """Image and annotation id of an annotation, for a finding."""
        item = self.coco.annotations[row]
        return {"image_id": item.image_id, "annotation_id": item.id}


def check(
    dataset_dir: Path,
    decode: Decode = "thumbnail",
    *,
    cache_file: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> CheckReport:
    """Every picture and annotation, looked at by every rule.

    decode: how much of each picture is read, see `pictures.inspect_picture`; duplicates need thumbnails.
    cache_file: where the facts of the pictures are kept for the next time. Raises DatasetError when there is
    no data set in ``dataset_dir``; all else that is wrong is in the report.
    """
    paths = dataset_paths(dataset_dir)
    parsed = _parse_all(paths)
    names = [record.file_name for part in parsed.values() for record in part.coco.images]
    stopped = Event()

    def report_progress(count: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        progress(count, len(names))

    with ThreadPoolExecutor(max_workers=1) as pool:  # pictures are looked at while masks are measured
        scan = pool.submit(
            scan_pictures, paths.image_dir, names, decode, cache_file=cache_file, progress=report_progress
        )
        try:
            measures = {name: measure(part.coco) for name, part in parsed.items()}
            facts = dict(zip(names, scan.result(), strict=True))
        except BaseException:  # Ctrl-C does not wait for the last picture
            stopped.set()
            raise
    splits = {
        name: Split(part, measures[name], {record.id: facts[record.file_name] for record in part.coco.images})
        for name, part in parsed.items()
    }
    logs = [part.log for part in parsed.values()]
    for split in splits.values():
        for rule in RULES:
            rule(split, split.parsed.log)
    logs += _check_across(paths, dataset_dir, splits)
    return CheckReport(
        paths=paths,
        splits={name: split.coco for name, split in splits.items()},
        shapes={name: _shapes(split) for name, split in splits.items()},
        findings=tuple(finding for log in logs for finding in log.kept),
        counts=dict(sum((log.counts for log in logs), Counter())),
    )


# ---- rules that look at one split

RULES: list[Callable[[Split, FindingLog], None]] = []


def _rule(function: Callable[[Split, FindingLog], None]) -> Callable[[Split, FindingLog], None]:
    RULES.append(function)
    return function


@_rule
def splits_are_not_empty(split: Split, log: FindingLog) -> None:
    """There is something to learn from, or to measure."""
    unreadable = log.counts["json_missing"] or log.counts["json_unreadable"] or log.counts["json_top_level"]
    if unreadable or log.counts["key_missing"]:
        return
    if not split.coco.images and not log.counts["image_entry_invalid"]:
        log.add("split_without_images", "it lists no pictures")
    elif split.coco.images and not split.parsed.annotated_image_ids:
        log.add("split_without_annotations", "it has no annotations")


@_rule
def pictures_are_usable(split: Split, log: FindingLog) -> None:
    """Each listed picture lies inside the folder, exists, is complete, and of a kind without surprises."""
    for record in split.coco.images:
        facts = split.facts[record.id]
        if facts.problem is not None:
            log.add(facts.problem, facts.message, image_id=record.id)
        for trait in facts.traits:
            log.add(trait, f"{record.file_name} {_TRAIT_TEXTS[trait]}", image_id=record.id)


_TRAIT_TEXTS = {
    "image_16bit": "has 16 bits a channel",
    "image_cmyk": "is in CMYK",
    "image_animated": "has several frames",
    "image_alpha": "has transparency",
}


@_rule
def pictures_have_the_listed_size(split: Split, log: FindingLog) -> None:
    """A mask fits only the size of picture that it was drawn on, turned by its EXIF orientation or not."""
    turned = _pictures_with_turned_labels(split)
    for record in split.coco.images:
        facts = split.facts[record.id]
        listed = (record.height, record.width)
        if facts.shown_hw is None:
            continue
        if listed not in (facts.shown_hw, facts.stored_hw):
            message = (
                f"{record.file_name} is {_by(facts.shown_hw)} pixels (width x height), not {_by(listed)}"
            )
            log.add("image_size_mismatch", message, image_id=record.id)
        elif listed != facts.shown_hw:
            message = (
                f"{record.file_name} has EXIF orientation {facts.orientation}; by their size, the labels are "
                f"made for the picture as stored, {_by(listed)}, not as shown, {_by(facts.shown_hw)}"
            )
            log.add("image_exif_frame", message, image_id=record.id)
        elif facts.orientation != 1 and facts.stored_hw == facts.shown_hw:
            message = f"{record.file_name} has EXIF orientation {facts.orientation}, which keeps its size"
            log.add("image_exif_unclear", message, image_id=record.id)
        elif record.id in turned:
            message = (
                f"{record.file_name} has EXIF orientation {facts.orientation} and is listed as shown, "
                f"{_by(listed)}, but its labels fit only into the picture as stored"
            )
            log.add("image_exif_frame", message, image_id=record.id)


def _pictures_with_turned_labels(split: Split) -> set[int]:
    """Image ids whose labels leave the listed size, but not the one with sides swapped."""
    measures = split.measures
    beyond = np.flatnonzero(measures.reach_outside > 1)
    inside_swapped = (measures.outlines_xyxy[beyond] <= np.tile(measures.picture_hw[beyond], 2) + 1).all(
        axis=1
    )
    ids = {split.coco.annotations[row].image_id for row in beyond[inside_swapped]}
    return {id for id in ids if split.facts[id].orientation in (5, 6, 7, 8)}


@_rule
def file_names_are_plain(split: Split, log: FindingLog) -> None:
    """A picture is listed once, under a name that other tools can read as well."""
    first: dict[str, ImageRecord] = {}
    for record in split.coco.images:
        name = record.file_name
        if first.setdefault(name, record) is not record:
            message = f"{name} is listed already, as image {first[name].id}"
            log.add("file_name_duplicate", message, image_id=record.id)
        if " " in name:
            log.add("file_name_space", f"{name!r} has spaces", image_id=record.id)
        if not name.isascii():
            log.add("file_name_non_ascii", f"{name!r} has letters outside ASCII", image_id=record.id)


@_rule
def pictures_have_objects(split: Split, log: FindingLog) -> None:
    """Neither none, which often means that somebody forgot to label, nor more than evaluation looks at."""
    if not split.parsed.annotated_image_ids:
        return  # said for the whole split
    counts = np.bincount(
        split.measures.image_rows[~split.measures.is_crowd], minlength=len(split.coco.images)
    )
    for record, count in zip(split.coco.images, counts.tolist(), strict=True):
        if count > 100:
            message = f"{record.file_name} has {count} objects"
            log.add("image_many_objects", message, image_id=record.id)
        elif count == 0 and record.id not in split.parsed.annotated_image_ids:
            log.add("image_without_objects", f"{record.file_name} has no annotation", image_id=record.id)


@_rule
def category_names_are_unique(split: Split, log: FindingLog) -> None:
    """Two classes of one name cannot be told apart in any result."""
    for name, count in Counter(category.name for category in split.coco.categories).items():
        if count > 1:
            log.add("category_name_duplicate", f"{count} categories are called {name!r}")


@_rule
def polygons_enclose_something(split: Split, log: FindingLog) -> None:
    """A mask has an inside, within its picture, and it is clear which side that is."""
    measures = split.measures
    _each(split, log, "polygon_zero_area", measures.has_flat_part, lambda row: "has a polygon without area")
    _each(split, log, "polygon_self_intersecting", measures.crosses_itself, lambda row: "crosses itself")
    empty = empty_masks(split.coco, measures)
    if len(empty) and (empty.all() or measures.outlines_xyxy.max() <= 1):
        log.add("split_without_annotations", f"none of its {len(empty)} masks is larger than a pixel")
    _each(split, log, "mask_empty", empty, lambda row: f"covers no pixel {_place(measures, row)}")
    outside = (measures.reach_outside > 1) & ~empty & ~measures.is_flat
    _each(
        split,
        log,
        "polygon_outside",
        outside,
        lambda row: (
            f"reaches {measures.reach_outside[row]:.1f} pixels beyond its picture {_place(measures, row)}"
        ),
    )


def empty_masks(coco: CocoFile, measures: Measures) -> NDArray[np.bool_]:
    """Which masks draw no pixel, although they have an area: too small, or outside of the picture."""
    x1, y1, x2, y2 = measures.cut_outlines_xyxy.T
    suspect = ~measures.is_flat & (np.minimum(x2 - x1, y2 - y1) <= 1.5) | (measures.areas < 4)
    rows = np.flatnonzero(suspect & ~measures.is_flat)
    empty = np.zeros(len(measures.areas), bool)
    empty[rows[drawn(coco, rows)[0] == 0]] = True
    return empty


@_rule
def boxes_are_those_of_the_masks(split: Split, log: FindingLog) -> None:
    """Other tools crop, filter and sample by the box; ours shows it."""
    found = box_problems(split.coco, split.measures)
    boxes = split.measures.file_boxes_xywh
    _each(split, log, "bbox_missing", found["bbox_missing"], lambda row: "has no bbox")
    _each(
        split,
        log,
        "bbox_negative",
        found["bbox_negative"],
        lambda row: f"bbox {_box(boxes[row])} has a negative size",
    )
    _each(split, log, "bbox_zero", found["bbox_zero"], lambda row: f"bbox {_box(boxes[row])} has no extent")
    _each(
        split,
        log,
        "bbox_mismatch",
        found["bbox_mismatch"],
        lambda row: (
            f"bbox is {_box(boxes[row])}, that of the mask is "
            f"{_box(_xyxy_to_xywh(split.measures.cut_outlines_xyxy[row]))}"
        ),
    )


def box_problems(coco: CocoFile, measures: Measures) -> dict[str, NDArray[np.bool_]]:
    """By code, which annotations have it."""
    x, y, width, height = measures.file_boxes_xywh.T
    missing = np.isnan(x)
    negative = (width < 0) | (height < 0)
    zero = ((width == 0) | (height == 0)) & ~negative
    box = np.stack([x, y, x + width, y + height], axis=1)
    outlines = measures.outlines_xyxy
    sides = (outlines[:, 2:] - outlines[:, :2]).max(axis=1) if len(outlines) else np.zeros(0)
    tolerance = np.maximum(2, 0.02 * sides)

    def far_from(other: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.abs(box[rows] - other).max(axis=1) > tolerance[rows]

    rows = np.flatnonzero(~missing & ~negative & ~zero & ~measures.is_flat)
    rows = rows[far_from(outlines[rows], rows)]
    rows = rows[far_from(measures.cut_outlines_xyxy[rows], rows)]
    areas, drawn_boxes = drawn(coco, rows)
    drawn_boxes[:, 2:] += drawn_boxes[:, :2]
    mismatch = np.zeros(len(missing), bool)
    mismatch[rows] = far_from(drawn_boxes, rows) & (areas > 0)
    return {"bbox_missing": missing, "bbox_negative": negative, "bbox_zero": zero, "bbox_mismatch": mismatch}


@_rule
def areas_are_those_of_the_masks(split: Split, log: FindingLog) -> None:
    """Evaluation sorts objects into small, medium and large by the area of the file."""
    found, areas = area_problems(split.coco, split.measures)
    file_areas = split.measures.file_areas
    _each(split, log, "area_missing", found["area_missing"], lambda row: "has no area")
    _each(
        split,
        log,
        "area_mismatch",
        found["area_mismatch"],
        lambda row: f"area is {file_areas[row]:g}, that of the mask is {areas[row]:g}",
    )
    rows = np.flatnonzero(found["area_of_box"])
    if len(rows):
        first = split.ids_of(int(rows[0]))
        message = (
            f"{len(rows)} of {len(file_areas)} annotations have the area of their box, beginning with this"
        )
        log.add("area_of_box", message, **first)


def area_problems(
    coco: CocoFile, measures: Measures
) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.float64]]:
    """By code, which annotations have it; and the areas, exact where they were looked at twice."""
    areas = measures.areas.copy()
    missing = np.isnan(measures.file_areas)

    def differ(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        # A drawn area differs from that of the corners by up to half a pixel along the outline.
        tolerance = 0.02 * areas[rows] + 0.6 * measures.perimeters[rows] + 2
        return np.abs(measures.file_areas[rows] - areas[rows]) > tolerance

    rows = np.flatnonzero(~missing & ~measures.is_flat)
    rows = rows[differ(rows)]
    areas[rows] = drawn(coco, rows)[0]
    rows = rows[differ(rows)]
    box_areas = np.prod(measures.file_boxes_xywh[rows, 2:], axis=1)
    of_box = np.isclose(measures.file_areas[rows], box_areas, rtol=1e-3, atol=0.5)
    flags = {code: np.zeros(len(areas), bool) for code in ("area_of_box", "area_mismatch")}
    flags["area_of_box"][rows[of_box]] = True
    flags["area_mismatch"][rows[~of_box]] = True
    return {"area_missing": missing, **flags}, areas


@_rule
def crowds_are_known(split: Split, log: FindingLog) -> None:
    """A crowd is nothing to learn from."""
    _each(split, log, "crowd", split.measures.is_crowd, lambda row: "is a crowd")


@_rule
def objects_are_annotated_once(split: Split, log: FindingLog) -> None:
    """An object that counts twice is found once at best."""
    for row, first in sorted(repeated_annotations(split.coco, split.measures).items()):
        other = split.coco.annotations[first].id
        message = f"has picture, class and mask of annotation {other}"
        log.add("annotation_duplicate", message, **split.ids_of(row))


def repeated_annotations(coco: CocoFile, measures: Measures) -> dict[int, int]:
    """Rows of annotations that repeat an earlier one: picture, class and mask; with the row of that one."""
    features = np.column_stack(
        [measures.image_rows, measures.class_ids, measures.areas, measures.perimeters, measures.outlines_xyxy]
    )
    order = np.lexsort(features.T)
    same_as_next = (features[order[1:]] == features[order[:-1]]).all(axis=1)
    repeated: dict[int, int] = {}
    for place in np.flatnonzero(same_as_next).tolist():
        first, second = sorted((int(order[place]), int(order[place + 1])))
        if coco.annotations[first].segmentation == coco.annotations[second].segmentation:
            repeated[second] = repeated.get(first, first)
    return repeated


# ---- rules that look at all splits


def _check_across(paths: DatasetPaths, dataset_dir: Path, splits: Mapping[str, Split]) -> list[FindingLog]:
    """One log for what is said of all files, one for the folder of the pictures."""
    log = FindingLog(paths.train_json.name)
    if paths.root != dataset_dir:
        log.add("dataset_nested", f"the data set lies in {paths.root.name}, inside {dataset_dir.name}")
    train = splits["train"]
    for name, other in splits.items():
        if name != "train":
            _categories_agree(train, other, log)
            _classes_can_be_learnt(train, other, log)
    _classes_have_instances(splits, log)
    _pictures_are_different(paths.image_dir, splits)
    folder_log = FindingLog(paths.image_dir.name)
    _pictures_are_listed(paths.image_dir, splits, folder_log)
    return [log, folder_log]


def _categories_agree(train: Split, other: Split, log: FindingLog) -> None:
    if not train.coco.categories or not other.coco.categories:
        return  # a list that is missing or broken is said to be so
    for code, message in category_differences(train.coco, other.coco):
        log.add(code, message)


def _classes_can_be_learnt(train: Split, other: Split, log: FindingLog) -> None:
    learnt = {
        category.name for category in train.coco.categories if category.id in train.parsed.used_category_ids
    }
    counts = Counter(item.category_id for item in other.coco.annotations)
    for category in other.coco.categories:
        count = counts[category.id]
        if count and category.name not in learnt and train.coco.images:
            number = f"{count} annotation{'s' if count > 1 else ''}"
            files = f"in {other.coco.path.name}, none in {train.coco.path.name}"
            message = f"class {category.name!r} has {number} {files}"
            log.add("class_only_in_val", message)


def _classes_have_instances(splits: Mapping[str, Split], log: FindingLog) -> None:
    used = {
        category.name
        for split in splits.values()
        for category in split.coco.categories
        if category.id in split.parsed.used_category_ids
    }
    categories = {c.name: c for split in splits.values() for c in split.coco.categories}
    for name in unused_dummies(categories.values(), used):
        log.add("category_dummy", f"class {name!r} has no annotations and is the super-category of others")
        used.add(name)
    for name in categories:
        if name not in used:
            log.add("class_without_instances", f"class {name!r} has no annotations")


def _pictures_are_different(image_dir: Path, splits: Mapping[str, Split]) -> None:
    """The same picture on both sides is learnt by heart and then measured; on one side, it counts twice."""
    rows = [
        (name, record, split.facts[record.id])
        for name, split in splits.items()
        for record in split.coco.images
        if split.facts[record.id].problem is None
    ]
    said: set[tuple[int, bool]] = set()
    for first, second, same in _equal_pairs(image_dir, rows):
        (name, record, _), (other_name, other, _) = rows[first], rows[second]
        leak = name != other_name
        if (second, leak) in said or (not leak and record.file_name == other.file_name):
            continue  # a picture that is listed twice is said to be so
        said.add((second, leak))
        words = "is the same picture as" if same else "hardly differs from"
        side = f" of {splits[name].coco.path.name}" if leak else ""
        code = ("leak_" if leak else "image_") + ("duplicate" if same else "near_duplicate")
        other_log = splits[other_name].parsed.log
        other_log.add(code, f"{other.file_name} {words} {record.file_name}{side}", image_id=other.id)


def _equal_pairs(
    image_dir: Path, rows: Sequence[tuple[str, ImageRecord, PictureFacts]]
) -> Iterator[tuple[int, int, bool]]:
    """Pairs of places in ``rows`` with whether the pictures are the same, or nearly; same ones first."""
    groups: dict[object, list[int]] = defaultdict(list)
    for place, (_, record, facts) in enumerate(rows):
        by_name = facts.thumbnail is None
        groups[record.file_name if by_name else (facts.num_bytes, facts.thumbnail)].append(place)
    same: set[tuple[int, int]] = set()
    for places in groups.values():
        of_content: dict[bytes | str, list[int]] = defaultdict(list)
        if len(places) > 1:
            for place in places:
                of_content[_content(image_dir, rows[place][1])].append(place)
        for equal in of_content.values():
            # Of many equal pictures, each is paired with the first of its own side and of the other ones.
            starts = {rows[place][0]: place for place in reversed(equal)}
            pairs = {(start, place) for start in starts.values() for place in equal if start < place}
            same |= pairs
    yield from ((i, j, True) for i, j in sorted(same))
    near = near_duplicates([facts.thumbnail for _, _, facts in rows])
    yield from ((i, j, False) for i, j in near if (i, j) not in same)


def _content(image_dir: Path, record: ImageRecord) -> bytes | str:
    try:
        return content_digest(image_dir / record.file_name)
    except OSError:
        return record.file_name


def _pictures_are_listed(image_dir: Path, splits: Mapping[str, Split], log: FindingLog) -> None:
    if any(split.parsed.log.counts["json_missing"] for split in splits.values()):
        return
    listed = {os.path.normpath(record.file_name) for split in splits.values() for record in split.coco.images}
    for name in sorted(pictures_below(image_dir)):
        if os.path.normpath(name) not in listed:
            log.add("image_unreferenced", f"{name} is in no annotation file")


def pictures_below(image_dir: Path) -> Iterator[str]:
    """The names of all picture files in a folder and below, relative to it, with forward slashes."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    for folder, folders, names in os.walk(image_dir):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(folder, name).relative_to(image_dir).as_posix()


# ---- helpers


def _parse_all(paths: DatasetPaths) -> dict[str, ParsedCoco]:
    files = {"train": paths.train_json, "val": paths.val_json}
    if paths.test_json.is_file():
        files["test"] = paths.test_json
    parsed = {}
    for name, path in files.items():
        try:
            document = load_document(path)
        except UnreadableFile as error:
            empty: dict[str, list[object]] = {"images": [], "categories": [], "annotations": []}
            parsed[name] = parse_coco(empty, path)
            parsed[name].log.add(error.finding.code, error.finding.message)
        else:
            parsed[name] = parse_coco(document, path)
    return parsed


def _each(
    split: Split,
    log: FindingLog,
    code: str,
    flags: NDArray[np.bool_],
    message: Callable[[int], str],
) -> None:
    log.add_many(code, np.flatnonzero(flags).tolist(), lambda row: (message(row), split.ids_of(row)))


def _shapes(split: Split) -> SplitShapes:
    outlines = split.measures.cut_outlines_xyxy
    boxes = np.concatenate([outlines[:, :2], outlines[:, 2:] - outlines[:, :2]], axis=1)
    return SplitShapes(coco=split.coco, areas=split.measures.areas, boxes_xywh=boxes)


def _place(measures: Measures, row: int) -> str:
    height, width = measures.picture_hw[row]
    x1, y1, x2, y2 = measures.outlines_xyxy[row]
    return f"(x {x1:g} to {x2:g} of {width:g}, y {y1:g} to {y2:g} of {height:g})"


def _box(xywh: Sequence[float] | NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in np.round(xywh, 2)) + "]"


def _xyxy_to_xywh(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box[:2], box[2:] - box[:2]])


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
