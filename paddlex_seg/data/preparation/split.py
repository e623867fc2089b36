"""Splits of an annotated data set into train, val and other parts, or into folds. No file is read or written.

The pictures of every class are spread over the parts in the proportion of their sizes, by the iterative
stratification of K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data", ECML
PKDD 2011: the rarest class first, as its pictures leave the least choice. Differs from it: what a part lacks
counts in proportion to the size of the part, so that large groups do not all go to the largest one; a class
reaches as many parts as it has pictures for; and what must stay together is assigned as a whole.

A split depends on its arguments alone. All comparisons are of whole numbers, so that no rounding decides one.
"""

import heapq
import math
import posixpath
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord


def merge_coco(files: Sequence[CocoFile]) -> CocoFile:
    """All pictures and annotations of ``files`` (one or more, as ``read_coco`` gives them), in their order.

    Categories of one name become one, with the first of their ids. Of records with the same id, the first
    keeps it and the others get new ones; the other ids stay. Entries of one file name become one picture with
    the annotations of all of them; what a later entry repeats exactly is left out. ``path`` is that of the
    first file, and so is what several files have in ``extra``.
    Raises DatasetError when entries of one file name differ in size, or an annotation belongs to nothing.
    """
    assert files, "nothing to merge"
    categories, category_ids = _merge_categories(files)
    images, image_ids, repeats = _merge_images(files)
    return CocoFile(
        path=files[0].path,
        images=images,
        annotations=tuple(_merge_annotations(files, category_ids, image_ids, repeats)),
        categories=categories,
        extra={key: value for file in reversed(files) for key, value in file.extra.items()},
    )


