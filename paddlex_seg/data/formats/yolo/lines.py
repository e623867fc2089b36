"""Reads the lines of YOLO label files: a class number and the points of one polygon.

Coordinates are divided by width and height of the image. Some files have pixels or percent instead, or one
more number at the end of each line. Whether that is so is decided for all files of a data set together,
because a single line can often be read in two ways.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import SourceObject

Unit = Literal["fraction", "pixel", "percent"]


@dataclass(frozen=True, slots=True)
class LabelFile:
    """The lines of a label file, by line number."""

    name: str  # relative to the root
    size_hw: tuple[int, int]  # of the upright image
    numbers: Mapping[int, list[float]]  # class, then coordinates; empty for broken lines
    broken: Mapping[int, str]  # the text of lines that are not a class number and finite numbers


def parse_label_file(name: str, size_hw: tuple[int, int], text: str) -> LabelFile:
    """The numbers of a label file. They may be separated by blanks, tabs, commas or semicolons."""
    numbers: dict[int, list[float]] = {}
    broken: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        values = _numbers(line)
        if values is None or not values[0].is_integer():
            values = []
            broken[number] = line.strip()
        numbers[number] = values
    return LabelFile(name=name, size_hw=size_hw, numbers=numbers, broken=broken)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the lines of all label files of a data set are read."""

    unit: Unit
    is_unclear: bool  # whether the coordinates may be pixels as well as percent
    extra_number: bool  # whether each line ends with one more number
    counts_from_1: bool  # whether the classes of all lines seem to be counted from 1


def common_reading(files: Sequence[LabelFile], names: Mapping[int, str]) -> Reading:
    """The reading that fits all lines. Boxes do not say anything about the unit."""
    lengths = [len(values) for file in files for values in file.numbers.values() if values]
    extra = bool(lengths) and all(length % 2 == 0 and length >= 6 for length in lengths) and _end_whole(files)
    counts: Counter[frozenset[Unit]] = Counter(_units(*polygon) for polygon in _polygons(files, extra))
    fitting = {unit: sum(count for units, count in counts.items() if unit in units) for unit in _UNITS}
    # One line that can only be a fraction is enough, because such an object has no area in another unit.
    unit: Unit = "fraction" if counts[_ONLY_FRACTION] else max(_UNITS, key=lambda unit: fitting[unit])
    both = unit == "pixel" and fitting["pixel"] == fitting["percent"]
    classes = {int(values[0]) for file in files for values in file.numbers.values() if values}
    return Reading(
        unit=unit,
        is_unclear=both and not _are_whole(files, extra),
        extra_number=extra,
        counts_from_1=bool(classes) and min(classes) >= 1 and max(classes) == max(names) + 1,
    )


def have_key_points(files: Sequence[LabelFile]) -> bool:
    """Whether all lines are class, box, and two or more key points x, y, visibility, some of them visible."""
    lines = [values for file in files for values in file.numbers.values() if values]
    seen = [values[7::3] for values in lines if len(values) > 8 and len(values) % 3 == 2]
    return len(seen) == len(lines) > 0 and {value for values in seen for value in values} in _VISIBILITIES


_VISIBILITIES = ({2}, {0, 2}, {1, 2}, {0, 1, 2})


class ObjectReader:
    """Reads the objects of label files, and counts what it finds."""

    def __init__(self, reading: Reading, names: Mapping[int, str]):
        self.reading = reading
        self.num_lines = self.num_polygons = self.num_boxes = 0
        self._names = names

    def read(self, file: LabelFile, findings: list[Finding]) -> Iterator[SourceObject]:
        """The objects of a file, in the order of its lines. Lines that cannot be read become findings."""
        unknown: Counter[int] = Counter()
        unclear: list[int] = []
        self.num_lines += len(file.numbers)
        for number, values in file.numbers.items():
            if not values:
                findings.append(_unusable(file, number, file.broken[number]))
                continue
            index = int(values[0])
            points = self._points(values)
            if len(points) == 4:
                self.num_boxes += 1
                findings.append(_box(file, number))
            elif len(points) < 6 or len(points) % 2:
                findings.append(_unusable(file, number, " ".join(f"{value:g}" for value in values)))
            elif index not in self._names:
                unknown[index] += 1
            elif self.reading.is_unclear or self.reading.unit not in _units(points, file.size_hw):
                unclear.append(number)
            else:
                self.num_polygons += 1
                yield SourceObject(
                    self._names[index], [to_pixels(points, _side_of_unit(self.reading.unit, file))]
                )
        findings += [self._unknown_class(file, index, count) for index, count in unknown.items()]
        findings += [self._unclear(file, unclear)] if unclear else []

    def findings(self, files: Sequence[LabelFile]) -> list[Finding]:
        """What is unusual about all lines of the data set."""
        found = []
        if self.num_polygons and self.reading.unit != "fraction":
            unit = {"pixel": "pixels", "percent": "percent"}[self.reading.unit]
            message = (
                f"the coordinates of all {self.num_polygons} polygons are in {unit}, not divided by width "
                f"and height; they were read as {unit}"
            )
            found.append(finding("coordinates_scaled", files[0].name, message))
        if self.num_polygons and self.reading.extra_number:
            message = f"all {self.num_polygons} polygons are followed by one more number, which was left out"
            found.append(finding("label_extra_number", files[0].name, message))
        return found

    def _points(self, values: list[float]) -> list[float]:
        return values[1:-1] if self.reading.extra_number else values[1:]

    def _unknown_class(self, file: LabelFile, index: int, count: int) -> Finding:
        lowest, highest = min(self._names), max(self._names)
        message = f"{count} lines have the class {index}; expected {lowest}..{highest} as in 'names'"
        hint = None
        if self.reading.counts_from_1:
            hint = (
                f"The labels use the classes up to {highest + 1} and never 0, so they seem to count from 1. "
                f"Subtract 1 in all label files, or write 'names' with the numbers 1..{highest + 1}."
            )
        return finding("label_unknown", file.name, message, hint=hint)

    def _unclear(self, file: LabelFile, lines: Sequence[int]) -> Finding:
        polygons = [self._points(file.numbers[number]) for number in lines]
        largest = max(map(max, polygons))
        shown = ", ".join(map(str, lines[:5])) + (" ..." if len(lines) > 5 else "")
        height, width = file.size_hw
        if self.reading.is_unclear:
            why = "they may be pixels or percent"
        elif all("pixel" in _units(points, file.size_hw) for points in polygons):
            why = "they may be pixels, but other lines of the data set are in another unit"
        else:
            why = f"they are no pixels of this image ({width} x {height}) either; it may be resized"
        message = (
            f"{len(lines)} lines ({shown}) have coordinates up to {largest:g}, "
            f"not divided by width and height; {why}"
        )
        return finding("coordinates_unclear", file.name, message)


