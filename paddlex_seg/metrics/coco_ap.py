"""COCO's average precision and recall of masks and boxes, equal to pycocotools on the saved predictions.

They are computed from the table of `overlaps` by `matching`. Boxes and areas that do not fit the masks are
taken from the masks, see `data.coco.numbers`. COCO's own files give COCO's official numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.metrics.matching import (
    AREA_RANGES,
    MOST_COUNTED,
    average_precision,
    match,
    mean_of_defined,
    recall,
)
from paddlex_seg.metrics.overlaps import (
    Overlaps,
    Truth,
    measure_overlaps,
    truth_as_in_file,
    truth_of,
)
from paddlex_seg.structures import CocoFile, Id, Instances

IouType = Literal["segm", "bbox"]


@dataclass(frozen=True)
class ApSummary:
    """COCO's twelve numbers, 0..1; None if there is no object (of that size).

    Small objects have an area below 32 x 32 pixels, large ones above 96 x 96. AR<n> is the recall with at
    most n detections per image and class.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float | None
    AR10: float | None
    AR100: float | None
    ARs: float | None
    ARm: float | None
    ARl: float | None


@dataclass(frozen=True)
class ClassAp:
    """The figures of one class; None if the file has no object of this class."""

    category_id: Id
    name: str
    segm: ApSummary
    bbox: ApSummary

    @property
    def AP(self) -> float | None:
        """The mask AP."""
        return self.segm.AP


class Tables(NamedTuple):
    """What all metrics of an evaluation are computed from."""

    truth: Truth
    segm: Overlaps | None  # None if the detections have no masks
    bbox: Overlaps


@dataclass(frozen=True)
class FileNumbers:
    """The result with the boxes and areas of the annotation file, of which some do not fit the masks."""

    segm: ApSummary
    bbox: ApSummary
    num_boxes: int  # that do not fit
    num_areas: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Lines of text for the log."""
        return [
            f"{self.num_boxes} boxes and {self.num_areas} areas in the annotation file do not fit the masks. "
            "The numbers above use those of the masks. With those of the file, as pycocotools computes:",
            *_summary_lines(self.segm, self.bbox),
        ]


@dataclass(frozen=True)
class AllDetections:
    """The result if all detections count, not only the best 100 of a class in an image."""

    max_detections: int  # the most of a class in an image
    segm: ApSummary
    bbox: ApSummary

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON. The recall of all detections has their number in its name."""
        name = f"AR{self.max_detections}"
        return {
            "max_detections": self.max_detections,
            **{
                kind: {name if key == "AR100" else key: value for key, value in asdict(summary).items()}
                for kind, summary in (("segm", self.segm), ("bbox", self.bbox))
            },
        }

    def lines(self) -> list[str]:
        """Lines of text for the log."""
        return [
            f"With all detections, up to {self.max_detections} of a class in an image (AR100: their recall):",
            *_summary_lines(self.segm, self.bbox),
        ]


