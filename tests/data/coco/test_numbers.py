"""Boxes and areas of annotations: of the file or of the mask."""

from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.data.coco.numbers import ObjectNumbers, object_numbers
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle
from paddlex_seg.structures import Annotation

SQUARE = [10.0, 10.0, 50.0, 10.0, 50.0, 40.0, 10.0, 40.0]  # 1,200 pixels
SIZE_HW = (64, 96)


def numbers_of(*annotations: Annotation) -> ObjectNumbers:
    return object_numbers(annotations, [annotation_to_rle(item, *SIZE_HW) for item in annotations])


def test_numbers_of_coco_are_used_as_they_are(shared_dir: Path) -> None:
    coco = read_coco(shared_dir / "data" / "coco_eval" / "instances_val2014_100.json")
    sizes = {image.id: (image.height, image.width) for image in coco.images}
    masks = [annotation_to_rle(item, *sizes[item.image_id]) for item in coco.annotations]
    numbers = object_numbers(coco.annotations, masks)
    assert not numbers.box_is_replaced.any()
    assert not numbers.area_is_replaced.any()
    assert numbers.boxes_xywh.tolist() == [list(item.bbox_xywh or ()) for item in coco.annotations]
    assert numbers.areas.tolist() == [item.area for item in coco.annotations]


def test_missing_numbers_are_those_of_the_mask() -> None:
    numbers = numbers_of(Annotation(1, 1, 1, [SQUARE]))
    assert numbers.boxes_xywh.tolist() == [[10, 10, 40, 30]]
    assert numbers.areas.tolist() == [1200]
    assert not numbers.box_is_replaced.any() and not numbers.area_is_replaced.any()


@pytest.mark.parametrize(
    ("box", "is_replaced"),
    [
        ((10, 10, 42, 30), False),
        ((10, 10, 43, 30), True),
        ((10, 10, 0, 0), True),
        ((50, 40, -40, -30), True),
        ((0, 0, 96, 64), True),
    ],
    ids=str,
)
def test_a_box_more_than_5_percent_off_is_replaced(
    box: tuple[float, float, float, float], is_replaced: bool
) -> None:
    numbers = numbers_of(Annotation(1, 1, 1, [SQUARE], bbox_xywh=box))
    assert numbers.box_is_replaced.tolist() == [is_replaced]
    assert numbers.boxes_xywh.tolist() == [[10, 10, 40, 30] if is_replaced else list(box)]


@pytest.mark.parametrize(("area", "is_replaced"), [(1260, False), (1261, True), (1139, True), (0, True)])
def test_an_area_more_than_5_percent_off_is_replaced(area: float, is_replaced: bool) -> None:
    numbers = numbers_of(Annotation(1, 1, 1, [SQUARE], area=area))
    assert numbers.area_is_replaced.tolist() == [is_replaced]
    assert numbers.areas.tolist() == [1200 if is_replaced else area]


def test_the_corners_of_a_small_polygon_are_its_box_and_area() -> None:
    small = [[2.4, 2.4, 5.6, 2.4, 5.6, 5.6, 2.4, 5.6]]
    numbers = numbers_of(Annotation(1, 1, 1, small, bbox_xywh=(2.4, 2.4, 3.2, 3.2), area=10.24))
    assert not numbers.box_is_replaced.any() and not numbers.area_is_replaced.any()


def test_a_mask_without_pixels_leaves_the_numbers_of_the_file() -> None:
    nothing = mask_to_rle(np.zeros(SIZE_HW, np.uint8))
    item = Annotation(1, 1, 1, nothing, bbox_xywh=(1, 2, 3, 4), area=12)
    numbers = object_numbers([item], [nothing])
    assert (numbers.boxes_xywh.tolist(), numbers.areas.tolist()) == ([[1, 2, 3, 4]], [12])


def test_no_annotations_have_no_numbers() -> None:
    assert numbers_of().boxes_xywh.shape == (0, 4)
