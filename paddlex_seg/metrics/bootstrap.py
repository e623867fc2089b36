"""How sure an AP is: its values on many resamples of the images, computed from one match table.

A resample draws as many images as there are, with repetition (B. Efron, "Bootstrap Methods: Another Look at
the Jackknife", Annals of Statistics 1979). An image that is drawn n times counts n times: its detections and
objects get the weight n. Nothing is matched again, because matching stays within an image. Equal scores stay
in the order of `matching`, all copies of a detection together.

Two models on the same images are compared by the differences on the same resamples (a paired bootstrap), so
that what makes an image hard for both does not count as a difference.

Letters: B resamples, I images, K classes, T thresholds, D detections of a class, R right ones of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.matching import RECALLS, Matching, ranked_classes
from paddlex_seg.metrics.overlaps import Overlaps

NUM_RESAMPLES = 1000
_FEW = 64  # objects of a class, up to which all resamples are computed at once
_MOST_VALUES = 1 << 17  # resamples times detections at a time: 1 MB per array, which fits the cache

Weights = NDArray[np.uint16]
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Interval:
    """The range that holds 95 % of the values of the resamples."""

    low: float
    high: float

    def has(self, value: float) -> bool:
        """Whether a value is inside."""
        return self.low <= value <= self.high


def resample_weights(num_images: int, num: int = NUM_RESAMPLES, seed: int = 0) -> Weights:
    """[B, I]: how often each image is drawn in ``num`` resamples. Equal seeds give equal weights."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((num, num_images), np.uint16)
    for row in weights if num_images else ():
        row[:] = np.bincount(rng.integers(num_images, size=num_images), minlength=num_images)
    return weights


def bootstrap_ap(overlaps: Overlaps, matching: Matching, weights: Weights) -> tuple[_Floats, _Floats]:
    """The AP of each resample, [B], and of each class in it, [B, K]: means over all thresholds matched at.

    NaN where the images drawn have no object (of the class). With `matching.match` at the threshold 0.5 only,
    this is AP50; `precision_of_resamples` has all thresholds.
    """
    return mean_of_classes(precision_of_resamples(overlaps, matching, weights).mean(axis=1))


def mean_of_classes(per_class: _Floats) -> tuple[_Floats, _Floats]:
    """The mean [B] of [B, K] over the classes that are not NaN, NaN if all are; and ``per_class`` itself."""
    is_there = ~np.isnan(per_class)
    total = np.full(len(per_class), np.nan)
    sums = np.where(is_there, per_class, 0).sum(axis=1)
    np.divide(sums, is_there.sum(axis=1), out=total, where=is_there.any(axis=1))
    return total, per_class


