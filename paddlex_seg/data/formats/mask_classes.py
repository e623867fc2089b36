"""The class of each object of a mask of object numbers, from the mask of classes of the same image."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.mask_images import VOID, IdMap


class ClassOfObject(NamedTuple):
    """What a mask of classes says about one object number."""

    value: int  # the most frequent one that is a class; one that means no class only if there is no other
    num_unlabelled: int  # pixels whose value means no class
    num_pixels: int

    @property
    def is_mostly_unlabelled(self) -> bool:
        """Whether more than half of the pixels have no class."""
        return 2 * self.num_unlabelled > self.num_pixels


def class_of_ids(
    ids: IdMap, classes: IdMap, unlabelled: Collection[int] = (0, VOID)
) -> dict[int, ClassOfObject]:
    """The class of each object of ``ids``, and of its background 0.

    classes: the value of each pixel. unlabelled: the values that mean no class.
    """
    flat, values = ids.ravel(), classes.ravel()
    changes = np.flatnonzero((flat[1:] != flat[:-1]) | (values[1:] != values[:-1])) + 1
    starts = np.concatenate([[0], changes])
    lengths = np.diff(np.append(starts, flat.size))
    pairs, index = np.unique(np.stack([flat[starts], values[starts]], axis=1), axis=0, return_inverse=True)
    counts = np.zeros(len(pairs), np.int64)
    np.add.at(counts, index.ravel(), lengths)
    of_number: dict[int, dict[int, int]] = {}
    for (number, value), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        of_number.setdefault(number, {})[value] = count
    return {number: _class_of(counts, unlabelled) for number, counts in of_number.items()}


def _class_of(counts: Mapping[int, int], unlabelled: Collection[int]) -> ClassOfObject:
    """The class of an object from the number of its pixels by value."""
    votes = {value: 0 if value in unlabelled else count for value, count in counts.items()}
    without = sum(count for value, count in counts.items() if value in unlabelled)
    return ClassOfObject(max(votes, key=lambda value: votes[value]), without, sum(counts.values()))


class UnlabelledObjects:
    """Counts the objects that have no class on more than half of their pixels."""

    def __init__(self) -> None:
        self._count = 0
        self._first = ""

    def add(self, mask: str, number: int, found: ClassOfObject) -> None:
        """Count an object of a class, if it is such a one."""
        if not found.is_mostly_unlabelled:
            return
        self._count += 1
        if self._count == 1:
            self._first = (
                f"object {number} of {mask}, where {found.num_unlabelled} of {found.num_pixels} pixels have "
                "no class"
            )

    def findings(self, folder: str) -> Iterator[Finding]:
        """A finding about all of them."""
        if self._count:
            message = (
                f"{self._count} objects have no class on most of their pixels; the first is {self._first}"
            )
            yield finding("object_mostly_unlabelled", folder, message)
