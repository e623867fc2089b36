"""What a data set page counts: the tables and charts of splits, classes, objects, images and positions.

Everything here is plain values; cells of tables are texts.
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
    """A split, with the places of its annotations' images and classes. -1 stands for none."""

    name: str
    shapes: SplitShapes
    images: NDArray[np.int64]  # [n]
    classes: NDArray[np.int64]  # [n]

    @classmethod
    def of(cls, name: str, shapes: SplitShapes) -> "Split":
        """The split with what is measured of it."""
        classes = category_positions(shapes.coco, shapes.coco.categories)
        return cls(name, shapes, image_positions(shapes.coco), classes)

    def rows_of(self, images: Sequence[int]) -> dict[int, NDArray[np.int64]]:
        """The rows of the annotations of each of these images that have a class."""
        wanted = np.zeros(len(self.shapes.coco.images) + 1, bool)  # the last is that of -1
        wanted[list(images)] = True
        wanted[-1] = False
        rows = np.flatnonzero(wanted[self.images] & (self.classes >= 0))
        return {image: rows[self.images[rows] == image] for image in images}


Table = list[list[str]]  # rows of cells


@dataclass(frozen=True)
class Bar:
    """How many annotations a split has of a class."""

    css: str
    width_percent: float
    count: int


@dataclass(frozen=True)
class Classes:
    """The section about classes."""

    legend: tuple[Swatch, ...]
    total: int
    shown: int
    bars: list[tuple[str, list[Bar]]]  # name of a class, and a bar for each split
    rows: Table
    unlisted: int  # classes for which there is no row


@dataclass(frozen=True)
class Measured:
    """A section with a table of the splits and charts; no rows where there is nothing to measure."""

    rows: Table
    legend: tuple[Swatch, ...] = ()
    charts: tuple[Chart, ...] = ()


def split_rows(splits: Mapping[str, Split]) -> Table:
    """Split, images, those without objects, annotations, classes used, classes listed."""
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
    """The most frequent classes as bars, and a table of the first 1000."""
    table = class_table(shapes)
    present = [split for split in shapes if split in ("train", "val")]  # those that the table knows
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
    """Split; small, medium, large; smallest side, 5 %, median, 95 %, largest; median share of the image."""
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
            histogram("Side of the objects, pixels", octave_bins(sides), sides, unit="object"),
            histogram("Width : height of the objects' boxes", ratio_bins(), ratios, unit="object"),
        ),
    )


def count_images(shapes: Shapes) -> Measured:
    """Split; objects of an image, widths, heights, each as min / median / max; number of distinct sizes."""
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
            histogram("Width : height of the images", ratio_bins(), ratios, unit="image"),
        ),
    )


def frequent_sizes(shapes: Shapes) -> Table:
    """Size of images, and how many of each split have it: the most frequent sizes, then all others."""
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
    """For each split that has objects, where in their images these lie."""
    heats = {name: position_heat_map(split) for name, split in shapes.items()}
    return [heat_map(name, heat) for name, heat in heats.items() if heat.max() > 0]
