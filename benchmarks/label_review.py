"""Precision at K of the label review, on a data set with planted errors; ObjectLab's and hotcoco's beside it.

    python benchmarks/label_review.py TARGET FOUND.json [--part val] [--baselines PYTHON] [--list]

TARGET is a folder that label_noise.py wrote, FOUND.json the detections (COCO results with masks and boxes) of a
model that was not trained on the images of --part. K is the number of planted errors, of all kinds together. A
suspect is right if it names the annotation of a planted error (either one of a duplicate), or, for a missing
object, if its box overlaps that of the removed label by an IoU of 0.3 or more. Each planted error counts once; a
second suspect for it is wrong.

Printed: "any" counts a suspect as right whatever its kind, since it brings a person to the wrong label; "kind"
asks for the right kind, too. --baselines: the Python of an environment for label_review_baselines.py; those get
every benefit of doubt: "any", and the places that their lists do not fill (hotcoco's are short) count as wrong,
but also "recall of K", the share of planted errors anywhere in the list.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.results import ResultFile, read_results
from paddlex_seg.evaluation.label_review import KINDS, review_labels
from paddlex_seg.masks.rle import box_overlaps, rle_box_xywh

# Kind, annotation id (None: an object without a label), image id, box x, y, width, height (None: with an id).
Row = tuple[str, Any, Any, Any]


@dataclass
class Count:
    """What the first K suspects of a list are."""

    any: int = 0
    kind: int = 0
    in_list: int = 0
    found: Counter[str] = field(default_factory=Counter)  # by kind of the planted error
    wrong: Counter[str] = field(default_factory=Counter)  # by kind of the suspect


def main() -> None:
    """Read the options, review and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("--part", default="val", choices=("train", "val"))
    parser.add_argument("--baselines", type=Path)
    parser.add_argument("--list", action="store_true", help="print the suspects")
    options = parser.parse_args()
    truth = options.target / f"annotations/instance_{options.part}.json"
    planted = json.loads((options.target / "planted.json").read_text(encoding="utf-8"))[options.part]
    coco = read_coco(truth)
    results = read_results(options.found, coco)
    suspects = review_labels(coco, results.instances, [one.id for one in coco.categories])
    lists = {
        "review": [
            (one.kind, one.annotation_id, one.image_id, None if one.position is None else _box(results, one))
            for one in suspects
        ]
    }
    if options.baselines is not None:
        lists |= _of_others(options.baselines, truth, options.found)
    number = len(planted)
    print(f"{options.target.name}: K {number}, {len(coco.annotations)} labels")
    for name, rows in lists.items():
        one = count(rows, planted)
        by_kind = ", ".join(
            f"{kind} {one.found[kind]}/{sum(item['kind'] == kind for item in planted)}" for kind in KINDS
        )
        print(
            f"  {name:9} any {one.any / number:.3f}  kind {one.kind / number:.3f}  recall {one.in_list / number:.3f}"
            f"  found: {by_kind}  wrong: {dict(one.wrong)}"
        )
    if options.list:
        for place, (one, right) in enumerate(zip(suspects, _rights(lists["review"], planted), strict=True)):
            print(
                place, "  " if right is None else "ok", f"{one.score:.3f}", one.kind, one.image_id, one.reason
            )


def count(rows: Sequence[Row], planted: Sequence[dict[str, Any]]) -> Count:
    """Compare a list with what was planted."""
    result = Count()
    for place, (row, right) in enumerate(zip(rows, _rights(rows, planted), strict=True)):
        result.in_list += right is not None
        if place >= len(planted):
            continue
        if right is None:
            result.wrong[row[0]] += 1
        else:
            result.any += 1
            result.kind += right["kind"] == row[0]
            result.found[right["kind"]] += 1
    return result


def _rights(rows: Sequence[Row], planted: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """The planted error that each suspect finds, None if there is none or it was found before."""
    by_annotation = {item["annotation_id"]: item for item in planted if item["kind"] != "missed"}
    for item in planted:
        if item["kind"] == "duplicate":
            by_annotation.setdefault(item["other_id"], item)
    removed = [item for item in planted if item["kind"] == "missed"]
    seen: set[int] = set()
    found: list[dict[str, Any] | None] = []
    for _, id, image_id, box in rows:
        one = by_annotation.get(id) if id is not None else _removed(removed, image_id, box)
        if one is not None and id_of(one) in seen:
            one = None
        if one is not None:
            seen.add(id_of(one))
        found.append(one)
    return found


def id_of(item: dict[str, Any]) -> int:
    """The annotation that was changed, added or removed."""
    return int(item["annotation_id"])


def _removed(removed: Sequence[dict[str, Any]], image_id: Any, box: Any) -> dict[str, Any] | None:
    own = [item for item in removed if item["image_id"] == image_id]
    if not own:
        return None
    overlap = box_overlaps(
        np.array([box], float), np.array([item["box"] for item in own], float), np.zeros(len(own), bool)
    )[0]
    return own[int(overlap.argmax())] if overlap.max() >= 0.3 else None


def _box(results: ResultFile, suspect: Any) -> list[float]:
    return rle_box_xywh(results.instances[suspect.image_id].masks[suspect.position]).tolist()


def _of_others(python: Path, truth: Path, found: Path) -> dict[str, list[Row]]:
    script = Path(__file__).with_name("label_review_baselines.py")
    done = subprocess.run(
        [python, script, truth, found], check=True, capture_output=True, text=True, timeout=600
    )
    lists = json.loads(done.stdout.splitlines()[-1])
    return {name: [(row[3], row[0], row[1], row[2]) for row in rows] for name, rows in lists.items()}


if __name__ == "__main__":
    sys.exit(main())
