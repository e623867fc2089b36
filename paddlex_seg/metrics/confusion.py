"""The confusion matrix: which class is found for the objects of which class.

Detections and objects of an image are paired one to one at an IoU of 0.5, in two steps. First within classes,
as `matching` did it: a pair of one class is a right detection, even if a detection of another class overlaps
the object more, so that the diagonal has the counts of `curves`. Then what is left over is paired across
classes, the highest IoU first; equal ones: the better score. Objects without a partner are in the last
column, detections without one in the last row (background). Crowds, and detections that are ignored with
them, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.curves import are_above
from paddlex_seg.metrics.matching import Matching
from paddlex_seg.metrics.overlaps import Overlaps
from paddlex_seg.structures import Id

NONE = -1

_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """Counts of K classes and the background.

    ``matrix[i][j]``: objects of class i that were found as class j. The last row has detections without an
    object, the last column objects without a detection; their corner is 0.
    """

    category_ids: tuple[Id, ...]
    iou: float
    thresholds: tuple[float, ...]  # of each class; detections above it are counted
    matrix: tuple[tuple[int, ...], ...]  # [K + 1][K + 1]


@dataclass(frozen=True)
class Pairing:
    """The partner of each detection, and what counts, at the score thresholds of the classes."""

    object_of: NDArray[np.int32]  # [D], position in `Overlaps.objects`; NONE without one
    is_counted: _Flags  # [D], above the threshold of its class and not ignored
    object_is_counted: _Flags  # [G], not a crowd


def confusion(overlaps: Overlaps, matching: Matching, thresholds: Sequence[float]) -> Confusion:
    """The matrix at the first IoU threshold of ``matching``. The table must have pairs of two classes.

    thresholds: the score threshold of each class, such as ``Curves.thresholds()``.
    """
    pairing = pair_across_classes(overlaps, matching, thresholds)
    size = len(overlaps.category_ids) + 1
    is_paired = pairing.object_of >= 0
    is_left = pairing.object_is_counted.copy()
    is_left[pairing.object_of[is_paired]] = False
    found, objects = overlaps.found.class_index, overlaps.objects.class_index
    places = (
        objects[pairing.object_of[is_paired]] * size + found[is_paired],
        (size - 1) * size + found[pairing.is_counted & ~is_paired],
        objects[is_left] * size + size - 1,
    )
    matrix = np.bincount(np.concatenate(places), minlength=size * size).reshape(size, size)
    return Confusion(
        category_ids=overlaps.category_ids,
        iou=float(matching.thresholds[0]),
        thresholds=tuple(thresholds),
        matrix=tuple(map(tuple, matrix.tolist())),
    )


def pair_across_classes(overlaps: Overlaps, matching: Matching, thresholds: Sequence[float]) -> Pairing:
    """The pairs of `confusion`."""
    is_counted = are_above(overlaps, matching, thresholds)
    object_of = np.where(is_counted, matching.object_of[0], NONE)
    object_is_counted = ~matching.object_is_ignored
    is_free = object_is_counted.copy()
    is_free[object_of[object_of >= 0]] = False
    is_used = (
        (overlaps.pair_iou >= matching.thresholds[0])
        & is_free[overlaps.pair_object]
        & (is_counted & (object_of < 0))[overlaps.pair_found]
    )
    found, target = overlaps.pair_found[is_used], overlaps.pair_object[is_used]
    order = np.lexsort((target, found, -overlaps.found.score[found], -overlaps.pair_iou[is_used]))
    for row, wanted in zip(found[order].tolist(), target[order].tolist(), strict=True):
        if is_free[wanted] and object_of[row] < 0:
            object_of[row] = wanted
            is_free[wanted] = False
    return Pairing(object_of, is_counted, object_is_counted)