@dataclass(frozen=True)
class CocoMetrics:
    """The result of an evaluation. ``note`` is empty, or says why numbers are missing or too low."""

    segm: ApSummary
    bbox: ApSummary
    classes: tuple[ClassAp, ...]
    note: str
    as_in_file: FileNumbers | None = None  # only if it was asked for, and differs
    all_detections: AllDetections | None = None  # only if images have more objects than COCO's AP counts

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, missing numbers as null. ``AP`` at the top is the mask AP."""
        own = {"as_in_file": self.as_in_file, "all_detections": self.all_detections}
        return {
            "AP": self.segm.AP,
            "segm": asdict(self.segm),
            "bbox": asdict(self.bbox),
            "per_class": {one.name: one.AP for one in self.classes},
            "classes": [asdict(one) for one in self.classes],
            "note": self.note,
            **{key: value.to_json() for key, value in own.items() if value is not None},
        }

    def table(self) -> str:
        """The numbers as lines of text for the log."""
        lines = _summary_lines(self.segm, self.bbox)
        for other in (self.as_in_file, self.all_detections):
            lines += other.lines() if other is not None else []
        lines += ["mask AP per class:"]
        lines += [f"{_cell(one.AP)}  {one.name}" for one in self.classes]
        return "\n".join(lines + [self.note] * bool(self.note))


def measure_tables(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    category_ids: Sequence[Id],
    *,
    across_classes: bool = False,
    has_masks: bool = True,
) -> Tables:
    """The overlaps of masks and boxes, see `overlaps.measure_overlaps`."""
    truth = truth_of(coco)
    options: Any = {"truth": truth, "across_classes": across_classes}
    segm = measure_overlaps(coco, results, category_ids, "segm", **options) if has_masks else None
    return Tables(truth, segm, measure_overlaps(coco, results, category_ids, "bbox", **options))


def evaluate_coco(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    category_ids: Sequence[Id],
    *,
    also_as_in_file: bool = False,
    tables: Tables | None = None,
) -> CocoMetrics:
    """Evaluate ``results`` (by image id) against the annotations of ``coco``.

    category_ids: the category id of each class index. If an image is missing in ``results``, its objects
    count as missed. Boxes are not clipped. Crowd regions are ignored as in COCO. also_as_in_file: evaluate a
    second time with the boxes and areas of the file, if some of them do not fit the masks. tables: those of
    `measure_tables`, if they are there already.
    """
    tables = measure_tables(coco, results, category_ids) if tables is None else tables
    segm, bbox = _figures(tables.segm, MOST_COUNTED), _figures(tables.bbox, MOST_COUNTED)
    names = {category.id: category.name for category in coco.categories}
    classes = tuple(
        ClassAp(id, names[id], segm.of_class(k), bbox.of_class(k))
        for k, id in enumerate(tables.bbox.category_ids)
    )
    metrics = CocoMetrics(segm.summary(), bbox.summary(), classes, note=_note(coco, classes, tables))
    if also_as_in_file and tables.truth.differs_from_file:
        metrics = replace(metrics, as_in_file=_as_in_file(coco, results, category_ids, tables, metrics))
    if _most_of_a_class(coco) > MOST_COUNTED:
        most = max(MOST_COUNTED, 1 + int(tables.bbox.found.rank.max(initial=0)))
        metrics = replace(
            metrics,
            all_detections=AllDetections(
                max_detections=most,
                segm=_figures(tables.segm, most).summary(),
                bbox=_figures(tables.bbox, most).summary(),
            ),
        )
    return metrics


def results_to_coco_json(results: Mapping[Id, Instances], category_ids: Sequence[Id]) -> list[dict[str, Any]]:
    """Predictions (by image id) in COCO's result format, ready for ``json.dump``.

    Each row has both ``segmentation`` and ``bbox``. If a row has ``bbox``, pycocotools takes the area of the
    prediction from the box. Remove ``bbox`` to evaluate masks; this only affects small, medium and large.
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[class_id],
            "segmentation": rle_to_json(mask),
            "bbox": _xyxy_to_xywh(box),
            "score": float(score),
        }
        for image_id, found in results.items()
        for class_id, score, box, mask in zip(
            found.class_ids, found.scores, found.boxes_xyxy, found.masks, strict=True
        )
    ]


@dataclass(frozen=True)
class _Figures:
    """COCO's arrays. A missing table gives figures of None."""

    precision: Mapping[str, NDArray[np.float64]]  # by size: [T, 101, K], see `matching.average_precision`
    recall: Mapping[str, NDArray[np.float64]]  # by size, and for at most 1 and 10 detections: [T, K]

    def summary(self) -> ApSummary:
        """The figures of all classes."""
        return self._summary(slice(None))

    def of_class(self, k: int) -> ApSummary:
        """The figures of one class."""
        return self._summary(slice(k, k + 1))

    def _summary(self, classes: slice) -> ApSummary:
        ap = {size: values[..., classes] for size, values in self.precision.items()}
        ar = {size: values[..., classes] for size, values in self.recall.items()}
        return ApSummary(
            AP=mean_of_defined(ap["all"]),
            AP50=mean_of_defined(ap["all"][:1]),
            AP75=mean_of_defined(ap["all"][5:6]),
            APs=mean_of_defined(ap["small"]),
            APm=mean_of_defined(ap["medium"]),
            APl=mean_of_defined(ap["large"]),
            AR1=mean_of_defined(ar["1"]),
            AR10=mean_of_defined(ar["10"]),
            AR100=mean_of_defined(ar["all"]),
            ARs=mean_of_defined(ar["small"]),
            ARm=mean_of_defined(ar["medium"]),
            ARl=mean_of_defined(ar["large"]),
        )


