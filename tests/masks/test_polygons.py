"""Polygons around masks."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_instances import EASILY_LOST, ragged
from PIL import Image, ImageDraw
from pycocotools import mask as mask_tools

from paddlex_seg.masks.polygons import mask_to_polygons, rle_to_polygons
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, polygons_to_rle, rle_iou
from paddlex_seg.structures import Annotation


def annotation(segmentation: Any) -> Annotation:
    return Annotation(id=1, image_id=1, category_id=1, segmentation=segmentation)


def test_polygons_of_a_mask_draw_nearly_the_same_mask() -> None:
    y, x = np.mgrid[0:120, 0:160]
    mask = ((x - 50) ** 2 + (y - 60) ** 2 < 40**2) | ((abs(x - 130) < 12) & (abs(y - 60) < 50))
    polygons = mask_to_polygons(mask)
    drawn = mask_tools.decode(annotation_to_rle(annotation(polygons), 120, 160)).astype(bool)
    assert len(polygons) == 2
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.98


def iou_of_polygons(mask: np.ndarray) -> float:
    rle = mask_to_rle(mask)
    return rle_iou(polygons_to_rle(rle_to_polygons(rle), mask.shape), rle)


@pytest.mark.parametrize("mask", EASILY_LOST.values(), ids=EASILY_LOST.keys())
def test_all_parts_and_holes_of_a_mask_are_in_its_polygons(mask: np.ndarray) -> None:
    assert iou_of_polygons(mask) >= 0.98


@settings(max_examples=60, deadline=None)
@given(
    blocks=arrays(bool, (12, 15), elements=st.booleans(), fill=st.nothing()),
    factor=st.sampled_from([1, 3, 5]),
)
def test_any_mask_can_be_drawn_from_its_polygons(blocks: np.ndarray, factor: int) -> None:
    mask = np.kron(blocks, np.ones((factor, factor), bool))
    assert iou_of_polygons(mask) >= 0.98 if mask.any() else rle_to_polygons(mask_to_rle(mask)) == []


def test_a_small_hole_of_a_large_part_stays_a_hole() -> None:
    mask = np.ones((200, 300), bool)
    mask[100:103, 150:153] = False
    assert iou_of_polygons(mask) == 1


def test_a_hole_is_one_for_tools_that_count_turns() -> None:
    """The area by the shoelace formula subtracts the hole, and the polygon does not cross itself."""
    mask = EASILY_LOST["ring"]
    (polygon,) = rle_to_polygons(mask_to_rle(mask))
    x, y = np.reshape(polygon, (-1, 2)).T
    assert abs(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 - mask.sum()) < 0.03 * mask.sum()
    reason = shapely.is_valid_reason(shapely.Polygon(np.reshape(polygon, (-1, 2))))
    assert reason.startswith("Ring Self-intersection")  # it touches itself along the bridge


def test_pillow_draws_the_hole_too() -> None:
    mask = EASILY_LOST["ring"]
    (polygon,) = rle_to_polygons(mask_to_rle(mask))
    canvas = Image.new("1", (80, 60))
    ImageDraw.Draw(canvas).polygon([*map(tuple, np.reshape(polygon, (-1, 2)))], fill=1)
    drawn = np.asarray(canvas)
    assert not drawn[26:34, 38:46].any()
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.9  # Pillow also draws the line of the outline


def test_curved_edges_are_simplified() -> None:
    corners = len(rle_to_polygons(mask_to_rle(EASILY_LOST["disc"]))[0]) // 2
    assert 8 <= corners <= 40
    rectangle = np.zeros((50, 90), bool)
    rectangle[10:30, 20:70] = True
    assert rle_to_polygons(mask_to_rle(rectangle)) == [[20, 10, 70, 10, 70, 30, 20, 30]]


def test_noise_has_polygons_within_seconds() -> None:
    mask = np.random.default_rng(0).random((500, 500)) < 0.1
    assert iou_of_polygons(mask) == 1
    assert iou_of_polygons(ragged(400, (500, 500), grain=4)) >= 0.98
