import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_fonts import make_font, only_fonts
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.structures import Instances
from paddlex_seg.visualize import class_colour, draw_instances, place_labels

OPACITY = 0.45  # of masks


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


def blended(*colours: tuple[int, int, int], onto: int = 0) -> np.ndarray:
    """The colour of a pixel on which these are drawn one after the other."""
    value = np.full(3, float(onto))
    for colour in colours:
        value = np.rint(value * (1 - OPACITY) + np.array(colour) * OPACITY)
    return value


def label_of(
    name: str, score: float = 0.875, class_id: int = 0, size_hw: tuple[int, int] = (400, 600)
) -> np.ndarray:
    """The label of an object in the middle of an image: all that is drawn above its box."""
    instances = instances_of(block(size_hw, 200, 250, 5), class_ids=[class_id])
    instances = replace(instances, scores=np.array([score], np.float32))
    names = [""] * class_id + [name]
    above = draw_instances(np.full((*size_hw, 3), 1, np.uint8), instances, names)[
        :199
    ]  # the line of the box is two pixels wide
    rows, columns = np.nonzero((above != 1).any(axis=2))
    return above[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def contains(image: np.ndarray, part: np.ndarray) -> bool:
    """Whether ``part`` is in the image, whole and unchanged."""
    if any(image.shape[axis] < part.shape[axis] for axis in (0, 1)):
        return False
    _, _, (x, y), _ = cv2.minMaxLoc(cv2.matchTemplate(image, part, cv2.TM_SQDIFF))
    return np.array_equal(image[y : y + part.shape[0], x : x + part.shape[1]], part)


def test_holes_stay_free_and_pixels_outside_are_untouched() -> None:
    mask = block((300, 300), 80, 80, 140)
    mask[120:180, 120:180] = False
    drawn = draw_instances(np.full((300, 300, 3), 90, np.uint8), instances_of(mask), ["washer"])
    assert (drawn[123:177, 123:177] == 90).all()
    assert (drawn[223:, :] == 90).all() and (drawn[80:, :77] == 90).all() and (drawn[80:, 223:] == 90).all()
    assert (drawn[90:115, 90:210] == blended(class_colour(0), onto=90)).all()


def test_the_box_is_drawn_where_it_is(size_hw: tuple[int, int] = (300, 300)) -> None:
    instances = replace(
        instances_of(np.zeros(size_hw, bool)), boxes_xyxy=np.array([[50, 100, 200, 250]], np.float32)
    )
    drawn = draw_instances(np.zeros((*size_hw, 3), np.uint8), instances, ["nut"])
    rows, columns = np.nonzero((drawn[101:] == class_colour(0)).all(axis=2))
    assert (columns.min(), columns.max(), rows.max() + 101) == (50, 200, 250)
    assert (drawn[110:240, 60:190] == 0).all()


def test_instances_of_a_class_differ_in_shade_and_classes_in_colour() -> None:
    size = (200, 400)
    masks = [block(size, 100, left, 60) for left in (20, 140, 260)]
    drawn = draw_instances(
        np.zeros((*size, 3), np.uint8), instances_of(*masks, class_ids=[0, 0, 1]), ["a", "b"]
    ).astype(int)
    first, second, other = (drawn[130, left + 30] for left in (20, 140, 260))
    assert (first == blended(class_colour(0))).all() and (other == blended(class_colour(1))).all()
    lighter = np.array(class_colour(0)) + 0.3 * (255 - np.array(class_colour(0)))
    assert abs(second - OPACITY * lighter).max() <= 1
    assert len({class_colour(i) for i in range(80)}) == 80


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_small_instances_are_drawn_on_large_ones_whatever_their_order(order: tuple[int, int]) -> None:
    size = (300, 300)
    masks = [block(size, 10, 10, 280), block(size, 150, 150, 40)]
    drawn = draw_instances(
        np.zeros((*size, 3), np.uint8),
        instances_of(*(masks[i] for i in order), class_ids=list(order)),
        ["a", "b"],
    )
    assert (drawn[170, 170] == blended(class_colour(0), class_colour(1))).all()


def test_name_and_score_are_written_above_the_box_and_annotations_have_no_score() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    instances = instances_of(block((200, 300), 100, 50, 60))
    with_score = draw_instances(image, instances, ["nut"])
    without = draw_instances(image, instances, ["nut"], show_scores=False)
    rows, columns = np.nonzero((with_score != without).any(axis=2))
    assert rows.max() < 100
    assert columns.min() > 50 + 10 and (without[:100, 50:70] == class_colour(0)).any()
    assert not np.array_equal(label_of("nut", 0.87), label_of("nut", 0.86))
    assert not np.array_equal(label_of("nut"), label_of("nuf"))


@pytest.mark.parametrize("class_id", range(6))
def test_text_is_legible_on_the_colour_of_its_class(class_id: int) -> None:
    label = label_of("name", class_id=class_id)
    is_patch = (label == class_colour(class_id)).all(axis=2)
    assert is_patch[:2].all() and is_patch[:, :2].all() and 0.4 < is_patch.mean() < 0.9
    luminance = label @ (0.299, 0.587, 0.114)
    assert abs(luminance - luminance[0, 0]).max() > 110  # of 255


NAMES = ["nut", "a\nb", "برغي"]  # the bundled font has them all


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("top", [0, 2, 12, 200, 395])
@pytest.mark.parametrize("left", [0, 300, 560, 595])
def test_labels_at_all_borders_lie_inside_the_image(name: str, top: int, left: int) -> None:
    drawn = draw_instances(
        np.full((400, 600, 3), 1, np.uint8), instances_of(block((400, 600), top, left, 5)), [name]
    )
    assert contains(drawn, label_of(name))


def test_a_label_without_room_above_its_box_lies_inside_the_box() -> None:
    image = np.full((400, 600, 3), 1, np.uint8)
    drawn = draw_instances(image, instances_of(block((400, 600), 12, 100, 200)), ["nut"])
    assert (drawn[:10] == 1).all()
    assert contains(drawn[12:], label_of("nut"))


@pytest.mark.parametrize("box", [(-90, -80, -3, -2), (700, 500, 900, 800), (-50, 200, 900, 210)], ids=str)
def test_the_label_of_a_box_outside_lies_inside_the_image(box: tuple[int, ...]) -> None:
    instances = replace(instances_of(np.zeros((400, 600), bool)), boxes_xyxy=np.array([box], np.float32))
    drawn = draw_instances(np.full((400, 600, 3), 1, np.uint8), instances, ["nut"])
    assert contains(drawn, label_of("nut"))


@pytest.mark.parametrize("width", [50, 80, 300])
def test_a_name_that_is_wider_than_the_image_is_shortened(width: int) -> None:
    """The label fills the width, has free borders, and ends with the score."""
    size = (200, width)
    drawn = draw_instances(
        np.full((*size, 3), 1, np.uint8), instances_of(block(size, 100, 5, 5)), ["W" * 400]
    )
    label = drawn[:100]
    rows, columns = np.nonzero((label != 1).any(axis=2))
    label = label[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert width - 20 <= label.shape[1] <= width
    assert (label[:, [0, 1, -2, -1]] == class_colour(0)).all() and (
        label[[0, 1, -2, -1]] == class_colour(0)
    ).all()
    other = instances_of(block(size, 100, 5, 5))
    other = replace(other, scores=np.array([0.12], np.float32))
    assert (draw_instances(np.full((*size, 3), 1, np.uint8), other, ["W" * 400]) != drawn).any()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 20), (300, 1), (1, 300), (12, 12)], ids=str)