def _figures(overlaps: Overlaps | None, max_detections: int) -> _Figures:
    if overlaps is None:
        return _Figures(
            dict.fromkeys(AREA_RANGES, np.zeros(0)), dict.fromkeys(("1", "10", *AREA_RANGES), np.zeros(0))
        )
    precision, recalls = {}, {}
    for size, area_range in AREA_RANGES.items():
        matching = match(overlaps, area_range=area_range, max_detections=max_detections)
        precision[size] = average_precision(overlaps, matching)
        recalls[size] = recall(overlaps, matching, max_detections)
        if size == "all":
            recalls |= {str(most): recall(overlaps, matching, most) for most in (1, 10)}
    return _Figures(precision, recalls)


def _as_in_file(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    category_ids: Sequence[Id],
    tables: Tables,
    metrics: CocoMetrics,
) -> FileNumbers | None:
    truth = truth_as_in_file(coco, tables.truth)
    segm = tables.segm
    if segm is not None:  # masks are those of the file already
        objects = replace(segm.objects, area=truth.areas[segm.objects.position])
        segm = replace(segm, objects=objects)
    bbox = measure_overlaps(coco, results, category_ids, "bbox", truth=truth, across_classes=False)
    own = FileNumbers(
        segm=_figures(segm, MOST_COUNTED).summary(),
        bbox=_figures(bbox, MOST_COUNTED).summary(),
        num_boxes=int(truth.numbers.box_is_replaced.sum()),
        num_areas=int(truth.numbers.area_is_replaced.sum()),
    )
    return None if (own.segm, own.bbox) == (metrics.segm, metrics.bbox) else own


def _summary_lines(segm: ApSummary, bbox: ApSummary) -> list[str]:
    summaries = {"segm": asdict(segm), "bbox": asdict(bbox)}
    lines = ["     " + "".join(f"{name:>7}" for name in summaries["segm"])]
    return lines + [f"{kind:5}" + "".join(map(_cell, row.values())) for kind, row in summaries.items()]


def _note(coco: CocoFile, classes: Sequence[ClassAp], tables: Tables) -> str:
    missing = [one.name for one in classes if one.bbox.AP is None]
    if missing and len(missing) == len(classes):
        kind = "objects other than crowds (iscrowd 1)" if coco.annotations else "objects"
        return f"{coco.path.name} has no {kind}, so AP cannot be computed."
    notes = []
    if tables.segm is None:
        notes = ["The detections have boxes only, so there are no figures of masks."]
    if missing:
        notes += [
            f"{coco.path.name} has no objects of {', '.join(missing)}. AP is the mean of the other classes."
        ]
    if _most_of_a_class(coco) > MOST_COUNTED:
        crowded = {image_id for (image_id, _), count in _counts(coco).items() if count > MOST_COUNTED}
        notes += [
            f"{len(crowded)} of {len(coco.images)} images have more than {MOST_COUNTED} objects of a class. "
            f"COCO's AP uses only the {MOST_COUNTED} best detections of a class in an image, so it stays "
            "below 1, however many are found. The figures with all detections are beside it."
        ]
    return " ".join(notes)


def _counts(coco: CocoFile) -> Counter[tuple[Id, Id]]:
    """The objects of each class in each image, without crowds."""
    return Counter((one.image_id, one.category_id) for one in coco.annotations if not one.iscrowd)


def _most_of_a_class(coco: CocoFile) -> int:
    return max(_counts(coco).values(), default=0)


def _xyxy_to_xywh(box: NDArray[np.float32]) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def _cell(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:7.3f}"
