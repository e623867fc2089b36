"""Which labels may be wrong, by detections of a model that was not trained on them.

Five kinds: an object without a label ("missed"), a label of another class ("wrong_class"), a mask that does
not fit ("loose_mask"), two labels of one object ("duplicate"), and a label where nothing is ("spurious"). The
idea of comparing labels with confident detections is that of ObjectLab (U. Tkachenko et al., "ObjectLab:
Automated Diagnosis of Mislabeled Images in Object Detection Data", 2023), which compares boxes with fixed
scores. Here

- masks are compared, and the fit of a mask also by its boundary;
- a score means what it means for this model: the part of its detections of that score that is right,
  measured on the labels themselves;
- what a model does often is no evidence. If it misses a third of all objects, a label that it misses is not
  suspicious; if it misses 2 %, it is. So each kind of evidence is weighed by how rare it is among all labels,
  and what is found for more than `_USUAL_SHARE` of them counts less and less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import mask_overlaps, rle_boxes_xywh
from paddlex_seg.metrics.boundary import boundary_ious
from paddlex_seg.metrics.matching import match
from paddlex_seg.metrics.overlaps import Overlaps, Truth, measure_overlaps, truth_of
from paddlex_seg.reports.text import shorten
from paddlex_seg.structures import CocoFile, Id, Instances, Rle

SuspectKind = Literal["missed", "wrong_class", "loose_mask", "duplicate", "spurious"]
KINDS: tuple[SuspectKind, ...] = get_args(SuspectKind)

SUSPECT_NAMES: Mapping[SuspectKind, str] = {
    "missed": "missing label",
    "wrong_class": "wrong class",
    "loose_mask": "loose mask",
    "duplicate": "duplicate label",
    "spurious": "label of nothing",
}
"""The kinds in words."""

_USUAL_SHARE = 0.05  # of the labels, that are wrong in one way: a prior, not a limit
_TOUCHES = 0.1  # IoU from which on a detection is about an object, as in TIDE
_SAME = 0.5  # IoU from which on two masks are of one object
_DUPLICATE = (0.6, 0.85)  # IoU of two labels that is not and that surely is suspicious
_LITTLE = 0.05  # of the usual trust: what hardly counts
_LEAST_SCORE = 0.02  # of a suspect

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong, or an object that may lack one.

    position: of the detection that says so, in the `Instances` of its image; None if there is none.
    """

    kind: SuspectKind
    score: float  # 0..1, the higher the more suspicious; comparable across kinds
    image_id: Id
    annotation_id: Id | None  # None: an object without a label
    position: int | None
    label: str | None  # class name of the annotation
    proposal: str | None  # class name of the detection
    reason: str  # a sentence
    other_id: Id | None = None  # of a duplicate: the other annotation


def review_labels(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    category_ids: Sequence[Id],
    *,
    overlaps: Overlaps | None = None,
    truth: Truth | None = None,
) -> list[Suspect]:
    """The suspects of a data set, the most suspicious one first; an annotation is in the list at most once.

    results: detections with masks by image id, of a model that was not trained on these images;
    category_ids: the category id of each of its class indices. overlaps, truth: the table of masks with
    pairs of two classes and the objects of the file, if they are there already. Crowds are never suspected.
    """
    truth = truth_of(coco) if truth is None else truth
    if overlaps is None:
        overlaps = measure_overlaps(coco, results, category_ids, truth=truth)
    review = _Review(coco, results, overlaps, truth)
    best: dict[Id, Suspect] = {}
    missed = list(review.missed())
    for suspect in (*review.duplicates(), *review.wrong_classes(), *review.loose_masks(), *review.spurious()):
        id = suspect.annotation_id
        assert id is not None
        if id not in best or suspect.score > best[id].score:
            best[id] = suspect
    found = [one for one in (*missed, *best.values()) if one.score >= _LEAST_SCORE]
    return sorted(found, key=lambda one: -one.score)


