"""COCO's average precision and recall of masks and boxes, equal to pycocotools on the saved predictions.

faster-coco-eval does the computation. It is several times faster than pycocotools. We prepare the annotations
in two ways. All records are numbered from 1: ids may be text or have 128 bits, and some tools write the id 0,
which means "unmatched" inside the evaluation. Boxes and areas that do not fit the masks are taken from the
masks, see `data.coco.numbers`. COCO's own files give COCO's official numbers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from paddlex_seg.data.coco.numbers import ObjectNumbers, object_numbers
from paddlex_seg.masks.rle import annotation_to_rle, rle_to_json
from paddlex_seg.structures import Annotation, CocoFile, Id, Instances, Rle

IouType = Literal["segm", "bbox"]
MOST_COUNTED = 100  # detections per image and class that COCO's AP uses


@dataclass(frozen=True)
class ApSummary:
    """COCO's nine numbers, 0..1; None if there is no object (of that size).

    Small objects have an area below 32 x 32 pixels, large ones above 96 x 96. AR<n> is the recall with at
    most n detections per image.
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


@dataclass(frozen=True)
class ClassAp:
    """The mask AP of one class; None if the file has no object of this class."""

    category_id: Id
    name: str
    AP: float | None


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
class CocoMetrics:
    """The result of an evaluation. ``note`` is empty, or says why numbers are missing or too low."""

    segm: ApSummary
    bbox: ApSummary
    classes: tuple[ClassAp, ...]
    note: str
    as_in_file: FileNumbers | None = None  # only if it was asked for, and differs

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, missing numbers as null. ``AP`` at the top is the mask AP."""
        own = {"as_in_file": self.as_in_file.to_json()} if self.as_in_file else {}
        return {
            "AP": self.segm.AP,
            "segm": asdict(self.segm),
            "bbox": asdict(self.bbox),
            "per_class": {one.name: one.AP for one in self.classes},
            "note": self.note,
            **own,
        }

    def table(self) -> str:
        """The numbers as lines of text for the log."""
        lines = _summary_lines(self.segm, self.bbox)
        lines += self.as_in_file.lines() if self.as_in_file else []
        lines += ["mask AP per class:"]
        lines += [f"{_cell(one.AP)}  {one.name}" for one in self.classes]
        return "\n".join(lines + [self.note] * bool(self.note))


def evaluate_coco(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    category_ids: Sequence[Id],
    *,
    also_as_in_file: bool = False,
) -> CocoMetrics:
    """Evaluate ``results`` (by image id) against the annotations of ``coco``.

    category_ids: the category id of each class index. If an image is missing in ``results``, its objects
    count as missed. Boxes are not clipped. Crowd regions are ignored as in COCO. also_as_in_file: evaluate a
    second time with the boxes and areas of the file, if some of them do not fit the masks.
    """
    image_numbers = _numbers(image.id for image in coco.images)
    category_numbers = _numbers(category.id for category in coco.categories)
    rows = results_to_coco_json(
        {image_numbers[id]: found for id, found in results.items()},
        [category_numbers.get(id, 0) for id in category_ids],  # detections of category 0 are not evaluated
    )
    sizes = {image.id: (image.height, image.width) for image in coco.images}
    masks = [annotation_to_rle(item, *sizes[item.image_id]) for item in coco.annotations]
    numbers = object_numbers(coco.annotations, masks)
    document = _truth_document(coco, image_numbers, category_numbers, masks, numbers)
    segm, bbox = _evaluate(document, rows)
    names = {category_numbers[category.id]: category for category in coco.categories}
    per_class = segm.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class]
    classes = tuple(
        ClassAp(names[number].id, names[number].name, _mean(per_class[:, :, position]))
        for position, number in enumerate(segm.params.catIds)
    )
    metrics = CocoMetrics(_summary(segm), _summary(bbox), classes, note=_note(coco, classes))
    if also_as_in_file and (numbers.box_is_replaced.any() or numbers.area_is_replaced.any()):
        _put_file_numbers(document, coco.annotations)
        return replace(metrics, as_in_file=_as_in_file(metrics, numbers, *_evaluate(document, rows)))
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


def _numbers(ids: Iterable[Id]) -> dict[Id, int]:
    """A number from 1 for each id, in the order of the ids: COCO's evaluation breaks ties in this order."""
    ordered = sorted(ids, key=lambda id: (isinstance(id, str), id))
    return {id: number for number, id in enumerate(ordered, start=1)}


