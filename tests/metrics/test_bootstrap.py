"""Resampling the match table against really duplicated images."""

from typing import Any

import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of

from paddlex_seg.metrics import bootstrap
from paddlex_seg.metrics.bootstrap import (
    bootstrap_ap,
    interval,
    intervals,
    precision_of_resamples,
    resample_weights,
)
from paddlex_seg.metrics.matching import average_precision, match


def duplicated(document: dict, rows: list[dict], weights: np.ndarray) -> tuple[dict, list[dict]]:
    """The problem with every image as often as its weight, the copies side by side."""
    many: dict[str, Any] = {"images": [], "annotations": [], "categories": document["categories"]}
    copies: list[dict] = []
    for image, weight in zip(document["images"], weights.tolist(), strict=True):
        for _ in range(weight):
            id = len(many["images"]) + 1
            many["images"].append({**image, "id": id})
            for one in document["annotations"]:
                if one["image_id"] == image["id"]:
                    number = len(many["annotations"]) + 1
                    many["annotations"].append({**one, "id": number, "image_id": id})
            copies += [{**row, "image_id": id} for row in rows if row["image_id"] == image["id"]]
    return many, copies


@pytest.mark.parametrize("few", [0, 64], ids=["many", "few"])
@pytest.mark.parametrize("seed", range(8))
def test_weights_give_what_duplicated_images_give(
    seed: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_FEW", few)
    document, rows = make_problem(seed, crowds=seed % 2 == 1)
    overlaps = overlaps_of(document, rows)
    matching = match(overlaps, area_range=(0, 900) if seed > 5 else (0, 1e10))
    weights = resample_weights(len(overlaps.image_ids), num=6, seed=seed)
    values = precision_of_resamples(overlaps, matching, weights)
    for b, own in enumerate(weights):
        naive = overlaps_of(*duplicated(document, rows, own))
        precision = average_precision(naive, match(naive, area_range=(0, 900) if seed > 5 else (0, 1e10)))
        expected = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))
        np.testing.assert_allclose(values[b], expected, rtol=0, atol=1e-12)


def test_weights_of_one_give_the_average_precision() -> None:
    overlaps = overlaps_of(*make_problem(3, num_images=20, crowds=True, ties=True))
    matching = match(overlaps)
    total, per_class = bootstrap_ap(overlaps, matching, np.ones((1, 20), np.uint16))
    precision = average_precision(overlaps, matching)
    assert np.isnan(per_class[0, -1])  # the last class has no objects
    assert per_class[0, :-1] == pytest.approx(precision[..., :-1].mean(axis=(0, 1)), abs=1e-12)
    assert total[0] == pytest.approx(precision[precision > -1].mean(), abs=1e-12)


def test_equal_scores_of_several_images_keep_their_order() -> None:
    document, rows = make_problem(5, num_images=8)
    for row in rows:  # one score for the first detection of each image and class, and so on
        same = [
            one
            for one in rows
            if (one["image_id"], one["category_id"]) == (row["image_id"], row["category_id"])
        ]
        row["score"] = 1 - same.index(row) / 64
    overlaps = overlaps_of(document, rows)
    weights = resample_weights(8, num=4, seed=1)
    values = precision_of_resamples(overlaps, match(overlaps), weights)
    for b, own in enumerate(weights):
        naive = overlaps_of(*duplicated(document, rows, own))
        precision = average_precision(naive, match(naive))
        expected = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))
        np.testing.assert_allclose(values[b], expected, rtol=0, atol=1e-12)


def test_resamples_depend_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    overlaps = overlaps_of(*make_problem(2, num_images=12))
    matching = match(overlaps)
    first = bootstrap_ap(overlaps, matching, resample_weights(12, 50, seed=7))
    monkeypatch.setattr(bootstrap, "_MOST_VALUES", 100)  # in other parts
    second = bootstrap_ap(overlaps, matching, resample_weights(12, 50, seed=7))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(resample_weights(12, 50, seed=7), resample_weights(12, 50, seed=8))
    assert (resample_weights(12, 50, seed=7).sum(axis=1) == 12).all()


def test_weights_of_another_number_of_images_are_refused() -> None:
    overlaps = overlaps_of(*make_problem(1, num_images=3))
    with pytest.raises(ValueError, match="4 images"):
        bootstrap_ap(overlaps, match(overlaps), resample_weights(4, 2))


def test_intervals_leave_out_resamples_without_objects() -> None:
    values = np.concatenate([np.linspace(0, 1, 1001), [np.nan] * 50])
    found = interval(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    assert found.has(0.5)
    assert not found.has(0.98)
    assert intervals(np.stack([values, values * np.nan], axis=1)) == (found, None)


@pytest.mark.parametrize("edge", ["no truth", "no detection", "no image"])
def test_nothing_to_resample(edge: str) -> None:
    document, rows = make_problem(1)
    if edge != "no detection":
        document["annotations"] = []
    if edge == "no image":
        document["images"], rows = [], []
    overlaps = overlaps_of(document, [] if edge == "no detection" else rows)
    num_images = len(document["images"])
    total, per_class = bootstrap_ap(overlaps, match(overlaps), resample_weights(num_images, 3))
    assert per_class.shape == (3, 3)
    if edge == "no detection":
        assert (total == 0).all()
    else:
        assert np.isnan(total).all()
        assert interval(total) is None
