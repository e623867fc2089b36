"""Vectorised measures of all masks of an annotation file: areas, boxes, and geometric defects."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import shapely
from numpy.typing import NDArray

from paddlex_seg.data.coco.numbers import crowd_flags, file_areas, file_boxes
from paddlex_seg.masks.rle import annotation_to_rle, rle_areas, rle_boxes_xywh
from paddlex_seg.structures import Annotation, CocoFile

_CHUNK = 50_000  # annotations at a time, to limit memory
FLAT = 0.01  # square pixels; a polygon with a smaller area counts as empty

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Measures:
    """Row i of each array belongs to ``coco.annotations[i]``. Lengths are in pixels, boxes xyxy.

    Areas and outlines of polygons are computed from their corners, summed over the parts, and not cut at the
    image border. Areas of RLEs, and of polygons that cross themselves, are pixel counts.
    """

    image_rows: NDArray[np.int64]  # position of the image in coco.images
    class_ids: NDArray[np.int64]  # position of the category in coco.categories
    image_hw: _Floats  # [n, 2]
    areas: _Floats
    outlines_xyxy: _Floats  # [n, 4]
    perimeters: _Floats  # 0 for RLEs
    is_rle: _Flags
    is_crowd: _Flags
    has_flat_part: _Flags  # at least one polygon without area
    is_flat: _Flags  # all polygons are without area
    crosses_itself: _Flags
    file_boxes_xywh: _Floats  # [n, 4], NaN where the file has none
    file_areas: _Floats  # NaN where the file has none

    @property
    def cut_outlines_xyxy(self) -> _Floats:
        """The outlines clipped to the image. Outlines outside the image have zero size."""
        limit = np.tile(self.image_hw[:, ::-1], 2)
        return np.clip(self.outlines_xyxy, 0, limit)

    @property
    def reach_outside(self) -> _Floats:
        """How many pixels each mask extends beyond its image, maximum over the four sides; else 0 or less."""
        height, width = self.image_hw.T
        x1, y1, x2, y2 = self.outlines_xyxy.T
        return np.max([-x1, -y1, x2 - width, y2 - height], axis=0) if len(x1) else np.zeros(0)


def measure(coco: CocoFile) -> Measures:
    """The measures of all masks. Every annotation must belong to an image and a category of the file."""
    row_of_image = {record.id: row for row, record in enumerate(coco.images)}
    row_of_category = {category.id: row for row, category in enumerate(coco.categories)}
    items = coco.annotations
    image_rows = np.array([row_of_image[item.image_id] for item in items], np.int64)
    sizes = np.array([(record.height, record.width) for record in coco.images], float).reshape(-1, 2)
    parts = [_measure_masks(items[i : i + _CHUNK]) for i in range(0, len(items), _CHUNK)]
    masks = np.concatenate([np.zeros(0, _MASK_ROW), *parts])
    crossing = np.flatnonzero(masks["crosses"])
    masks["area"][crossing] = drawn(coco, crossing)[0]
    return Measures(
        image_rows=image_rows,
        class_ids=np.array([row_of_category[item.category_id] for item in items], np.int64),
        image_hw=sizes[image_rows].reshape(-1, 2),
        areas=masks["area"],
        outlines_xyxy=masks["outline"],
        perimeters=masks["perimeter"],
        is_rle=masks["is_rle"],
        is_crowd=crowd_flags(items),
        has_flat_part=masks["has_flat_part"],
        is_flat=masks["is_flat"],
        crosses_itself=masks["crosses"],
        file_boxes_xywh=file_boxes(items),
        file_areas=file_areas(items),
    )


def drawn(coco: CocoFile, rows: NDArray[np.int64]) -> tuple[_Floats, _Floats]:
    """Areas [n] in pixels and boxes [n, 4] xywh of the rasterised masks of these annotations."""
    size_of_id = {record.id: (record.height, record.width) for record in coco.images}
    masks = []
    for row in rows.tolist():
        item = coco.annotations[row]
        masks.append(annotation_to_rle(item, *size_of_id[item.image_id]))
    if not masks:
        return np.zeros(0), np.zeros((0, 4))
    return rle_areas(masks), rle_boxes_xywh(masks)


_MASK_ROW = np.dtype(
    [
        ("area", float),
        ("outline", float, 4),
        ("perimeter", float),
        ("is_rle", bool),
        ("has_flat_part", bool),
        ("is_flat", bool),
        ("crosses", bool),
    ]
)


def _measure_masks(items: Sequence[Annotation]) -> NDArray[np.void]:
    rows = np.zeros(len(items), _MASK_ROW)
    rows["is_rle"] = [not isinstance(item.segmentation, list) for item in items]
    _measure_rles(rows, items)
    polygons = [item.segmentation if isinstance(item.segmentation, list) else () for item in items]
    counts = np.array([len(parts) for parts in polygons])
    parts = list(chain.from_iterable(polygons))
    if parts:
        _measure_polygons(rows, np.repeat(np.arange(len(items)), counts), parts)
    return rows


def _measure_rles(rows: NDArray[np.void], items: Sequence[Annotation]) -> None:
    which = np.flatnonzero(rows["is_rle"])
    if not len(which):
        return
    sizes = [items[row].segmentation["size"] for row in which]
    masks = [annotation_to_rle(items[row], *size) for row, size in zip(which, sizes, strict=True)]
    boxes = rle_boxes_xywh(masks)
    rows["area"][which] = rle_areas(masks)
    rows["outline"][which] = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _measure_polygons(
    rows: NDArray[np.void], owners: NDArray[np.int64], parts: Sequence[Sequence[float]]
) -> None:
    """Fill in the rows of polygon masks. ``owners[k]`` is the row of ``parts[k]``, in ascending order."""
    lengths = np.array([len(part) for part in parts]) // 2
    corners = np.fromiter(chain.from_iterable(parts), float, 2 * int(lengths.sum())).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    low, high = np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)
    following = np.arange(1, len(corners) + 1)
    following[starts + lengths - 1] = starts
    steps = corners[following] - corners
    local = corners - np.repeat(low, lengths, axis=0)  # smaller numbers, so products keep more precision
    doubled = local[:, 0] * steps[:, 1] - local[:, 1] * steps[:, 0]
    areas = np.abs(np.add.reduceat(doubled, starts)) / 2
    flat = areas < FLAT
    flat[flat] = (
        _hull_areas(corners, lengths, flat) < FLAT
    )  # in a bow-tie, positive and negative areas cancel
    first = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
    which = owners[first]
    rows["area"][which] = np.add.reduceat(areas, first)
    rows["perimeter"][which] = np.add.reduceat(
        np.add.reduceat(np.hypot(steps[:, 0], steps[:, 1]), starts), first
    )
    rows["outline"][which, :2] = np.minimum.reduceat(low, first)
    rows["outline"][which, 2:] = np.maximum.reduceat(high, first)
    rows["has_flat_part"][which] = np.logical_or.reduceat(flat, first)
    rows["is_flat"][which] = np.logical_and.reduceat(flat, first)
    crossing = np.zeros(len(parts), bool)
    crossing[~flat] = _crossing(_polygons(corners, lengths, ~flat))
    rows["crosses"][which] = np.logical_or.reduceat(crossing, first)


def _polygons(corners: _Floats, lengths: NDArray[np.int64], wanted: _Flags) -> NDArray[np.object_]:
    """The wanted polygons as shapely polygons."""
    if not wanted.any():
        return np.zeros(0, object)
    ring_of_part = np.cumsum(wanted) - 1
    inside = np.repeat(wanted, lengths)
    rings = np.repeat(ring_of_part, lengths)[inside]
    return shapely.polygons(shapely.linearrings(corners[inside], indices=rings))


def _hull_areas(corners: _Floats, lengths: NDArray[np.int64], wanted: _Flags) -> _Floats:
    return shapely.area(shapely.convex_hull(_polygons(corners, lengths, wanted)))


def _crossing(polygons: NDArray[np.object_]) -> _Flags:
    """Flags of polygons that cross themselves. Touching itself at a point is not a crossing."""
    crossing = ~shapely.is_valid(polygons)
    invalid = np.flatnonzero(crossing)
    reasons = shapely.is_valid_reason(polygons[invalid])
    crossing[invalid] = [str(reason).startswith("Self-intersection") for reason in reasons]
    return crossing
