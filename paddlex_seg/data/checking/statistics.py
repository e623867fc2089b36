"""Statistics of a data set: classes, object sizes, images.

Every annotation counts as an object, also crowds. Tables contain plain numbers and strings for JSON, and None
where there is nothing to measure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.structures import Category, CocoFile, Id

SMALL_BELOW, MEDIUM_BELOW = 32.0**2, 96.0**2
"""COCO's limits between small, medium and large objects, in mask pixels."""

_SPLITS = ("train", "val")
_QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class SplitShapes:
    """Areas and boxes of the masks of a split. Row i belongs to ``coco.annotations[i]``."""

    coco: CocoFile
    areas: NDArray[np.float64]  # [n], pixels
    boxes_xywh: NDArray[np.float64]  # [n, 4], boxes of the masks, pixels; all 0 if a mask is empty


Shapes = Mapping[str, SplitShapes]  # by name of the split: train, val


def class_table(shapes: Shapes) -> list[dict[str, Any]]:
    """A row per class, in the order of the class indices.

    Keys: ``id``, ``name``, the numbers of annotations ``train`` and ``val``, the numbers of images with the
    class ``train_images`` and ``val_images``, and ``median_area``, mask pixels over all splits. Annotations
    of a category that train does not list are not counted.
    """
    categories = _categories(shapes)
    table: list[dict[str, Any]] = [{"id": category.id, "name": category.name} for category in categories]
    for split in _SPLITS:
        annotations = images = np.zeros(len(categories), np.int64)
        if split in shapes:
            class_indices = category_positions(shapes[split].coco, categories)
            annotations = _counts(class_indices, len(categories))
            images = _images_per_class(class_indices, image_positions(shapes[split].coco), categories)
        for row, num_annotations, num_images in zip(table, annotations, images, strict=True):
            row[split] = int(num_annotations)
            row[f"{split}_images"] = int(num_images)
    for row, median in zip(table, _median_areas(shapes, categories), strict=True):
        row["median_area"] = median
    return table


def size_table(shapes: Shapes) -> dict[str, dict[str, Any]]:
    """Object sizes of each split.

    Keys of a split: the numbers of ``small``, ``medium`` and ``large`` objects by COCO's limits, and the
    quantiles (``min``, ``p5`` to ``p95``, ``max``) of ``sqrt_area`` in pixels and of ``relative_sqrt_area``,
    the square root of object area / image area.
    """
    table = {}
    for split, split_shapes in shapes.items():
        areas = split_shapes.areas
        table[split] = {
            "small": int(np.count_nonzero(areas < SMALL_BELOW)),
            "medium": int(np.count_nonzero((areas >= SMALL_BELOW) & (areas < MEDIUM_BELOW))),
            "large": int(np.count_nonzero(areas >= MEDIUM_BELOW)),
            "sqrt_area": _summary(np.sqrt(areas), _QUANTILES),
            "relative_sqrt_area": _summary(_relative_sqrt_areas(split_shapes), _QUANTILES),
        }
    return table


def image_table(shapes: Shapes) -> dict[str, dict[str, Any]]:
    """Image counts and sizes of each split.

    Keys of a split: the numbers of ``images``, of images ``without_objects`` and of ``distinct_sizes``,
    and ``min``, ``median`` and ``max`` of ``objects_per_image``, ``width`` and ``height``.
    """
    spread = {"min": 0.0, "median": 0.5, "max": 1.0}
    table = {}
    for split, split_shapes in shapes.items():
        objects, sizes_wh = objects_per_image(split_shapes), image_sizes_wh(split_shapes.coco)
        table[split] = {
            "images": len(objects),
            "without_objects": int(np.count_nonzero(objects == 0)),
            "objects_per_image": _summary(objects, spread),
            "width": _summary(sizes_wh[:, 0], spread),
            "height": _summary(sizes_wh[:, 1], spread),
            "distinct_sizes": len(np.unique(sizes_wh, axis=0)),
        }
    return table


