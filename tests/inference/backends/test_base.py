"""Instances of a batch from a backend."""

import numpy as np
import pytest

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.inference.backends.base import find_instances, fitting_batch_size, keep_rows
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec

SCORES = (0.2, 0.9, 0.5, 0.6, 0.1)
NUMBERS = (2, 0, 3)  # rows of each image
SIZES = [(20, 30), (10, 10), (40, 16)]


class Scripted:
    """Always returns the same detections. Each mask fills its box."""

    preprocess = PreprocessSpec(size_hw=(16, 16))

    def __init__(self, mask_frame: MaskFrame = "box") -> None:
        self.mask_frame = mask_frame

    def __call__(self, image: np.ndarray, im_shape: np.ndarray, scale_factor: np.ndarray) -> DetectionArrays:
        return detections()


def detections() -> DetectionArrays:
    bbox = np.tile(np.float32([0, 0, 2, 2, 8, 8]), (len(SCORES), 1))
    bbox[:, 0], bbox[:, 1] = np.arange(len(SCORES)), SCORES
    return DetectionArrays(bbox, np.array(NUMBERS, np.int32), np.ones((len(SCORES), 4, 4), np.float32))


def inputs() -> NetworkInput:
    shape = np.full((3, 2), 16, np.float32)
    return NetworkInput(np.zeros((3, 3, 16, 16), np.float32), shape, (shape / SIZES).astype(np.float32))


@pytest.mark.parametrize(
    ("threshold", "classes"),
    [
        (None, [[1, 0], [], [3, 2, 4]]),
        (0.5, [[1], [], [3]]),
        (0.1, [[1, 0], [], [3, 2]]),
        (1.0, [[], [], []]),
    ],
)
def test_images_get_their_own_detections_above_the_threshold(
    threshold: float | None, classes: list[list[int]]
) -> None:
    found = find_instances(Scripted(), inputs(), SIZES, score_threshold=threshold)
    assert [one.class_ids.tolist() for one in found] == classes
    assert [one.size_hw for one in found] == SIZES


def test_rows_are_kept_for_the_image_they_belong_to() -> None:
    kept = keep_rows(detections(), np.array([False, False, True, False, True]))
    assert kept.bbox[:, 0].tolist() == [2, 4]
    assert kept.bbox_num.tolist() == [0, 0, 2]
    assert len(kept.mask) == 2


@pytest.mark.parametrize(("mask_frame", "expected"), [("box", 8), ("image_logits", 8), ("original", 1)])
def test_a_backend_that_pastes_the_masks_sees_one_image_at_a_time(
    mask_frame: MaskFrame, expected: int
) -> None:
    assert fitting_batch_size(Scripted(mask_frame), 8) == expected
