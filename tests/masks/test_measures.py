"""Measures of shapes whose true size, place and direction are known."""

import math

import numpy as np
import pytest
from made_instances import disc, rectangle

from paddlex_seg.masks.measures import measure
from paddlex_seg.masks.rle import mask_to_rle

SIZE_HW = (400, 500)
CENTRE = (251.3, 198.6)


def along_and_across(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The distance of each pixel from CENTRE along a direction, which rises to the right, and across it."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    right, up = x - CENTRE[0], CENTRE[1] - y
    angle = math.radians(degrees)
    return right * math.cos(angle) + up * math.sin(angle), up * math.cos(angle) - right * math.sin(angle)


def turned_rectangle(length: float, width: float, degrees: float) -> np.ndarray:
    along, across = along_and_across(degrees)
    return (abs(along) < length / 2) & (abs(across) < width / 2)


def ellipse(length: float, width: float, degrees: float) -> np.ndarray:
    along, across = along_and_across(degrees)
    return np.hypot(along / (length / 2), across / (width / 2)) < 1


def ellipse_perimeter(length: float, width: float) -> float:
    turn = np.linspace(0, 2 * np.pi, 10_001)
    return float(np.hypot(np.diff(np.cos(turn) * length / 2), np.diff(np.sin(turn) * width / 2)).sum())


def off_by(degrees: float, expected: float) -> float:
    """The angle between two axes, 0 to 90."""
    return abs((degrees - expected + 90) % 180 - 90)


ANGLES = [-89, -60, -45, -20, -3, 0, 8, 30, 45, 71, 90]


@pytest.mark.parametrize("degrees", ANGLES)
@pytest.mark.parametrize(("length", "width"), [(200, 80), (60, 40), (300, 6), (30, 12)])
def test_a_turned_rectangle(length: float, width: float, degrees: float) -> None:
    found = measure(mask_to_rle(turned_rectangle(length, width, degrees)))
    assert found.area == pytest.approx(length * width, rel=0.06)
    assert found.centre_xy == pytest.approx(CENTRE, abs=0.5)
    assert found.orientation is not None and -90 < found.orientation <= 90
    assert off_by(found.orientation, degrees) < 1.5
    assert found.contour_length == pytest.approx(2 * (length + width), rel=0.03)


@pytest.mark.parametrize("degrees", ANGLES)
@pytest.mark.parametrize(("length", "width"), [(200, 80), (60, 40), (24, 10)])
def test_an_ellipse(length: float, width: float, degrees: float) -> None:
    found = measure(mask_to_rle(ellipse(length, width, degrees)))
    assert found.area == pytest.approx(math.pi * length * width / 4, rel=0.02)
    assert found.centre_xy == pytest.approx(CENTRE, abs=0.25)
    assert found.orientation is not None and off_by(found.orientation, degrees) < 1.5
    assert found.contour_length == pytest.approx(ellipse_perimeter(length, width), rel=0.03)


@pytest.mark.parametrize("centre", [(200.5, 190.5), (200.2, 190.7), (201, 190), (200.4, 191)], ids=str)
@pytest.mark.parametrize("radius", [2, 3.5, 5, 10.3, 37, 150])
def test_a_disc_has_no_orientation(radius: float, centre: tuple[float, float]) -> None:
    mask = disc(centre, radius, SIZE_HW)
    found = measure(mask_to_rle(mask))
    assert found.area == mask.sum()
    assert found.centre_xy == pytest.approx(centre, abs=0.35)
    assert found.orientation is None
    if radius > 5:
        assert found.area == pytest.approx(math.pi * radius**2, rel=0.03)
        assert found.contour_length == pytest.approx(2 * math.pi * radius, rel=0.03)


def test_an_upright_object_is_at_90_degrees_and_a_flat_one_at_0() -> None:
    assert measure(mask_to_rle(rectangle((10, 5, 20, 55)))).orientation == 90
    flat = measure(mask_to_rle(rectangle((5, 10, 55, 20))))
    assert flat.orientation == 0 and math.copysign(1, flat.orientation) == 1
    assert flat.centre_xy == (30, 15) and flat.area == 500


def test_all_parts_are_measured_and_holes_have_no_contour() -> None:
    parts = rectangle((0, 0, 20, 10)) | rectangle((60, 50, 80, 60))
    found = measure(mask_to_rle(parts))
    assert found.area == 400 and found.centre_xy == (40, 30)
    assert found.contour_length == pytest.approx(2 * 60, rel=0.03)
    holed = rectangle((10, 10, 50, 50)) & ~rectangle((20, 20, 40, 40))
    whole = rectangle((10, 10, 50, 50))
    assert measure(mask_to_rle(holed)).contour_length == measure(mask_to_rle(whole)).contour_length
    assert measure(mask_to_rle(holed)).area == 1200


def test_the_smallest_masks() -> None:
    one = measure(mask_to_rle(rectangle((7, 9, 8, 10))))
    assert one.area == 1 and one.centre_xy == (7.5, 9.5) and one.orientation is None
    assert one.contour_length == pytest.approx(math.pi)
    line = measure(mask_to_rle(rectangle((7, 9, 27, 10))))
    assert line.orientation == 0 and line.contour_length == pytest.approx(42, rel=0.03)
    none = measure(mask_to_rle(np.zeros((60, 80), bool)))
    assert (none.area, none.centre_xy, none.orientation, none.contour_length) == (0, None, None, 0)
