"""Curves over the score threshold, and the best threshold, against counting at each threshold."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of

from paddlex_seg.metrics.curves import SCORES, Curve, _best, curves
from paddlex_seg.metrics.matching import average_precision, match


def best_of(scores: list[float], is_right: list[int], objects: int):
    return _best(objects, np.array(scores), np.concatenate([[0], np.cumsum(is_right)]))


@pytest.mark.parametrize("seed", range(6))
def test_curves_are_the_counts_of_the_detections_above_each_score(seed: int) -> None:
    document, rows = make_problem(seed, num_images=8, crowds=True, ties=seed % 2 == 0)
    overlaps = overlaps_of(document, rows)
    found = curves(overlaps, match(overlaps))
    for place in (0, 13, 25, 50, 77):
        kept = [row for row in rows if row["score"] > SCORES[place]]
        again = overlaps_of(document, kept)  # a threshold is applied before anything is matched
        matching = match(again)
        right, wrong = matching.is_right[0], matching.is_wrong[0]
        for k, curve in [(None, found.all), *enumerate(found.classes)]:
            own = np.ones(len(right), bool) if k is None else again.found.class_index == k
            num_right, num_wrong = int(right[own].sum()), int(wrong[own].sum())
            assert curve.num_objects == sum(
                (k is None or one["category_id"] == k + 1) and not one["iscrowd"]
                for one in document["annotations"]
            )
            expected = num_right / (num_right + num_wrong) if num_right + num_wrong else None
            assert curve.precision[place] == expected
            if curve.num_objects:
                assert curve.recall[place] == num_right / curve.num_objects
                assert curve.f1[place] == 2 * num_right / (num_right + num_wrong + curve.num_objects)
            else:
                assert curve.recall[place] is curve.f1[place] is None


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_is_better_than_the_best(seed: int) -> None:
    overlaps = overlaps_of(*make_problem(seed, num_images=8, crowds=True, ties=seed % 2 == 0))
    matching = match(overlaps)
    right, wrong = matching.is_right[0], matching.is_wrong[0]
    found = curves(overlaps, matching)
    for k, curve in enumerate(found.classes):
        own = overlaps.found.class_index == k
        if curve.best is None:
            assert not curve.num_objects or not right[own].any()
            continue
        for threshold in [*np.unique(overlaps.found.score), -1.0, curve.best.threshold]:
            above = own & (overlaps.found.score > threshold)
            f1 = 2 * right[above].sum() / (right[above].sum() + wrong[above].sum() + curve.num_objects)
            assert f1 <= curve.best.f1
        assert f1 == curve.best.f1  # of the threshold itself
        assert curve.best.precision == right[above].sum() / (right[above] | wrong[above]).sum()
        assert curve.best.num_missed == curve.num_objects - right[above].sum()


def test_the_curve_over_recall_is_that_of_the_average_precision() -> None:
    overlaps = overlaps_of(*make_problem(2, num_images=8))
    matching = match(overlaps)
    found, precision = curves(overlaps, matching), average_precision(overlaps, matching)[0]
    assert found.classes[0].precision_at_recall == tuple(precision[:, 0])
    assert found.classes[2].precision_at_recall == ()  # no objects
    assert np.mean(found.all.precision_at_recall) == pytest.approx(precision[:, :2].mean(), abs=1e-12)


def test_the_threshold_is_in_the_middle_of_the_gap() -> None:
    best = best_of([0.9, 0.8, 0.3], [1, 1, 0], objects=2)
    assert best.threshold == pytest.approx(0.55)
    assert (best.f1, best.precision, best.recall) == (1, 1, 1)
    assert best_of([0.9], [1], objects=1).threshold == pytest.approx(0.45)  # nothing below: the middle to 0


def test_equal_f1_takes_the_lower_threshold() -> None:
    # 2 * 1 / (1 + 3) = 2 * 2 / (5 + 3)
    best = best_of([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 0, 0, 0, 1, 0], objects=3)
    assert best.threshold == pytest.approx(0.45)
    assert (best.num_right, best.num_wrong, best.num_missed) == (2, 3, 1)


def test_equal_scores_are_kept_or_left_together() -> None:
    best = best_of([0.9, 0.5, 0.5], [1, 1, 0], objects=2)
    assert best.threshold == pytest.approx(0.25)
    assert best.num_wrong == 1


def test_a_class_without_a_right_detection_has_the_default() -> None:
    document, rows = make_problem(3, num_images=8)
    rows = [row for row in rows if row["category_id"] != 1]
    overlaps = overlaps_of(document, rows)
    found = curves(overlaps, match(overlaps))
    assert found.classes[0].best is found.classes[2].best is None  # without detections, without objects
    assert found.classes[1].best is not None
    assert found.thresholds(0.25) == (0.25, found.classes[1].best.threshold, 0.25)


@pytest.mark.parametrize("edge", ["no truth", "no detection", "nothing"])
def test_edges(edge: str) -> None:
    document, rows = make_problem(1)
    if edge != "no detection":
        document["annotations"] = []
    if edge == "nothing":
        document["images"], document["categories"] = [], []
    overlaps = overlaps_of(document, rows if edge == "no truth" else [])
    found = curves(overlaps, match(overlaps))
    assert found.all.best is None
    assert found.thresholds(0.5) == (0.5,) * len(document["categories"])
    curve: Curve = found.all
    if edge == "no detection":
        assert set(curve.recall) == set(curve.f1) == {0}
        assert set(curve.precision) == {None}
        assert set(curve.precision_at_recall) == {0}
    else:
        assert set(curve.recall) == set(curve.f1) == {None}
        assert curve.precision_at_recall == ()
    json.dumps(asdict(found))
