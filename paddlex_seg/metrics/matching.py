"""COCO's matching of detections with objects, and its average precision, on the table of `overlaps`.

Both give what pycocotools gives, bit by bit. In each image and class the detections choose one after the
other, the best score first: the free object with the highest IoU, and only if there is none, a crowd or an
object outside the size range, with which they are ignored. All images and classes choose at the same time
here, which takes as many turns as the fullest image has detections of a class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.overlaps import Overlaps

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREA_RANGES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""COCO's size ranges, in pixels; both ends belong to a range."""
MOST_COUNTED = 100  # detections per image and class that COCO's AP uses

_EXACT = 1 - 1e-10  # the highest threshold, so that rounding does not lose a perfect detection


@dataclass(frozen=True)
class Matching:
    """Which object each of D detections got at T IoU thresholds, with objects of one size range."""

    thresholds: NDArray[np.float64]  # [T]
    object_of: NDArray[np.int32]  # [T, D], position in `Overlaps.objects`; -1: none
    is_ignored: NDArray[np.bool_]  # [T, D], neither right nor wrong: outside the range, or with a crowd
    is_counted: NDArray[np.bool_]  # [D], among the best `max_detections` of its class in its image
    object_is_ignored: NDArray[np.bool_]  # [G], crowds and objects outside the range

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """[T, D]: true positives."""
        return (self.object_of >= 0) & ~self.is_ignored

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """[T, D]: false positives."""
        return (self.object_of < 0) & ~self.is_ignored & self.is_counted


def match(
    overlaps: Overlaps,
    *,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    area_range: tuple[float, float] = AREA_RANGES["all"],
    max_detections: int = MOST_COUNTED,
) -> Matching:
    """Match the detections of each class in each image. Detections that are not counted match nothing.

    thresholds: [T], the least IoU of a match, above 0. area_range: lowest and highest area in pixels.
    """
    found, objects = overlaps.found, overlaps.objects
    is_counted = found.rank < max_detections
    outside = (found.area < area_range[0]) | (found.area > area_range[1])
    object_is_ignored = objects.is_crowd | (objects.area < area_range[0]) | (objects.area > area_range[1])
    object_of = _choose(overlaps, is_counted, object_is_ignored, np.minimum(thresholds, _EXACT))
    is_ignored = (object_of < 0) & outside
    if len(objects.area):
        is_ignored |= (object_of >= 0) & object_is_ignored[object_of]
    return Matching(thresholds, object_of, is_ignored, is_counted, object_is_ignored)


def average_precision(overlaps: Overlaps, matching: Matching) -> NDArray[np.float64]:
    """[T, 101, K]: the precision at 101 recalls, pycocotools' ``precision`` of one size range.

    It is -1 for a class without objects that count.
    """
    precision = np.full((len(matching.thresholds), len(RECALLS), len(overlaps.category_ids)), -1.0)
    counts, is_right, is_wrong = num_objects(overlaps, matching), matching.is_right, matching.is_wrong
    for k, rows in ranked_classes(overlaps, matching):
        if counts[k] == 0:
            continue
        right = np.cumsum(is_right[:, rows], axis=1, dtype=np.float64)
        wrong = np.cumsum(is_wrong[:, rows], axis=1, dtype=np.float64)
        recall = right / counts[k]
        best = right / (wrong + right + np.spacing(1))
        best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
        for t in range(len(matching.thresholds)):
            place = np.searchsorted(recall[t], RECALLS, side="left")
            reached = place < len(rows)
            precision[t, :, k] = 0
            precision[t, reached, k] = best[t, place[reached]]
    return precision


def recall(overlaps: Overlaps, matching: Matching, max_detections: int = MOST_COUNTED) -> NDArray[np.float64]:
    """[T, K]: the part of the objects that the best ``max_detections`` detections of an image and class find.

    It is pycocotools' ``recall`` of one size range, -1 for a class without objects that count.
    """
    num_classes = len(overlaps.category_ids)
    counts = num_objects(overlaps, matching)
    is_used = overlaps.found.rank < max_detections
    values = np.full((len(matching.thresholds), num_classes), -1.0)
    for t, is_right in enumerate(matching.is_right & is_used):
        right = np.bincount(overlaps.found.class_index[is_right], minlength=num_classes)
        np.divide(right, counts, out=values[t], where=counts > 0)
    return values


def num_objects(overlaps: Overlaps, matching: Matching) -> NDArray[np.int64]:
    """[K]: the objects of each class that count."""
    classes = overlaps.objects.class_index[~matching.object_is_ignored]
    return np.bincount(classes, minlength=len(overlaps.category_ids))


def mean_of_defined(values: NDArray[np.float64]) -> float | None:
    """The mean of the values that are not -1; None if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _choose(
    overlaps: Overlaps,
    is_counted: NDArray[np.bool_],
    object_is_ignored: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int32]:
    """[T, D]: the object that each detection gets."""
    found, objects = overlaps.found, overlaps.objects
    object_of = np.full((len(thresholds), len(found.score)), -1, np.int32)
    is_candidate = (
        (found.class_index[overlaps.pair_found] == objects.class_index[overlaps.pair_object])
        & is_counted[overlaps.pair_found]
        & (overlaps.pair_iou >= thresholds.min(initial=np.inf))
    )
    detection, target = overlaps.pair_found[is_candidate], overlaps.pair_object[is_candidate]
    iou = overlaps.pair_iou[is_candidate]
    # In the candidates of a detection, the best is the last: counted before ignored, then the higher IoU,
    # then the later one in the file.
    order = np.lexsort((target, iou, ~object_is_ignored[target], detection, found.rank[detection]))
    detection, target, iou = detection[order], target[order], iou[order]
    turns = np.append(np.flatnonzero(np.diff(found.rank[detection], prepend=-1)), len(detection))
    is_taken = np.zeros((len(objects.area), len(thresholds)), bool)
    for first, end in zip(turns[:-1], turns[1:], strict=True):
        own, wanted = detection[first:end], target[first:end]
        is_free = ~is_taken[wanted] | objects.is_crowd[wanted, None]
        is_possible = is_free & (iou[first:end, None] >= thresholds)
        place = np.where(is_possible, np.arange(end - first)[:, None], -1)
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        best = np.maximum.reduceat(place, starts, axis=0)  # [detections of this turn, T]
        row, t = np.nonzero(best >= 0)
        chosen = wanted[best[row, t]]
        object_of[t, own[starts[row]]] = chosen
        is_taken[chosen, t] = True
    return object_of


def ranked_classes(overlaps: Overlaps, matching: Matching) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each class with its counted detections, the best score first."""
    order = overlaps.found.order
    order = order[matching.is_counted[order]]
    sizes = np.bincount(overlaps.found.class_index[order], minlength=len(overlaps.category_ids))
    ends = np.cumsum(sizes)
    for k, (end, size) in enumerate(zip(ends.tolist(), sizes.tolist(), strict=True)):
        yield k, order[end - size : end]
