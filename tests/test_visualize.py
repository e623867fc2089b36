from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.structures import Instances
from paddlex_seg.visualize import class_colour, draw_instances


def instances_of(*masks: np.ndarray, class_ids: list[int] | None = None) -> Instances:
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append(
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        )
    return Instances(
        size_hw=masks[0].shape,
        class_ids=np.array(class_ids or [0] * len(masks), np.int64),
        scores=np.full(len(masks), 0.875, np.float32),
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        masks=tuple(mask_tools.encode(np.asfortranarray(mask, np.uint8)) for mask in masks),
    )


def block(size_hw: tuple[int, int], top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_red_image_is_red_on_disk(tmp_path: Path) -> None:
    image = np.full((200, 300, 3), (220, 10, 0), np.uint8)
    drawn = draw_instances(image, instances_of(block((200, 300), 100, 100, 60)), ["nut"])
    Image.fromarray(drawn).save(tmp_path / "red.png")
    with Image.open(tmp_path / "red.png") as saved:
        assert saved.getpixel((5, 190)) == (220, 10, 0)


def test_the_mask_takes_the_colour_of_its_class_in_rgb() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_instances(image, instances_of(block((200, 300), 100, 100, 60), class_ids=[3]), ["a"] * 4)
    inside = drawn[130, 130].astype(float)
    assert np.argsort(inside).tolist() == np.argsort(class_colour(3)).tolist()
    assert abs(inside / inside.max() - np.array(class_colour(3)) / max(class_colour(3))).max() < 0.03
    assert (image == 0).all()  # the caller's image is untouched


def test_holes_stay_free_and_pixels_outside_are_untouched() -> None:
    mask = block((300, 300), 80, 80, 140)
    mask[120:180, 120:180] = False
    drawn = draw_instances(np.full((300, 300, 3), 90, np.uint8), instances_of(mask), ["washer"])
    assert (drawn[140:160, 140:160] == 90).all()
    assert (drawn[240:, :] == 90).all()
    assert (drawn[100, 100] != 90).any()


def test_instances_of_a_class_differ_in_shade_and_classes_in_colour() -> None:
    size = (200, 400)
    masks = [block(size, 100, left, 60) for left in (20, 140, 260)]
    drawn = draw_instances(
        np.zeros((*size, 3), np.uint8), instances_of(*masks, class_ids=[0, 0, 1]), ["a", "b"]
    )
    colours = {tuple(drawn[130, left + 30]) for left in (20, 140, 260)}
    assert len(colours) == 3
    assert len({class_colour(i) for i in range(80)}) == 80


def test_small_instances_stay_visible_on_large_ones() -> None:
    size = (300, 300)
    large, small = block(size, 10, 10, 280), block(size, 150, 150, 40)
    drawn = draw_instances(
        np.zeros((*size, 3), np.uint8), instances_of(small, large, class_ids=[0, 1]), ["a", "b"]
    )
    alone = draw_instances(np.zeros((*size, 3), np.uint8), instances_of(large, class_ids=[1]), ["a", "b"])
    assert (drawn[170, 170] != alone[170, 170]).any()


def test_the_score_is_written_for_predictions_only() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    instances = instances_of(block((200, 300), 100, 50, 60))
    with_score = draw_instances(image, instances, ["nut"])
    without = draw_instances(image, instances, ["nut"], show_scores=False)
    columns = np.flatnonzero((with_score != without).any(axis=(0, 2)))
    rows = np.flatnonzero((with_score != without).any(axis=(1, 2)))
    assert len(columns) > 10
    assert rows.max() < 101  # above the box


@pytest.mark.parametrize("size", [(1, 1), (8, 20), (40, 30), (30, 2000), (2500, 1800)], ids=str)
def test_images_of_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    mask = np.ones(size, bool)
    drawn = draw_instances(np.zeros((*size, 3), np.uint8), instances_of(mask), ["a long class name"])
    assert drawn.shape == (*size, 3)
    assert drawn.any()


def test_text_grows_with_the_image() -> None:
    heights = []
    for side in (200, 2000):
        image = np.zeros((side, side, 3), np.uint8)
        instances = instances_of(block((side, side), side // 2, side // 2, 2))
        changed = draw_instances(image, instances, ["nut"]).any(axis=(1, 2))
        heights.append(int(changed.sum()))
    assert heights[0] >= 10
    assert heights[1] > 3 * heights[0]


def test_nothing_found_gives_the_same_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    nothing = Instances(
        (20, 30), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4), np.float32), ()
    )
    assert (draw_instances(image, nothing, ["nut"]) == image).all()


def test_empty_masks_and_boxes_outside_do_no_harm() -> None:
    instances = instances_of(np.zeros((20, 30), bool))
    outside = Instances(
        (20, 30),
        instances.class_ids,
        instances.scores,
        np.array([[-50, -9, 400, 90]], np.float32),
        instances.masks,
    )
    assert draw_instances(np.zeros((20, 30, 3), np.uint8), outside, ["nut"]).shape == (20, 30, 3)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the instances are for"):
        draw_instances(np.zeros((30, 20, 3), np.uint8), instances_of(np.ones((20, 30), bool)), ["nut"])


def test_names_in_other_scripts_are_drawn_without_warnings(recwarn: pytest.WarningsRecorder) -> None:
    names = ["Schraube ß", "гайка", "螺母", "$5_{x", "\U0001f529"]
    image = np.zeros((200, 300, 3), np.uint8)
    for class_id in range(len(names)):
        assert draw_instances(
            image, instances_of(block((200, 300), 90, 90, 40), class_ids=[class_id]), names
        ).any()
    assert not [warning for warning in recwarn if "glyph" in str(warning.message).lower()]
