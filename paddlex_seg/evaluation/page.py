"""The page of an evaluation: its figures and its analysis as the records that `reports.evaluation` draws."""

from collections.abc import Mapping, Sequence

import numpy as np

from paddlex_seg.evaluation.analysis import Analysis
from paddlex_seg.evaluation.label_review import SUSPECT_NAMES, Suspect
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.metrics.coco_ap import ApSummary, CocoMetrics
from paddlex_seg.metrics.counts import ClassCount
from paddlex_seg.metrics.curves import SCORES, Curve
from paddlex_seg.metrics.matching import RECALLS
from paddlex_seg.metrics.tide import ErrorKind
from paddlex_seg.reports import evaluation_records as records
from paddlex_seg.reports.evaluation_images import choose_images, count_mistakes, drawn_images
from paddlex_seg.structures import CocoFile, Id, Instances

# Name and meaning of each of TIDE's errors.
_ERRORS: Mapping[ErrorKind, tuple[str, str]] = {
    "missed": ("Missed objects", "No detection comes near the object."),
    "place": ("Loose masks", "The class is right, but the mask fits too badly (IoU 0.1 to 0.5)."),
    "class": ("Wrong class", "The mask fits an object of another class."),
    "both": ("Wrong class and loose mask", "The mask fits an object of another class badly."),
    "duplicate": ("Duplicates", "The object was found already, with a better score."),
    "background": ("False detections", "No object is there, or one with an IoU below 0.1."),
}
_MOST_SUSPECTS, _LEAST_SUSPICIOUS = 40, 0.1  # on the page, and their lowest score
_SCORES = (
    ("AP", "mean over IoU 0.50 to 0.95"),
    ("AP50", "IoU 0.50"),
    ("AP75", "IoU 0.75"),
    ("APs", "small objects, below 32 x 32 pixels"),
    ("APm", "medium objects"),
    ("APl", "large objects, above 96 x 96 pixels"),
    ("AR1", "recall with 1 detection per image and class"),
    ("AR10", "recall with 10"),
    ("AR100", "recall with 100"),
    ("ARs", "recall of small objects"),
    ("ARm", "recall of medium objects"),
    ("ARl", "recall of large objects"),
)


def evaluation_page(
    title: str,
    coco: CocoFile,
    results: Mapping[Id, Instances],
    metrics: CocoMetrics,
    analysis: Analysis,
    *,
    facts: Sequence[tuple[str, str]],
    suspects: Sequence[Suspect] = (),
    notes: Sequence[str] = (),
) -> records.EvaluationPage:
    """The page. facts: what was evaluated, such as the weights. suspects: labels to review, worst first."""
    thresholds = analysis.thresholds
    shown = [one for one in suspects if one.score >= _LEAST_SUSPICIOUS]
    best = analysis.curves.all.best
    has_masks = analysis.overlaps.kind != "bbox"
    worst: tuple[Id, ...] = ()
    good: tuple[Id, ...] = ()
    if has_masks:
        worst, good = choose_images(count_mistakes(coco, analysis.overlaps, analysis.matching, thresholds))
    drawn = [
        drawn_images(ids, coco, results, analysis.overlaps, analysis.matching, thresholds)
        for ids in (worst, good)
    ]
    return records.EvaluationPage(
        title=title,
        verdict=analysis.verdict,
        facts=tuple(records.Fact(*fact) for fact in facts),
        tiles=_tiles(metrics, analysis),
        errors=tuple(
            records.ErrorCost(name, cost.ap_lost, cost.count, meaning)
            for kind, (name, meaning) in _ERRORS.items()
            for cost in [analysis.tide.kinds[kind]]
        ),
        scores=_score_rows(metrics, analysis, has_masks),
        classes=_class_rows(metrics, analysis),
        precision_recall=_precision_recall(analysis),
        over_score=_over_score(analysis.curves.all),
        best_threshold=None if best is None else best.threshold,
        confusion=records.Confusion(
            names=tuple(analysis.names[id] for id in analysis.overlaps.category_ids),
            counts=np.array(analysis.confusion.matrix, np.int64),
            iou_threshold=analysis.confusion.iou,
        ),
        calibration=records.Calibration(
            error=analysis.calibration.ece,
            bins=tuple(
                records.ReliabilityBin(one.low, one.high, one.count, one.mean_score, one.precision)
                for one in analysis.calibration.bins
            ),
        ),
        counts=_count_rows(analysis),
        slices=tuple(
            records.SliceRow(
                one.group, one.value, one.num_images, one.num_objects, one.ap, _interval(one.interval)
            )
            for one in analysis.slices
        ),
        worst=drawn[0],
        best=drawn[1],
        suspicions=_suspicions(shown[:_MOST_SUSPECTS], coco, results),
        num_suspicions=len(shown),
        notes=(*([metrics.note] if metrics.note else []), *analysis.notes, *notes),
    )


