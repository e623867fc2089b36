"""Stratified split: distribute the images of every class over the parts, in proportion to the part sizes.

This is the iterative stratification of K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of
Multi-Label Data", ECML PKDD 2011. The rarest class is assigned first, as it leaves the least choice.
Differences from the paper: the images that a part still needs are counted relative to its size, so that large
groups do not all go to the largest part. A class reaches as many parts as it has images for; images without
objects are one more label, which no part needs. Groups of images are assigned as a whole.

All comparisons use whole numbers, so that results do not depend on rounding.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preparation.references import references
from paddlex_seg.structures import CocoFile


def stratify(
    coco: CocoFile, sizes: Sequence[int], group_of_image: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """The part [N] of each of the N images, as an index into ``sizes``, the wanted numbers of images.

    group_of_image: integers [N] from 0. Images of a group go to the same part. With groups of several images,
    sizes are approximate.
    """
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


@dataclass(frozen=True)
class _Items:
    """The groups that are assigned as a whole. Without grouping, each image is one item."""

    sizes: list[int]  # images per item
    # For each item, pairs of a label and the number of images with it. Labels are class indices, and one more
    # label for images without objects.
    labels: list[list[tuple[int, int]]]
    num_labels: int


class _Parts:
    """The current assignment, and the images that each part still needs."""

    def __init__(self, sizes: Sequence[int], items: _Items):
        totals = [0] * items.num_labels
        self.unassigned_with = [0] * items.num_labels  # items, by label
        for labels in items.labels:
            for label, count in labels:
                totals[label] += count
                self.unassigned_with[label] += 1
        self.items = items
        self.scale = sum(sizes)
        # Parts of size 0 are never chosen.
        self.all = [part for part, size in enumerate(sizes) if size]
        multiple = math.lcm(*(sizes[part] for part in self.all))
        self.weights = [multiple // size if size else 0 for size in sizes]  # in proportion to 1 / size
        self.room = list(sizes)  # free images per part; negative if a group was too large
        self.lack = [
            [size * total for total in totals] for size in sizes
        ]  # images x scale, by part and label
        self.items_with = [[0] * items.num_labels for _ in sizes]  # by part and label
        self.num_items = [0] * len(sizes)
        self.num_unassigned = len(items.sizes)
        self.part_of_item = [-1] * len(items.sizes)

    def put(self, item: int, part: int) -> None:
        """Assign an unassigned ``item``."""
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


def _items(coco: CocoFile, group_of_image: NDArray[np.int64]) -> _Items:
    num_labels = len(coco.categories) + 1
    image_of, category_of = references(coco)
    pairs = np.unique(image_of * num_labels + category_of)  # each class once per image
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
    """The order of assignment: each item once, the label it was chosen for, and its images with that label.

    The caller must assign each item before it requests the next one. Large items come first, because small
    ones fill the gaps. Among items of the same size, those with the rarest label come first.
    """
    of_size: dict[int, list[int]] = {}
    for item in order:
        of_size.setdefault(items.sizes[item], []).append(item)
    for size in sorted(of_size, reverse=True):
        with_label: dict[int, list[tuple[int, int]]] = {}  # item, images of it with the label
        for item in of_size[size]:
            for label, num_images in items.labels[item]:
                with_label.setdefault(label, []).append((item, num_images))
        done: set[int] = set()
        # Counts only decrease. A label with a lower count is pushed again; its older entries are skipped.
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
            for other in touched:  # the push order does not change the pop order
                if other in with_label:
                    heapq.heappush(heap, (unassigned_with[other], other))


def _choose_part(parts: _Parts, size: int, label: int, count: int, rng: np.random.Generator) -> int:
    """The part for an item of ``size`` images, of which ``count`` have ``label``.

    Among the parts with room, it is the part that this item brings closest to its share of the label.
    """
    candidates = parts.all
    # The outer `if` of the two nested ones below only saves time.
    if parts.num_unassigned <= len(parts.all):
        empty = [part for part in parts.all if not parts.num_items[part]]
        candidates = empty if parts.num_unassigned <= len(empty) else candidates
    fitting = [part for part in candidates if parts.room[part] >= size]
    if not fitting:
        largest = max(parts.room[part] for part in candidates)
        fitting = [part for part in candidates if parts.room[part] == largest]
    is_class = label < parts.items.num_labels - 1  # a part needs each class, but no image without objects
    if is_class and parts.unassigned_with[label] <= len(parts.all):
        missing = [part for part in parts.all if not parts.items_with[part][label]]
        if parts.unassigned_with[label] <= len(missing):
            fitting = [part for part in fitting if part in missing] or fitting
    if len(fitting) == 1:
        return fitting[0]
    equal: list[int] = []
    best = None
    for part in fitting:
        # The decrease of sum(lack^2 / share) over all parts if the item joins this part, up to a constant
        # factor.
        fall = (2 * parts.lack[part][label] - count * parts.scale) * parts.weights[part]
        gain = (fall, parts.room[part])
        if best is None or gain > best:
            best, equal = gain, [part]
        elif gain == best:
            equal.append(part)
    return equal[0] if len(equal) == 1 else equal[int(rng.integers(len(equal)))]


def _even_sizes(parts: _Parts, order: Sequence[int]) -> None:
    """Move and exchange groups while sizes get closer to the wanted ones and no part loses a class."""
    while any(parts.room):
        if not any(
            _exchange(parts, order, source=source, target=target)
            for source in parts.all
            for target in parts.all
            if parts.room[source] < parts.room[target]
        ):
            return


def _exchange(parts: _Parts, order: Sequence[int], source: int, target: int) -> bool:
    """Move a group from ``source`` to ``target``, or exchange two; False if no move improves the sizes."""
    giving = _movable(parts, order, source=source, target=target)
    taking = _movable(parts, order, source=target, target=source)
    room, wanted = parts.room[source], parts.room[target]
    # Start value that loses only to moves that improve the sizes. So every move is progress, and the loop
    # ends.
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
    """For each group size, the group of ``source`` whose move to ``target`` harms the class balance least.

    Returns size -> (harm, group). Groups whose move would take a class away from ``source`` are left out.
    """
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
