"""The whole analysis of an evaluation, on random problems and at the edges."""

import json
from typing import Any

import pytest
from eval_problems import make_problem
from eval_tables import coco_of, results_of

from paddlex_seg.evaluation.analysis import Analysis, analyse
from paddlex_seg.evaluation.label_review import review_labels
from paddlex_seg.evaluation.page import evaluation_page
from paddlex_seg.metrics.coco_ap import CocoMetrics, evaluate_coco, measure_tables


def analysis_of(
    document: dict[str, Any], rows: list[dict[str, Any]], has_masks: bool = True, resamples: int = 20
) -> tuple[Analysis, CocoMetrics]:
    coco, results = coco_of(document), results_of(document, rows)
    ids = [one["id"] for one in document["categories"]]
    tables = measure_tables(coco, results, ids, across_classes=True, has_masks=has_masks)
    metrics = evaluate_coco(coco, results, ids, tables=tables)
    found = analyse(coco, results, tables, resamples=resamples)
    suspects = (
        review_labels(coco, results, ids, overlaps=tables.segm, truth=tables.truth) if has_masks else ()
    )
    evaluation_page("a model", coco, results, metrics, found, facts=[("Weights", "a")], suspects=suspects)
    return found, metrics


@pytest.mark.parametrize("seed", range(3))
def test_all_parts_agree(seed: int) -> None:
    found, metrics = analysis_of(*make_problem(seed, num_images=14, crowds=True))
    assert metrics.segm.AP is not None and found.intervals is not None and found.intervals.AP is not None
    assert found.intervals.AP.has(metrics.segm.AP)
    assert found.tide.ap == pytest.approx(metrics.segm.AP50)
    assert found.boundary is not None and found.boundary.AP is not None
    assert found.boundary.AP <= metrics.segm.AP
    right = sum(0 if one.best is None else one.best.num_right for one in found.curves.classes)
    assert sum(found.confusion.matrix[k][k] for k in range(3)) == right
    assert found.counts.all.num_found == sum(map(sum, (row[:-1] for row in found.confusion.matrix)))
    assert found.counts.all.num_objects == found.curves.all.num_objects
    assert 1 <= len(found.verdict) <= 5
    assert json.loads(json.dumps(found.to_json()))["verdict"] == list(found.verdict)


def test_detections_without_masks() -> None:
    found, metrics = analysis_of(*make_problem(1, num_images=6), has_masks=False)
    assert found.boundary is None
    assert found.overlaps.kind == "bbox"
    assert found.tide.ap == pytest.approx(metrics.bbox.AP50)
    assert metrics.segm.AP is None
    json.dumps(found.to_json())


@pytest.mark.parametrize(
    "edge",
    ["no truth", "no detection", "crowds only", "all in crowds", "no image", "one class", "no resample"],
)
def test_edges(edge: str) -> None:
    document, rows = make_problem(2, num_images=5, num_classes=1 if edge == "one class" else 3)
    if edge == "all in crowds":
        rows = [{**one, "score": 0.5} for one in document["annotations"]]
    if edge in ("crowds only", "all in crowds"):
        document["annotations"] = [{**one, "iscrowd": 1} for one in document["annotations"]]
    if edge in ("no truth", "no image"):
        document["annotations"] = []
    if edge == "no image":
        document["images"] = []
    kept = [] if edge in ("no detection", "no image") else rows
    found, metrics = analysis_of(document, kept, resamples=0 if edge == "no resample" else 20)
    assert found.verdict
    json.dumps(found.to_json())
    if edge in ("no truth", "crowds only", "all in crowds", "no image"):
        assert found.tide.ap is metrics.segm.AP is None
        assert found.intervals is not None and found.intervals.AP is None
    if edge == "no resample":
        assert found.intervals is None
    if edge == "one class":
        assert len(found.confusion.matrix) == 2
