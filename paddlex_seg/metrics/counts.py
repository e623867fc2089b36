"""Counting and measuring: how many objects an image has by the model, and how many by the annotations.

For those who count parts or measure areas with a model. The error of an image and class is the number of
detections above the score threshold of the class less the number of objects, and the same for the sum of
their areas in pixels. Crowds, and detections that are ignored with them, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.metrics.curves import are_above
from paddlex_seg.metrics.matching import Matching
from paddlex_seg.metrics.overlaps import Overlaps
from paddlex_seg.structures import Id

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PerImage:
    """[I, K]: objects and detections of each image and class, and the sums of their areas in pixels."""

    num_objects: NDArray[np.int64]
    num_found: NDArray[np.int64]
    object_area: _Floats
    found_area: _Floats


@dataclass(frozen=True)
class ClassCount:
    """The errors of a class, or of all classes together; means over all images.

    In all classes together, an object too many of one class does not make up for one too few of another in
    the absolute errors.
    """

    category_id: Id | None  # None: all classes
    num_objects: int
    num_found: int
    mean_error: float  # detections less objects of an image: above 0, too many are found
    mean_absolute_error: float
    part_of_images_right: float  # images with the right count, 0..1
    object_area: float  # of all images
    found_area: float
    mean_absolute_area_error: float  # pixels of an image
    area_error: float | None  # found area / object area - 1; None without objects
    right_area_error: float | None  # of right detections, mean of area / area of the object - 1; None without
    right_absolute_area_error: float | None  # mean of its absolute value


@dataclass(frozen=True)
class ImageCount:
    """The errors of an image: the sum over the classes."""

    image_id: Id
    num_objects: int
    num_found: int
    absolute_error: int
    object_area: float
    found_area: float
    absolute_area_error: float


@dataclass(frozen=True)
class Counts:
    """The errors of counting, and the images with the largest ones, the worst first."""

    thresholds: tuple[float, ...]
    all: ClassCount
    classes: tuple[ClassCount, ...]  # in the order of `Overlaps.category_ids`
    worst_by_count: tuple[ImageCount, ...]
    worst_by_area: tuple[ImageCount, ...]


def count_errors(
    overlaps: Overlaps, matching: Matching, thresholds: Sequence[float], *, num_worst: int = 20
) -> Counts:
    """The errors at these score thresholds, one for each class. The worst images are those with an error."""
    table = count_per_image(overlaps, matching, thresholds)
    error = np.abs(table.num_found - table.num_objects).sum(axis=1)
    area_error = np.abs(table.found_area - table.object_area).sum(axis=1)

    part, classes = _areas_of_right(overlaps, matching, thresholds)

    def worst(values: NDArray) -> tuple[ImageCount, ...]:
        order = np.argsort(-values, kind="stable")[:num_worst]
        return tuple(
            ImageCount(
                image_id=overlaps.image_ids[image],
                num_objects=int(table.num_objects[image].sum()),
                num_found=int(table.num_found[image].sum()),
                absolute_error=int(error[image]),
                object_area=float(table.object_area[image].sum()),
                found_area=float(table.found_area[image].sum()),
                absolute_area_error=float(area_error[image]),
            )
            for image in order[values[order] > 0].tolist()
        )

    return Counts(
        thresholds=tuple(thresholds),
        all=_class_count(None, table, slice(None), part),
        classes=tuple(
            _class_count(id, table, slice(k, k + 1), part[classes == k])
            for k, id in enumerate(overlaps.category_ids)
        ),
        worst_by_count=worst(error),
        worst_by_area=worst(area_error),
    )


def count_per_image(overlaps: Overlaps, matching: Matching, thresholds: Sequence[float]) -> PerImage:
    """The counts and areas of all images."""
    shape = len(overlaps.image_ids), len(overlaps.category_ids)
    found, objects = overlaps.found, overlaps.objects
    is_shown, is_counted = are_above(overlaps, matching, thresholds), ~matching.object_is_ignored

    def sums(image: NDArray, classes: NDArray, values: NDArray) -> NDArray:
        table = np.zeros(shape, values.dtype)
        np.add.at(table, (image, classes), values)
        return table

    own = found.image[is_shown], found.class_index[is_shown]
    other = objects.image[is_counted], objects.class_index[is_counted]
    return PerImage(
        num_objects=sums(*other, np.ones(len(other[0]), np.int64)),
        num_found=sums(*own, np.ones(len(own[0]), np.int64)),
        object_area=sums(*other, objects.area[is_counted]),
        found_area=sums(*own, found.area[is_shown]),
    )


def _areas_of_right(
    overlaps: Overlaps, matching: Matching, thresholds: Sequence[float]
) -> tuple[_Floats, NDArray[np.int32]]:
    """The relative error of the area of each right detection above its threshold, and its class."""
    rows = np.flatnonzero(are_above(overlaps, matching, thresholds) & matching.is_right[0])
    area = overlaps.objects.area[matching.object_of[0, rows]]
    rows, area = rows[area > 0], area[area > 0]
    return overlaps.found.area[rows] / area - 1, overlaps.found.class_index[rows]


def _class_count(category_id: Id | None, table: PerImage, columns: slice, right: _Floats) -> ClassCount:
    objects, found = table.num_objects[:, columns], table.num_found[:, columns]
    object_area, found_area = table.object_area[:, columns], table.found_area[:, columns]
    num_images = max(1, len(objects))
    area = float(object_area.sum())
    return ClassCount(
        category_id=category_id,
        num_objects=int(objects.sum()),
        num_found=int(found.sum()),
        mean_error=float((found - objects).sum() / num_images),
        mean_absolute_error=float(np.abs(found - objects).sum() / num_images),
        part_of_images_right=float((found == objects).all(axis=1).sum() / num_images),
        object_area=area,
        found_area=float(found_area.sum()),
        mean_absolute_area_error=float(np.abs(found_area - object_area).sum() / num_images),
        area_error=float(found_area.sum()) / area - 1 if area else None,
        right_area_error=float(right.mean()) if len(right) else None,
        right_absolute_area_error=float(np.abs(right).mean()) if len(right) else None,
    )
