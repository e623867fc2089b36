"""What the errors of a model cost: TIDE's six kinds of errors, and the AP50 that fixing each kind would give.

Paper: D. Bolya, S. Foley, J. Hays, J. Hoffman, "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020, https://arxiv.org/abs/2008.08115. Section 2.2 defines the kinds by the highest IoU of a
false positive with the objects, with t_f = 0.5 and t_b = 0.1:

- class:       IoU >= t_f with an object of another class
- place:       t_b <= IoU <= t_f with an object of its class
- both:        t_b <= IoU <= t_f with an object of another class
- duplicate:   IoU >= t_f with an object of its class, which a better detection has
- background:  IoU <= t_b with all objects
- missed:      an object without a detection that no fix of a class or place error would give one

If several fit, the order is place, class, duplicate, background, both, as in the authors' program. Section
2.3 measures what an error costs: dAP = AP with the errors of this kind fixed, less AP. A class or place error
is fixed by giving the detection the class or the place of its object, if the object is still free and no
better class or place error wants it; otherwise, and for the other kinds, the detection is removed. Missed
objects are taken out of the number of objects; a class of which no object is left then has an AP of 1,
because nothing is missed. (The paper leaves that open. hotcoco counts 0, so that a class that is missed as a
whole costs nothing.) The costs do not add up, because a fix changes what others are worth.

Matching is COCO's, and crowds are no objects: a false positive beside a crowd is background.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.matching import Matching, average_precision, num_objects
from paddlex_seg.metrics.overlaps import Overlaps

BACKGROUND_IOU = 0.1

ErrorKind = Literal["class", "place", "both", "duplicate", "background", "missed"]
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
CLASS, PLACE, BOTH, DUPLICATE, BACKGROUND = range(5)  # positions in KINDS
NO_ERROR = -1

_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Errors:
    """The kind of each error of a model."""

    kind_of_found: NDArray[np.int8]  # [D], position in KINDS; NO_ERROR: right, ignored or not counted
    target_of_found: NDArray[np.int32]  # [D], the object that a class or place error was meant for, else -1
    is_unmatched: _Flags  # [G], objects without a detection; crowds never are
    is_missed: _Flags  # [G], those of them that no class or place error was meant for


@dataclass(frozen=True)
class ErrorCost:
    """How many errors of a kind there are, and the AP50 that they cost, in total and per class.

    A class without objects has no AP, so its cost is None. The class of an error is that of the detection, or
    of the missed object.
    """

    count: int
    ap_lost: float
    count_of_classes: tuple[int, ...]
    ap_lost_of_classes: tuple[float | None, ...]


@dataclass(frozen=True)
class Tide:
    """What the errors cost. ``ap`` is the AP at ``iou``, 0..1; None if there are no objects.

    false_positives: all wrong detections are removed; false_negatives: all objects without a detection are
    taken out of the number of objects.
    """

    iou: float
    background_iou: float
    ap: float | None
    kinds: Mapping[ErrorKind, ErrorCost]
    false_positives: ErrorCost
    false_negatives: ErrorCost


def classify_errors(overlaps: Overlaps, matching: Matching, background_iou: float = BACKGROUND_IOU) -> Errors:
    """The errors at the first threshold of ``matching``. The table must have pairs of two classes."""
    is_wrong, iou = matching.is_wrong[0], float(matching.thresholds[0])
    is_used = is_wrong[overlaps.pair_found] & ~matching.object_is_ignored[overlaps.pair_object]
    found, target = overlaps.pair_found[is_used], overlaps.pair_object[is_used]
    value = overlaps.pair_iou[is_used]
    is_same = overlaps.found.class_index[found] == overlaps.objects.class_index[target]
    is_taken = _are_taken(overlaps, matching)

    same_iou, same = _best(found, target, value, is_same, len(is_wrong))
    other_iou, other = _best(found, target, value, ~is_same, len(is_wrong))
    is_duplicate = np.zeros(len(is_wrong), bool)
    is_duplicate[found[is_same & is_taken[target] & (value >= iou)]] = True

    kind = np.select(
        [
            ~is_wrong,
            (same_iou >= background_iou) & (same_iou <= iou),
            other_iou >= iou,
            is_duplicate,
            other_iou <= background_iou,
        ],
        [NO_ERROR, PLACE, CLASS, DUPLICATE, BACKGROUND],
        default=BOTH,
    ).astype(np.int8)
    meant = np.select([kind == PLACE, kind == CLASS], [same, other], default=-1).astype(np.int32)
    is_unmatched = ~is_taken & ~matching.object_is_ignored
    is_missed = is_unmatched.copy()
    is_missed[meant[meant >= 0]] = False
    return Errors(kind, meant, is_unmatched, is_missed)


def decompose_errors(overlaps: Overlaps, matching: Matching, background_iou: float = BACKGROUND_IOU) -> Tide:
    """What each kind of error costs at the first threshold of ``matching``, usually 0.5."""
    matching = _first_threshold(matching)
    errors = classify_errors(overlaps, matching, background_iou)
    counts = num_objects(overlaps, matching)
    base = _ap_of_classes(overlaps, matching)

    def cost(is_error: _Flags, classes: NDArray[np.int32], fixed: tuple[Overlaps, Matching]) -> ErrorCost:
        lost = np.where(counts > 0, _ap_of_classes(*fixed) - base, np.nan)
        return ErrorCost(
            count=int(is_error.sum()),
            ap_lost=float(lost[counts > 0].mean()) if counts.any() else 0.0,
            count_of_classes=tuple(np.bincount(classes[is_error], minlength=len(counts)).tolist()),
            ap_lost_of_classes=tuple(None if np.isnan(one) else one for one in lost.tolist()),
        )

    found, objects, kind = overlaps.found.class_index, overlaps.objects.class_index, errors.kind_of_found
    is_fixed = _winners(overlaps, errors)
    kinds: dict[ErrorKind, ErrorCost] = {
        name: cost(kind == number, found, _fix(overlaps, matching, errors, kind == number, is_fixed))
        for number, name in enumerate(KINDS[:-1])
    }
    missed = _without_objects(matching, errors.is_missed)
    kinds["missed"] = cost(errors.is_missed, objects, (overlaps, missed))
    is_wrong, nothing = kind != NO_ERROR, np.zeros(len(kind), bool)
    return Tide(
        iou=float(matching.thresholds[0]),
        background_iou=background_iou,
        ap=float(base[counts > 0].mean()) if counts.any() else None,
        kinds=kinds,
        false_positives=cost(is_wrong, found, _fix(overlaps, matching, errors, is_wrong, nothing)),
        false_negatives=cost(
            errors.is_unmatched, objects, (overlaps, _without_objects(matching, errors.is_unmatched))
        ),
    )


def _first_threshold(matching: Matching) -> Matching:
    return replace(
        matching,
        thresholds=matching.thresholds[:1],
        object_of=matching.object_of[:1],
        is_ignored=matching.is_ignored[:1],
    )


def _are_taken(overlaps: Overlaps, matching: Matching) -> _Flags:
    """[G]: the objects that have a detection."""
    is_taken = np.zeros(len(overlaps.objects.area), bool)
    is_taken[matching.object_of[0][matching.is_right[0]]] = True
    return is_taken


def _best(
    found: NDArray[np.int32],
    target: NDArray[np.int32],
    iou: NDArray[np.float64],
    is_candidate: _Flags,
    num_found: int,
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """[D]: the highest IoU of each detection with the candidates, 0 without one, and its object, -1 without.

    Of equal ones, the first object.
    """
    highest, place = np.zeros(num_found), np.full(num_found, -1, np.int32)
    found, target, iou = found[is_candidate], target[is_candidate], iou[is_candidate]
    order = np.lexsort((-target, iou, found))  # the best of each detection is its last, which is written last
    highest[found[order]] = iou[order]
    place[found[order]] = target[order]
    return highest, place


def _winners(overlaps: Overlaps, errors: Errors) -> _Flags:
    """[D]: for each free object the best of the class and place errors that were meant for it."""
    wanted = errors.target_of_found
    rows = np.flatnonzero(wanted >= 0)
    rows = rows[errors.is_unmatched[wanted[rows]]]
    rows = rows[np.argsort(-overlaps.found.score[rows], kind="stable")]
    _, first = np.unique(wanted[rows], return_index=True)
    is_winner = np.zeros(len(wanted), bool)
    is_winner[rows[first]] = True
    return is_winner


def _fix(
    overlaps: Overlaps, matching: Matching, errors: Errors, is_error: _Flags, is_fixed: _Flags
) -> tuple[Overlaps, Matching]:
    """The table and matches after the errors are fixed: those in ``is_fixed`` become right, the others go."""
    is_right, found = is_error & is_fixed, overlaps.found
    is_ignored, object_of = matching.is_ignored.copy(), matching.object_of.copy()
    is_ignored[0, is_error & ~is_right] = True
    object_of[0, is_right] = errors.target_of_found[is_right]
    classes = found.class_index.copy()
    classes[is_right] = overlaps.objects.class_index[errors.target_of_found[is_right]]
    order = np.lexsort((found.rank, found.image, classes != found.class_index, -found.score, classes))
    fixed = replace(overlaps, found=replace(found, class_index=classes, order=order))
    return fixed, replace(matching, is_ignored=is_ignored, object_of=object_of)


def _without_objects(matching: Matching, is_gone: _Flags) -> Matching:
    return replace(matching, object_is_ignored=matching.object_is_ignored | is_gone)


def _ap_of_classes(overlaps: Overlaps, matching: Matching) -> NDArray[np.float64]:
    """[K]: AP; 1 for a class without objects: nothing is left that could be missed."""
    precision = average_precision(overlaps, matching)[0]
    return np.where(precision < 0, 1, precision).mean(axis=0)