class _Review:
    """The evidence of one data set."""

    def __init__(
        self, coco: CocoFile, results: Mapping[Id, Instances], overlaps: Overlaps, truth: Truth
    ) -> None:
        self._coco, self._results, self._truth, self._table = coco, results, truth, overlaps
        found, objects = overlaps.found, overlaps.objects
        self._names = [{one.id: one.name for one in coco.categories}[id] for id in overlaps.category_ids]
        self._is_object = ~objects.is_crowd
        self._num_objects = max(1, int(self._is_object.sum()))
        matching = match(overlaps, thresholds=np.array([_SAME]), max_detections=len(found.score) or 1)
        self._object_of = matching.object_of[0]
        is_known = matching.is_right[0] | matching.is_wrong[0]
        # The part of detections of a score that is right.
        self._trust = _rising(found.score, matching.is_right[0], is_known.astype(float))
        is_same = found.class_index[overlaps.pair_found] == objects.class_index[overlaps.pair_object]
        self._is_same = is_same

    # ---- the kinds

    def missed(self) -> Iterator[Suspect]:
        """Detections that touch no label, the best one of those that touch each other."""
        found, trust = self._table.found, self._trust
        rows = self._alone()
        share = np.searchsorted(np.sort(-trust[rows]), -trust[rows], side="right") / self._num_objects
        for row, part in zip(rows.tolist(), share.tolist(), strict=True):
            name = self._class_found(row)
            yield Suspect(
                kind="missed",
                score=float(trust[row] * _rarity(part)),
                image_id=self._table.image_ids[found.image[row]],
                annotation_id=None,
                position=int(found.position[row]),
                label=None,
                proposal=name,
                reason=f"The model finds {_quoted(name)} here with score {found.score[row]:.2f}, and no "
                f"label touches it. Of its detections with such scores, {trust[row]:.0%} are right.",
            )

    def wrong_classes(self) -> Iterator[Suspect]:
        """Labels where detections of another class fit and are trusted more than those of the own class.

        A label of the wrong class looks as the others do with the two classes exchanged.
        """
        table, found = self._table, self._table.found
        fits = table.pair_iou >= _SAME
        weight = self._trust[table.pair_found] * fits
        own = self._best_of_objects(np.where(self._is_same, weight, 0))
        other, rows = self._best_with_row(np.where(self._is_same, 0, weight))
        judged = np.flatnonzero(self._is_object & (own + other > 0))
        if not len(judged):
            return
        # Relative to the trust: how sure it is that something is there says nothing about its class.
        little = _LITTLE * float(np.median((own + other)[judged]))
        evidence = ((other - own) / (other + own + little))[judged]
        scores = _likeness(evidence, -evidence, _USUAL_SHARE * len(judged))
        scores *= self._rarity_in_class(judged, evidence > 0)
        for g, value, score in zip(judged.tolist(), evidence.tolist(), scores.tolist(), strict=True):
            if value <= 0:
                continue
            row = int(table.pair_found[rows[g]])
            label, proposal = self._class_of(g), self._class_found(row)
            yield self._suspect(
                "wrong_class",
                score,
                g,
                row,
                f"The label is {_quoted(label)}. The model finds {_quoted(proposal)} with score "
                f"{found.score[row]:.2f} and the same mask (IoU {table.pair_iou[rows[g]]:.2f}), and "
                + (f"{_quoted(label)} with less trust." if own[g] > 0 else f"no {_quoted(label)}."),
            )

    def loose_masks(self) -> Iterator[Suspect]:
        """Labels whose mask fits the best detection worse than the masks of this class usually do."""
        table, found = self._table, self._table.found
        # A loose mask may overlap its detection by less than half.
        is_candidate = self._is_same & (table.pair_iou >= 0.25)
        _, rows = self._best_with_row(np.where(is_candidate, table.pair_iou, 0))
        owned = np.flatnonzero((rows >= 0) & self._is_object)
        if not len(owned):
            return
        pairs = rows[owned]
        detection = table.pair_found[pairs]
        of_boundary = boundary_ious(
            [self._mask_found(row) for row in detection.tolist()],
            [self._truth.masks[table.objects.position[g]] for g in owned.tolist()],
        )
        # The boxes of a model are often better than its masks, and the boundary shows more than the mask.
        fit = (table.pair_iou[pairs] + of_boundary + self._box_fit(detection, owned)) / 3
        trust = self._trust[detection]
        usual, spread = self._usual_fit(fit, table.objects.class_index[owned], trust)
        badness = (usual - fit) / spread
        share = _shares_above(badness, np.ones(len(badness), bool))
        # One of the two masks is loose, and a model whose masks usually fit with 0.7 may have drawn it.
        sureness = trust * usual**2 * (1 - np.exp(-(badness - 1).clip(0)))
        for g, pair, row, sure, part, normal, own_fit in zip(
            *(owned.tolist(), pairs.tolist(), detection.tolist()),
            *(sureness.tolist(), share.tolist(), usual.tolist(), fit.tolist()),
            strict=True,
        ):
            if sure <= 0:
                continue
            yield self._suspect(
                "loose_mask",
                sure * _rarity(part),
                g,
                row,
                f"The mask fits that of the model (score {found.score[row]:.2f}) with IoU "
                f"{table.pair_iou[pair]:.2f}. Masks, boundaries and boxes of "
                f"{_quoted(self._class_of(g))} usually fit with {normal:.2f}, here with {own_fit:.2f}.",
            )

    def duplicates(self) -> Iterator[Suspect]:
        """The later one of two labels with nearly the same mask, whatever their classes and the model."""
        objects = self._table.objects
        starts = np.searchsorted(objects.image, np.arange(len(self._table.image_ids) + 1))
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            rows = [g for g in range(start, end) if self._is_object[g]]
            if len(rows) < 2:
                continue
            masks = [self._truth.masks[objects.position[g]] for g in rows]
            iou = np.triu(mask_overlaps(masks, masks, [False] * len(masks)), 1)
            low, high = _DUPLICATE
            for column in np.flatnonzero(iou.max(axis=0) > low).tolist():
                row = int(iou[:, column].argmax())
                value = float(iou[row, column])
                other = self._coco.annotations[objects.position[rows[row]]].id
                yield self._suspect(
                    "duplicate",
                    min(1.0, (value - low) / (high - low)),
                    rows[column],
                    None,
                    f"Annotation {shorten(str(other), 40)}, {_quoted(self._class_of(rows[row]))}, has nearly "
                    f"the same mask (IoU {value:.2f}).",
                    other_id=other,
                )

    def spurious(self) -> Iterator[Suspect]:
        """Labels that no detection supports, of any class and with any score."""
        table = self._table
        # By the score itself: where the trust is 0, a detection still is more than none.
        support = self._best_of_objects(table.found.score[table.pair_found] * table.pair_iou)
        is_predicted = np.array([id in self._results for id in table.image_ids], bool)
        is_judged = self._is_object & is_predicted[table.objects.image]
        usual = float(np.median(support[is_judged])) if is_judged.any() else 0.0
        if usual <= 0:  # a model that finds nothing says nothing about labels
            return
        # Where nothing is, a model finds nothing; a little support is much more than none.
        evidence = np.where(is_judged, np.exp(-support / (_LITTLE * usual)), 0)
        share = _shares_above(evidence, is_judged)
        judged = np.flatnonzero(is_judged)
        in_class = np.ones(len(evidence))
        in_class[judged] = self._rarity_in_class(judged, evidence[judged] > 0.5)
        for g in np.flatnonzero(evidence > _LEAST_SCORE).tolist():
            nothing = support[g] == 0
            yield self._suspect(
                "spurious",
                evidence[g] * _rarity(share[g]) * in_class[g],
                g,
                None,
                (
                    "The model finds nothing here, with any score"
                    if nothing
                    else "The model hardly finds anything here"
                )
                + f"; it does so for {share[g]:.0%} of all labels.",
            )

    # ---- parts

    def _alone(self) -> NDArray[np.int64]:
        """Detections with some trust that touch no label; of those that touch each other, the best one."""
        found = self._table.found
        touches = np.zeros(len(found.score), bool)
        touches[self._table.pair_found[self._table.pair_iou >= _TOUCHES]] = True
        rows = np.flatnonzero(~touches & (self._trust >= _LEAST_SCORE))
        taken: dict[int, list[Rle]] = {}
        kept: list[int] = []
        for row in rows[np.argsort(-found.score[rows], kind="stable")].tolist():
            others, mask = taken.setdefault(int(found.image[row]), []), self._mask_found(row)
            if others and mask_overlaps([mask], others, [False] * len(others)).max() >= _TOUCHES:
                continue
            others.append(mask)
            kept.append(row)
        return np.array(kept, np.int64)

    def _suspect(
        self,
        kind: SuspectKind,
        score: float,
        g: int,
        row: int | None,
        reason: str,
        other_id: Id | None = None,
    ) -> Suspect:
        annotation = self._coco.annotations[self._table.objects.position[g]]
        return Suspect(
            kind=kind,
            score=float(min(max(score, 0.0), 1.0)),
            image_id=annotation.image_id,
            annotation_id=annotation.id,
            position=None if row is None else int(self._table.found.position[row]),
            label=self._class_of(g),
            proposal=None if row is None else self._class_found(row),
            reason=reason,
            other_id=other_id,
        )

    def _rarity_in_class(self, rows: NDArray[np.int64], is_odd: NDArray[np.bool_]) -> _Floats:
        """[N], for objects: less than 1 in a class of which more are odd than are wrong usually.

        The model may not know the class. Two odd labels of a class may be wrong, however few it has.
        """
        classes = self._table.objects.class_index[rows]
        number = np.bincount(classes, minlength=len(self._names))
        odd = np.bincount(classes[is_odd], minlength=len(self._names))
        return np.minimum(1, (_USUAL_SHARE * number + 2) / np.maximum(odd, 1))[classes]

    def _best_of_objects(self, weight: _Floats) -> _Floats:
        """[G]: the highest weight [P] of the pairs of each object; 0 without any."""
        best = np.zeros(len(self._table.objects.image))
        np.maximum.at(best, self._table.pair_object, weight)
        return best

    def _best_with_row(self, weight: _Floats) -> tuple[_Floats, NDArray[np.int64]]:
        """[G]: the highest weight [P] of the pairs of each object, and that pair; 0 and -1 without any."""
        best, rows = np.zeros(len(self._table.objects.image)), np.full(len(self._table.objects.image), -1)
        order = np.argsort(weight, kind="stable")
        order = order[weight[order] > 0]
        rows[self._table.pair_object[order]] = order  # the last one stays
        best[rows >= 0] = weight[rows[rows >= 0]]
        return best, rows

    def _usual_fit(self, fit: _Floats, classes: NDArray[np.int32], trust: _Floats) -> tuple[_Floats, _Floats]:
        """The median fit of the labels of the class with a trusted detection, and its robust spread."""
        usual, spread = np.zeros(len(fit)), np.ones(len(fit))
        is_trusted = trust >= np.median(trust)
        for k in np.unique(classes):
            own = classes == k
            values = fit[own & is_trusted] if (own & is_trusted).sum() >= 5 else fit
            middle = float(np.median(values))
            usual[own] = middle
            spread[own] = max(0.03, 1.4826 * float(np.median(np.abs(values - middle))))
        return usual, spread

    def _box_fit(self, detections: NDArray[np.int32], objects: NDArray[np.int64]) -> _Floats:
        """[N]: the IoU of the boxes of N detections and objects."""
        table = self._table
        boxes = rle_boxes_xywh([self._mask_found(row) for row in detections.tolist()])
        own = rle_boxes_xywh([self._truth.masks[g] for g in table.objects.position[objects].tolist()])
        low = np.maximum(boxes[:, :2], own[:, :2])
        high = np.minimum(boxes[:, :2] + boxes[:, 2:], own[:, :2] + own[:, 2:])
        shared = (high - low).clip(0).prod(axis=1)
        union = boxes[:, 2:].prod(axis=1) + own[:, 2:].prod(axis=1) - shared
        return shared / np.maximum(union, 1)

    def _mask_found(self, row: int) -> Rle:
        found = self._table.found
        return self._results[self._table.image_ids[found.image[row]]].masks[found.position[row]]

    def _class_found(self, row: int) -> str:
        return self._names[self._table.found.class_index[row]]

    def _class_of(self, g: int) -> str:
        return self._names[self._table.objects.class_index[g]]


