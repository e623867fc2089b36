"""How good a model is in parts of a data set: dark images, small objects, the images of one camera.

A slice is a group of images or a group of objects with one value of a property. The AP of a slice of images
is that of these images alone. The AP of a slice of objects is computed as COCO's AP of small objects: other
objects are ignored, with the detections that match them. A detection that matches nothing counts as false in
the slices that its own box and mask belong to, and nowhere else; so the slices of a property share the false
detections between them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco.numbers import crowd_flags
from paddlex_seg.data.images import gray_both_ways, image_path, load_image
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.errors import DatasetError
from paddlex_seg.metrics.bootstrap import Interval, Weights, bootstrap_ap, interval
from paddlex_seg.metrics.matching import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    Matching,
    average_precision,
    match,
    mean_of_defined,
)
from paddlex_seg.metrics.overlaps import Overlaps, Truth
from paddlex_seg.structures import Bands, CocoFile, Id, ImageRecord, Instances

LEAST_OBJECTS = 10  # of a slice with an AP: with fewer, chance decides
MOST_VALUES = 12  # of a column that is cut into its values
_AT_BORDER = 1.0  # pixels from the border up to which an object counts as cut by it
_SIDE = 512  # pixels; larger images are measured at this size, because blur depends on the size

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


class ImageLook(NamedTuple):
    """How an image looks, in gray values 0..255."""

    brightness: float  # mean
    contrast: float  # standard deviation
    sharpness: float  # variance of the Laplacian, low in a blurred image


@dataclass(frozen=True)
class ImageSlice:
    """The images with one value of a property."""

    group: str  # the property
    value: str
    image_ids: frozenset[Id]


@dataclass(frozen=True)
class ObjectSlice:
    """The objects, and detections, whose measure is from ``low`` to ``high``, both included."""

    group: str
    value: str
    measure: Callable[["Shapes"], _Floats]
    low: float
    high: float


Slice = ImageSlice | ObjectSlice


@dataclass(frozen=True)
class SliceResult:
    """The AP of a slice, 0..1; None with fewer than `LEAST_OBJECTS` objects, which do not count crowds."""

    group: str
    value: str
    num_images: int
    num_objects: int
    ap: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Shapes:
    """The boxes and areas of n objects or detections, in pixels, and the sizes of their images."""

    boxes_xywh: _Floats  # [n, 4]
    areas: _Floats  # [n]
    image_hw: _Floats  # [n, 2]


# ---- images


def measure_images(
    coco: CocoFile, image_dir: Path, pool: WorkerPool, bands: Bands | None = None
) -> dict[Id, ImageLook]:
    """How each image looks. Images that cannot be read are left out.

    bands: as for `load_image`. Each image is read once, and none is kept.
    """
    tasks = (partial(look_at, image_dir, record, bands) for record in coco.images)
    looks = zip(coco.images, pool.run(tasks, ahead=4 * pool.num_workers), strict=True)
    return {record.id: look for record, look in looks if look is not None}


def look_at(image_dir: Path, record: ImageRecord, bands: Bands | None = None) -> ImageLook | None:
    """How an image looks; None if it cannot be read."""
    try:
        gray = _gray(image_path(image_dir, record.file_name), bands)
    except DatasetError:
        return None
    return ImageLook(float(gray.mean()), float(gray.std()), float(cv2.Laplacian(gray, cv2.CV_32F).var()))


def _gray(path: Path, bands: Bands | None) -> NDArray[np.uint8]:
    """[h, w]: the image, made smaller if a side is longer than `_SIDE`."""
    if bands is None and path.suffix.lower() in (".jpg", ".jpeg"):  # the decoder makes it smaller
        return gray_both_ways(path, _SIDE)[0].pixels
    gray = cv2.cvtColor(load_image(path, bands=bands), cv2.COLOR_RGB2GRAY)
    scale = _SIDE / max(gray.shape)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in gray.shape[::-1]]
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(gray, np.uint8)


# ---- which slices there are


def find_slices(
    coco: CocoFile, truth: Truth, looks: Mapping[Id, ImageLook] | None = None
) -> tuple[list[Slice], list[str]]:
    """The slices of a data set, and notes about what could not be cut.

    looks: of `measure_images`; None without images. A property with the same value everywhere gives no slice.
    """
    notes: list[str] = []
    slices: list[Slice] = [*_object_slices(coco, truth), *_crowding(coco)]
    if looks is not None:
        missing = len(coco.images) - len(looks)
        if missing:
            notes.append(
                f"{missing} of {len(coco.images)} images cannot be read, and are in no slice of brightness, "
                "contrast or sharpness."
            )
        ids = list(looks)
        for place, name in enumerate(("brightness", "contrast", "sharpness")):
            slices += _image_quarters(name, ids, [look[place] for look in looks.values()])
    slices += _column_slices(coco.images, notes)
    return slices, notes


def _object_slices(coco: CocoFile, truth: Truth) -> Iterator[ObjectSlice]:
    is_object = ~crowd_flags(coco.annotations)
    shapes = shapes_of_objects(coco, truth)
    for name, (least, most) in AREA_RANGES.items():
        if name != "all":
            yield ObjectSlice("object size (COCO)", name, _area, least, most)
    for label, low, high in quarters(shapes.areas[is_object], unit="pixels"):
        yield ObjectSlice("object size (quarters)", label, _area, low, high)
    yield ObjectSlice("border", "cut by the border", _distance_to_border, -math.inf, _AT_BORDER)
    yield ObjectSlice("border", "inside", _distance_to_border, math.nextafter(_AT_BORDER, 9), math.inf)
    yield ObjectSlice("aspect", "tall, above 1:2", _aspect, -math.inf, math.nextafter(0.5, 0))
    yield ObjectSlice("aspect", "from 1:2 to 2:1", _aspect, 0.5, 2)
    yield ObjectSlice("aspect", "wide, above 2:1", _aspect, math.nextafter(2, 9), math.inf)


def _area(shapes: Shapes) -> _Floats:
    return shapes.areas


def _aspect(shapes: Shapes) -> _Floats:
    """Width over height of the box; that of a box without height is 1."""
    width, height = shapes.boxes_xywh[:, 2], shapes.boxes_xywh[:, 3]
    return np.divide(width, height, out=np.ones(len(width)), where=height > 0)


def _distance_to_border(shapes: Shapes) -> _Floats:
    """From the box to the nearest border of the image, in pixels; below 0 outside."""
    x, y, width, height = shapes.boxes_xywh.T
    image_height, image_width = shapes.image_hw.T
    return np.minimum.reduce([x, y, image_width - x - width, image_height - y - height])


def shapes_of_objects(coco: CocoFile, truth: Truth) -> Shapes:
    """The shapes of the annotated objects, in file order."""
    sizes = {image.id: (image.height, image.width) for image in coco.images}
    hw = np.array([sizes[one.image_id] for one in coco.annotations], float).reshape(-1, 2)
    return Shapes(truth.boxes_xywh, truth.areas, hw)


def shapes_of_detections(coco: CocoFile, results: Mapping[Id, Instances], overlaps: Overlaps) -> Shapes:
    """The shapes of the detections, in the order of the table."""
    found = overlaps.found
    sizes = {image.id: (image.height, image.width) for image in coco.images}
    boxes = np.zeros((len(found.image), 4))
    starts = np.searchsorted(found.image, np.arange(len(overlaps.image_ids) + 1))
    for image, id in enumerate(overlaps.image_ids):
        rows = slice(starts[image], starts[image + 1])
        if rows.start < rows.stop:
            xyxy = results[id].boxes_xyxy[found.position[rows]].astype(np.float64)
            boxes[rows] = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    hw = np.array([sizes[id] for id in overlaps.image_ids], float).reshape(-1, 2)
    return Shapes(boxes, found.area, hw[found.image])


def _crowding(coco: CocoFile) -> Iterator[ImageSlice]:
    counts = Counter(one.image_id for one in coco.annotations if not one.iscrowd)
    ids = [image.id for image in coco.images]
    yield from _image_quarters("objects in the image", ids, [counts[id] for id in ids])


def _image_quarters(group: str, ids: Sequence[Id], values: Sequence[float]) -> Iterator[ImageSlice]:
    array = np.array(values, np.float64)
    for label, low, high in quarters(array):
        inside = (array >= low) & (array <= high)
        yield ImageSlice(group, label, frozenset(id for id, is_in in zip(ids, inside, strict=True) if is_in))


def quarters(values: _Floats, unit: str = "") -> list[tuple[str, float, float]]:
    """Up to four ranges (label, low, high) with about as many values in each; none for equal values.

    Equal values stay together, so there may be fewer ranges, of different numbers.
    """
    if not len(values):
        return []
    distinct = np.unique(values)
    cuts = np.unique(np.quantile(values, (0.25, 0.5, 0.75), method="lower"))
    cuts = cuts[cuts < distinct[-1]]
    lows = [-math.inf, *(math.nextafter(cut, math.inf) for cut in cuts.tolist())]
    highs = [*cuts.tolist(), math.inf]
    if len(lows) < 2:
        return []
    after = f" {unit}" if unit else ""
    ranges = []
    for low, high in zip(lows, highs, strict=True):
        inside = distinct[(distinct >= low) & (distinct <= high)]
        first, last = _number(inside[0]), _number(inside[-1])
        label = f"{first}{after}" if first == last else f"{first} to {last}{after}"
        ranges.append((label, low, high))
    return ranges


def _number(value: float) -> str:
    """Such as 7, 0.25 or 83.1."""
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"


# ---- columns of the image records

_DATE = re.compile(r"\s*(\d{4})[-:/.](\d{1,2})[-:/.](\d{1,2})(?!\d)")  # of ISO, COCO and EXIF
_NO_VALUE = "(none)"


def _column_slices(images: Sequence[ImageRecord], notes: list[str]) -> Iterator[ImageSlice]:
    """A slice for each value of a column with few values; numbers with many values in quarters."""
    columns = dict.fromkeys(key for image in images for key in image.extra)
    too_many = []
    for name in columns:
        values = {image.id: image.extra.get(name) for image in images}
        if not all(value is None or isinstance(value, str | int | float) for value in values.values()):
            continue  # lists and objects
        texts = {id: _text(value) for id, value in values.items()}
        if len(set(texts.values())) > MOST_VALUES and (dates := _dates(texts)):
            texts = dates
        if len(set(texts.values())) <= 1:
            continue
        if len(set(texts.values())) > MOST_VALUES:
            numbers = {id: float(value or 0) for id, value in values.items() if _is_number(value)}
            if len(numbers) == len(values):
                yield from _image_quarters(name, list(numbers), list(numbers.values()))
            else:
                too_many.append(name)
            continue
        for text in sorted(set(texts.values())):
            yield ImageSlice(name, text, frozenset(id for id, own in texts.items() if own == text))
    if too_many:
        notes.append(
            f"Columns of the image records with more than {MOST_VALUES} values are no slices: "
            f"{', '.join(too_many)}."
        )


def _text(value: Any) -> str:
    if value is None or value == "":
        return _NO_VALUE
    return _number(value) if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) or type(value) is int and abs(value) < 2**53


def _dates(texts: Mapping[Id, str]) -> dict[Id, str] | None:
    """The month of each date, or the day if all are of one month; None if a text is no date."""
    found = {id: _DATE.match(text) for id, text in texts.items()}
    if not all(match or texts[id] == _NO_VALUE for id, match in found.items()):
        return None
    days = {id: match and f"{match[1]}-{int(match[2]):02}-{int(match[3]):02}" for id, match in found.items()}
    months = {day[:7] for day in days.values() if day}
    length = 7 if len(months) > 1 else 10
    if len(months) > MOST_VALUES:
        length = 4  # years
    return {id: day[:length] if day else _NO_VALUE for id, day in days.items()}


# ---- the AP of slices


def measure_slices(
    slices: Sequence[Slice],
    coco: CocoFile,
    truth: Truth,
    results: Mapping[Id, Instances],
    overlaps: Overlaps,
    *,
    weights: Weights | None = None,
) -> list[SliceResult]:
    """The AP of each slice, with its interval if there are ``weights`` of `bootstrap.resample_weights`.

    overlaps: of ``results``, with ``truth`` the objects of ``coco``.
    """
    tables = SliceTables(coco, truth, results, overlaps)
    return [tables.result(one, weights) for one in slices]


class SliceTables:
    """The matching of each slice of one result, for its AP and for comparisons."""

    def __init__(
        self, coco: CocoFile, truth: Truth, results: Mapping[Id, Instances], overlaps: Overlaps
    ) -> None:
        self._overlaps = overlaps
        self._matching = match(overlaps)
        self._objects = shapes_of_objects(coco, truth)
        self._found = shapes_of_detections(coco, results, overlaps)

    def of(self, part: Slice) -> tuple[Overlaps, Matching]:
        """The table and the matching in which only the slice counts."""
        if isinstance(part, ImageSlice):
            return self._overlaps, self._of_images(part)
        return self._of_objects(part)

    def result(self, part: Slice, weights: Weights | None = None) -> SliceResult:
        """The AP of a slice."""
        overlaps, matching = self.of(part)
        counted = ~matching.object_is_ignored
        num_objects = int(counted.sum())
        if isinstance(part, ImageSlice):
            num_images = len(part.image_ids)
        else:
            num_images = len(np.unique(overlaps.objects.image[counted]))
        if num_objects < LEAST_OBJECTS:
            return SliceResult(part.group, part.value, num_images, num_objects, None)
        ap = mean_of_defined(average_precision(overlaps, matching))
        within = None if weights is None else interval(bootstrap_ap(overlaps, matching, weights)[0])
        return SliceResult(part.group, part.value, num_images, num_objects, ap, within)

    def _of_images(self, part: ImageSlice) -> Matching:
        inside = np.array([id in part.image_ids for id in self._overlaps.image_ids], bool)
        matching = self._matching
        return replace(
            matching,
            is_counted=matching.is_counted & inside[self._overlaps.found.image],
            object_is_ignored=matching.object_is_ignored | ~inside[self._overlaps.objects.image],
        )

    def _of_objects(self, part: ObjectSlice) -> tuple[Overlaps, Matching]:
        """The measures take the place of the areas."""
        objects, found = self._overlaps.objects, self._overlaps.found
        of_objects, of_found = part.measure(self._objects)[objects.position], part.measure(self._found)
        overlaps = replace(
            self._overlaps, objects=replace(objects, area=of_objects), found=replace(found, area=of_found)
        )
        return overlaps, match(overlaps, thresholds=IOU_THRESHOLDS, area_range=(part.low, part.high))
