"""Rules that compare the splits of a data set, and its image folder with the annotation files."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from paddlex_seg.data.checking.duplicates import near_duplicates
from paddlex_seg.data.checking.rules import Split
from paddlex_seg.data.checking.scan import content_digest
from paddlex_seg.data.coco.categories import category_differences, is_background, unused_extras
from paddlex_seg.data.coco.paths import DatasetPaths, unused_twins
from paddlex_seg.data.findings import FindingLog
from paddlex_seg.data.folders import is_dead_link
from paddlex_seg.data.image_facts import ImageFacts
from paddlex_seg.data.images import images_below
from paddlex_seg.files.names import printable
from paddlex_seg.structures import ImageRecord


def check_across(
    paths: DatasetPaths, dataset_dir: Path, splits: Mapping[str, Split], meant: Set[str]
) -> list[FindingLog]:
    """Two logs: findings about several annotation files, and findings about the image folder.

    meant: image files that are listed under another name, and named in the findings about these names.
    """
    log = FindingLog(paths.train_json.name)
    if paths.root != dataset_dir:
        log.add("dataset_nested", f"the data set is in {paths.root.name}, inside {dataset_dir.name}")
    for used, twin in unused_twins(paths):
        log.add("annotation_file_twin", f"{used.name} is used, {twin.name} is not; both exist")
    train = splits["train"]
    for name, other in splits.items():
        if name != "train":
            _categories_agree(train, other, log)
            _classes_can_be_learnt(train, other, log)
    _classes_have_instances(splits, log)
    _find_duplicate_images(paths.image_dir, splits)
    folder_log = FindingLog(paths.image_dir.name)
    _find_unlisted_images(paths.image_dir, splits, meant, folder_log)
    return [log, folder_log]


def _categories_agree(train: Split, other: Split, log: FindingLog) -> None:
    if not train.coco.categories or not other.coco.categories:
        return  # a missing or invalid list has a finding already
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
    with_objects = frozenset(used)
    categories = {c.name: c for split in splits.values() for c in split.coco.categories}
    for name, code in unused_extras(categories.values(), used).items():
        reason = "is the supercategory of others" if code == "category_dummy" else "is the background"
        log.add(code, f"class {name!r} has no annotations and {reason}")
        used.add(name)
    for name in categories:
        if is_background(name) and name in with_objects:
            log.add("category_background_used", f"class {name!r} has annotations")
    for name in categories:
        if name not in used:
            log.add("class_without_instances", f"class {name!r} has no annotations")


def _find_duplicate_images(image_dir: Path, splits: Mapping[str, Split]) -> None:
    """Find equal and almost equal images. In two splits they are a leak; in one split they count twice."""
    rows = [
        (name, record, split.facts[record.id])
        for name, split in splits.items()
        for record in split.coco.images
        if split.facts[record.id].problem is None
    ]
    reported: set[tuple[int, bool]] = set()
    for first, second, same in _equal_pairs(image_dir, rows):
        (name, record, _), (other_name, other, _) = rows[first], rows[second]
        leak = name != other_name
        if (second, leak) in reported or (not leak and record.file_name == other.file_name):
            continue  # an image that is listed twice has a finding already
        reported.add((second, leak))
        words = "is the same image as" if same else "is almost identical to"
        side = f" of {splits[name].coco.path.name}" if leak else ""
        code = ("leak_" if leak else "image_") + ("duplicate" if same else "near_duplicate")
        other_log = splits[other_name].parsed.log
        other_log.add(code, f"{other.file_name} {words} {record.file_name}{side}", image_id=other.id)


def _equal_pairs(
    image_dir: Path, rows: Sequence[tuple[str, ImageRecord, ImageFacts]]
) -> Iterator[tuple[int, int, bool]]:
    """Pairs (i, j, same) of positions in ``rows``. First all equal pairs, then the almost equal ones."""
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
            # Each image is paired only with the first equal image of each split, to limit the number of
            # pairs.
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


def _find_unlisted_images(
    image_dir: Path, splits: Mapping[str, Split], meant: Set[str], log: FindingLog
) -> None:
    unread = ("json_missing", "json_unreadable", "json_top_level")
    if any(split.parsed.log.counts[code] for split in splits.values() for code in unread):
        return
    listed = {os.path.normpath(name) for split in splits.values() for name in split.parsed.file_names}
    listed |= meant
    unlisted = [name for name in images_below(image_dir) if name not in listed]
    if unlisted:
        place = _real_places(image_dir)
        known = {place(name) for name in listed}  # a listed name may lead through a link to the same file
        unlisted = [name for name in unlisted if place(name) not in known]
    for name in sorted(unlisted):
        dead = " and is a link that leads nowhere" if is_dead_link(image_dir / name) else ""
        log.add("image_unreferenced", f"{printable(name)} is in no annotation file{dead}")


def _real_places(image_dir: Path) -> Callable[[str], tuple[str, str]]:
    """A function that gives the folder of an image, with links resolved, and its name there."""
    folders: dict[str, str] = {}

    def place(name: str) -> tuple[str, str]:
        folder, base = os.path.split(name)
        if folder not in folders:
            folders[folder] = os.path.realpath(image_dir / folder)
        return folders[folder], base

    return place