def to_pixels(points: Sequence[float], sides: tuple[float, float]) -> list[float]:
    """x and y in pixels, rounded to remove the rounding error of the normalised coordinates.

    sides: what the coordinates x and y are to be multiplied by.
    """
    return (np.reshape(points, (-1, 2)) * sides).round(6).ravel().tolist()


def _polygons(files: Sequence[LabelFile], extra: bool) -> Iterator[tuple[list[float], tuple[int, int]]]:
    """The coordinates of each line that is a polygon, and the size of its image."""
    for file in files:
        for values in file.numbers.values():
            points = values[1:-1] if extra else values[1:]
            if len(points) >= 6 and len(points) % 2 == 0:
                yield points, file.size_hw


def _end_whole(files: Sequence[LabelFile]) -> bool:
    """Whether only the last number of all lines is whole: a track number, and not one of the coordinates.

    A confidence cannot be told from a line whose last coordinate is lost.
    """
    lines = [values for file in files for values in file.numbers.values() if values]
    return all(values[-1].is_integer() for values in lines) and not all(
        value.is_integer() for values in lines for value in values[1:-1]
    )


def _are_whole(files: Sequence[LabelFile], extra: bool) -> bool:
    """Whether all coordinates are whole numbers, as pixels often are and percent is not."""
    return all(value.is_integer() for points, _ in _polygons(files, extra) for value in points)


_UNITS: tuple[Unit, ...] = ("fraction", "pixel", "percent")
_ONLY_FRACTION: frozenset[Unit] = frozenset(("fraction",))


def _units(points: Sequence[float], size_hw: tuple[int, int]) -> frozenset[Unit]:
    """The units that the coordinates of a polygon may have.

    Objects that are cut at the border may extend beyond it by some pixels.
    """
    lowest, highest = min(points), max(points)
    if highest <= 1 and lowest >= -1:
        return _ONLY_FRACTION
    units: set[Unit] = set()
    xs, ys = points[0::2], points[1::2]
    starts_inside = any(0 < x < 1 and 0 < y < 1 for x, y in zip(xs, ys, strict=True))
    if (highest <= 2 and lowest >= -1) or (starts_inside and -100 <= lowest and highest <= 100):
        units.add("fraction")
    height, width = size_hw
    if lowest >= -0.1 * min(size_hw) - 1 and max(xs) <= 1.1 * width + 1 and max(ys) <= 1.1 * height + 1:
        units.add("pixel")
    if lowest >= -10 and highest <= 110:
        units.add("percent")
    return frozenset(units)


def _side_of_unit(unit: Unit, file: LabelFile) -> tuple[float, float]:
    """What x and y are to be multiplied by to become pixels."""
    height, width = file.size_hw
    return {"fraction": (width, height), "pixel": (1, 1), "percent": (width / 100, height / 100)}[unit]


def _unusable(file: LabelFile, number: int, line: str) -> Finding:
    shown = line if len(line) <= 40 else f"{line[:40]}..."
    message = f"line {number} is {shown!r}; expected a class number and at least 3 points"
    return finding("shape_unusable", file.name, message, hint="Correct the line.")


def _box(file: LabelFile, number: int) -> Finding:
    message = f"line {number} is a box (class, centre, size), not a polygon"
    hint = "Draw a polygon, or export segmentation labels."
    return finding("shape_without_area", file.name, message, hint=hint)


def _numbers(line: str) -> list[float] | None:
    """The numbers of a line; None if it has something else. At least one number."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return _separated_by_commas(line)
    # A sum is finite only if all values are.
    return values if math.isfinite(sum(values)) and max(values) < 1e9 else None


_DECIMAL_COMMA = re.compile(r"\d+,\d+")


def _separated_by_commas(line: str) -> list[float] | None:
    """The numbers of a line with commas or semicolons, which separate numbers or stand for decimal points."""
    words = line.split()
    if "." not in line and len(words) > 1 and any(_DECIMAL_COMMA.fullmatch(word) for word in words):
        text = line.replace(",", ".")
    else:
        text = line.replace(",", " ")
    try:
        values = [float(word) for word in text.replace(";", " ").split()]
    except ValueError:
        return None
    return values if values and math.isfinite(sum(values)) and max(values) < 1e9 else None