def position_heat_map(split_shapes: SplitShapes, bins: int = 32) -> NDArray[np.float64]:
    """Heat map of object positions: [bins, bins], rows from top to bottom, values 0..1.

    A value is the fraction of objects whose box covers this cell. Partly covered cells count in proportion.
    Boxes are used instead of centres, because they also show the extent of large objects and work for few
    objects.
    """
    heat = np.zeros((bins, bins))
    positions = image_positions(split_shapes.coco)
    rows = np.flatnonzero((positions >= 0) & (split_shapes.boxes_xywh[:, 2:] > 0).all(axis=1))
    sizes_wh = image_sizes_wh(split_shapes.coco)
    cells = np.arange(bins)
    for chunk in np.array_split(rows, len(rows) // 50_000 + 1):  # bounds the memory
        scale = bins / sizes_wh[positions[chunk]]
        starts = split_shapes.boxes_xywh[chunk, :2] * scale
        ends = starts + split_shapes.boxes_xywh[chunk, 2:] * scale
        covered = np.minimum(ends[..., None], cells + 1) - np.maximum(starts[..., None], cells)
        covered = covered.clip(0, 1)  # [k, 2, bins]: how much of each column and of each row of cells
        heat += covered[:, 1].T @ covered[:, 0]
    return heat / max(len(rows), 1)


def objects_per_image(split_shapes: SplitShapes) -> NDArray[np.int64]:
    """[number of images], in file order."""
    return _counts(image_positions(split_shapes.coco), len(split_shapes.coco.images))


def image_sizes_wh(coco: CocoFile) -> NDArray[np.int64]:
    """[number of images, 2], width and height in pixels, in file order."""
    return np.array([(image.width, image.height) for image in coco.images], np.int64).reshape(-1, 2)


def image_positions(coco: CocoFile) -> NDArray[np.int64]:
    """[n]: the position in ``coco.images`` of the image of each annotation; -1 if it is not listed."""
    return _positions([item.image_id for item in coco.annotations], [image.id for image in coco.images])


def category_positions(coco: CocoFile, categories: Sequence[Category]) -> NDArray[np.int64]:
    """[n]: the class index of each annotation: the position of its category in ``categories``, or -1."""
    return _positions(
        [item.category_id for item in coco.annotations], [category.id for category in categories]
    )


def _positions(ids: Sequence[Id], listed: Sequence[Id]) -> NDArray[np.int64]:
    """The first position of each id in ``listed``; -1 if it is not there."""
    places = {id: len(listed) - 1 - place for place, id in enumerate(reversed(listed))}
    return np.array([places.get(id, -1) for id in ids], np.int64)


def _counts(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return np.bincount(positions[positions >= 0], minlength=length)


def _categories(shapes: Shapes) -> tuple[Category, ...]:
    """The categories of train. Without train, those of the first split."""
    first = shapes.get("train") or next(iter(shapes.values()), None)
    return first.coco.categories if first else ()


def _images_per_class(
    class_indices: NDArray[np.int64], images: NDArray[np.int64], categories: Sequence[Category]
) -> NDArray[np.int64]:
    known = (class_indices >= 0) & (images >= 0)
    pairs = np.unique(images[known] * len(categories) + class_indices[known])
    return _counts(pairs % max(len(categories), 1), len(categories))


def _median_areas(shapes: Shapes, categories: Sequence[Category]) -> list[float | None]:
    class_indices = [category_positions(split.coco, categories) for split in shapes.values()]
    areas = [split.areas for split in shapes.values()]
    classes, values = np.concatenate([[], *class_indices]), np.concatenate([[], *areas])
    order = np.argsort(classes, kind="stable")
    bounds = np.searchsorted(classes[order], np.arange(len(categories) + 1))
    groups = (values[order[start:end]] for start, end in zip(bounds, bounds[1:], strict=False))
    return [float(np.median(group)) if len(group) else None for group in groups]


def _relative_sqrt_areas(split_shapes: SplitShapes) -> NDArray[np.float64]:
    positions = image_positions(split_shapes.coco)
    known = positions >= 0
    image_areas = image_sizes_wh(split_shapes.coco).prod(axis=1)[positions[known]]
    return np.sqrt(split_shapes.areas[known] / image_areas)


def _summary(values: NDArray[Any], quantiles: Mapping[str, float]) -> dict[str, float | None]:
    if not len(values):
        return dict.fromkeys(quantiles)
    return dict(zip(quantiles, np.quantile(values, list(quantiles.values())).tolist(), strict=True))
