"""Compares what two models find in the same images: do they give the same objects?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.inference.certificate import Verdict
from paddlex_seg.masks.rle import rle_areas
from paddlex_seg.metrics.coco_ap import MOST_COUNTED, evaluate_coco
from paddlex_seg.metrics.matches import match_instances
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord, Instances

WIDE_MODELS = ("Mask-RT-DETR-X", "Mask-RT-DETR-H")
WHY_WIDE = (
    "Mask-RT-DETR-X and -H have the widest necks (384 and 512 channels). Runtimes add such long sums in "
    "another order, and their scores differ several times as much as those of smaller models"
)


@dataclass(frozen=True)
class Limits:
    """What may differ between a model and its copy in another form. Shares and IoUs are 0..1."""

    score: float = 0.05  # detections with a higher score are compared
    least_iou: float = 0.5  # of masks of partners
    matched: float = 0.99  # share of the detections of each side that have a partner
    mean_iou: float = 0.999
    good_iou: float = 0.98
    good_share: float = 0.99  # of the pairs, with at least good_iou
    worst_iou: float = 0.9
    score_difference: float = 1e-3
    score_difference_reason: str = ""
    ap: float = 0.98  # mask AP of each side with the other as truth

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: value for key, value in asdict(self).items() if value != ""}


def limits_for(model_name: str) -> Limits:
    """The limits of a model."""
    if model_name in WIDE_MODELS:
        return replace(Limits(), score_difference=5e-3, score_difference_reason=WHY_WIDE)
    return Limits()


@dataclass(frozen=True)
class Finding:
    """What a model finds in some images: instances by the name of the image, and names of class indices."""

    labels: tuple[str, ...]
    images: Mapping[str, Instances]

    def of(self, names: Sequence[str]) -> "Finding":
        """The same for some of the images."""
        return replace(self, images={name: self.images[name] for name in names})


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`. ``problems`` are sentences: limit, what was found, what was expected."""

    verdict: Verdict
    problems: tuple[str, ...]
    figures: Mapping[str, Any]


def compare(reference: Finding, candidate: Finding, limits: Limits) -> Comparison:
    """Compare what two models find in the same images.

    A detection just above the score limit may have its partner just below.
    """
    assert list(reference.images) == list(candidate.images)
    # Classes are the same if their names are. Both sides are converted: a name may be there twice.
    candidate = _with_classes_of(candidate, reference.labels)
    reference = _with_classes_of(reference, reference.labels)
    counts = np.zeros((2, 2), np.int64)  # [reference and candidate, all and those with a partner]
    ious: list[NDArray[np.float64]] = [np.empty(0)]
    differences: list[NDArray[np.float64]] = [np.empty(0)]
    for name in reference.images:
        sides = [side.images[name].above(_least_score(limits)) for side in (reference, candidate)]
        matches = match_instances(*sides, least_iou=limits.least_iou)
        scores = [side.scores.astype(np.float64) for side in sides]
        paired = [scores[side][matches.pairs[:, side]] for side in (0, 1)]
        for side in (0, 1):
            counts[side] += [(scores[side] > limits.score).sum(), (paired[side] > limits.score).sum()]
        counted = np.maximum(*paired) > limits.score
        ious.append(matches.ious[counted])
        differences.append(np.abs(paired[0] - paired[1])[counted])
    if not counts[:, 0].any():
        return Comparison("proved nothing", (), {"detections": {"reference": 0, "candidate": 0}})
    figures = _figures(counts, np.concatenate(ious), np.concatenate(differences), limits)
    figures["ap"] = _both_aps(reference, candidate, limits)
    problems = tuple(_problems(figures, limits))
    return Comparison("failed" if problems else "passed", problems, figures)


def _with_classes_of(finding: Finding, labels: Sequence[str]) -> Finding:
    """The finding with the class indices of other labels. A name that is not there gets a further index."""
    known = {name: index for index, name in reversed(list(enumerate(labels)))}
    new = np.array([known.setdefault(name, len(labels) + len(known)) for name in finding.labels], np.int64)
    images = {
        name: replace(found, class_ids=new[found.class_ids.clip(max=len(new) - 1)])
        for name, found in finding.images.items()
    }
    return Finding(tuple(labels), images)


