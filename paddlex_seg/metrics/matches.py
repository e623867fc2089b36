"""Pairs the instances of two results of one image by their masks: one to one, only within a class.

Networks give many detections of one object whose masks hardly differ. Pairing them one after the other can
take the partner of another one, and reports differences that are not there. So the pairs of a class are an
optimal assignment: the sum of their IoUs is as large as possible.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from paddlex_seg.masks.rle import rle_ious
from paddlex_seg.structures import Instances

# How much IoU a difference of 1 in score is worth: it decides between masks that are as good as equal.
_SCORE_WEIGHT = 0.01


@dataclass(frozen=True)
class Matches:
    """The pairs of two results of one image, and what has no partner. All are positions, in order."""

    pairs: NDArray[np.int64]  # [P, 2], positions in the first and in the second result
    ious: NDArray[np.float64]  # [P], of the masks
    unmatched_first: NDArray[np.int64]
    unmatched_second: NDArray[np.int64]


def match_instances(first: Instances, second: Instances, *, least_iou: float = 0.5) -> Matches:
    """Pair the instances of two results of one image whose classes are equal and whose mask IoU is at least
    ``least_iou``.

    Among masks that overlap equally well, those with the nearest scores are a pair. The results must use
    the same class indices.
    """
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    ious: list[NDArray[np.float64]] = [np.empty(0)]
    for class_id in np.intersect1d(first.class_ids, second.class_ids):
        rows, columns = (np.flatnonzero(side.class_ids == class_id) for side in (first, second))
        overlap = rle_ious([first.masks[i] for i in rows], [second.masks[i] for i in columns])
        difference = np.abs(first.scores[rows][:, None] - second.scores[columns][None, :])
        value = np.where(overlap >= least_iou, overlap + _SCORE_WEIGHT * (1 - difference), 0)
        row, column = linear_sum_assignment(value, maximize=True)
        is_pair = overlap[row, column] >= least_iou
        row, column = row[is_pair], column[is_pair]
        pairs.append(np.stack([rows[row], columns[column]], axis=1))
        ious.append(overlap[row, column])
    found, values = np.concatenate(pairs), np.concatenate(ious)
    order = np.argsort(found[:, 0], kind="stable")
    return Matches(
        pairs=found[order],
        ious=values[order],
        unmatched_first=np.setdiff1d(np.arange(len(first)), found[:, 0]),
        unmatched_second=np.setdiff1d(np.arange(len(second)), found[:, 1]),
    )