def test_an_image_without_room_for_text_has_boxes_and_no_labels(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_instances(image, instances_of(np.ones(size, bool)), ["a long class name"])
    assert np.array_equal(drawn, draw_instances(image, instances_of(np.ones(size, bool)), ["nut"]))
    assert drawn.any()


@pytest.mark.parametrize("size", [(40, 60), (16, 500), (30, 2000), (2500, 1800)], ids=str)
def test_a_label_fits_into_an_image_of_any_shape(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    mask = np.zeros(size, bool)
    drawn = draw_instances(image, instances_of(mask), ["nut"])
    patch = (drawn == class_colour(0)).all(axis=2)
    rows, columns = np.nonzero(patch)
    label = drawn[: rows.max() + 1, : columns.max() + 1]
    assert 0.3 < patch[: len(label), : label.shape[1]].mean() < 0.95  # the rest is text
    assert (label[-2:] == class_colour(0)).all() and (label[:, -2:] == class_colour(0)).all()


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


def test_a_box_that_exceeds_the_image_is_drawn_along_its_border() -> None:
    instances = replace(
        instances_of(np.zeros((20, 30), bool)), boxes_xyxy=np.array([[-50, -9, 400, 90]], np.float32)
    )
    drawn = draw_instances(np.zeros((20, 30, 3), np.uint8), instances, ["nut" * 9])
    is_box = (drawn == class_colour(0)).all(axis=2)
    assert is_box[0].all() and is_box[-1].all() and is_box[:, 0].all() and is_box[:, -1].all()
    assert not is_box[1:-1, 1:-1].any()


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the instances are for"):
        draw_instances(np.zeros((30, 20, 3), np.uint8), instances_of(np.ones((20, 30), bool)), ["nut"])


def test_a_class_without_a_name_or_without_a_font_is_named_by_its_number(tmp_path: Path) -> None:
    with only_fonts():
        assert np.array_equal(label_of("螺母", class_id=1), label_of("class 1", class_id=1))
        assert np.array_equal(label_of(" ", class_id=1), label_of("class 1", class_id=1))
        assert not np.array_equal(label_of("гайка", class_id=1), label_of("class 1", class_id=1))
    with only_fonts(make_font(tmp_path / "A.ttf", "螺母")):
        assert not np.array_equal(label_of("螺母", class_id=1), label_of("class 1", class_id=1))
    unnamed = instances_of(block((400, 600), 200, 250, 5), class_ids=[1])
    drawn = draw_instances(np.full((400, 600, 3), 1, np.uint8), unnamed, ["nut"])
    assert contains(drawn, label_of("class 1", class_id=1))


# ---- many objects


def shared_pixels(places: list[tuple[int, ...]], size_hw: tuple[int, int]) -> int:
    """How many pixels more than one label covers. All labels must be inside the image."""
    count = np.zeros(size_hw, int)
    for x1, y1, x2, y2 in places:
        assert 0 <= x1 < x2 <= size_hw[1] and 0 <= y1 < y2 <= size_hw[0]
        count[y1:y2, x1:x2] += 1
    return int((count > 1).sum())


def crowd(number: int, size_hw: tuple[int, int], largest: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    corners, sides = (
        rng.uniform(0, size_hw[::-1], (number, 2)),
        rng.uniform(largest / 5, largest, (number, 2)),
    )
    return np.concatenate([corners, np.minimum(corners + sides, size_hw[::-1])], axis=1)


def test_the_labels_of_a_row_of_objects_do_not_cover_each_other() -> None:
    boxes = np.array([[50 + 55 * i, 150, 90 + 55 * i, 260] for i in range(12)])
    places = place_labels(boxes, np.array([[110, 20]] * 12), (800, 400))
    assert shared_pixels(places, (400, 800)) == 0
    assert places[0] == (50, 130, 160, 150)  # the first one has the best place
    for (x1, y1, x2, y2), (left, top, right, bottom) in zip(places, boxes.tolist(), strict=True):
        assert (
            x1 <= right + 1 and x2 >= left - 1 and y1 <= bottom + 1 and y2 >= top - 1
        )  # all touch their box


@pytest.mark.parametrize(("number", "largest"), [(60, 120), (120, 40), (150, 6)])
def test_the_labels_of_a_crowd_do_not_cover_each_other(number: int, largest: int) -> None:
    boxes = crowd(number, (700, 1000), largest)
    places = place_labels(boxes, np.array([[90, 16]] * number), (1000, 700))
    assert shared_pixels(places, (700, 1000)) == 0
    far = [
        max(abs(place[0] - box[0]), abs(place[3] - box[1])) for place, box in zip(places, boxes, strict=True)
    ]
    assert max(far) <= largest + 200 and np.mean(far) < 0.5 * largest + 30


def test_labels_without_free_places_lie_inside_the_image_and_spread() -> None:
    boxes = crowd(50, (100, 100), 30)
    places = place_labels(boxes, np.array([[60, 16]] * 50), (100, 100))
    shared_pixels(places, (100, 100))
    covered = np.zeros((100, 100), bool)
    for x1, y1, x2, y2 in places:
        covered[y1:y2, x1:x2] = True
    assert len(places) == 50 and covered.mean() > 0.8
    assert place_labels(np.zeros((0, 4)), np.zeros((0, 2), int), (100, 100)) == []


def test_where_labels_overlap_the_one_with_the_highest_score_is_whole() -> None:
    size = (60, 120)
    masks = [block(size, 10 + 3 * i, 20 + 3 * i, 20) for i in range(12)]
    is_best = [i == 5 for i in range(12)]
    found = replace(
        instances_of(*masks, class_ids=[int(best) for best in is_best]),
        scores=np.where(is_best, 0.875, 0.5).astype(np.float32),
    )
    image = np.full((*size, 3), 1, np.uint8)
    alone = draw_instances(image, instances_of(masks[5], class_ids=[1]), ["nut", "bolt"])[:25]
    rows, columns = np.nonzero((alone != 1).any(axis=2))
    label = alone[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert label.shape[0] > 10 and label.shape[1] > 30
    assert contains(draw_instances(image, found, ["nut", "bolt"]), label)


def test_text_is_smaller_where_labels_would_cover_the_image() -> None:
    heights = []
    for number in (1, 150):
        masks = [block((800, 1000), 790, 5, 5), *(block((800, 1000), 5, 6 * i, 5) for i in range(number - 1))]
        scores = np.array([0.9] + [0.5] * (number - 1), np.float32)
        found = replace(instances_of(*masks, class_ids=[1] + [0] * (number - 1)), scores=scores)
        drawn = draw_instances(np.zeros((800, 1000, 3), np.uint8), found, ["nut", "bolt"])
        heights.append((drawn[700:, :200] == class_colour(1)).all(axis=2).any(axis=1).sum())
    assert heights[1] < heights[0] - 5
    assert heights[1] >= 11


def test_a_label_away_from_its_box_is_connected_with_it() -> None:
    image = np.zeros((300, 600, 3), np.uint8)
    masks = [block((300, 600), 140, 280 + i % 3, 9) for i in range(30)]
    drawn = draw_instances(
        image, instances_of(*masks, class_ids=list(range(30))), [f"nut {i}" for i in range(30)]
    )
    _, groups = cv2.connectedComponents((drawn != 0).any(axis=2).astype(np.uint8))
    assert groups.max() == 1  # boxes, lines and labels hang together


def test_lines_do_not_cover_small_objects() -> None:
    """In a large image, lines are wider than this object."""
    mask = block((3000, 4000), 1500, 2000, 12)
    drawn = draw_instances(np.zeros((3000, 4000, 3), np.uint8), instances_of(mask), ["nut"])
    inside = drawn[1502:1510, 2002:2010]
    assert (inside == blended(class_colour(0))).all()
    assert (drawn[1490:1498, 2000:2012] == class_colour(0)).all(axis=2).any()


def test_a_long_strip_has_thin_lines() -> None:
    mask = np.zeros((40, 4000), bool)
    mask[10:30, 100:3900] = True
    drawn = draw_instances(np.zeros((40, 4000, 3), np.uint8), instances_of(mask), ["nut"])
    assert (drawn[13:27, 2000] == blended(class_colour(0))).all()


def test_300_objects_of_12_megapixels_take_seconds() -> None:
    rng = np.random.default_rng(0)
    size = (3000, 4000)
    masks, boxes = [], []
    for x, y, side in zip(
        rng.integers(0, 3800, 300), rng.integers(0, 2800, 300), rng.integers(20, 200, 300), strict=True
    ):
        mask = np.zeros(size, np.uint8, order="F")
        mask[y : y + side, x : x + side] = 1
        masks.append(mask_tools.encode(mask))
        boxes.append([x, y, x + side, y + side])
    found = Instances(
        size,
        np.arange(300) % 7,
        np.linspace(1, 0.3, 300, dtype=np.float32),
        np.array(boxes, np.float32),
        tuple(masks),
    )
    image = np.zeros((*size, 3), np.uint8)
    start = time.process_time()
    draw_instances(image, found, [f"class {i}" for i in range(7)])
    assert time.process_time() - start < 5  # 10 when every mask is decoded whole
