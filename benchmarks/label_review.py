"""How many planted label errors are in the list of suspects: this toolkit, ObjectLab and hotcoco.

DATASET is a folder of label_noise.py, FOUND the detections (a COCO result file) of a model that was not
trained on its val part. Precision at K: of the first K suspects, K being the number of planted errors, how
many are one. A suspect is right if its annotation was planted (or is the other one of a duplicate), or if its
box is that of a removed object (IoU 0.3); each error counts once. The kind that the suspect names need not be
right.

    python benchmarks/label_noise.py DATA NOISY --seed 0
    python main.py ... -o Global.dataset_dir=NOISY        (train, then evaluate: writes segm.json)
    python benchmarks/label_review.py NOISY OUTPUT/segm.json [--baselines PYTHON]

--baselines: the Python of an environment with what label_review_baselines.py needs.
"""

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.results import read_results
from paddlex_seg.evaluation.label_review import KINDS, review_labels
from paddlex_seg.masks.rle import box_overlaps, rle_box_xywh
from paddlex_seg.metrics.coco_ap import results_to_coco_json


class Named(NamedTuple):
    """A suspect of any method."""

    annotation_id: Any  # None: an object without a label
    image_id: Any
    box_xywh: Sequence[float] | None  # of an object without a label
    kind: str


def main() -> None:
    """Review, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("--baselines")
    options = parser.parse_args()
    truth = options.dataset / "annotations" / "instance_val.json"
    planted = json.loads((options.dataset / "planted.json").read_text())["val"]
    coco = read_coco(truth)
    found = read_results(options.found, coco).instances
    ids = [category.id for category in coco.categories]
    lists = {
        "paddlex_seg": [
            Named(
                one.annotation_id,
                one.image_id,
                None
                if one.position is None
                else rle_box_xywh(found[one.image_id].masks[one.position]).tolist(),
                one.kind,
            )
            for one in review_labels(coco, found, ids)
        ]
    }
    if options.baselines:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(results_to_coco_json(found, ids), file)
            file.flush()
            script = Path(__file__).with_name("label_review_baselines.py")
            command = [options.baselines, str(script), str(truth), file.name]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for name, rows in json.loads(printed.splitlines()[-1]).items():
            lists[name] = [Named(*row) for row in rows]
    print(f"{len(planted)} planted errors, {len(coco.annotations)} labels, {len(coco.images)} images")
    print(f"{'':12}{'P@K':>7}{'listed':>8}  found of each kind")
    for name, suspects in lists.items():
        hits = right_ones(suspects[: len(planted)], planted)
        kinds = Counter(one["kind"] for one in hits)
        of_kinds = ", ".join(
            f"{kind} {kinds[kind]}/{sum(one['kind'] == kind for one in planted)}" for kind in KINDS
        )
        print(f"{name:12}{len(hits) / len(planted):7.3f}{len(suspects):8}  {of_kinds}")


def right_ones(suspects: Sequence[Named], planted: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The planted errors among the suspects."""
    by_annotation = {one["annotation_id"]: one for one in planted if one["kind"] != "missed"}
    for one in planted:
        if one["kind"] == "duplicate":
            by_annotation.setdefault(one["other_id"], one)
    missed = [one for one in planted if one["kind"] == "missed"]
    found: dict[int, dict[str, Any]] = {}
    for suspect in suspects:
        if suspect.annotation_id is not None:
            error = by_annotation.get(suspect.annotation_id)
        else:
            error = next((one for one in missed if is_at(suspect, one) and id(one) not in found), None)
        if error is not None:
            found[id(error)] = error
    return list(found.values())


def is_at(suspect: Named, error: dict[str, Any]) -> bool:
    """Whether a suspect without annotation is a removed object."""
    if suspect.image_id != error["image_id"] or suspect.box_xywh is None:
        return False
    boxes = np.array([suspect.box_xywh, error["box"]], float)
    return bool(box_overlaps(boxes[:1], boxes[1:], np.zeros(1, bool))[0, 0] >= 0.3)


if __name__ == "__main__":
    main()