def _figures(
    counts: NDArray[np.int64], ious: NDArray[np.float64], differences: NDArray[np.float64], limits: Limits
) -> dict[str, Any]:
    shares = [float(matched / found) if found else 1.0 for found, matched in counts]
    return {
        "detections": {"reference": int(counts[0, 0]), "candidate": int(counts[1, 0]), "pairs": len(ious)},
        "matched": {"reference": shares[0], "candidate": shares[1]},
        "mask_iou": {
            "mean": float(ious.mean()) if len(ious) else None,
            "least": float(ious.min()) if len(ious) else None,
            "good_share": float((ious >= limits.good_iou).mean()) if len(ious) else None,
        },
        "score_difference": float(differences.max(initial=0)),
    }


def _problems(figures: Mapping[str, Any], limits: Limits) -> list[str]:
    found, iou, ap = figures["detections"], figures["mask_iou"], figures["ap"]
    problems = [
        f"{share:.2%} of the {found[side]} detections of the {side} above score {limits.score} have a "
        f"partner of the same class with mask IoU {limits.least_iou} or more; expected {limits.matched:.0%}"
        for side, share in figures["matched"].items()
        if share < limits.matched
    ]
    if found["pairs"]:
        if iou["mean"] < limits.mean_iou:
            problems.append(f"the mean mask IoU of pairs is {iou['mean']:.5f}; expected {limits.mean_iou}")
        if iou["good_share"] < limits.good_share:
            problems.append(
                f"{iou['good_share']:.2%} of the pairs have a mask IoU of {limits.good_iou}; expected "
                f"{limits.good_share:.0%}"
            )
        if iou["least"] < limits.worst_iou:
            problems.append(
                f"the least mask IoU of a pair is {iou['least']:.4f}; expected {limits.worst_iou}"
            )
        if figures["score_difference"] > limits.score_difference:
            problems.append(
                f"scores of a pair differ by {figures['score_difference']:.2g}; expected at most "
                f"{limits.score_difference:g}"
            )
    for direction in ("candidate_against_reference", "reference_against_candidate"):
        if ap[direction] is not None and ap[direction] < limits.ap:
            problems.append(
                f"the mask AP of the {direction.replace('_', ' ')} is {ap[direction]:.4f}; expected "
                f"{limits.ap}"
            )
    return problems


def _both_aps(reference: Finding, candidate: Finding, limits: Limits) -> dict[str, float | None]:
    """The mask AP of each with what the other found as truth: 1 if they are equal."""
    truth, found = (
        [
            replace(side, images={name: _counted(one, least) for name, one in side.images.items()})
            for side in (reference, candidate)
        ]
        for least in (limits.score, _least_score(limits))
    )
    return {
        "candidate_against_reference": _ap(truth[0], found[1]),
        "reference_against_candidate": _ap(truth[1], found[0]),
    }


def _least_score(limits: Limits) -> float:
    """The score above which detections can be partners of one that is compared."""
    return limits.score - 2 * limits.score_difference


def _counted(found: Instances, least_score: float) -> Instances:
    """The instances that COCO's AP counts. With others in the truth, the AP of equal results is below 1."""
    found = found.above(least_score)
    found = found.take(np.flatnonzero(rle_areas(found.masks) > 0))
    rank: Counter[int] = Counter()
    keep = []
    for place, class_id in enumerate(found.class_ids.tolist()):
        rank[class_id] += 1
        if rank[class_id] <= MOST_COUNTED:
            keep.append(place)
    return found.take(np.array(keep, np.int64))


def _ap(truth: Finding, found: Finding) -> float | None:
    """The mask AP of ``found``; None if ``truth`` has no instances."""
    classes = sorted(
        {int(id) for side in (truth, found) for one in side.images.values() for id in one.class_ids}
    )
    images = tuple(
        ImageRecord(name, name, one.size_hw[1], one.size_hw[0]) for name, one in truth.images.items()
    )
    rows = [
        (name, int(class_id), mask)
        for name, one in truth.images.items()
        for class_id, mask in zip(one.class_ids, one.masks, strict=True)
    ]
    annotations = tuple(
        Annotation(id=number, image_id=name, category_id=class_id, segmentation=mask)
        for number, (name, class_id, mask) in enumerate(rows, start=1)
    )
    coco = CocoFile(Path("truth"), images, annotations, tuple(Category(id, str(id)) for id in classes))
    results: dict[Id, Instances] = {name: one for name, one in found.images.items()}
    return evaluate_coco(coco, results, range(max(classes, default=0) + 1)).segm.AP
