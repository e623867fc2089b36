"""The image of numbers: which object a pixel belongs to."""

import io

import cv2
import numpy as np
from made_instances import EASILY_LOST, instances_of, rectangle
from PIL import Image

from paddlex_seg.inference.outputs.id_masks import id_mask, id_mask_png


def test_objects_are_numbered_from_1_in_their_order() -> None:
    masks = [rectangle((0, 0, 5, 5)), rectangle((10, 0, 15, 5)), rectangle((70, 50, 80, 60))]
    numbers = id_mask(instances_of(masks))
    assert numbers.dtype == np.uint16
    assert np.array_equal(numbers, sum((i + 1) * mask for i, mask in enumerate(masks)))


def test_the_higher_score_is_on_top_and_of_equal_ones_the_first() -> None:
    masks = [rectangle((0, 0, 40, 40)), rectangle((20, 20, 60, 60)), rectangle((30, 30, 70, 60))]
    found = instances_of(masks, scores=[0.5, 0.9, 0.5])
    numbers = id_mask(found)
    assert numbers[25, 25] == 2 and numbers[35, 35] == 2 and numbers[10, 10] == 1 and numbers[50, 65] == 3
    equal = id_mask(instances_of(masks, scores=[0.5, 0.5, 0.5]))
    assert equal[35, 35] == 1 and equal[50, 50] == 2


def test_masks_with_holes_and_nothing_at_all() -> None:
    for mask in EASILY_LOST.values():
        assert np.array_equal(id_mask(instances_of([mask])), mask)
    empty = id_mask(instances_of([]))
    assert empty.shape == (60, 80) and not empty.any()
    assert not id_mask(instances_of([np.zeros((60, 80), bool)])).any()


def test_the_file_has_16_bits_and_keeps_large_numbers() -> None:
    """More than 255 objects, read by Pillow and OpenCV."""
    masks = [rectangle((i % 80, i // 80, i % 80 + 1, i // 80 + 1)) for i in range(700)]
    content = id_mask_png(instances_of(masks))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG" and image.mode.startswith("I;16")
        read = np.asarray(image)
    assert read.max() == 700 and read[8, 59] == 700
    other = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert other.dtype == np.uint16 and np.array_equal(other, read)
