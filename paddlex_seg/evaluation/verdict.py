"""What an evaluation means, in a few plain sentences: the most expensive error first, and what to do then.

Every sentence is about something that the data show. Where nothing stands out, it says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.evaluation.slices import SliceResult
from paddlex_seg.metrics.bootstrap import Interval
from paddlex_seg.metrics.curves import Curves, are_above
from paddlex_seg.metrics.matching import AREA_RANGES, Matching, average_precision, mean_of_defined
from paddlex_seg.metrics.overlaps import Overlaps
from paddlex_seg.metrics.tide import BACKGROUND, CLASS, DUPLICATE, KINDS, PLACE, ErrorKind, Errors, Tide
from paddlex_seg.reports.text import counted, legible, number, percent, shorten
from paddlex_seg.structures import Id

MOST_SENTENCES = 5
_LEAST_COST = 0.005  # AP50; what costs less is not worth a sentence
_LEAST_SECOND = 0.02
_STANDS_OUT = 1.5  # times as often as in the others
_LEAST_PART = 0.2  # of all confusions, of two classes that are named
_LEAST_GAP = 0.1  # AP between a class or a slice and all
_LEAST_OBJECTS = 10  # with fewer, the AP of a class is chance
_LEAST_WIDTH = 0.02  # half of an interval that is worth a sentence

_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Facts:
    """What the verdict is made of. ``errors`` and ``tide`` are at the first threshold of ``matching``."""

    overlaps: Overlaps
    matching: Matching  # at all IoU thresholds
    names: Mapping[Id, str]  # of the categories
    errors: Errors
    tide: Tide
    curves: Curves
    interval: Interval | None = None  # of AP
    slices: Sequence[SliceResult] = ()


def verdict(facts: Facts) -> tuple[str, ...]:
    """One to five sentences; the first one is the headline."""
    nothing = _without_figures(facts)
    if nothing:
        return nothing
    ordered: list[ErrorKind] = sorted(KINDS, key=lambda kind: -facts.tide.kinds[kind].ap_lost)
    first, second = (facts.tide.kinds[kind].ap_lost for kind in ordered[:2])
    if first < _LEAST_COST:
        sentences = _without_errors(facts)
    else:
        sentences = _about(facts, ordered[0])
        if second >= max(_LEAST_SECOND, first / 2):
            sentences.append(f"Next: {_NAMES[ordered[1]]}, which cost {second:.2f} AP50.")
    sentences += [*_worst_class(facts), *_worst_slice(facts)]
    last = _uncertainty(facts)
    return (*sentences[: MOST_SENTENCES - len(last)], *last)


# ---- cases without figures, or without errors


def _without_figures(facts: Facts) -> tuple[str, ...]:
    num_objects = int((~facts.matching.object_is_ignored).sum())
    num_found = int(facts.matching.is_counted.sum())
    images = counted(len(facts.overlaps.image_ids), "image")
    if not num_objects:
        return (
            f"There is no annotated object in {images}, so that AP cannot be computed.",
            f"The model has {counted(num_found, 'detection')}. Annotate images to learn how many are right.",
        )
    if not num_found:
        return (
            f"The model finds nothing in {images} with {counted(num_objects, 'object')}.",
            "Check that the weights are trained, and that they were trained for these classes.",
        )
    if not facts.matching.is_right[0].any():
        kinds = np.bincount(facts.errors.kind_of_found[facts.errors.kind_of_found >= 0], minlength=5)
        most = int(kinds.argmax())
        return (
            f"None of the {counted(num_found, 'detection')} is right: no object is found in {images}.",
            f"Most are {_NAMES[KINDS[most]]} ({number(int(kinds[most]))}).",
            *_about(facts, KINDS[most])[1:],
        )
    return ()


def _without_errors(facts: Facts) -> list[str]:
    ap50, ap = facts.tide.ap or 0.0, _ap(facts) or 0.0
    sentences = [f"No kind of error costs {_LEAST_COST} AP50 or more: AP50 is {ap50:.3f}."]
    if ap < ap50 - _LEAST_GAP:
        sentences.append(
            f"AP, which also asks how exactly they fit, is {ap:.3f}: what is left are the outlines. "
            "Compare them with the labels in the images."
        )
    return sentences


# ---- the most expensive error


_NAMES: Mapping[ErrorKind, str] = {
    "class": "detections of the wrong class",
    "place": "detections that fit an object badly",
    "both": "detections of the wrong class that fit badly",
    "duplicate": "second detections of an object",
    "background": "detections where no object is",
    "missed": "missed objects",
}


def _about(facts: Facts, kind: ErrorKind) -> list[str]:
    cost = facts.tide.kinds[kind]
    price = f"this costs {cost.ap_lost:.2f} AP50, more than any other error."
    if kind == "missed":
        part = percent(cost.count / int((~facts.matching.object_is_ignored).sum()))
        return [
            f"The model misses {part} of the objects ({number(cost.count)}): {price}",
            *_which_are_missed(facts),
        ]
    shape = "box" if facts.overlaps.kind == "bbox" else "mask"
    headline = {
        "class": f"{_have(cost.count, 'detection')} the wrong class: {price}",
        "place": f"{_have(cost.count, 'detection')} a {shape} that fits the object badly: {price}",
        "both": f"{_have(cost.count, 'detection')} the wrong class and a {shape} that fits badly: {price}",
        "duplicate": f"{counted(cost.count, 'detection')} repeat another one of the same object: {price}",
        "background": f"The model sees {counted(cost.count, 'object')} where there is none: {price}",
    }[kind]
    details = {
        "class": _which_are_confused,
        "place": _how_masks_fit,
        "duplicate": lambda facts: _with_thresholds(facts, DUPLICATE),
        "background": lambda facts: _with_thresholds(facts, BACKGROUND),
    }
    return [headline, *(details[kind](facts) if kind in details else [])]


def _have(count: int, word: str) -> str:
    return f"{counted(count, word)} {'has' if count == 1 else 'have'}"


def _which_are_missed(facts: Facts) -> list[str]:
    objects, is_missed = facts.overlaps.objects, facts.errors.is_missed
    counts = ~facts.matching.object_is_ignored
    is_small = objects.area <= AREA_RANGES["small"][1]
    if _stands_out(is_missed, is_small, counts):
        few = int((is_missed & is_small).sum())
        return [
            f"Most of them ({number(few)}) are small (under 32 x 32 pixels). Train with a larger "
            "Train.image_size, or cut the images into tiles."
        ]
    for k, id in enumerate(facts.overlaps.category_ids):
        is_own = objects.class_index == k
        if _stands_out(is_missed, is_own, counts):
            few, share = int((is_missed & is_own).sum()), is_missed[is_own & counts].mean()
            return [
                f"Most of them ({number(few)}) are {_name(facts, id)}, of which {percent(float(share))} are "
                "missed. Look whether they are labelled alike everywhere, and whether the train part has "
                "enough of them."
            ]
    return ["They are of all sizes and classes; the worst images show them."]


def _stands_out(is_missed: _Flags, is_own: _Flags, counts: _Flags) -> bool:
    """Whether most of the missed objects are of this kind, and it is missed more often than the others."""
    own, others = is_missed[is_own & counts], is_missed[~is_own & counts]
    return bool(
        len(others)
        and own.sum() > is_missed.sum() / 2
        and own.mean() >= _STANDS_OUT * max(others.mean(), 1e-9)
    )


def _which_are_confused(facts: Facts) -> list[str]:
    rows = facts.errors.kind_of_found == CLASS
    targets = facts.overlaps.objects.class_index[facts.errors.target_of_found[rows]]
    size = len(facts.overlaps.category_ids)
    pairs = np.bincount(targets * size + facts.overlaps.found.class_index[rows], minlength=1)
    truth, shown = divmod(int(pairs.argmax()), size)
    if pairs.max() < _LEAST_PART * pairs.sum():
        return ["No two classes stand out: see the confusion matrix."]
    ids = facts.overlaps.category_ids
    return [
        f"Most often {_name(facts, ids[truth])} is found as {_name(facts, ids[shown])} "
        f"({counted(int(pairs.max()), 'time')}). Compare the labels of both classes; if they are right, the "
        "train part needs more images that show the difference."
    ]


def _how_masks_fit(facts: Facts) -> list[str]:
    rows = facts.errors.kind_of_found == PLACE
    area = facts.overlaps.objects.area[facts.errors.target_of_found[rows]]
    found = facts.overlaps.found.area[rows]
    ratio = float(np.median(found[area > 0] / area[area > 0])) if area.any() else 1.0
    if ratio < 1 / _STANDS_OUT:
        how = f"Half of them cover at most {percent(ratio)} of the area of their object."
    elif ratio > _STANDS_OUT:
        how = f"Half of them are at least {ratio:.1f} times as large as their object."
    else:
        how = "They are about as large as their objects, but in another place or of another shape."
    return [f"{how} Look whether the labels are drawn alike: a model cannot learn what differs in them."]


def _with_thresholds(facts: Facts, kind: int) -> list[str]:
    """What is left of some false detections at the best score thresholds."""
    is_kind = facts.errors.kind_of_found == kind
    is_shown = are_above(facts.overlaps, facts.matching, facts.curves.thresholds())
    total, left = int(is_kind.sum()), int((is_kind & is_shown).sum())
    sentence = (
        f"At the score thresholds with the best F1, {number(left)} of {number(total)} "
        f"{'is' if left == 1 else 'are'} left"
    )
    if left <= 0.2 * total:
        return [f"{sentence}: use these thresholds (Evaluate.write_thresholds)."]
    if kind == DUPLICATE:
        return [f"{sentence}: their scores are as high as those of right detections."]
    return [
        f"{sentence}. Look at those with the highest scores first: they may be objects without a label. If "
        "the labels are right, add such images to the train part."
    ]


# ---- classes, slices, and how sure it is


def _worst_class(facts: Facts) -> list[str]:
    table = average_precision(facts.overlaps, facts.matching)
    total = mean_of_defined(table)
    counts = [one.num_objects for one in facts.curves.classes]
    rows = [k for k, count in enumerate(counts) if count >= _LEAST_OBJECTS]
    if total is None or len(rows) < 2:
        return []
    ap = table.mean(axis=(0, 1))
    worst = min(rows, key=lambda k: ap[k])
    if ap[worst] > total - _LEAST_GAP:
        return []
    name = _name(facts, facts.overlaps.category_ids[worst])
    return [
        f"The worst class is {name} with AP {ap[worst]:.2f} ({counted(counts[worst], 'object')}); the mean "
        f"of all classes is {total:.2f}."
    ]


def _worst_slice(facts: Facts) -> list[str]:
    """The slice whose whole interval is below the AP of all, if there is one."""
    total = _ap(facts)
    if total is None:
        return []
    low = [
        (one.ap, one)
        for one in facts.slices
        if one.ap is not None
        and one.ap <= total - _LEAST_GAP
        and one.interval is not None
        and one.interval.high < total
    ]
    if not low:
        return []
    ap, worst = min(low, key=lambda pair: pair[0])
    return [
        f"{_short(worst.group)}: {_short(worst.value)} has AP {ap:.2f} instead of {total:.2f} "
        f"({counted(worst.num_objects, 'object')})."
    ]


def _uncertainty(facts: Facts) -> list[str]:
    if facts.interval is None:
        return []
    half = (facts.interval.high - facts.interval.low) / 2
    if half < _LEAST_WIDTH:
        return []
    images = counted(len(facts.overlaps.image_ids), "image")
    return [
        f"With {images}, AP is only known to be between {facts.interval.low:.2f} and "
        f"{facts.interval.high:.2f}: differences of less than {half:.2f} mean nothing."
    ]


def _ap(facts: Facts) -> float | None:
    return mean_of_defined(average_precision(facts.overlaps, facts.matching))


def _name(facts: Facts, id: Id) -> str:
    return f"'{_short(facts.names.get(id, str(id)))}'"


def _short(text: str) -> str:
    return shorten(legible(text), 40)
