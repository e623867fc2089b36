"""The tables and charts of a data set page: splits, classes, objects, images and positions.

The results are plain values; table cells are text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.statistics import (
    Shapes,
    SplitShapes,
    category_positions,
    class_table,
    image_positions,
    image_sizes_wh,
    image_table,
    objects_per_image,
    position_heat_map,
    size_table,
)
from paddlex_seg.reports.charts import Chart, Swatch, heat_map, swatches
from paddlex_seg.reports.histograms import (
    aspect_ratios,
    count_bins,
    histogram,
    octave_bins,
    ratio_bins,
)
from paddlex_seg.reports.text import NOTHING, counted, decimal, number, percent, shorten, size, spread

_CLASSES_SHOWN, _CLASS_ROWS, _SIZES_SHOWN = 20, 1000, 8


@dataclass(frozen=True)
class Split:
    """A split with n annotations."""

    name: str
    shapes: SplitShapes
    images: NDArray[np.int64]  # [n], index of each annotation's image; -1: the image is not listed
    classes: NDArray[np.int64]  # [n], class index of each annotation; -1: the class is not listed

    @classmethod
    def of(cls, name: str, shapes: SplitShapes) -> "Split":
        """The split, with the image and class indices computed."""
        classes = category_positions(shapes.coco, shapes.coco.categories)
        return cls(name, shapes, image_positions(shapes.coco), classes)

    def rows_of(self, images: Sequence[int]) -> dict[int, NDArray[np.int64]]:
        """For each of these images, the indices of its annotations that have a known class."""
        wanted = np.zeros(len(self.shapes.coco.images) + 1, bool)  # the last entry is for index -1
        wanted[list(images)] = True
        wanted[-1] = False
        rows = np.flatnonzero(wanted[self.images] & (self.classes >= 0))
        return {image: rows[self.images[rows] == image] for image in images}


Table = list[list[str]]  # rows of cells


@dataclass(frozen=True)
class Bar:
    """The bar for the number of annotations of one class in one split."""

    css: str
    width_percent: float
    count: int


@dataclass(frozen=True)
class Classes:
    """The section about classes."""

    legend: tuple[Swatch, ...]
    total: int
    shown: int
    bars: list[tuple[str, list[Bar]]]  # class name, one bar per split
    rows: Table
    unlisted: int  # number of classes without a row


@dataclass(frozen=True)
class Measured:
    """A section with a table (one row per split) and charts. Without objects or images it has no rows."""

    rows: Table
    legend: tuple[Swatch, ...] = ()
    charts: tuple[Chart, ...] = ()


def split_rows(splits: Mapping[str, Split]) -> Table:
    """Columns: split, images, images without objects, annotations, classes with annotations, all classes."""
    rows = []
    for split in splits.values():
        objects = objects_per_image(split.shapes)
        numbers = (
            len(objects),
            int(np.count_nonzero(objects == 0)),
            len(split.shapes.coco.annotations),
            len(np.unique(split.classes[split.classes >= 0])),
            len(split.shapes.coco.categories),
        )
        rows.append([split.name, *map(number, numbers)])
    return rows


def count_classes(shapes: Shapes) -> Classes:
    """The most frequent classes as bars, and a table of the first 1000 classes."""
    table = class_table(shapes)
    present = [split for split in shapes if split in ("train", "val")]  # the splits in the table
    totals = {split: max(sum(row[split] for row in table), 1) for split in present}
    longest = max((row[split] / totals[split] for row in table for split in present), default=0) or 1
    frequent = sorted(table, key=lambda row: -(row["train"] + row["val"]))[:_CLASSES_SHOWN]
    legend = swatches(present)
    bars = [
        (
            row["name"],
            [
                Bar(swatch.css, 72 * row[swatch.name] / totals[swatch.name] / longest, row[swatch.name])
                for swatch in legend
            ],
        )
        for row in frequent
    ]
    rows = [
        [
            str(row["id"]),
            shorten(row["name"], 80),
            *(number(row[key]) for key in ("train", "val", "train_images", "val_images")),
            NOTHING if row["median_area"] is None else f"{math.sqrt(row['median_area']):.0f}",
        ]
        for row in table[:_CLASS_ROWS]
    ]
    return Classes(legend, len(table), len(frequent), bars, rows, len(table) - len(rows))


def count_objects(shapes: Shapes) -> Measured:
    """Columns: split; small, medium, large; min side, 5 %, median, 95 %, max; median side / image side."""
    sides = {name: np.sqrt(split.areas[split.areas > 0]) for name, split in shapes.items()}
    if not any(len(values) for values in sides.values()):
        return Measured([])
    ratios = {name: aspect_ratios(split.boxes_xywh[:, 2:]) for name, split in shapes.items()}
    rows = []
    for name, row in size_table(shapes).items():
        total = max(row["small"] + row["medium"] + row["large"], 1)
        shares = [f"{number(row[key])} ({percent(row[key] / total)})" for key in ("small", "medium", "large")]
        quantiles = [decimal(row["sqrt_area"][key]) for key in ("min", "p5", "p50", "p95", "max")]
        relative = row["relative_sqrt_area"]["p50"]
        rows.append([name, *shares, *quantiles, NOTHING if relative is None else percent(relative)])
    return Measured(
        rows,
        swatches(list(shapes)),
        (
            histogram("Object side, pixels", octave_bins(sides), sides, unit="object"),
            histogram("Aspect ratio of the boxes, width : height", ratio_bins(), ratios, unit="object"),
        ),
    )


def count_images(shapes: Shapes) -> Measured:
    """Columns: split; objects per image, width, height, each as min / median / max; distinct sizes."""
    objects = {name: objects_per_image(split) for name, split in shapes.items()}
    if not any(len(values) for values in objects.values()):
        return Measured([])
    rows = [
        [
            name,
            *(spread(row[key]) for key in ("objects_per_image", "width", "height")),
            number(row["distinct_sizes"]),
        ]
        for name, row in image_table(shapes).items()
    ]
    ratios = {name: aspect_ratios(image_sizes_wh(split.coco)) for name, split in shapes.items()}
    return Measured(
        rows,
        swatches(list(shapes)),
        (
            histogram("Objects per image", count_bins(objects), objects, unit="image"),
            histogram("Aspect ratio of the images, width : height", ratio_bins(), ratios, unit="image"),
        ),
    )


def frequent_sizes(shapes: Shapes) -> Table:
    """Columns: image size, images of each split with this size. The last row sums up the other sizes."""
    sizes = {name: image_sizes_wh(split.coco) for name, split in shapes.items()}
    distinct, inverse = np.unique(np.concatenate(list(sizes.values())), axis=0, return_inverse=True)
    bounds = np.cumsum([0, *(len(values) for values in sizes.values())])
    by_split = [
        np.bincount(inverse.reshape(-1)[start:end], minlength=len(distinct))
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]
    order = np.argsort(-np.sum(by_split, axis=0), kind="stable")
    rows = [
        [size(*distinct[i].tolist()), *(number(int(counts[i])) for counts in by_split)]
        for i in order[:_SIZES_SHOWN]
    ]
    if len(order) > _SIZES_SHOWN:
        others = order[_SIZES_SHOWN:]
        label = counted(len(others), "other size")
        rows.append([label, *(number(int(counts[others].sum())) for counts in by_split)])
    return rows


def draw_positions(shapes: Shapes) -> list[Chart]:
    """A heat map of the object positions for each split that has objects."""
    heats = {name: position_heat_map(split) for name, split in shapes.items()}
    return [heat_map(name, heat) for name, heat in heats.items() if heat.max() > 0]