def interval(values: _Floats, part: float = 0.95) -> Interval | None:
    """The middle ``part`` of the values of resamples without NaN, by percentiles; None if there are none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - part) / 2, (1 + part) / 2])
    return Interval(float(low), float(high))


def intervals(per_class: _Floats) -> tuple[Interval | None, ...]:
    """The interval of each column of [B, K]."""
    return tuple(interval(column) for column in per_class.T)


def precision_of_resamples(overlaps: Overlaps, matching: Matching, weights: Weights) -> _Floats:
    """[B, T, K]: the AP of each resample, threshold and class; NaN where the images drawn have no object.

    It is the mean of COCO's precision at 101 recalls, as `matching.average_precision` computes it.
    """
    num, num_images = weights.shape
    if num_images != len(overlaps.image_ids):
        raise ValueError(f"weights of {num_images} images for a table of {len(overlaps.image_ids)}")
    values = np.full((num, len(matching.thresholds), len(overlaps.category_ids)), np.nan)
    counts = _objects_of_images(overlaps, matching)
    for k, rows in ranked_classes(overlaps, matching):
        step = max(1, _MOST_VALUES // max(1, len(rows)))
        for start in range(0, num, step):
            part = slice(start, min(start + step, num))
            totals = weights[part].astype(np.float64) @ counts[:, k]  # [B]
            mean = _mean_of_few if counts[:, k].sum() <= _FEW else _mean_of_many
            own = _ap_of_class(overlaps, matching, rows, weights[part], _right_needed(totals), mean)
            values[part, :, k] = np.where(totals[:, None] > 0, own, np.nan)
    return values


def _objects_of_images(overlaps: Overlaps, matching: Matching) -> _Floats:
    """[I, K]: how many objects count."""
    counts = np.zeros((len(overlaps.image_ids), len(overlaps.category_ids)))
    kept = ~matching.object_is_ignored
    np.add.at(counts, (overlaps.objects.image[kept], overlaps.objects.class_index[kept]), 1)
    return counts


def _ap_of_class(
    overlaps: Overlaps,
    matching: Matching,
    rows: NDArray[np.int64],
    weights: Weights,
    needed: _Ints,
    mean: Callable[[_Ints, _Floats, _Ints], _Floats],
) -> _Floats:
    """[B, T]: the AP of one class. rows: its detections, best first; mean: `_mean_of_few` or `.._many`."""
    # Whole numbers: their cumulative sums are ten times faster than those of floats.
    own = np.take(weights.astype(np.int32), overlaps.found.image[rows], axis=1, mode="clip")  # [B, D]
    values = np.zeros((len(own), len(matching.thresholds)))
    all_drawn: _Floats | None = None
    known: dict[tuple[bytes, bytes], int] = {}  # the thresholds with the same matches as others have them
    for t in range(len(matching.thresholds)):
        is_ignored = matching.is_ignored[t, rows]
        right = np.flatnonzero((matching.object_of[t, rows] >= 0) & ~is_ignored)
        if not len(right):
            continue
        same = known.setdefault((right.tobytes(), is_ignored.tobytes()), t)
        if same != t:
            values[:, t] = values[:, same]
            continue
        if is_ignored.any():
            drawn = _sums(own * ~is_ignored)
        else:
            drawn = all_drawn = _sums(own) if all_drawn is None else all_drawn
        sums = np.cumsum(np.take(own, right, axis=1, mode="clip"), axis=1, dtype=np.int32)
        values[:, t] = mean(sums, np.take(drawn, right, axis=1, mode="clip"), needed)
    return values


def _sums(weights: _Ints) -> _Floats:
    """[B, D]: the sums up to each detection, as pycocotools divides by them."""
    return np.cumsum(weights, axis=1, dtype=np.int32) + np.spacing(1)


def _right_needed(totals: _Floats) -> _Ints:
    """[B, 101]: the least number of right detections that reaches each recall, of ``totals`` [B] objects.

    With the same rounding as a comparison of ``right / total`` with the recall.
    """
    totals = np.maximum(totals, 1)[:, None]
    needed = np.floor(RECALLS * totals)
    return (needed + (needed / totals < RECALLS)).astype(np.int32)


def _mean_of_many(right: _Ints, drawn: _Floats, needed: _Ints) -> _Floats:
    """[B]: the mean precision at 101 recalls.

    right, drawn: [B, R], the sums of weights up to each right detection, of the right ones and of all;
    needed: [B, 101]. Between right detections precision only falls, and among copies of a right one it only
    rises, so its highest value from a recall on is at the last copy of a right one.
    """
    num, length = right.shape
    precision = np.zeros((num, length + 1))  # the last column is for recalls that are not reached
    np.divide(right, drawn, out=precision[:, :length])
    place = np.array([row.searchsorted(wanted) for row, wanted in zip(right, needed, strict=True)])
    place += np.arange(num)[:, None] * (length + 1)
    between = np.maximum.reduceat(precision.ravel(), place.ravel())  # the best from one recall to the next
    best = np.maximum.accumulate(between.reshape(num, -1)[:, ::-1], axis=1)[:, ::-1]
    # A recall that is not reached begins at the last column, so that its own part is 0.
    return best.mean(axis=1)


def _mean_of_few(right: _Ints, drawn: _Floats, needed: _Ints) -> _Floats:
    """`_mean_of_many` without a loop over the resamples, slower if there are many detections.

    Each right detection counts as often as there are recalls that it reaches and the one before does not.
    """
    num, most = len(right), int(needed.max()) + 1
    places = (np.arange(num)[:, None] * most + needed).ravel()
    reached = np.bincount(places, minlength=num * most).reshape(num, most).cumsum(axis=1)  # by right ones
    best = np.maximum.accumulate((right / drawn)[:, ::-1], axis=1)[:, ::-1]
    times = np.diff(np.take_along_axis(reached, right, axis=1), axis=1, prepend=0)
    return (best * times).sum(axis=1) / len(RECALLS)
