from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_seg.data.samples.epochs import Draw, draw_epoch, epoch_length, image_weights
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord


def build_coco(classes_of_image, crowds=()):
    """Images with ids 10, 11, ..., and one object per listed class. The category ids are 5, 6, 7."""
    images = tuple(ImageRecord(10 + i, f"{i}.png", 8, 8) for i in range(len(classes_of_image)))
    annotations = tuple(
        Annotation(1, 10 + i, 5 + class_id, [], iscrowd=i in crowds)
        for i, class_ids in enumerate(classes_of_image)
        for class_id in class_ids
    )
    categories = tuple(Category(5 + class_id, str(class_id)) for class_id in range(3))
    return CocoFile(Path("train.json"), images, annotations, categories)


# --- weights --------------------------------------------------------------------------------------


def test_without_settings_every_image_counts_once():
    assert image_weights(build_coco([[0], [], [0, 1]])).tolist() == [1, 1, 1]


def test_an_image_is_repeated_for_the_rarest_of_its_classes():
    coco = build_coco([[0]] * 12 + [[0, 1]] * 3 + [[0, 1, 2]])  # in 16, 4 and 1 of 16 images
    weights = image_weights(coco, repeat_threshold=0.5)
    np.testing.assert_allclose(weights, [1] * 12 + [2**0.5] * 3 + [8**0.5])


def test_crowds_do_not_count_as_objects_of_a_class_or_an_image():
    coco = build_coco([[0], [0], [0], [0], [1]], crowds={0, 1, 2})
    np.testing.assert_allclose(image_weights(coco, repeat_threshold=0.2), [1] * 5)
    np.testing.assert_allclose(image_weights(coco, repeat_threshold=0.8), [1, 1, 1, 2, 2])
    np.testing.assert_allclose(image_weights(coco, negatives_ratio=0.3), [0.2] * 3 + [1] * 2)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(None, 1.0), (5.0, 1.0), (1.0, 0.5), (0.5, 0.25), (0.0, 0.0)],
)
def test_images_without_objects_are_limited_relative_to_images_with_objects(ratio, expected):
    weights = image_weights(build_coco([[0], [], [], [1], [], []]), negatives_ratio=ratio)
    np.testing.assert_allclose(weights, [1, expected, expected, 1, expected, expected])


def test_repeats_of_images_with_objects_raise_the_limit_of_images_without():
    coco = build_coco([[0]] + [[]] * 15)
    np.testing.assert_allclose(image_weights(coco, repeat_threshold=1, negatives_ratio=1)[0], 4)
    np.testing.assert_allclose(image_weights(coco, repeat_threshold=1, negatives_ratio=1)[1:].sum(), 4)


def test_images_without_objects_are_all_kept_if_no_image_has_objects():
    assert image_weights(build_coco([[], []]), repeat_threshold=1, negatives_ratio=0).tolist() == [1, 1]


# --- epochs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_equal_weights_give_a_permutation(epoch):
    drawn = draw_epoch(np.ones(50), seed=3, epoch=epoch)
    order = np.random.default_rng([3, epoch]).permutation(50)
    assert drawn == [Draw(image, 0) for image in order]


WEIGHTS = st.lists(st.floats(0, 6, allow_subnormal=False) | st.integers(0, 3), min_size=1, max_size=30)


@settings(deadline=None, max_examples=200)
@given(WEIGHTS.filter(lambda weights: sum(weights) > 1e-3), st.integers(0, 99), st.integers(0, 99))
def test_epochs_have_equal_length_and_repeat_images_by_their_rounded_weight(weights, seed, epoch):
    weights = np.array(weights, float)
    drawn = draw_epoch(weights, seed, epoch)
    assert len(drawn) == epoch_length(weights) == max(1, round(weights.sum()))
    counts = Counter(draw.image for draw in drawn)
    for image, weight in enumerate(weights):
        assert np.floor(weight) <= counts[image] <= np.ceil(weight)
    assert set(drawn) == {Draw(image, k) for image, count in counts.items() for k in range(count)}


def test_average_repeats_over_epochs_equal_the_weights():
    weights = np.array([1.0, 2.5, 0.2, 0.3, 1.7, 0.9, 0.4])  # they sum to 7, so no rounding is needed
    counts = Counter(draw.image for epoch in range(3000) for draw in draw_epoch(weights, 0, epoch))
    np.testing.assert_allclose([counts[image] / 3000 for image in range(7)], weights, atol=0.03)


def test_images_of_equal_weight_have_their_share_in_every_epoch():
    weights = np.array([1.0, 0.25] * 40 + [0.5] * 10)
    for epoch in range(50):
        drawn = Counter(weights[draw.image] for draw in draw_epoch(weights, 0, epoch))
        assert drawn[1.0] == 40
        assert drawn[0.25] in (9, 10, 11) and drawn[0.5] in (4, 5, 6)


def test_images_of_one_weight_are_drawn_independently_of_their_neighbours():
    weights = np.full(20, 0.5)
    pairs = {
        frozenset((a.image, b.image))
        for epoch in range(200)
        for a in draw_epoch(weights, 0, epoch)
        for b in draw_epoch(weights, 0, epoch)
    }
    assert len(pairs) == 20 + 20 * 19 / 2


def test_each_epoch_has_a_different_order_that_is_reproducible():
    weights = np.linspace(0.5, 2.5, 60)
    first, again, next_epoch, other_seed = (
        draw_epoch(weights, seed, epoch) for seed, epoch in [(0, 1), (0, 1), (0, 2), (1, 1)]
    )
    assert first == again
    assert first != next_epoch and first != other_seed
