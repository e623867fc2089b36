"""All that an evaluation says beside COCO's figures: why AP is what it is, and how sure it is.

Everything is computed from the match tables of one evaluation. Detections with masks are judged by their
masks, others by their boxes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.evaluation.slices import ImageLook, SliceResult, find_slices, measure_slices
from paddlex_seg.evaluation.verdict import Facts, verdict
from paddlex_seg.metrics.bootstrap import (
    Interval,
    bootstrap_ap,
    interval,
    intervals,
    mean_of_classes,
    precision_of_resamples,
    resample_weights,
)
from paddlex_seg.metrics.boundary import boundary_overlaps
from paddlex_seg.metrics.calibration import Calibration, calibrate
from paddlex_seg.metrics.coco_ap import Tables
from paddlex_seg.metrics.confusion import Confusion, confusion
from paddlex_seg.metrics.counts import Counts, count_errors
from paddlex_seg.metrics.curves import Curves, curves
from paddlex_seg.metrics.matching import Matching, average_precision, match, mean_of_defined
from paddlex_seg.metrics.overlaps import Overlaps
from paddlex_seg.metrics.tide import Tide, classify_errors, decompose_errors
from paddlex_seg.structures import CocoFile, Id, Instances

_MOST_FOR_SLICES = 200  # resamples; a data set may have dozens of slices
_MOST_IMAGES = 20  # of each list of images in the result file


@dataclass(frozen=True)
class BoundaryAp:
    """AP by the smaller one of mask IoU and boundary IoU, 0..1; None without objects."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    classes: tuple[float | None, ...]  # AP, in the order of `Overlaps.category_ids`


@dataclass(frozen=True)
class ApIntervals:
    """95 % intervals of AP over resamples of the images; None where there is none."""

    resamples: int
    AP: Interval | None
    AP50: Interval | None
    classes: tuple[Interval | None, ...]  # of AP, in the order of `Overlaps.category_ids`
    boundary_AP: Interval | None = None


@dataclass(frozen=True)
class Analysis:
    """The analysis of an evaluation. Tuples by class are in the order of ``overlaps.category_ids``."""

    overlaps: Overlaps  # of the masks, or of the boxes of detections without masks
    matching: Matching  # at COCO's ten IoU thresholds
    names: Mapping[Id, str]  # of the categories
    boundary: BoundaryAp | None  # None without masks
    curves: Curves
    tide: Tide
    confusion: Confusion
    calibration: Calibration
    counts: Counts
    intervals: ApIntervals | None
    slices: tuple[SliceResult, ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """[K]: the score threshold of each class with the best F1."""
        return np.array(self.curves.thresholds())

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON. Classes are listed with id and name, in one order everywhere."""
        best = [one.best for one in self.curves.classes]
        return {
            "verdict": list(self.verdict),
            "class_order": [{"id": id, "name": self.names[id]} for id in self.overlaps.category_ids],
            "boundary": None if self.boundary is None else asdict(self.boundary),
            "intervals": None if self.intervals is None else asdict(self.intervals),
            "best_thresholds": {
                "all": None if self.curves.all.best is None else asdict(self.curves.all.best),
                "classes": [None if one is None else asdict(one) for one in best],
            },
            "errors": {
                "iou": self.tide.iou,
                "background_iou": self.tide.background_iou,
                "AP": self.tide.ap,
                "kinds": {kind: asdict(cost) for kind, cost in self.tide.kinds.items()},
                "false_positives": asdict(self.tide.false_positives),
                "false_negatives": asdict(self.tide.false_negatives),
            },
            "confusion": {
                "iou": self.confusion.iou,
                "thresholds": list(self.confusion.thresholds),
                "matrix": [list(row) for row in self.confusion.matrix],
            },
            "calibration": asdict(self.calibration),
            "counts": asdict(self.counts),
            "slices": [asdict(one) for one in self.slices],
            "notes": list(self.notes),
        }


def analyse(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    tables: Tables,
    *,
    looks: Mapping[Id, ImageLook] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Analysis:
    """The analysis of ``results`` (by image id). tables: with pairs of two classes.

    looks: of `slices.measure_images`; None without images. resamples: of the bootstrap; 0: no intervals.
    """
    overlaps = tables.bbox if tables.segm is None else tables.segm
    matching = match(overlaps)
    weights = resample_weights(len(overlaps.image_ids), resamples, seed) if resamples else None
    table = boundary = None
    if tables.segm is not None:
        table = boundary_overlaps(tables.segm, coco, results, truth=tables.truth)
        boundary = _boundary_ap(table)
    of_ap = None if weights is None else _intervals(overlaps, matching, table, weights)
    slices, notes = find_slices(coco, tables.truth, looks)
    measured = measure_slices(
        slices,
        coco,
        tables.truth,
        results,
        overlaps,
        weights=None if weights is None else weights[:_MOST_FOR_SLICES],
    )
    over_score = curves(overlaps, matching)
    thresholds = over_score.thresholds()
    errors, tide = classify_errors(overlaps, matching), decompose_errors(overlaps, matching)
    names = {category.id: category.name for category in coco.categories}
    facts = Facts(
        overlaps=overlaps,
        matching=matching,
        names=names,
        errors=errors,
        tide=tide,
        curves=over_score,
        interval=None if of_ap is None else of_ap.AP,
        slices=measured,
    )
    return Analysis(
        overlaps=overlaps,
        matching=matching,
        names=names,
        boundary=boundary,
        curves=over_score,
        tide=tide,
        confusion=confusion(overlaps, matching, thresholds),
        calibration=calibrate(overlaps, matching),
        counts=count_errors(overlaps, matching, thresholds, num_worst=_MOST_IMAGES),
        intervals=of_ap,
        slices=tuple(measured),
        verdict=verdict(facts),
        notes=tuple(notes),
    )


def _boundary_ap(table: Overlaps) -> BoundaryAp:
    precision = average_precision(table, match(table))
    return BoundaryAp(
        AP=mean_of_defined(precision),
        AP50=mean_of_defined(precision[:1]),
        AP75=mean_of_defined(precision[5:6]),
        classes=tuple(mean_of_defined(precision[..., k]) for k in range(precision.shape[-1])),
    )


def _intervals(
    overlaps: Overlaps, matching: Matching, boundary: Overlaps | None, weights: NDArray[np.uint16]
) -> ApIntervals:
    precision = precision_of_resamples(overlaps, matching, weights)  # [B, T, K]
    total, of_classes = mean_of_classes(precision.mean(axis=1))
    at_50, _ = mean_of_classes(precision[:, 0])
    of_boundary = None if boundary is None else bootstrap_ap(boundary, match(boundary), weights)[0]
    return ApIntervals(
        resamples=len(weights),
        AP=interval(total),
        AP50=interval(at_50),
        classes=intervals(of_classes),
        boundary_AP=None if of_boundary is None else interval(of_boundary),
    )
