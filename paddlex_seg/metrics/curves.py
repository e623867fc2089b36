"""Precision, recall and F1 over the score threshold, and the threshold of each class with the best F1.

Precision is the part of the detections that are right, recall the part of the objects that are found, and
F1 = 2 * precision * recall / (precision + recall) = 2 * right / (detections + objects) (C. J. van Rijsbergen,
"Information Retrieval", 1979). A detection is right if `matching` gave it an object at an IoU of 0.5. In
matching, better scores choose first, so the matches of a threshold are those of all detections above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.matching import Matching, average_precision, num_objects, ranked_classes
from paddlex_seg.metrics.overlaps import Overlaps
from paddlex_seg.structures import Id

SCORES = np.linspace(0, 1, 101)
"""The score thresholds that curves are drawn at."""
DEFAULT_THRESHOLD = 0.5
"""The threshold of a class that has no best one: that of exported models."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Best:
    """The score threshold with the highest F1, and the figures at it. Detections above it are kept."""

    threshold: float
    f1: float
    precision: float
    recall: float
    num_right: int
    num_wrong: int
    num_missed: int


@dataclass(frozen=True)
class Curve:
    """The curves of a class, or of all classes together.

    ``best`` is None if there is no object, or if no detection is right.
    """

    category_id: Id | None  # None: of all classes
    num_objects: int
    num_found: int  # detections that are right or wrong, at any score
    precision_at_recall: tuple[float, ...]  # at `matching.RECALLS`, COCO's; empty without objects
    precision: tuple[float | None, ...]  # at SCORES; None where no detection is left
    recall: tuple[float | None, ...]  # at SCORES; None without objects
    f1: tuple[float | None, ...]  # at SCORES; None without objects
    best: Best | None


@dataclass(frozen=True)
class Curves:
    """The curves of all classes together and of each class, at one IoU threshold."""

    iou: float
    all: Curve
    classes: tuple[Curve, ...]  # in the order of `Overlaps.category_ids`

    def thresholds(self, default: float = DEFAULT_THRESHOLD) -> tuple[float, ...]:
        """The best threshold of each class, ``default`` for a class that has none."""
        return tuple(default if one.best is None else one.best.threshold for one in self.classes)


def curves(overlaps: Overlaps, matching: Matching) -> Curves:
    """The curves at the first threshold of ``matching``.

    Those of all classes count the detections and objects of all classes at one threshold; only their
    ``precision_at_recall`` is the mean of the classes, as AP is.
    """
    precision = average_precision(overlaps, matching)[0]  # [101, K]
    counts = num_objects(overlaps, matching)
    is_right, is_wrong = matching.is_right[0], matching.is_wrong[0]
    scores = overlaps.found.score
    classes = []
    for k, rows in ranked_classes(overlaps, matching):
        rows = rows[is_right[rows] | is_wrong[rows]]
        table = precision[:, k] if counts[k] else np.zeros(0)
        classes.append(_curve(overlaps.category_ids[k], int(counts[k]), scores[rows], is_right[rows], table))
    everything = np.flatnonzero(is_right | is_wrong)
    everything = everything[np.argsort(-scores[everything], kind="stable")]
    has_objects = counts > 0
    mean = precision[:, has_objects].mean(axis=1) if has_objects.any() else np.zeros(0)
    total = _curve(None, int(counts.sum()), scores[everything], is_right[everything], mean)
    return Curves(float(matching.thresholds[0]), total, tuple(classes))


def are_above(overlaps: Overlaps, matching: Matching, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """[D]: the detections above the score threshold of their class that are right or wrong.

    thresholds: one for each class, such as `Curves.thresholds`.
    """
    limits = np.array(thresholds, float)[overlaps.found.class_index]
    return (overlaps.found.score > limits) & (matching.is_right[0] | matching.is_wrong[0])


def _curve(
    category_id: Id | None, objects: int, scores: _Floats, is_right: NDArray[np.bool_], table: _Floats
) -> Curve:
    """scores: of the detections that are right or wrong, best first; table: the precision at each recall."""
    right = np.concatenate([[0], np.cumsum(is_right)])
    kept = np.searchsorted(-scores, -SCORES, side="left")  # detections above each threshold
    at = right[kept]
    precision = [int(r) / int(n) if n else None for r, n in zip(at, kept, strict=True)]
    f1 = [2 * int(r) / (int(n) + objects) if objects else None for r, n in zip(at, kept, strict=True)]
    return Curve(
        category_id=category_id,
        num_objects=objects,
        num_found=len(scores),
        precision_at_recall=tuple(table.tolist()),
        precision=tuple(precision),
        recall=tuple(int(r) / objects if objects else None for r in at),
        f1=tuple(f1),
        best=_best(objects, scores, right),
    )


def _best(objects: int, scores: _Floats, right: NDArray[np.integer]) -> Best | None:
    """The threshold with the highest F1.

    Equal F1: the lowest threshold, because a missed object costs more than a detection that a person deletes.
    All thresholds between the last score that is kept and the first that is not give the same; their middle
    is taken, because the scores of new images differ a little. With few objects the gap is wide, and its
    upper end, the score of one object, would lose the next one.
    """
    if not objects or not right[-1]:
        return None
    lowest = np.flatnonzero(np.diff(scores, append=-1.0))  # the last one of equal scores
    kept = lowest + 1
    f1 = 2 * right[kept] / (kept + objects)
    row = len(f1) - 1 - int(np.argmax(f1[::-1]))
    num, below = int(kept[row]), float(scores[kept[row]]) if kept[row] < len(scores) else 0.0
    num_right = int(right[num])
    return Best(
        threshold=(float(scores[num - 1]) + below) / 2,
        f1=float(f1[row]),
        precision=num_right / num,
        recall=num_right / objects,
        num_right=num_right,
        num_wrong=num - num_right,
        num_missed=objects - num_right,
    )
