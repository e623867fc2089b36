"""Calibration of scores against counting in bins."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of

from paddlex_seg.metrics.calibration import calibrate
from paddlex_seg.metrics.matching import match


@pytest.mark.parametrize("seed", range(4))
def test_bins_are_counted_one_by_one(seed: int) -> None:
    overlaps = overlaps_of(*make_problem(seed, num_images=10, crowds=True, ties=seed % 2 == 0))
    matching = match(overlaps)
    right, used = matching.is_right[0], matching.is_right[0] | matching.is_wrong[0]
    found = calibrate(overlaps, matching, num_bins=7)
    error = 0.0
    for number, one in enumerate(found.bins):
        rows = [d for d in np.flatnonzero(used) if number / 7 <= overlaps.found.score[d] < (number + 1) / 7]
        assert one.count == len(rows)
        if rows:
            assert one.mean_score == pytest.approx(overlaps.found.score[rows].mean())
            assert one.precision == pytest.approx(right[rows].mean())
            error += len(rows) * abs(right[rows].mean() - overlaps.found.score[rows].mean())
        else:
            assert one.mean_score is one.precision is None
    assert found.ece == pytest.approx(error / used.sum())
    assert found.bias == pytest.approx(overlaps.found.score[used].mean() - right[used].mean())
    assert len(found.ece_of_classes) == 3
    json.dumps(asdict(found))


def test_scores_that_are_the_precision_have_no_error() -> None:
    overlaps = overlaps_of(*make_problem(1, num_images=10))
    matching = match(overlaps)
    right = matching.is_right[0]
    exact = replace(overlaps, found=replace(overlaps.found, score=np.full(len(right), right.mean())))
    assert calibrate(exact, matching).ece == pytest.approx(0)
    wrong = replace(overlaps, found=replace(overlaps.found, score=np.full(len(right), 1.0)))
    found = calibrate(wrong, matching)
    assert found.bins[-1].count == len(right)  # a score of 1 is in the last bin
    assert found.ece == found.bias == pytest.approx(1 - right.mean())


def test_no_detection() -> None:
    document, _ = make_problem(1)
    overlaps = overlaps_of(document, [])
    found = calibrate(overlaps, match(overlaps))
    assert found.ece is found.bias is None
    assert found.ece_of_classes == (None,) * 3
    assert sum(one.count for one in found.bins) == 0