def _truth_document(
    coco: CocoFile,
    image_numbers: Mapping[Id, int],
    category_numbers: Mapping[Id, int],
    masks: Sequence[Rle],
    numbers: ObjectNumbers,
) -> dict[str, Any]:
    boxes, areas = numbers.boxes_xywh.tolist(), numbers.areas.tolist()
    return {
        "images": [
            {"id": image_numbers[image.id], "height": image.height, "width": image.width}
            for image in coco.images
        ],
        "categories": [
            {"id": category_numbers[category.id], "name": category.name} for category in coco.categories
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image_numbers[item.image_id],
                "category_id": category_numbers[item.category_id],
                "segmentation": mask,
                "bbox": box,
                "area": area,
                "iscrowd": int(item.iscrowd),
            }
            for number, (item, mask, box, area) in enumerate(
                zip(coco.annotations, masks, boxes, areas, strict=True), start=1
            )
        ],
    }


def _put_file_numbers(document: Mapping[str, Any], annotations: Sequence[Annotation]) -> None:
    """Put the boxes and areas of the annotation file into the document, as far as the file has them."""
    for entry, item in zip(document["annotations"], annotations, strict=True):
        if item.bbox_xywh is not None:
            entry["bbox"] = list(item.bbox_xywh)
        if item.area is not None:
            entry["area"] = float(item.area)


def _as_in_file(
    metrics: CocoMetrics, numbers: ObjectNumbers, segm: COCOeval_faster, bbox: COCOeval_faster
) -> FileNumbers | None:
    own = FileNumbers(
        segm=_summary(segm),
        bbox=_summary(bbox),
        num_boxes=int(numbers.box_is_replaced.sum()),
        num_areas=int(numbers.area_is_replaced.sum()),
    )
    return None if (own.segm, own.bbox) == (metrics.segm, metrics.bbox) else own


def _evaluate(
    document: dict[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[COCOeval_faster, COCOeval_faster]:
    """Masks and boxes of ``rows`` against the annotations of ``document``."""
    truth = COCO(document)
    return _accumulate(truth, rows, "segm"), _accumulate(truth, rows, "bbox")


def _accumulate(truth: COCO, rows: Sequence[Mapping[str, Any]], iou_type: IouType) -> COCOeval_faster:
    unused = {"segm": "bbox", "bbox": "segmentation"}[iou_type]
    used = [{key: value for key, value in row.items() if key != unused} for row in rows]
    evaluation = COCOeval_faster(truth, truth.loadRes(used), iouType=iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _summary(evaluation: COCOeval_faster) -> ApSummary:
    precision = evaluation.eval["precision"]  # [IoU 0.50:0.05:0.95, recall, class, area, detections]
    recall = evaluation.eval["recall"]  # [IoU, class, area, detections 1, 10, 100]
    everything, small, medium, large = range(4)
    return ApSummary(
        AP=_mean(precision[..., everything, -1]),
        AP50=_mean(precision[0, ..., everything, -1]),
        AP75=_mean(precision[5, ..., everything, -1]),
        APs=_mean(precision[..., small, -1]),
        APm=_mean(precision[..., medium, -1]),
        APl=_mean(precision[..., large, -1]),
        AR1=_mean(recall[..., everything, 0]),
        AR10=_mean(recall[..., everything, 1]),
        AR100=_mean(recall[..., everything, 2]),
    )


def _summary_lines(segm: ApSummary, bbox: ApSummary) -> list[str]:
    summaries = {"segm": asdict(segm), "bbox": asdict(bbox)}
    lines = ["     " + "".join(f"{name:>7}" for name in summaries["segm"])]
    return lines + [f"{kind:5}" + "".join(map(_cell, row.values())) for kind, row in summaries.items()]


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of the defined values; -1 marks classes and sizes without ground truth."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _note(coco: CocoFile, classes: Sequence[ClassAp]) -> str:
    missing = [one.name for one in classes if one.AP is None]
    if missing and len(missing) == len(classes):
        kind = "objects other than crowds (iscrowd 1)" if coco.annotations else "objects"
        return f"{coco.path.name} has no {kind}, so AP cannot be computed."
    notes = []
    if missing:
        notes = [
            f"{coco.path.name} has no objects of {', '.join(missing)}. AP is the mean of the other classes."
        ]
    counts = Counter((one.image_id, one.category_id) for one in coco.annotations if not one.iscrowd)
    crowded = {image_id for (image_id, _), count in counts.items() if count > MOST_COUNTED}
    if crowded:
        notes += [
            f"{len(crowded)} of {len(coco.images)} images have more than {MOST_COUNTED} objects of a class. "
            f"COCO's AP uses only the {MOST_COUNTED} best detections of a class in an image, so it stays "
            "below 1, however many are found."
        ]
    return " ".join(notes)


def _xyxy_to_xywh(box: NDArray[np.float32]) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def _cell(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:7.3f}"