def split_sizes(total: int, percents: Sequence[int]) -> list[int]:
    """How many of ``total`` pictures each part gets: all of them together, each less than one off its share.

    A part of more than 0 percent gets one at least if there are enough, even if others are then one or more
    off. Where it makes no difference, the earlier part gets more.
    Raises ConfigError unless the percents are whole numbers of 0 or more that sum to 100.
    """
    _check_percents({f"part {number}": percent for number, percent in enumerate(percents, start=1)})
    exact = [total * percent for percent in percents]  # in hundredths of a picture
    sizes = [hundredths // 100 for hundredths in exact]
    if total >= sum(percent > 0 for percent in percents):
        sizes = [max(size, percent > 0) for size, percent in zip(sizes, percents, strict=True)]
    parts = range(len(sizes))
    while sum(sizes) < total:
        sizes[max(parts, key=lambda part: (exact[part] - 100 * sizes[part], -part))] += 1
    while sum(sizes) > total:
        shrinkable = (part for part in parts if sizes[part] > 1)
        sizes[max(shrinkable, key=lambda part: (100 * sizes[part] - exact[part], part))] -= 1
    return sizes


def split_coco(
    coco: CocoFile, percents: Mapping[str, int], seed: int, groups: Sequence[int] | None = None
) -> dict[str, CocoFile]:
    """A new split of ``coco`` into parts of these names, such as ``{"train": 80, "val": 20}``.

    Sizes are those of ``split_sizes``, so that a part is empty if it has 0 percent or pictures are fewer than
    parts. Records, their order, all categories and ``extra`` stay; the path is ``instance_<name>.json``
    beside that of ``coco``. groups: one number per picture; pictures of equal numbers stay together, and the
    sizes come near to the wanted ones. No part of more than 0 percent is empty then.
    Raises ConfigError for wrong percents and for fewer groups than parts.
    """
    _check_percents(percents)
    group_of_image = _number_groups(groups, num_images=len(coco.images))
    needed = sum(percent > 0 for percent in percents.values())
    if groups is not None and _count(group_of_image) < needed:
        raise ConfigError(
            f"{coco.path.name}: its {len(coco.images)} pictures form {_count(group_of_image)} groups, which "
            f"cannot fill {needed} parts ({', '.join(percents)}). Group them otherwise, or not at all."
        )
    sizes = split_sizes(len(coco.images), list(percents.values()))
    part_of_image = _stratify(coco, sizes=sizes, group_of_image=group_of_image, seed=seed)
    return {
        name: _take(coco, keep=part_of_image == part, path=coco.path.parent / f"instance_{name}.json")
        for part, name in enumerate(percents)
    }


def fold_coco(
    coco: CocoFile, folds: int, seed: int, groups: Sequence[int] | None = None
) -> list[dict[str, CocoFile]]:
    """Train and val of each fold of a cross-validation; every picture is in val once.

    Without ``groups`` the sizes of the folds differ by one at most. All else is as in ``split_coco``; the
    paths are ``instance_<name>_fold<number>.json``, numbered from 1.
    Raises ConfigError for fewer than two folds, and for more folds than there are pictures or groups.
    """
    group_of_image = _number_groups(groups, num_images=len(coco.images))
    most, kind = _count(group_of_image), "pictures" if groups is None else "groups of pictures"
    if not 2 <= folds <= most:
        raise ConfigError(
            f"{coco.path.name}: cannot make {folds} folds of {most} {kind}. Ask for 2 folds or more, "
            f"and not for more than there are {kind}."
        )
    smaller, rest = divmod(len(coco.images), folds)
    sizes = [smaller + (fold < rest) for fold in range(folds)]
    fold_of_image = _stratify(coco, sizes=sizes, group_of_image=group_of_image, seed=seed)
    return [
        {
            name: _take(coco, keep=keep, path=coco.path.parent / f"instance_{name}_fold{fold + 1}.json")
            for name, keep in (("train", fold_of_image != fold), ("val", fold_of_image == fold))
        }
        for fold in range(folds)
    ]


def groups_by_name(file_names: Sequence[str], pattern: str) -> list[int]:
    """A number per file name, equal where the regular expression finds the same in it.

    What counts is the capturing groups of ``pattern`` together, or the whole match if it has none. A name in
    which nothing, or nothing but empty text, is found is a group of its own.
    Raises ConfigError for an invalid pattern.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"group_by: {pattern!r} is not a regular expression ({error}). Correct it; a character with a "
            "meaning in expressions, such as ( or *, stands for itself behind a back-slash."
        ) from error
    keys = []
    for name in file_names:
        match = expression.search(name)
        found = (match.groups() or (match[0],)) if match else ()
        keys.append(found if any(found) else None)
    return _number_keys(keys)


def groups_by_folder(file_names: Sequence[str]) -> list[int]:
    """A number per file name, equal for files of one folder; what lies in no folder is a group of its own."""
    folders = (posixpath.dirname(_plain_name(name)) for name in file_names)
    return _number_keys([folder or None for folder in folders])


@dataclass(frozen=True)
class ClassBalance:
    """How much of a class each part has, by the name of the part."""

    category: str
    images: Mapping[str, int]
    instances: Mapping[str, int]


def split_balance(parts: Mapping[str, CocoFile]) -> list[ClassBalance]:
    """One entry per category, in the order of the file. All parts list the same categories."""
    counts = {name: _count_per_class(part) for name, part in parts.items()}
    categories = next(iter(parts.values())).categories if parts else ()
    return [
        ClassBalance(
            category=category.name,
            images={name: int(images[index]) for name, (images, _) in counts.items()},
            instances={name: int(instances[index]) for name, (_, instances) in counts.items()},
        )
        for index, category in enumerate(categories)
    ]


# ---- merging


class _Ids:
    """Gives out ids: the wanted one if it is free, else one above all ids of the files."""

    def __init__(self, wanted: Iterable[int]):
        self.taken: set[int] = set()
        self.next = max(wanted, default=0) + 1

    def give(self, wanted: int) -> int:
        id = wanted
        if wanted in self.taken:
            id, self.next = self.next, self.next + 1
        self.taken.add(id)
        return id


def _merge_categories(files: Sequence[CocoFile]) -> tuple[tuple[Category, ...], list[list[int]]]:
    """The categories, and the new id of each category of each file, by its place in the file."""
    ids = _Ids(category.id for file in files for category in file.categories)
    merged: dict[str, Category] = {}
    for file in files:
        for category in file.categories:
            if category.name not in merged:
                merged[category.name] = replace(category, id=ids.give(category.id))
    return tuple(merged.values()), [[merged[item.name].id for item in file.categories] for file in files]


def _merge_images(
    files: Sequence[CocoFile],
) -> tuple[tuple[ImageRecord, ...], list[list[int]], set[int]]:
    """The pictures, the new id of each entry of each file, and the ids that stand for several entries."""
    ids = _Ids(image.id for file in files for image in file.images)
    merged: dict[str, ImageRecord] = {}
    listed_in: dict[str, str] = {}
    new_ids: list[list[int]] = [[] for _ in files]
    repeats: set[int] = set()
    problems = []
    for file, ids_of_file in zip(files, new_ids, strict=True):
        for image in file.images:
            name = _plain_name(image.file_name)
            first = merged.get(name)
            if first is None:
                first = merged[name] = replace(image, id=ids.give(image.id))
                listed_in[name] = file.path.name
            else:
                repeats.add(first.id)
                if (first.width, first.height) != (image.width, image.height):
                    problems.append(
                        f"{image.file_name}: {first.width} x {first.height} pixels in {listed_in[name]}, "
                        f"{image.width} x {image.height} in {file.path.name}; correct the wrong one"
                    )
            ids_of_file.append(first.id)
    if problems:
        where = f"pictures of {' and '.join(dict.fromkeys(file.path.name for file in files))}"
        raise DatasetError(summarize_problems(where, problems))
    return tuple(merged.values()), new_ids, repeats


def _merge_annotations(
    files: Sequence[CocoFile],
    category_ids: Sequence[Sequence[int]],
    image_ids: Sequence[Sequence[int]],
    repeats: set[int],
) -> Iterator[Annotation]:
    ids = _Ids(item.id for file in files for item in file.annotations)
    # Only a later entry can repeat an annotation: what one entry says twice is not for a split to judge.
    entry_of_content: dict[Hashable, tuple[int, int]] = {}
    for number, file in enumerate(files):
        image_of, category_of = _references(file)
        for item, image, category in zip(
            file.annotations, image_of.tolist(), category_of.tolist(), strict=True
        ):
            image_id, category_id = image_ids[number][image], category_ids[number][category]
            if image_id in repeats:
                entry = (number, image)
                content = (image_id, category_id, *_content(item))
                if entry_of_content.setdefault(content, entry) != entry:
                    continue
            id = ids.give(item.id)
            unchanged = (id, image_id, category_id) == (item.id, item.image_id, item.category_id)
            yield item if unchanged else replace(item, id=id, image_id=image_id, category_id=category_id)


def _content(annotation: Annotation) -> tuple[Hashable, ...]:
    segmentation = annotation.segmentation
    shape: Hashable
    if isinstance(segmentation, Mapping):
        rle = rle_to_json(segmentation)
        shape = (tuple(rle["size"]), tuple(rle["counts"]))
    else:
        shape = tuple(map(tuple, segmentation))
    return shape, annotation.bbox_xywh, annotation.area, annotation.iscrowd


def _plain_name(file_name: str) -> str:
    return posixpath.normpath(file_name.replace("\\", "/"))


# ---- splitting


@dataclass(frozen=True)
class _Items:
    """What is assigned as a whole: groups of pictures, most often of one picture each."""

    sizes: list[int]  # pictures
    # Of each item: a label and the number of its pictures that have it. Labels are the classes by their place
    # in the file, and one more for pictures without objects.
    labels: list[list[tuple[int, int]]]
    num_labels: int


class _Parts:
    """What is assigned so far, and what the parts still lack."""

    def __init__(self, sizes: Sequence[int], items: _Items):
        totals = [0] * items.num_labels
        self.unassigned_with = [0] * items.num_labels  # items, by label
        for labels in items.labels:
            for label, count in labels:
                totals[label] += count
                self.unassigned_with[label] += 1
        self.items = items
        self.scale = sum(sizes)
        # Parts of no size are never chosen.
        self.all = [part for part, size in enumerate(sizes) if size]
        multiple = math.lcm(*(sizes[part] for part in self.all))
        self.weights = [multiple // size if size else 0 for size in sizes]  # in proportion to 1 / size
        self.room = list(sizes)  # pictures; negative where a group was too large
        self.lack = [
            [size * total for total in totals] for size in sizes
        ]  # pictures x scale, by part and label
        self.items_with = [[0] * items.num_labels for _ in sizes]  # by part and label
        self.num_items = [0] * len(sizes)
        self.num_unassigned = len(items.sizes)
        self.part_of_item = [-1] * len(items.sizes)

    def put(self, item: int, part: int) -> None:
        """Assign ``item``, which is in no part yet."""
        self._count(item, part, sign=1)
        self.part_of_item[item] = part
        self.num_unassigned -= 1
        for label, _ in self.items.labels[item]:
            self.unassigned_with[label] -= 1

    def move(self, item: int, part: int) -> None:
        self._count(item, self.part_of_item[item], sign=-1)
        self._count(item, part, sign=1)
        self.part_of_item[item] = part

    def _count(self, item: int, part: int, sign: int) -> None:
        lack, items_with = self.lack[part], self.items_with[part]
        self.room[part] -= sign * self.items.sizes[item]
        self.num_items[part] += sign
        for label, count in self.items.labels[item]:
            lack[label] -= sign * count * self.scale
            items_with[label] += sign


def _stratify(
    coco: CocoFile, sizes: Sequence[int], group_of_image: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """The part of each picture."""
    items = _items(coco, group_of_image)
    if not items.sizes:
        return np.zeros(0, np.int64)
    parts = _Parts(sizes=sizes, items=items)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(items.sizes)).tolist()
    for item, label, count in _rarest_first(items, order, parts.unassigned_with):
        parts.put(item, _choose_part(parts, size=items.sizes[item], label=label, count=count, rng=rng))
    _even_sizes(parts, order)
    return np.array(parts.part_of_item, np.int64)[group_of_image]


def _items(coco: CocoFile, group_of_image: NDArray[np.int64]) -> _Items:
    num_labels = len(coco.categories) + 1
    image_of, category_of = _references(coco)
    pairs = np.unique(image_of * num_labels + category_of)  # each class once per picture
    without = np.setdiff1d(np.arange(len(coco.images)), pairs // num_labels) * num_labels + num_labels - 1
    pairs = np.concatenate([pairs, without])
    keys, counts = np.unique(
        group_of_image[pairs // num_labels] * num_labels + pairs % num_labels, return_counts=True
    )
    sizes = np.bincount(group_of_image).tolist()
    labels: list[list[tuple[int, int]]] = [[] for _ in sizes]
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        labels[key // num_labels].append((key % num_labels, count))
    return _Items(sizes=sizes, labels=labels, num_labels=num_labels)


def _rarest_first(
    items: _Items, order: Sequence[int], unassigned_with: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """Each item once, with the label that brought it up and the number of its pictures that have it.

    The caller assigns each before it asks for the next. Large items come first, as the small ones fill the
    gaps; among those of one size the rarest label does.
    """
    of_size: dict[int, list[int]] = {}
    for item in order:
        of_size.setdefault(items.sizes[item], []).append(item)
    for size in sorted(of_size, reverse=True):
        with_label: dict[int, list[tuple[int, int]]] = {}  # item, pictures of it with the label
        for item in of_size[size]:
            for label, num_images in items.labels[item]:
                with_label.setdefault(label, []).append((item, num_images))
        done: set[int] = set()
        # Counts only fall. A label whose count fell is put in again; its older entries are skipped.
        heap = [(unassigned_with[label], label) for label in with_label]
        heapq.heapify(heap)
        while heap:
            count, label = heapq.heappop(heap)
            if label not in with_label or count != unassigned_with[label]:
                continue
            touched: set[int] = set()
            for item, num_images in with_label.pop(label):
                if item not in done:
                    done.add(item)
                    yield item, label, num_images
                    touched.update([other for other, _ in items.labels[item]])
            for other in touched:  # in any order: what a heap gives back does not depend on it
                if other in with_label:
                    heapq.heappush(heap, (unassigned_with[other], other))


def _choose_part(parts: _Parts, size: int, label: int, count: int, rng: np.random.Generator) -> int:
    """The part for ``size`` pictures of which ``count`` have ``label``.

    It is the one that they bring nearest to its share of the label, among those with room for them.
    """
    candidates = parts.all
    # The outer conditions of these two save time only.
    if parts.num_unassigned <= len(parts.all):
        empty = [part for part in parts.all if not parts.num_items[part]]
        candidates = empty if parts.num_unassigned <= len(empty) else candidates
    fitting = [part for part in candidates if parts.room[part] >= size]
    if not fitting:
        largest = max(parts.room[part] for part in candidates)
        fitting = [part for part in candidates if parts.room[part] == largest]
    if parts.unassigned_with[label] <= len(parts.all):
        missing = [part for part in parts.all if not parts.items_with[part][label]]
        if parts.unassigned_with[label] <= len(missing):
            fitting = [part for part in fitting if part in missing] or fitting
    if len(fitting) == 1:
        return fitting[0]
    equal: list[int] = []
    best = None
    for part in fitting:
        # The fall of (lack^2 / share), summed over parts, if they join this one; constant factors left out.
        fall = (2 * parts.lack[part][label] - count * parts.scale) * parts.weights[part]
        gain = (fall, parts.room[part])
        if best is None or gain > best:
            best, equal = gain, [part]
        elif gain == best:
            equal.append(part)
    return equal[0] if len(equal) == 1 else equal[int(rng.integers(len(equal)))]


def _even_sizes(parts: _Parts, order: Sequence[int]) -> None:
    """Move and exchange groups while that brings the sizes nearer, and takes no class away from a part."""
    while any(parts.room):
        if not any(
            _exchange(parts, order, source=source, target=target)
            for source in parts.all
            for target in parts.all
            if parts.room[source] < parts.room[target]
        ):
            return


def _exchange(parts: _Parts, order: Sequence[int], source: int, target: int) -> bool:
    """Give a group of ``source`` to ``target``, or one for another; False if that brings no size nearer."""
    giving = _movable(parts, order, source=source, target=target)
    taking = _movable(parts, order, source=target, target=source)
    room, wanted = parts.room[source], parts.room[target]
    # Behind it goes whatever leaves the sizes as uneven: each exchange is progress, and they come to an end.
    best: tuple[int, float, int, int] = (abs(room) + abs(wanted), -math.inf, -1, -1)
    for size, (harm, item) in giving.items():
        for other_size, (other_harm, other) in [(0, (0, -1)), *taking.items()]:
            moved = size - other_size
            if other >= 0 or parts.num_items[source] > 1:
                best = min(best, (abs(room + moved) + abs(wanted - moved), harm + other_harm, item, other))
    _, _, item, other = best
    if item < 0:
        return False
    parts.move(item, target)
    if other >= 0:
        parts.move(other, source)
    return True


def _movable(parts: _Parts, order: Sequence[int], source: int, target: int) -> dict[int, tuple[int, int]]:
    """By size, the group of ``source`` whose classes suffer least if it goes, after how much they do."""
    movable: dict[int, tuple[int, int]] = {}
    for item in order:
        labels = parts.items.labels[item]
        leaves = parts.part_of_item[item] == source
        if leaves and all(parts.items_with[source][label] > 1 for label, _ in labels):
            harm = sum(
                count * (count * parts.scale + 2 * parts.lack[source][label]) * parts.weights[source]
                + count * (count * parts.scale - 2 * parts.lack[target][label]) * parts.weights[target]
                for label, count in labels
            )
            size = parts.items.sizes[item]
            movable[size] = min(movable.get(size, (harm, item)), (harm, item))
    return movable


# ---- both


def _check_percents(percents: Mapping[str, int]) -> None:
    values = list(percents.values())
    whole = all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)
    if whole and sum(values) == 100:
        return
    found = ", ".join(f"{name} {value!r}" for name, value in percents.items()) or "none"
    total = f", which sum to {sum(values)}" if whole else ""
    raise ConfigError(
        f"split: the percents are {found}{total}. Expected whole numbers of 0 or more that sum to 100, "
        "such as 80 and 20."
    )


def _references(coco: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places in the file of the picture and of the category of each annotation."""
    image_places = {image.id: place for place, image in enumerate(coco.images)}
    category_places = {category.id: place for place, category in enumerate(coco.categories)}
    if len(image_places) < len(coco.images) or len(category_places) < len(coco.categories):
        raise DatasetError(
            f"{coco.path}: ids of images or categories are used more than once. Give each its own."
        )
    image_of = [image_places.get(item.image_id, -1) for item in coco.annotations]
    category_of = [category_places.get(item.category_id, -1) for item in coco.annotations]
    problems = [
        f"annotation {item.id}: image {item.image_id}, category {item.category_id}: one of them is not listed"
        for item, image, category in zip(coco.annotations, image_of, category_of, strict=True)
        if image < 0 or category < 0
    ]
    if problems:
        raise DatasetError(summarize_problems(str(coco.path), problems))
    return np.array(image_of, np.int64), np.array(category_of, np.int64)


def _take(coco: CocoFile, keep: NDArray[np.bool_], path: Path) -> CocoFile:
    images = tuple(image for image, kept in zip(coco.images, keep.tolist(), strict=True) if kept)
    ids = {image.id for image in images}
    annotations = tuple(item for item in coco.annotations if item.image_id in ids)
    return replace(coco, path=path, images=images, annotations=annotations)


def _count_per_class(coco: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pictures and instances, by place of the category in the file."""
    num_categories = len(coco.categories)
    image_of, category_of = _references(coco)
    in_picture = np.unique(image_of * num_categories + category_of) % max(num_categories, 1)
    return (
        np.bincount(in_picture, minlength=num_categories),
        np.bincount(category_of, minlength=num_categories),
    )


def _number_keys(keys: Sequence[Hashable | None]) -> list[int]:
    """A number per key, equal for equal keys, from 0 in order of appearance; None equals nothing."""
    numbers: dict[Hashable, int] = {}
    return [
        numbers.setdefault(("alone", place) if key is None else ("key", key), len(numbers))
        for place, key in enumerate(keys)
    ]


def _number_groups(groups: Sequence[int] | None, num_images: int) -> NDArray[np.int64]:
    """The group of each picture, numbered in order of appearance: other names do not change a split."""
    if groups is None:
        return np.arange(num_images)
    assert len(groups) == num_images, f"{len(groups)} groups for {num_images} pictures"
    return np.array(_number_keys(groups), np.int64)


def _count(group_of_image: NDArray[np.int64]) -> int:
    return int(group_of_image.max()) + 1 if len(group_of_image) else 0
