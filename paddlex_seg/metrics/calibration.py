"""Whether scores are probabilities: of the detections with a score of about 0.8, are 80 % right?

Scores are sorted into bins of equal width; each bin compares its mean score with its precision. The expected
calibration error is the mean of their distances, weighted by the detections in the bins:

    ECE = sum_b n_b / N * |precision_b - score_b|

M. P. Naeini, G. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI
2015; for detections F. Kueppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR
Workshops 2020. A detection is right if `matching` gave it an object; ignored ones are left out. Unlike the
accuracy of a classifier this depends on how many low scores a model returns: they are most of N.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.matching import Matching
from paddlex_seg.metrics.overlaps import Overlaps

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The detections with scores from ``low`` to ``high``; the upper end belongs to the next bin."""

    low: float
    high: float
    count: int
    mean_score: float | None  # None for an empty bin
    precision: float | None


@dataclass(frozen=True)
class Calibration:
    """The reliability curve (one point per bin) and its ECE, 0..1; None without detections.

    ``bias`` is the mean score less the precision: above 0, the scores promise too much.
    """

    bins: tuple[Bin, ...]
    ece: float | None
    bias: float | None
    ece_of_classes: tuple[float | None, ...]  # in the order of `Overlaps.category_ids`


def calibrate(overlaps: Overlaps, matching: Matching, num_bins: int = NUM_BINS) -> Calibration:
    """The calibration of the scores at the first IoU threshold of ``matching``."""
    is_right, is_used = matching.is_right[0], matching.is_right[0] | matching.is_wrong[0]
    score, right, classes = (
        overlaps.found.score[is_used],
        is_right[is_used],
        overlaps.found.class_index[is_used],
    )
    count, scores, rights = _bins(score, right, num_bins)
    edges = np.linspace(0, 1, num_bins + 1).tolist()
    return Calibration(
        bins=tuple(
            Bin(low, high, int(n), s / n if n else None, r / n if n else None)
            for low, high, n, s, r in zip(
                edges[:-1], edges[1:], count.tolist(), scores.tolist(), rights.tolist(), strict=True
            )
        ),
        ece=_ece(score, right, num_bins),
        bias=float(score.mean() - right.mean()) if len(score) else None,
        ece_of_classes=tuple(
            _ece(score[classes == k], right[classes == k], num_bins)
            for k in range(len(overlaps.category_ids))
        ),
    )


def _bins(
    score: NDArray[np.float64], is_right: NDArray[np.bool_], num_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """[num_bins] each: the detections of each bin, the sum of their scores, and the right ones of them."""
    place = (score * num_bins).astype(int).clip(0, num_bins - 1)
    sums = np.zeros((num_bins, 3))
    np.add.at(sums, place, np.stack([np.ones(len(score)), score, is_right], axis=1))
    return sums[:, 0], sums[:, 1], sums[:, 2]


def _ece(score: NDArray[np.float64], is_right: NDArray[np.bool_], num_bins: int) -> float | None:
    _, scores, rights = _bins(score, is_right, num_bins)
    return float(np.abs(rights - scores).sum() / len(score)) if len(score) else None
