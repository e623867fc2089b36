"""Pairs of two results of one image."""

from itertools import permutations

import numpy as np
import pytest
from made_instances import Mask, disc, instances_of, rectangle

from paddlex_seg.masks.rle import mask_to_rle, rle_iou, rle_ious
from paddlex_seg.metrics.matches import match_instances

EMPTY = np.zeros((60, 80), bool)


def shifted(mask: Mask, by: int) -> Mask:
    return np.roll(mask, by, axis=1)


def test_equal_results_pair_each_instance_with_itself() -> None:
    found = instances_of([disc((20, 20), 9), disc((50, 30), 12), disc((22, 20), 9)], [0, 1, 0])
    matches = match_instances(found, found)
    assert matches.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert matches.ious.tolist() == [1, 1, 1]
    assert len(matches.unmatched_first) == len(matches.unmatched_second) == 0


def test_only_instances_of_one_class_are_a_pair() -> None:
    mask = disc((40, 30), 15)
    matches = match_instances(instances_of([mask, mask], [0, 1]), instances_of([mask, mask], [1, 2]))
    assert matches.pairs.tolist() == [[1, 0]]
    assert matches.unmatched_first.tolist() == [0]
    assert matches.unmatched_second.tolist() == [1]


@pytest.mark.parametrize(("width", "is_pair"), [(20, True), (19, False)])
def test_an_overlap_of_a_half_is_enough(width: int, is_pair: bool) -> None:
    matches = match_instances(
        instances_of([rectangle((10, 10, 50, 30))]), instances_of([rectangle((10, 10, 10 + width, 30))])
    )
    assert len(matches.pairs) == is_pair
    assert matches.ious.tolist() == [0.5] * is_pair


def test_the_least_overlap_can_be_named() -> None:
    sides = instances_of([rectangle((10, 10, 50, 30))]), instances_of([rectangle((10, 10, 40, 30))])
    assert len(match_instances(*sides, least_iou=0.75).pairs) == 1
    assert len(match_instances(*sides, least_iou=0.76).pairs) == 0


def test_no_instance_has_two_partners() -> None:
    mask = disc((40, 30), 15)
    matches = match_instances(instances_of([mask, mask, mask]), instances_of([mask]))
    assert matches.pairs.tolist() == [[0, 0]]
    assert matches.unmatched_first.tolist() == [1, 2]


def test_pairs_are_optimal_where_one_after_the_other_would_leave_instances_alone() -> None:
    wide, narrow = rectangle((10, 10, 50, 30)), rectangle((10, 10, 38, 30))
    # The first takes the first that fits, and then the second would fit nothing.
    first = instances_of([narrow, rectangle((10, 10, 20, 30))])
    second = instances_of([rectangle((10, 10, 26, 30)), wide])
    matches = match_instances(first, second)
    assert matches.pairs.tolist() == [[0, 1], [1, 0]]


def test_many_overlapping_instances_in_another_order_find_their_own() -> None:
    masks = [disc((20 + step, 30), 15) for step in range(0, 40, 2)]
    order = np.random.default_rng(0).permutation(len(masks))
    second = instances_of([shifted(masks[i], 1) for i in order], scores=[0.5] * len(masks))
    matches = match_instances(instances_of(masks, scores=[0.5] * len(masks)), second)
    assert [order[j] for _, j in matches.pairs] == list(range(len(masks)))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_equal_masks_are_paired_by_their_scores(order: tuple[int, ...]) -> None:
    mask, scores = disc((40, 30), 15), [0.9, 0.4, 0.1]
    second = instances_of([mask] * 3, scores=[scores[i] for i in order])
    matches = match_instances(instances_of([mask] * 3, scores=scores), second)
    assert [order[j] for _, j in matches.pairs] == [0, 1, 2]


def test_masks_without_pixels_are_equal() -> None:
    found = instances_of([EMPTY, disc((40, 30), 15), EMPTY], scores=[0.9, 0.8, 0.7])
    matches = match_instances(found, found)
    assert matches.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert len(match_instances(found, instances_of([disc((40, 30), 15)])).pairs) == 1


@pytest.mark.parametrize("swapped", [False, True])
def test_an_image_without_instances(swapped: bool) -> None:
    sides = instances_of([disc((40, 30), 15)]), instances_of([])
    matches = match_instances(*(sides[::-1] if swapped else sides))
    assert matches.pairs.shape == (0, 2)
    assert [len(matches.unmatched_first), len(matches.unmatched_second)] == ([0, 1] if swapped else [1, 0])


def test_overlaps_of_many_masks_are_those_of_two() -> None:
    masks = [mask_to_rle(disc((20 + step, 30), 10)) for step in (0, 3, 40)]
    ious = rle_ious(masks, masks[1:])
    assert ious.tolist() == [[rle_iou(one, other) for other in masks[1:]] for one in masks]
    assert rle_ious([], masks).shape == (0, 3)
