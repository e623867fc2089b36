"""Boundary IoU and boundary AP against faster-coco-eval."""

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import coco_of, overlaps_of, results_of
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as faster_mask
from made_instances import EASILY_LOST, rectangle

from paddlex_seg.masks.rle import mask_to_rle, rle_iou, rle_to_json
from paddlex_seg.metrics import boundary
from paddlex_seg.metrics.boundary import boundary_iou, boundary_ious, boundary_overlaps, boundary_width
from paddlex_seg.metrics.matching import average_precision, match


def expected_precision(document: dict[str, Any], rows: list[dict[str, Any]]) -> np.ndarray:
    truth = COCO(copy.deepcopy(document))
    evaluation = COCOeval_faster(truth, truth.loadRes(copy.deepcopy(rows)), iouType="boundary")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, -1]


def expected_iou(mask: dict, other: dict) -> float:
    return rle_iou(*(faster_mask.rleToBoundary(one) for one in (mask, other)))


def precision_of(document: dict[str, Any], rows: list[dict[str, Any]]) -> np.ndarray:
    table = boundary_overlaps(overlaps_of(document, rows), coco_of(document), results_of(document, rows))
    assert table.kind == "boundary"
    return average_precision(table, match(table))


@pytest.mark.parametrize("seed", range(20))
def test_the_precision_is_that_of_faster_coco_eval(seed: int) -> None:
    document, rows = make_problem(seed, num_images=8, crowds=seed % 2 == 1)
    np.testing.assert_allclose(
        precision_of(document, rows), expected_precision(document, rows), rtol=0, atol=1e-9
    )


def test_coco_results_have_the_precision_of_faster_coco_eval(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "coco_eval"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    rows = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    precision = precision_of(document, rows)
    assert 0.1 < precision[precision > -1].mean() < 0.3
    np.testing.assert_allclose(precision, expected_precision(document, rows), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EASILY_LOST)
def test_boundaries_of_masks_that_are_easily_lost(name: str) -> None:
    """At the border, thin, with holes, in parts: each with itself moved, and with a rectangle."""
    mask = EASILY_LOST[name]
    others = [np.roll(mask, (1, 2), (0, 1)), mask & ~rectangle((30, 20, 34, 24)), rectangle((20, 5, 70, 59))]
    first = mask_to_rle(mask)
    for other in map(mask_to_rle, others):
        assert boundary_iou(first, other) == pytest.approx(expected_iou(first, other), abs=1e-9)
    assert boundary_iou(first, first) == 1


@pytest.mark.parametrize(
    "size_hw", [(480, 640), (60, 45), (75, 100), (140, 105), (5, 7), (30, 30), (301, 17)]
)
def test_the_width_is_that_of_faster_coco_eval(size_hw: tuple[int, int]) -> None:
    """The diagonals of some end in a half pixel."""
    width = boundary_width(size_hw)
    full = mask_to_rle(np.ones(size_hw, bool))
    inner = np.zeros(size_hw, bool)
    inner[width : size_hw[0] - width, width : size_hw[1] - width] = True
    ring = mask_to_rle(~inner)
    assert faster_mask.rleToBoundary(full)["counts"] == ring["counts"]
    assert expected_iou(full, ring) == pytest.approx(boundary_iou(full, ring), abs=1e-9)


def test_halves_are_rounded_down() -> None:
    assert [boundary_width((15 * n, 20 * n)) for n in (1, 3, 5, 7)] == [1, 1, 2, 3]


def test_an_image_that_is_all_border_has_masks_that_are_all_boundary() -> None:
    """faster-coco-eval loses pixels where the image is no higher than two boundaries."""
    mask = np.zeros((3, 200), bool)  # boundaries of 4 pixels
    mask[:, 20:120] = True
    half = mask & (np.arange(200) < 70)
    assert boundary_iou(mask_to_rle(mask), mask_to_rle(half)) == 0.5


def test_masks_without_pixels_overlap_nothing() -> None:
    empty, mask = mask_to_rle(np.zeros((60, 80), bool)), mask_to_rle(rectangle((3, 3, 9, 9)))
    assert boundary_ious([empty, empty, mask], [empty, mask, empty]).tolist() == [0, 0, 0]
    assert boundary_ious([], []).tolist() == []


def test_a_table_with_masks_without_pixels() -> None:
    document, rows = make_problem(3)
    for one in (document["annotations"][0], rows[0]):
        one["segmentation"] = rle_to_json(mask_to_rle(np.zeros((96, 128), bool)))
    document["annotations"][0] |= {"bbox": [0, 0, 0, 0], "area": 0}
    np.testing.assert_allclose(
        precision_of(document, rows), expected_precision(document, rows), rtol=0, atol=1e-9
    )


def test_parts_and_several_image_sizes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    masks, others = [], []
    for _ in range(40):
        size = tuple(rng.integers(20, 90, 2).tolist())
        for side in (masks, others):
            drawn = np.zeros(size, np.uint8)
            cv2.circle(drawn, (size[1] // 2, size[0] // 2), int(rng.integers(3, 40)), 1, -1)
            side.append(mask_to_rle(drawn))
    together = boundary_ious(masks, others)
    assert together.tolist() == pytest.approx(
        [expected_iou(*pair) for pair in zip(masks, others, strict=True)]
    )
    monkeypatch.setattr(boundary, "_MOST_PAIRS", 7)
    monkeypatch.setattr(boundary, "_MOST_PIXELS", 4000)
    np.testing.assert_array_equal(boundary_ious(masks, others), together)


def test_a_pair_whose_outlines_agree_is_worth_no_more_than_its_masks() -> None:
    size = (110, 110)
    full = rectangle((5, 5, 105, 105), size)
    holed = full & ~rectangle((22, 22, 88, 88), size)
    masks = [mask_to_rle(mask) for mask in (full, holed)]
    assert boundary_iou(*masks) > rle_iou(*masks) > 0.5
    document = {
        "images": [{"id": 1, "height": 110, "width": 110}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": rle_to_json(masks[0])}],
    }
    rows = [{"image_id": 1, "category_id": 1, "segmentation": rle_to_json(masks[1]), "score": 0.5}]
    table = boundary_overlaps(overlaps_of(document, rows), coco_of(document), results_of(document, rows))
    assert table.pair_iou.tolist() == [rle_iou(*masks)]


def test_a_pair_whose_outlines_differ_is_worth_less_than_its_masks() -> None:
    mask, smaller = rectangle((5, 5, 75, 55)), rectangle((9, 9, 71, 51))
    first, second = mask_to_rle(mask), mask_to_rle(smaller)
    assert rle_iou(first, second) > 0.7
    assert boundary_iou(first, second) == 0


@pytest.mark.parametrize("edge", ["no truth", "no detection"])
def test_edges(edge: str) -> None:
    document, rows = make_problem(1)
    if edge == "no truth":
        document["annotations"] = []
    precision = precision_of(document, rows if edge == "no truth" else [])
    assert precision.max() == (-1 if edge == "no truth" else 0)
