"""Outputs of official graphs in all types and shapes that versions of Paddle give them."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from paddlex_seg.inference.backends.official_outputs import official_detections, require_mask_size

BOXES = np.float32([[1, 0.9, 2, 1, 6, 4], [0, 0.8, 0, 0, 3, 3], [2, 0.7, 1, 1, 2, 2]])
MASKS = np.zeros((3, 5, 7), np.int32)
MASKS[0, 1:4, 2:6] = MASKS[1, :3, :3] = MASKS[2, 1, 1] = 1


def with_boxes(count: int) -> list[NDArray]:
    return [BOXES[:count], np.int32([count]), MASKS[:count]]


def without_boxes(count: int) -> list[NDArray]:
    return [np.int32([count]), BOXES[:count, 0].astype(np.int64), BOXES[:count, 1], MASKS[:count]]


def require_rows(outputs: list[NDArray], count: int) -> None:
    bbox, number, masks = official_detections(outputs, num_images=1)
    assert bbox.dtype == np.float32 and bbox.shape == (count, 6)
    np.testing.assert_array_equal(bbox, BOXES[:count])
    assert number.tolist() == [count]
    assert len(masks) == count and masks.ndim == 3
    if count:
        np.testing.assert_array_equal(masks > 0, MASKS[:count] > 0)


COUNTS = pytest.mark.parametrize("count", [0, 1, 2, 3])
SIGNATURES = pytest.mark.parametrize("outputs_of", [with_boxes, without_boxes], ids=["boxes", "SOLOv2"])


@COUNTS
@SIGNATURES
def test_any_order_is_understood(outputs_of: Callable[[int], list[NDArray]], count: int) -> None:
    for outputs in permutations(outputs_of(count)):
        require_rows(list(outputs), count)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_number_and_class_of_a_single_object_are_not_confused(label: int) -> None:
    number, _, scores, masks = without_boxes(1)
    for first, second in ((number, np.int32([label])), (np.int32([label]), number)):
        bbox, found, _ = official_detections([first, second, scores, masks], num_images=1)
        assert found.tolist() == [1] and bbox[0, 0] == label


@COUNTS
@SIGNATURES
@pytest.mark.parametrize("number_type", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_the_number_may_have_any_shape(
    outputs_of: Callable[[int], list[NDArray]], count: int, number_type: type, shape: tuple[int, ...]
) -> None:
    outputs = outputs_of(count)
    place = 1 if outputs_of is with_boxes else 0
    outputs[place] = outputs[place].reshape(shape).astype(number_type)
    require_rows(outputs, count)


@COUNTS
@SIGNATURES
@pytest.mark.parametrize("mask_type", ["bool", "uint8", "int8", "int32", "int64", "float16", "float32"])
def test_masks_may_have_any_type(
    outputs_of: Callable[[int], list[NDArray]], count: int, mask_type: str
) -> None:
    *others, masks = outputs_of(count)
    require_rows([*others, masks.astype(mask_type)], count)


@COUNTS
@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)], ids=str)
@pytest.mark.parametrize("label_type", [np.int32, np.int64, np.uint8])
def test_classes_and_scores_may_be_columns(count: int, shape: tuple[int, ...], label_type: type) -> None:
    number, labels, scores, masks = without_boxes(count)
    if count or -1 in shape[:1]:
        labels, scores = labels.reshape(shape), scores.reshape(shape)
    require_rows([number, labels.astype(label_type), scores, masks], count)


@SIGNATURES
def test_single_numbers_may_have_no_axis(outputs_of: Callable[[int], list[NDArray]]) -> None:
    outputs = [one if one.size > 1 else one.reshape(()) for one in outputs_of(1)]
    require_rows(outputs, 1)


@SIGNATURES
def test_a_single_mask_may_have_no_axis_of_its_own(outputs_of: Callable[[int], list[NDArray]]) -> None:
    *others, masks = outputs_of(1)
    require_rows([*others, masks[0]], 1)
    require_rows([*others, masks[:, None]], 1)


@pytest.mark.parametrize(
    "outputs",
    [
        [np.zeros((0, 6), np.float32), np.int32([0]), np.zeros((0, 5, 7), np.int32)],
        [np.zeros((0, 6), np.float32), np.int32([0]), np.zeros((0, 0, 0), np.int32)],
        [np.zeros((0, 6), np.float32), np.int32([0]), np.zeros(0, np.float32)],
        [np.zeros(0, np.float32), np.int32([0]), np.zeros((1, 5, 7), np.int32)],
        [np.float32([[-1]]), np.int32([1]), np.full((1, 1, 1), -1, np.int32)],
        [np.float32([[-1, 0, 0, 0, 0, 0]]), np.int32([1]), np.full((1, 5, 7), -1, np.int32)],
        [np.float32([[0, 0, 0, 0, 1, 1]]), np.int32([1]), np.zeros((1, 5, 7), np.int32)],
        [np.zeros((1, 6), np.float32), np.int32([1]), np.zeros((1, 0, 7), np.float32)],
        [np.int32([1]), np.int64([0]), np.float32([0]), np.zeros((1, 5, 7), np.uint8)],
        [np.int32([1]), np.int64([0]), np.float32([np.nan]), np.zeros((1, 5, 7), np.uint8)],
        [np.int32([1]), np.int64([-1]), np.float32([0.9]), np.zeros((1, 5, 7), np.uint8)],
        [np.int32(0), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 5, 7), np.uint8)],
        [np.int32(0), np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32), np.zeros(0, np.uint8)],
    ],
)
def test_nothing_is_found_in_every_form_of_nothing(outputs: list[NDArray]) -> None:
    bbox, number, masks = official_detections(outputs, num_images=1)
    assert (bbox.shape, number.tolist(), len(masks), masks.ndim) == ((0, 6), [0], 0, 3)


def test_rows_after_the_number_do_not_count() -> None:
    boxes, _, masks = with_boxes(3)
    bbox, number, kept = official_detections([boxes, np.int32([2]), masks], num_images=1)
    assert (len(bbox), number.tolist(), len(kept)) == (2, [2], 2)


def test_fillers_are_removed_from_the_image_that_they_are_of() -> None:
    boxes = np.insert(BOXES, [1], [-1, 0, 0, 0, 0, 0], axis=0).astype(np.float32)
    masks = np.insert(MASKS, [1], -1, axis=0)
    bbox, number, kept = official_detections([boxes, np.int32([2, 2]), masks], num_images=2)
    np.testing.assert_array_equal(bbox, BOXES)
    assert number.tolist() == [1, 2]
    np.testing.assert_array_equal(kept, MASKS)


def test_an_object_with_an_empty_mask_has_the_box_0() -> None:
    number, labels, scores, masks = without_boxes(2)
    masks = masks * np.int32([[[1]], [[0]]])
    bbox, _, _ = official_detections([number, labels, scores, masks], num_images=1)
    assert bbox[:, 2:].tolist() == [[2, 1, 6, 4], [0, 0, 0, 0]]


@pytest.mark.parametrize("size", [(5, 7), (6, 8), (5, 8), (4, 7)], ids=str)
def test_masks_may_differ_from_the_image_by_one_pixel(size: tuple[int, int]) -> None:
    require_mask_size(MASKS, size)
    require_mask_size(MASKS[:0], (100, 100))


@pytest.mark.parametrize("size", [(7, 7), (5, 9), (50, 70)], ids=str)
def test_masks_of_another_size_are_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"masks have \[5, 7\] pixels for an image of \["):
        require_mask_size(MASKS, size)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (
            [BOXES[:, :5], np.int32([3]), MASKS],
            r"float32 \[3, 5\], int32 \[1\], int32 \[3, 5, 7\]; expected boxes",
        ),
        ([BOXES, np.float32([3]), MASKS], "expected boxes"),
        ([BOXES, np.int32([1, 2]), MASKS], "expected boxes"),
        ([BOXES, np.int32([3]), MASKS[:2]], r"number of objects is \[3\] for 3 rows and 2 masks"),
        ([BOXES, np.int32([-1]), MASKS], r"number of objects is \[-1\]"),
        ([*without_boxes(3)[:3], MASKS[None, None]], "expected the number of objects"),
        ([np.int32([3]), np.int64([1, 2]), *without_boxes(3)[2:]], "expected the number of objects"),
    ],
)
def test_outputs_of_another_model_are_named(outputs: list[NDArray], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        official_detections(outputs, num_images=1)
