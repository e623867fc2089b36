"""The label reviews of ObjectLab and hotcoco on the detections that label_review.py reviews.

Runs in an environment with cleanlab==2.9.0 and hotcoco==1.3.0 (and NumPy), without this toolkit. Prints a
JSON list of suspects for each, the most suspicious first, as (annotation id or null, image id, box xywh or
null, kind).

- ObjectLab scores boxes of three kinds (overlooked, badly located, swapped); their scores are in 0..1, the
  lower the more suspicious, and are merged into one list by score, as its pooling does.
- hotcoco lists wrong labels and missing annotations, ranked by the score of the detection.

    python benchmarks/label_review_baselines.py TRUTH.json FOUND.json
"""

import json
import sys
from collections import defaultdict
from typing import Any

import hotcoco
import numpy as np
from cleanlab.object_detection import rank


def main() -> None:
    """Print the suspects of both."""
    truth_path, found_path = sys.argv[1:3]
    with open(truth_path) as file:
        truth = json.load(file)
    with open(found_path) as file:
        rows = json.load(file)
    print(json.dumps({"objectlab": objectlab(truth, rows), "hotcoco": of_hotcoco(truth, rows)}))


def objectlab(truth: dict[str, Any], rows: list[dict[str, Any]]) -> list[Any]:
    """Its scores of all boxes, merged."""
    class_of = {one["id"]: k for k, one in enumerate(sorted(truth["categories"], key=lambda one: one["id"]))}
    annotations, found = defaultdict(list), defaultdict(list)
    for one in truth["annotations"]:
        annotations[one["image_id"]].append(one)
    for row in rows:
        found[row["image_id"]].append(row)
    labels, predictions, ids, shown = [], [], [], []
    for image in truth["images"]:
        own, of_image = annotations[image["id"]], found[image["id"]]
        labels.append(
            {
                "bboxes": np.array([xyxy(one["bbox"]) for one in own]).reshape(-1, 4),
                "labels": np.array([class_of[one["category_id"]] for one in own], int),
            }
        )
        by_class: list[list[Any]] = [[] for _ in class_of]
        for row in of_image:
            by_class[class_of[row["category_id"]]].append(row)
        predictions.append(
            np.array(
                [
                    np.array([[*xyxy(row["bbox"]), row["score"]] for row in group]).reshape(-1, 5)
                    for group in by_class
                ]
                + [None],
                dtype=object,
            )[:-1]
        )
        ids.append([one["id"] for one in own])
        shown.append([row["bbox"] for group in by_class for row in group])
    merged = []
    settings: dict[str, Any] = {"labels": labels, "predictions": predictions}
    overlooked = rank.compute_overlooked_box_scores(**settings)
    for image, scores, boxes in zip(truth["images"], overlooked, shown, strict=True):
        merged += [
            (float(score), None, image["id"], box, "missed")
            for score, box in zip(scores, boxes, strict=False)
            if not np.isnan(score)
        ]
    for kind, compute in (
        ("loose_mask", rank.compute_badloc_box_scores),
        ("wrong_class", rank.compute_swap_box_scores),
    ):
        for image, scores, own in zip(truth["images"], compute(**settings), ids, strict=True):
            merged += [
                (float(score), id, image["id"], None, kind)
                for score, id in zip(scores, own, strict=True)
                if not np.isnan(score)
            ]
    return [row[1:] for row in sorted(merged, key=lambda row: row[0])]


def of_hotcoco(document: dict[str, Any], rows: list[dict[str, Any]]) -> list[Any]:
    """Its list of label errors; a lower score threshold (default 0.5) gives it a longer list."""
    # Without what it does not read, such as a year as text.
    truth = hotcoco.COCO({key: document[key] for key in ("images", "annotations", "categories")})
    found = truth.load_res(rows)
    evaluation = hotcoco.COCOeval(truth, found, "segm")
    evaluation.evaluate()
    boxes = {one["id"]: one["bbox"] for one in found.load_anns(found.get_ann_ids())}
    errors = evaluation.image_diagnostics(iou_thr=0.5, score_thr=0.1)["label_errors"]
    errors.sort(key=lambda one: -one["dt_score"])
    kinds = {"wrong_label": "wrong_class", "missing_annotation": "missed"}
    return [
        (
            one["gt_id"],
            one["image_id"],
            boxes[one["dt_id"]] if one["gt_id"] is None else None,
            kinds[one["type"]],
        )
        for one in errors
    ]


def xyxy(box: list[float]) -> list[float]:
    """The corners of a box."""
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


if __name__ == "__main__":
    main()
