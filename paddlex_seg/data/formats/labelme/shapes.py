"""Converts LabelMe shapes to polygons if a polygon is exact, else to masks."""

import base64
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from shapely.geometry import LineString, Polygon

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceObject
from paddlex_seg.data.formats.labelme.labels import LabelReader
from paddlex_seg.data.formats.source_files import IGNORED_LABELS
from paddlex_seg.data.images import DECODER_ERRORS
from paddlex_seg.masks.outlines import join_rings
from paddlex_seg.masks.rle import mask_to_rle, merge_rles, polygons_to_rle
from paddlex_seg.structures import Rle


class _Unfit(Exception):
    """A shape cannot be converted. ``code`` is the code of the finding; the text says why."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Group:
    """The shapes of one object."""

    label: str
    polygons: list[list[float]] = field(default_factory=list)
    masks: list[Rle] = field(default_factory=list)
    iscrowd: bool = False


def read_shapes(
    shapes: Sequence[Any],
    size_hw: tuple[int, int],
    file: str,
    labels: LabelReader,
    findings: list[Finding],
) -> Iterator[SourceObject]:
    """The objects of an image, in file order. Shapes with the same label and ``group_id`` are one object."""
    groups: dict[Any, _Group] = {}
    unknown: dict[str, int] = {}
    num_texts = 0
    for number, shape in enumerate(shapes, start=1):
        try:
            label = labels.label(shape, file)
        except ValueError as error:
            findings.append(finding("shape_unusable", file, f"shape {number} {error}", hint=_LABEL_HINT))
            continue
        if label in IGNORED_LABELS:
            continue
        if labels.known is not None and label not in labels.known:
            unknown[label] = unknown.get(label, 0) + 1
            continue
        num_texts += _numbers_of_texts(shape.get("points")) != shape.get("points")
        kind = labels.kind(shape, _DRAWERS, file)
        try:
            drawn = _draw(shape, kind, size_hw)
        except _Unfit as error:
            message = f"shape {number} ({label}, {kind}) {error}"
            findings.append(finding(error.code, file, message))
            continue
        group_id = shape.get("group_id")
        key = ("alone", number) if group_id is None else (label, str(group_id))
        group = groups.setdefault(key, _Group(label))
        if isinstance(drawn, list):
            group.polygons += drawn
        else:
            group.masks.append(drawn)
        flags = shape.get("flags")
        group.iscrowd |= isinstance(flags, dict) and flags.get("iscrowd") is True
    if num_texts:
        message = f'{num_texts} shapes have coordinates as texts, such as "12.5"; they were read as numbers'
        findings.append(finding("coordinates_as_text", file, message))
    findings += [
        finding("label_unknown", file, f"{count} shapes have the label {label!r}, which is not listed")
        for label, count in unknown.items()
    ]
    for group in groups.values():
        yield SourceObject(group.label, _unite(group, size_hw), group.iscrowd)


def _unite(group: _Group, size_hw: tuple[int, int]) -> list[list[float]] | Rle:
    if not group.masks:
        return group.polygons
    drawn = [polygons_to_rle(group.polygons, size_hw)] if group.polygons else []
    return merge_rles([*group.masks, *drawn]) if len(group.masks) + len(drawn) > 1 else group.masks[0]


def _draw(shape: Mapping[str, Any], kind: Any, size_hw: tuple[int, int]) -> list[list[float]] | Rle:
    draw = _DRAWERS.get(kind) if isinstance(kind, str) else None
    if draw is None:
        message = f"has the unknown shape_type {kind!r}; expected one of {', '.join(_DRAWERS)}"
        raise _Unfit("shape_unusable", message)
    return draw(_read_points(_numbers_of_texts(shape.get("points"))), shape, size_hw)


_LABEL_HINT = "Give the shape the name of its class in the annotation tool."
# Larger than any image. Rasterising an edge takes memory proportional to its length.
_MAX_COORDINATE = 1e6


def _numbers_of_texts(points: Any) -> Any:
    """The points with numbers instead of texts of numbers. Anything else stays as it is."""
    if not isinstance(points, list) or not any(
        isinstance(value, str) for point in points if isinstance(point, list) for value in point
    ):
        return points
    return [[_number(value) for value in point] if isinstance(point, list) else point for point in points]


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _read_points(points: Any) -> list[list[float]]:
    if not isinstance(points, list):
        raise _Unfit("shape_unusable", "has no list of points")
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise _Unfit("shape_unusable", f"has a point {point!r}; expected [x, y]")
        for value in point:
            # Not "abs(value) > limit": a comparison with NaN is False.
            if type(value) not in (float, int) or not -_MAX_COORDINATE <= value <= _MAX_COORDINATE:
                raise _Unfit(
                    "shape_unusable", f"has a point {point!r}; expected two numbers of at most 1e6 pixels"
                )
    return points


def _draw_polygon(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    if len(points) < 3:
        raise _Unfit("shape_unusable", f"has {len(points)} points; a polygon needs 3 or more")
    return [[value for point in points for value in point]]


def _draw_rectangle(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    points = _opened(points)
    if len(points) == 4:
        return _draw_polygon(points, shape, size_hw)
    if len(points) != 2:
        raise _Unfit("shape_unusable", f"has {len(points)} points; expected 2 opposite corners or all 4")
    (x1, y1), (x2, y2) = points
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def _draw_four_corners(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    points = _opened(points)
    if len(points) != 4:
        raise _Unfit("shape_unusable", f"has {len(points)} points; expected 4 corners")
    return _draw_polygon(points, shape, size_hw)


def _opened(points: list[list[float]]) -> list[list[float]]:
    """The corners without a fifth one that repeats the first to close the outline."""
    return points[:4] if len(points) == 5 and points[0] == points[4] else points


def _draw_circle(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    """A regular polygon with the same area as the disc. It differs from the circle by at most 0.02 pixels."""
    if len(points) != 2:
        raise _Unfit(
            "shape_unusable", f"has {len(points)} points; expected 2: the centre and a point on the circle"
        )
    (x, y), (rim_x, rim_y) = points
    radius = math.hypot(rim_x - x, rim_y - y)
    if radius == 0:
        raise _Unfit("shape_unusable", "has a radius of 0")
    num_corners = max(16, math.ceil(math.pi / math.sqrt(2 * 0.02 / max(radius, 0.04))))
    step = 2 * math.pi / num_corners
    reach = radius * math.sqrt(step / math.sin(step))
    angles = step * np.arange(num_corners)
    corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)
    return [corners.round(4).ravel().tolist()]


def _draw_line(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]] | Rle:
    """The outline of a line with a width. Ends and joints are round."""
    width = _line_width(shape)
    if width is None:
        raise _Unfit("shape_without_area", "has no line_width")
    if len(points) < 2:
        raise _Unfit("shape_unusable", f"has {len(points)} points; a line needs 2 or more")
    stroke: Polygon = LineString(points).buffer(width / 2, cap_style="round", join_style="round")
    rings = [np.array(ring.coords[:-1]) for ring in (stroke.exterior, *stroke.interiors)]
    polygon = join_rings(rings).round(4).ravel().tolist()
    return [polygon] if len(rings) == 1 else polygons_to_rle([polygon], size_hw)


def _line_width(shape: Mapping[str, Any]) -> float | None:
    for value in (shape.get("line_width"), shape.get("width")):
        if isinstance(value, int | float) and 0 < value <= _MAX_COORDINATE:
            return float(value)
    return None


def _draw_point(points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Rle:
    raise _Unfit("shape_without_area", f"at {points} has no area")


def _draw_mask(points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Rle:
    """The mask in the PNG. Its top left pixel is at the first point. Parts outside the image are cut off."""
    if not points:
        raise _Unfit("shape_unusable", "has no points; expected two corners of its box")
    if not shape.get("mask"):
        raise _Unfit("shape_unusable", "has no mask; expected a PNG in base64")
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            inside = np.asarray(image) != 0
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise _Unfit("shape_unusable", f"has a mask that is not a PNG in base64 ({error})") from error
    inside = inside if inside.ndim == 2 else inside[..., :3].any(axis=2)
    left, top = (round(value) for value in points[0])
    mask = np.zeros(size_hw, bool)
    seen = inside[max(-top, 0) :, max(-left, 0) :]
    place = mask[max(top, 0) :, max(left, 0) :]
    height, width = min(seen.shape[0], place.shape[0]), min(seen.shape[1], place.shape[1])
    place[:height, :width] = seen[:height, :width]
    return mask_to_rle(mask)


_Drawer = Callable[[list[list[float]], Mapping[str, Any], tuple[int, int]], list[list[float]] | Rle]
_DRAWERS: dict[str, _Drawer] = {
    "polygon": _draw_polygon,
    "rectangle": _draw_rectangle,
    "oriented_rectangle": _draw_four_corners,
    "rotation": _draw_four_corners,  # name of the same shape in X-AnyLabeling
    "quadrilateral": _draw_four_corners,  # X-AnyLabeling
    "circle": _draw_circle,
    "line": _draw_line,
    "linestrip": _draw_line,
    "mask": _draw_mask,
    "point": _draw_point,
    "points": _draw_point,
}
