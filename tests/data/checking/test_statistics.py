import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.data.checking.statistics import (
    Shapes,
    SplitShapes,
    class_table,
    image_table,
    objects_per_image,
    position_heat_map,
    size_table,
)
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

CATEGORIES = (Category(7, "nut"), Category(3, "bolt"), Category(5, "pin"))


def split_of(
    objects: Sequence[tuple[int, int, float]],
    sizes_wh: Sequence[tuple[int, int]] = ((100, 50),),
    categories: Sequence[Category] = CATEGORIES,
    boxes_xywh: Sequence[Sequence[float]] | None = None,
) -> SplitShapes:
    """objects: image id, category id, area. Image ids are 10, 20, ..."""
    images = tuple(
        ImageRecord(10 * (i + 1), f"{i}.png", width, height) for i, (width, height) in enumerate(sizes_wh)
    )
    annotations = tuple(
        Annotation(i, image_id, category_id, []) for i, (image_id, category_id, _) in enumerate(objects)
    )
    return SplitShapes(
        coco=CocoFile(Path("split.json"), images, annotations, tuple(categories)),
        areas=np.array([area for _, _, area in objects], np.float64),
        boxes_xywh=np.array(boxes_xywh or [[0, 0, 1, 1]] * len(objects), np.float64).reshape(-1, 4),
    )


def test_classes_are_counted_in_annotations_and_in_images() -> None:
    shapes = {
        "train": split_of([(10, 7, 4), (10, 7, 8), (20, 7, 90), (20, 3, 5)], [(9, 9)] * 2),
        "val": split_of([(10, 3, 7)]),
    }
    table = class_table(shapes)
    assert [(row["id"], row["name"]) for row in table] == [(7, "nut"), (3, "bolt"), (5, "pin")]
    assert [row["train"] for row in table] == [3, 1, 0]
    assert [row["val"] for row in table] == [0, 1, 0]
    assert [row["train_images"] for row in table] == [2, 1, 0]
    assert [row["val_images"] for row in table] == [0, 1, 0]
    assert [row["median_area"] for row in table] == [8.0, 6.0, None]


def test_val_classes_are_matched_by_id_if_the_lists_have_different_orders() -> None:
    shapes = {
        "train": split_of([(10, 7, 1)]),
        "val": split_of([(10, 3, 1)], categories=(Category(99, "other"), *CATEGORIES[::-1])),
    }
    assert [row["val"] for row in class_table(shapes)] == [0, 1, 0]


def test_annotations_of_unknown_images_and_classes_are_left_out() -> None:
    shapes = {"train": split_of([(10, 7, 1), (10, 88, 1), (77, 7, 1)])}
    (nut, bolt, pin) = class_table(shapes)
    assert (nut["train"], nut["train_images"]) == (2, 1)
    assert (bolt["train"], pin["train"]) == (0, 0)
    assert objects_per_image(shapes["train"]).tolist() == [2]
    assert size_table(shapes)["train"]["relative_sqrt_area"]["max"] == pytest.approx((1 / 5000) ** 0.5)


def test_object_sizes_use_the_limits_of_coco() -> None:
    areas = [32.0**2 - 1, 32.0**2, 96.0**2 - 1, 96.0**2, 100.0**2]
    shapes = {"train": split_of([(10, 7, area) for area in areas], [(200, 200)])}
    row = size_table(shapes)["train"]
    assert (row["small"], row["medium"], row["large"]) == (1, 2, 2)
    assert list(row["sqrt_area"]) == ["min", "p5", "p25", "p50", "p75", "p95", "max"]
    assert row["sqrt_area"]["max"] == 100
    assert row["relative_sqrt_area"]["max"] == pytest.approx(0.5)


def test_image_table_has_counts_and_sizes() -> None:
    shapes = {"val": split_of([(20, 7, 1)] * 4 + [(30, 7, 1)], [(10, 20), (30, 20), (10, 20)])}
    assert image_table(shapes) == {
        "val": {
            "images": 3,
            "without_objects": 1,
            "objects_per_image": {"min": 0, "median": 1, "max": 4},
            "width": {"min": 10, "median": 10, "max": 30},
            "height": {"min": 20, "median": 20, "max": 20},
            "distinct_sizes": 2,
        }
    }


def test_tables_hold_plain_values() -> None:
    shapes = {"train": split_of([(10, 7, 4.5)]), "val": split_of([])}
    for table in (class_table(shapes), size_table(shapes), image_table(shapes)):
        assert json.loads(json.dumps(table)) == table


@pytest.mark.parametrize(
    "shapes",
    [{}, {"train": split_of([], [], [])}, {"val": split_of([], [])}],
    ids=["no split", "empty train", "val without images"],
)
def test_empty_splits_give_none_or_zero(shapes: Shapes) -> None:
    assert all(row["train"] == row["val"] == 0 for row in class_table(shapes))
    for split, row in size_table(shapes).items():
        assert row["small"] == row["medium"] == row["large"] == 0
        assert set(row["sqrt_area"].values()) == {None}
        assert not position_heat_map(shapes[split]).any()
    assert all(row["images"] == row["distinct_sizes"] == 0 for row in image_table(shapes).values())


def test_heat_map_is_the_fraction_of_objects_that_cover_a_cell() -> None:
    # In an image of 100x50 a cell of a map of 4 is 25x12.5 pixels.
    boxes = [[0, 0, 50, 12.5], [75, 43.75, 25, 6.25], [0, 0, 0, 0]]
    heat = position_heat_map(split_of([(10, 7, 1)] * 3, boxes_xywh=boxes), bins=4)
    expected = np.zeros((4, 4))
    expected[0, :2] = 0.5
    expected[3, 3] = 0.25  # half of the cell
    np.testing.assert_allclose(heat, expected)


def test_heat_map_of_many_equal_objects_equals_that_of_one() -> None:
    box = [10, 5, 37, 21]
    one = position_heat_map(split_of([(10, 7, 1)], boxes_xywh=[box]))
    many = position_heat_map(split_of([(10, 7, 1)] * 50_001, boxes_xywh=[box] * 50_001))
    np.testing.assert_allclose(many, one)
    assert one.shape == (32, 32)
    assert one.max() == 1


def test_heat_map_ignores_parts_outside_the_image() -> None:
    heat = position_heat_map(split_of([(10, 7, 1)], boxes_xywh=[[-50, -50, 500, 500]]))
    np.testing.assert_allclose(heat, 1)