def _suspicions(
    suspects: Sequence[Suspect], coco: CocoFile, results: Mapping[Id, Instances]
) -> tuple[records.Suspicion, ...]:
    images = {image.id: image for image in coco.images}
    annotations = {one.id: one for one in coco.annotations}
    shown = []
    for one in suspects:
        image, truth, proposal = images[one.image_id], None, None
        if one.annotation_id is not None and one.label is not None:
            mask = annotation_to_rle(annotations[one.annotation_id], image.height, image.width)
            truth = records.DrawnMask(mask, one.label, "wrong")
        if one.position is not None and one.proposal is not None:
            found = results[one.image_id]
            score = float(found.scores[one.position])
            proposal = records.DrawnMask(found.masks[one.position], one.proposal, score=score)
        shown.append(
            records.Suspicion(
                kind=SUSPECT_NAMES[one.kind],
                score=one.score,
                file_name=image.file_name,
                width=image.width,
                height=image.height,
                reason=one.reason,
                truth=truth,
                proposal=proposal,
            )
        )
    return tuple(shown)


def _interval(value: object) -> records.Interval | None:
    low, high = getattr(value, "low", None), getattr(value, "high", None)
    return None if low is None or high is None else records.Interval(low, high)


def _tiles(metrics: CocoMetrics, analysis: Analysis) -> tuple[records.Tile, ...]:
    sure = analysis.intervals
    of_ap, of_50 = (None, None) if sure is None else (_interval(sure.AP), _interval(sure.AP50))
    if analysis.boundary is None:
        return (
            records.Tile("Box AP", metrics.bbox.AP, of_ap),
            records.Tile("Box AP50", metrics.bbox.AP50, of_50),
        )
    tiles = [
        records.Tile("Mask AP", metrics.segm.AP, of_ap),
        records.Tile("Mask AP50", metrics.segm.AP50, of_50),
        records.Tile("Mask AP75", metrics.segm.AP75),
        records.Tile(
            "Boundary AP", analysis.boundary.AP, None if sure is None else _interval(sure.boundary_AP)
        ),
        records.Tile("Box AP", metrics.bbox.AP),
    ]
    if metrics.all_detections is not None:
        name = f"Mask AP, up to {metrics.all_detections.max_detections} detections"
        tiles.insert(1, records.Tile(name, metrics.all_detections.segm.AP))
    return tuple(tiles)


def _score_rows(metrics: CocoMetrics, analysis: Analysis, has_masks: bool) -> tuple[records.ScoreRow, ...]:
    sure = analysis.intervals
    known = {} if sure is None else {"AP": _interval(sure.AP), "AP50": _interval(sure.AP50)}
    rows = [_score_row(name, meaning, metrics.segm, metrics.bbox) for name, meaning in _SCORES]
    if has_masks:
        rows = [row._replace(mask_interval=known.get(row.name)) for row in rows]
    if analysis.boundary is not None:
        meaning = "AP by the smaller one of mask IoU and boundary IoU"
        row = records.ScoreRow("Boundary AP", meaning, analysis.boundary.AP)
        rows.insert(3, row._replace(mask_interval=None if sure is None else _interval(sure.boundary_AP)))
    return tuple(rows)


def _score_row(name: str, meaning: str, segm: ApSummary, bbox: ApSummary) -> records.ScoreRow:
    return records.ScoreRow(name, meaning, getattr(segm, name), getattr(bbox, name))


def _class_rows(metrics: CocoMetrics, analysis: Analysis) -> tuple[records.ClassRow, ...]:
    rows = []
    for k, (own, curve) in enumerate(zip(metrics.classes, analysis.curves.classes, strict=True)):
        figures = own.bbox if analysis.boundary is None else own.segm
        best = curve.best
        rows.append(
            records.ClassRow(
                name=own.name,
                objects=curve.num_objects,
                detections=curve.num_found,
                ap=figures.AP,
                interval=None if analysis.intervals is None else _interval(analysis.intervals.classes[k]),
                ap50=figures.AP50,
                box_ap=own.bbox.AP,
                boundary_ap=None if analysis.boundary is None else analysis.boundary.classes[k],
                threshold=None if best is None else best.threshold,
                precision=None if best is None else best.precision,
                recall=None if best is None else best.recall,
                f1=None if best is None else best.f1,
            )
        )
    return tuple(rows)


def _precision_recall(analysis: Analysis) -> tuple[records.Line, ...]:
    """That of all classes, then those of the classes with most objects."""
    classes = sorted(analysis.curves.classes, key=lambda one: -one.num_objects)
    named = [("All classes", analysis.curves.all)] if len(classes) > 1 else []
    named += [(analysis.names[one.category_id], one) for one in classes if one.category_id is not None]
    return tuple(
        records.Line(name, RECALLS, np.array(curve.precision_at_recall))
        for name, curve in named
        if curve.precision_at_recall
    )


def _over_score(curve: Curve) -> tuple[records.Line, ...]:
    if curve.best is None:
        return ()
    named = (("F1", curve.f1), ("Precision", curve.precision), ("Recall", curve.recall))
    return tuple(records.Line(name, SCORES, np.array(values, float)) for name, values in named)


def _count_rows(analysis: Analysis) -> tuple[records.CountRow, ...]:
    rows = [_count_row("All classes", analysis.counts.all)] if len(analysis.counts.classes) != 1 else []
    for one in analysis.counts.classes:
        name = "" if one.category_id is None else analysis.names[one.category_id]
        rows.append(_count_row(name, one))
    return tuple(rows)


def _count_row(name: str, one: ClassCount) -> records.CountRow:
    return records.CountRow(
        name=name,
        objects=one.num_objects,
        detections=one.num_found,
        mean_error=one.mean_error,
        mean_absolute_error=one.mean_absolute_error,
        area_error=one.right_area_error,
        area_absolute_error=one.right_absolute_area_error,
    )