def _rarity(share: float) -> float:
    """1 for what is found for few labels, less for what is found for more than `_USUAL_SHARE` of them."""
    return min(1.0, _USUAL_SHARE / share) if share > 0 else 1.0


def _shares_above(values: _Floats, is_counted: NDArray[np.bool_]) -> _Floats:
    """[N]: the part of the counted values that are at least as high as each value."""
    ordered = np.sort(values[is_counted])
    return (len(ordered) - np.searchsorted(ordered, values, side="left")) / max(1, len(ordered))


def _likeness(values: _Floats, imitated: _Floats, number: float) -> _Floats:
    """[N]: how likely errors explain each value, 0..1: their number at such values, over that of all values.

    imitated: [M], what errors look like; number: how many errors are expected. Higher values never get less.
    """
    pooled = np.concatenate([values, imitated])
    weight = np.concatenate([np.ones(len(values)), np.full(len(imitated), number / max(1, len(imitated)))])
    part = _rising(pooled, np.arange(len(pooled)) >= len(values), weight)[: len(values)]
    return np.minimum(1, part / np.maximum(1 - part, 1e-12))


def _rising(values: _Floats, is_one: NDArray[np.bool_], weight: _Floats) -> _Floats:
    """[N]: the weighted part of ones at each value, as a function that never falls with the value.

    Pool-adjacent-violators (M. Ayer et al., 1955). Equal values get equal parts; 0 if nothing has weight.
    """
    levels, place = np.unique(values, return_inverse=True)
    ones = np.bincount(place, weight * is_one, len(levels))
    sums: list[list[float]] = []  # weight of ones, weight and number of levels of a block
    for one, whole in zip(ones.tolist(), np.bincount(place, weight, len(levels)).tolist(), strict=True):
        sums.append([one, whole, 1])
        while len(sums) > 1 and sums[-2][0] * sums[-1][1] >= sums[-1][0] * sums[-2][1]:
            block = sums.pop()
            sums[-1] = [first + second for first, second in zip(sums[-1], block, strict=True)]
    shares = [one / whole if whole else 0.0 for one, whole, _ in sums]
    part = np.repeat(shares, [int(number) for _, _, number in sums])
    return part[place]


def _quoted(name: str) -> str:
    return f"“{shorten(name, 40)}”"
