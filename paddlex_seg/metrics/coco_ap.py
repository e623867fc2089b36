"""COCO's average precision and recall of masks and boxes, equal to pycocotools on the saved predictions.

faster-coco-eval does the computation. It is several times faster than pycocotools. We prepare the annotations
in two ways. They are renumbered from 1, because some tools write the id 0, which means "unmatched" inside the
evaluation. If an annotation has no ``area``, the mask area is used. An existing ``area`` is kept, as in COCO.
Some tools write the box area there, which changes the small, medium and large results but not AP itself.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from paddlex_seg.masks.rle import annotation_to_rle, rle_area, rle_box_xywh, rle_to_json
from paddlex_seg.structures import Annotation, CocoFile, ImageRecord, Instances

IouType = Literal["segm", "bbox"]
_MOST_COUNTED = 100  # detections per image and class that COCO's AP uses


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

    category_id: int
    name: str
    AP: float | None


@dataclass(frozen=True)
class CocoMetrics:
    """The result of an evaluation. ``note`` is empty, or says why numbers are missing or too low."""

    segm: ApSummary
    bbox: ApSummary
    classes: tuple[ClassAp, ...]
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, missing numbers as null. ``AP`` at the top is the mask AP."""
        return {
            "AP": self.segm.AP,
            "segm": asdict(self.segm),
            "bbox": asdict(self.bbox),
            "per_class": {one.name: one.AP for one in self.classes},
            "note": self.note,
        }

    def table(self) -> str:
        """The numbers as lines of text for the log."""
        summaries = {"segm": asdict(self.segm), "bbox": asdict(self.bbox)}
        lines = ["     " + "".join(f"{name:>7}" for name in summaries["segm"])]
        lines += [f"{kind:5}" + "".join(map(_cell, values.values())) for kind, values in summaries.items()]
        lines += ["mask AP per class:"]
        lines += [f"{_cell(one.AP)}  {one.name}" for one in self.classes]
        return "\n".join(lines + [self.note] * bool(self.note))


def evaluate_coco(
    coco: CocoFile, results: Mapping[int, Instances], category_ids: Sequence[int]
) -> CocoMetrics:
    """Evaluate ``results`` (by image id) against the annotations of ``coco``.

    category_ids: the category id of each class index. If an image is missing in ``results``, its objects
    count as missed. Boxes are not clipped. Crowd regions are ignored as in COCO.
    """
    truth = COCO(_truth_document(coco))
    segm = _accumulate(truth, results, category_ids, "segm")
    bbox = _accumulate(truth, results, category_ids, "bbox")
    name_of_id = {category.id: category.name for category in coco.categories}
    per_class = segm.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class]
    classes = tuple(
        ClassAp(category_id, name_of_id[category_id], _mean(per_class[:, :, position]))
        for position, category_id in enumerate(segm.params.catIds)
    )
    return CocoMetrics(_summary(segm), _summary(bbox), classes, note=_note(coco, classes))


def results_to_coco_json(
    results: Mapping[int, Instances], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Predictions (by image id) in COCO's result format, ready for ``json.dump``.

    Each row has both ``segmentation`` and ``bbox``. If a row has ``bbox``, pycocotools takes the area of the
    prediction from the box. Remove ``bbox`` to evaluate masks; this only affects small, medium and large.
    """
    return [
        {
            "image_id": int(image_id),
            "category_id": int(category_ids[class_id]),
            "segmentation": rle_to_json(mask),
            "bbox": _xyxy_to_xywh(box),
            "score": float(score),
        }
        for image_id, found in results.items()
        for class_id, score, box, mask in zip(
            found.class_ids, found.scores, found.boxes_xyxy, found.masks, strict=True
        )
    ]


def _truth_document(coco: CocoFile) -> dict[str, Any]:
    image_of_id = {image.id: image for image in coco.images}
    return {
        "images": [{"id": image.id, "height": image.height, "width": image.width} for image in coco.images],
        "categories": [{"id": category.id, "name": category.name} for category in coco.categories],
        "annotations": [
            _truth_entry(number, annotation, image_of_id[annotation.image_id])
            for number, annotation in enumerate(coco.annotations, start=1)
        ],
    }


def _truth_entry(number: int, annotation: Annotation, image: ImageRecord) -> dict[str, Any]:
    rle = annotation_to_rle(annotation, image.height, image.width)
    box, area = annotation.bbox_xywh, annotation.area
    return {
        "id": number,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "segmentation": rle,
        "bbox": list(box) if box is not None else rle_box_xywh(rle).tolist(),
        "area": float(area) if area is not None else float(rle_area(rle)),
        "iscrowd": int(annotation.iscrowd),
    }


def _accumulate(
    truth: COCO, results: Mapping[int, Instances], category_ids: Sequence[int], iou_type: IouType
) -> COCOeval_faster:
    unused = {"segm": "bbox", "bbox": "segmentation"}[iou_type]
    rows = results_to_coco_json(results, category_ids)
    for row in rows:
        del row[unused]
    evaluation = COCOeval_faster(truth, truth.loadRes(rows), iouType=iou_type)
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


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of the defined values; -1 marks classes and sizes without ground truth."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _note(coco: CocoFile, classes: Sequence[ClassAp]) -> str:
    missing = [one.name for one in classes if one.AP is None]
    if missing and len(missing) == len(classes):
        return f"{coco.path.name} has no objects, so AP cannot be computed."
    notes = []
    if missing:
        notes = [
            f"{coco.path.name} has no objects of {', '.join(missing)}. AP is the mean of the other classes."
        ]
    counts = Counter((one.image_id, one.category_id) for one in coco.annotations if not one.iscrowd)
    crowded = {image_id for (image_id, _), count in counts.items() if count > _MOST_COUNTED}
    if crowded:
        notes += [
            f"{len(crowded)} of {len(coco.images)} images have more than {_MOST_COUNTED} objects of a class. "
            f"COCO's AP uses only the {_MOST_COUNTED} best detections of a class in an image, so it stays "
            "below 1, however many are found."
        ]
    return " ".join(notes)


def _xyxy_to_xywh(box: NDArray[np.float32]) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def _cell(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:7.3f}"
