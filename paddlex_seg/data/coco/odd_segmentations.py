"""What a mask is that is in none of COCO's forms, and its only reading if it has exactly one.

COCO's forms are a list of polygons ``[x1, y1, x2, y2, ...]``, and an RLE ``{"size": [height, width],
"counts": ...}``. The check, its hints and the repair ask `explain`, so that they give the same answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco.mask_readings import (
    Evidence,
    OddMask,
    Proof,
    Reading,
    box_numbers,
    evidence_of,
    number_or_none,
    only_reading,
    whole_or_none,
)
from paddlex_seg.data.coco.rle_forms import counts_readings, literal, odd_rle
from paddlex_seg.data.coco.segmentations import MAX_COORDINATE
from paddlex_seg.data.coco.wrong_value import shown
from paddlex_seg.masks.rle import (
    mask_to_rle,
    merge_rles,
    polygons_to_rle,
    rle_from_json,
    rle_to_json,
    rle_to_mask,
    run_lengths,
)

_MAX_DEPTH = 8  # lists in lists
_POINT_LISTS = (("x", "y"), ("all_points_x", "all_points_y"), ("xs", "ys"))


@dataclass(frozen=True)
class Explanation:
    """What is wrong with a mask, and what becomes of it in a repair."""

    code: str  # of the finding
    message: str  # continues a sentence that starts with "segmentation"
    hint: str | None  # None: the hint of the code
    repaired: Any  # the mask in COCO's form, if it can be read in exactly one way; otherwise None
    is_empty: bool = False  # it encloses nothing, however it is read


def explain(record: Mapping[str, Any], size_hw: tuple[int, int] | None) -> Explanation:
    """What the mask of an annotation is that `read_segmentation` does not read, or whose size is wrong.

    ``record`` is the annotation as in the file; its box and area decide between two readings. ``size_hw``: of
    its image, None if that is unknown.
    """
    evidence = evidence_of(record, size_hw)
    if "segmentation" not in record:
        odd: OddMask | None = OddMask("segmentation_missing", "is missing")
    else:
        odd = _odd_mask(record["segmentation"], evidence)
    assert odd is not None
    if odd.code in ("segmentation_missing", "segmentation_empty"):
        only = "only a box" if evidence.box_xywh is not None else "and no box with an area either"
        return Explanation(odd.code, f"{odd.message}: the annotation has no mask, {only}", None, None)
    repaired = only_reading(odd.readings, evidence)
    hint = (
        None if repaired is None else "CheckDataset.fix.enable=True writes it in COCO's form, with no loss."
    )
    return Explanation(
        odd.code, odd.message, hint, repaired, repaired is None and _encloses_nothing(record, evidence)
    )


def rle_as_polygon(segmentation: Any, evidence: Evidence) -> OddMask | None:
    """The explanation of polygons that are in truth RLE counts without a size; None for sound polygons."""
    if isinstance(segmentation, list) and len(segmentation) == 1:
        return _odd_counts(segmentation[0], evidence)
    return None


def two_lists(parts: Sequence[Any]) -> list[list[float]] | None:
    """The polygon of ``[[x1, x2, ...], [y1, y2, ...]]``, if it can be one."""
    if len(parts) != 2 or not all(isinstance(part, list) for part in parts):
        return None
    xs, ys = ([number_or_none(value) for value in part] for part in parts)
    if len(xs) != len(ys) or len(xs) < 3 or None in xs or None in ys:
        return None
    return [[value for xy in zip(xs, ys, strict=True) for value in xy if value is not None]]


def triples(parts: Sequence[Any]) -> list[list[float]] | None:
    """The polygons without every third number, if that is 0, 1 or 2 everywhere: x, y and visibility."""
    polygons = []
    for part in parts:
        if not isinstance(part, list) or len(part) < 9 or len(part) % 3:
            return None
        numbers = [number_or_none(value) for value in part]
        if None in numbers or not set(numbers[2::3]) <= {0, 1, 2}:
            return None
        polygons.append([number for i, number in enumerate(numbers) if i % 3 < 2 and number is not None])
    return polygons or None


def _odd_mask(value: Any, evidence: Evidence) -> OddMask | None:
    if value is None:
        return OddMask("segmentation_missing", "is null")
    if _is_hollow(value):
        return OddMask("segmentation_empty", f"is empty ({shown(value)})")
    if isinstance(value, str):
        return _odd_text(value, evidence)
    if isinstance(value, Mapping) and ("counts" in value or "size" in value):
        return odd_rle(value, evidence)
    if not isinstance(value, (list, Mapping)):
        return OddMask(
            "segmentation_invalid", f"is a {type(value).__name__}; expected a list of polygons or an RLE"
        )
    counts = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(counts, str) and literal(counts) is None:
        return _odd_text(counts, evidence)
    return _odd_counts(counts, evidence) or _odd_polygons(value, evidence)


def _is_hollow(value: Any) -> bool:
    """Nothing but empty lists, empty objects and empty text."""
    for _ in range(_MAX_DEPTH):
        if isinstance(value, str):
            return not value.strip()
        if isinstance(value, Mapping):
            return not value
        if not isinstance(value, list):
            return False
        rest = [part for part in value if part != [] and part != {} and part is not None]
        if not rest:
            return True
        if len(rest) > 1:
            return False
        value = rest[0]
    return False


def _odd_text(text: str, evidence: Evidence) -> OddMask:
    value = literal(text)
    if isinstance(value, (list, Mapping)):
        inner = _odd_mask(_lists(value), evidence)
        if inner is None:
            return OddMask(
                "segmentation_text",
                f"is text ({shown(text)}); expected a list or an object",
                (Reading(_lists(value)),),
            )
        return OddMask(inner.code, f"is text, and its content {inner.message}", inner.readings)
    odd = odd_rle({"counts": text}, evidence)
    if odd is not None and odd.readings:
        return OddMask("rle_size_missing", "looks like RLE counts, size is missing", odd.readings)
    return OddMask(
        "segmentation_invalid", f"is the text {shown(text)}; expected a list of polygons or an RLE"
    )


def _lists(value: Any) -> Any:
    """Tuples as lists. Text in Python's notation may have tuples."""
    if isinstance(value, (list, tuple)):
        return [_lists(part) for part in value]
    return {key: _lists(part) for key, part in value.items()} if isinstance(value, dict) else value


def _odd_counts(value: Any, evidence: Evidence) -> OddMask | None:
    """RLE counts without a size: whole numbers whose sum is that of the pixels of the image.

    If the last run is missing, box and area must prove it, or the rhythm of the runs.
    """
    if not isinstance(value, list) or len(value) < 2 or evidence.size_hw is None:
        return None
    counts = _whole_numbers(value)
    height, width = evidence.size_hw
    if counts is None or min(counts) < 0 or not 0 < sum(counts) <= height * width:
        return None
    is_whole = sum(counts) == height * width
    rhythm = len(counts) > 9 and (_has_rhythm(counts, height) or _has_rhythm(counts, width))
    if not (is_whole or rhythm or _starts_and_ends_at_box(counts, evidence)):
        return None  # without drawing: this is asked of many sound polygons
    odd = OddMask(
        "rle_size_missing",
        "looks like RLE counts, size is missing: whole numbers that sum to "
        f"{sum(counts)} of the {height * width} pixels of the image",
        counts_readings(run_lengths(counts), counts, evidence),
    )
    return odd if is_whole or rhythm or only_reading(odd.readings, evidence) is not None else None


def _whole_numbers(values: Sequence[Any]) -> list[int] | None:
    """The values, if all of them are whole numbers, in any form; otherwise None."""
    types = set(map(type, values))
    if types == {int}:
        return list(values)
    if types <= {int, float} and any(value % 1 for value in values):  # NaN too
        return None
    numbers = [whole_or_none(value) for value in values] if types <= {int, float, str} else [None]
    return None if None in numbers else [number for number in numbers if number is not None]


def _has_rhythm(counts: Sequence[int], side: int) -> bool:
    """In the runs of one object, each run of it and the one of background before it fill about a line.

    The first run is all the background before the object. As a coordinate, it is far from the others.
    """
    if counts[0] <= 2 * side or max(counts[1:]) > side:
        return False
    runs = np.array(counts, float)
    return bool(np.mean(np.abs(runs[1:-1] + runs[2:] - side) <= 0.1 * side) > 0.8)


def _starts_and_ends_at_box(counts: Sequence[int], evidence: Evidence) -> bool:
    """Whether runs that end with one of the object begin and end at the box."""
    if evidence.size_hw is None or evidence.box_xywh is None or len(counts) % 2:
        return False
    x, y, width, height = evidence.box_xywh
    first, last = counts[0], sum(counts) - 1
    for side, start, length in ((evidence.size_hw[0], x, width), (evidence.size_hw[1], y, height)):
        if abs(first // side - start) <= 1 and abs(last // side + 1 - start - length) <= 1:
            return True
    return False


def _odd_polygons(value: Any, evidence: Evidence) -> OddMask | None:
    found = _Found()
    if _numbers(value) is not None:
        found.note("polygon_flat_list", "is one list of numbers; expected a list of polygons")
    found.take(value, evidence, 0)
    if not found.notes:
        return None
    # The gravest code first. What makes a mask unreadable says more than its form.
    code = min(found.notes, key=_GRAVEST.index)
    readings = list(found.readings(evidence))
    pairs = two_lists(value) if isinstance(value, list) else None
    visible = triples(value) if isinstance(value, list) else None
    readings += [Reading(polygons, "close") for polygons in (pairs, visible) if polygons is not None]
    if code == "polygon_is_box":
        return OddMask(code, _about_box(found.short[0], evidence), tuple(readings))
    return OddMask(code, found.notes[code], tuple(readings))


_GRAVEST = (
    "segmentation_invalid",
    "polygon_nan",
    "rle_damaged",
    "rle_size_missing",
    "rle_size_mismatch",
    "polygon_odd",
    "polygon_is_box",
    "polygon_points",
    "polygon_nested",
    "segmentation_text",
    "polygon_flat_list",
    "rle_form",
    "polygon_too_few_points",
)


def _about_box(numbers: Sequence[float], evidence: Evidence) -> str:
    text = "[" + ", ".join(f"{number:g}" for number in numbers) + "]"
    if evidence.box_xywh is not None:
        x, y, width, height = evidence.box_xywh
        for name, box in (
            ("[x, y, width, height]", (x, y, width, height)),
            ("[x1, y1, x2, y2]", (x, y, x + width, y + height)),
        ):
            if np.allclose(numbers, box, rtol=0, atol=1.5):
                return f"has {text}, the 4 numbers of the box {name}, where a polygon should be"
    return (
        f"has a polygon of 4 numbers, {text}: two points, or the 4 numbers of the box; expected at least 6 "
        "numbers (three points)"
    )


@dataclass
class _Found:
    """The parts of a mask, and what is odd about them."""

    polygons: list[list[float]] = field(default_factory=list)
    rles: list[Any] = field(default_factory=list)
    short: list[list[float]] = field(default_factory=list)  # parts of two or of four numbers
    notes: dict[str, str] = field(default_factory=dict)  # message by code, of the first place
    proof: Proof = "none"
    is_unreadable: bool = False
    num_deep: int = 0  # polygons from lists of points in a list of polygons

    def note(self, code: str, message: str) -> None:
        self.notes.setdefault(code, message)

    def fail(self, code: str, message: str) -> None:
        self.note(code, message)
        self.is_unreadable = True

    def readings(self, evidence: Evidence) -> Sequence[Reading]:
        """The union of all parts. If polygons came as lists of points, the later ones may be holes."""
        if self.is_unreadable or not (self.polygons or self.rles):
            return ()
        size = evidence.size_hw
        if not self.rles:
            union = Reading(self.polygons, self.proof)
            if self.num_deep < 2 or size is None:
                return (union,)
            return union, Reading(_with_holes(self.polygons, size), self.proof)
        if size is None or any(tuple(rle["size"]) != size for rle in self.rles):
            return ()
        masks = [rle_from_json(rle) for rle in self.rles]
        if self.polygons:
            masks.append(polygons_to_rle(self.polygons, size))
        elif len(self.rles) == 1:
            return (Reading(self.rles[0], self.proof),)
        return (Reading(rle_to_json(merge_rles(masks)), self.proof),)

    def take(self, value: Any, evidence: Evidence, depth: int) -> None:
        """Take the mask, or a part of it. ``depth``: 0 for the mask, 1 for a part, more for deeper lists."""
        if isinstance(value, str) and isinstance(literal(value), (list, Mapping)):
            self.note("segmentation_text", f"has a part that is text ({shown(value)})")
            value = _lists(literal(value))
        numbers, points = _numbers(value), _point_list(value)
        if numbers is not None:
            self._take_numbers(value, numbers)
        elif points is not None:
            self.note(
                "polygon_points",
                f"has points as pairs of x and y, {shown(value)}; expected one list of numbers for each "
                "polygon, [[x1, y1, x2, y2, ...]]",
            )
            self.num_deep += depth > 0
            self._take_numbers(value, points)
        elif isinstance(value, Mapping) and "counts" in value:
            self._take_rle(value, evidence)
        elif isinstance(value, list) and value and depth < _MAX_DEPTH:
            if depth:
                self.note("polygon_nested", f"has a list of lists, {shown(value)}, where a polygon should be")
            for part in value:
                self.take(part, evidence, depth + 1)
        elif value in ([], {}, None):
            self.note("polygon_too_few_points", "has a polygon without points beside other polygons")
        else:
            self.fail(
                "segmentation_invalid",
                f"holds a {type(value).__name__} ({shown(value)}); expected a list of polygons, each a list "
                "[x1, y1, x2, y2, ...]",
            )

    def _take_numbers(self, value: Any, numbers: Sequence[float | None]) -> None:
        known = [number for number in numbers if number is not None and abs(number) <= MAX_COORDINATE]
        if len(known) < len(numbers):
            self.fail(
                "polygon_nan",
                "has a polygon with values that are not pixel coordinates (not a number, infinite, NaN or "
                "beyond a million)",
            )
            return
        if isinstance(value, list) and any(isinstance(number, str) for number in value):
            self.note("segmentation_text", f"has numbers as text, {shown(value)}")
        count = len(known)
        if count % 2:
            same = "the last one repeats the one before; " if count > 1 and known[-1] == known[-2] else ""
            message = f"has a polygon of {count} numbers; {same}expected an even count"
            if count < 7:
                self.fail("polygon_odd", message)
                return
            self.note("polygon_odd", message)
            self.polygons.append(known[:-1])
            self.proof = "close"
        elif count >= 6:
            self.polygons.append(known)
        elif count == 4:
            self.note("polygon_is_box", "")
            self.short.append(known)
            self.proof = "close"
        else:
            self.note(
                "polygon_too_few_points",
                f"has a polygon of {count} numbers; expected at least 6 (three points)",
            )
            self.short.append(known)

    def _take_rle(self, value: Mapping[str, Any], evidence: Evidence) -> None:
        self.note("rle_form", "has an RLE in a list; expected the RLE itself")
        odd = odd_rle(value, evidence)
        repaired = value if odd is None else only_reading(odd.readings, evidence)
        if odd is not None:
            self.note(odd.code, odd.message)
        if repaired is None:
            self.is_unreadable = True
        else:
            self.rles.append(repaired)


def _numbers(value: Any) -> list[float | None] | None:
    """The numbers of a flat list, None for those that are unusable; None if it is no list of numbers."""
    if not isinstance(value, list) or not value:
        return None
    if not set(map(type, value)) <= {int, float, str, type(None)}:
        return None
    numbers = [number_or_none(number) for number in value]
    # Text that is no number, such as RLE counts or a file name, is not a coordinate.
    return None if all(isinstance(entry, str) for entry in value) and set(numbers) == {None} else numbers


def _point_list(value: Any) -> list[float | None] | None:
    """The numbers of a list of points, in order; None if it is no list of points."""
    if isinstance(value, Mapping):
        for names in _POINT_LISTS:
            xs, ys = (value.get(name) for name in names)
            if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) > 0:
                return [number_or_none(number) for xy in zip(xs, ys, strict=True) for number in xy]
        return None
    if not isinstance(value, list) or not value:
        return None
    points = [_point(entry) for entry in value]
    if any(point is None for point in points) or (len(value) == 1 and isinstance(value[0], list)):
        return None  # [[x, y]] is rather a polygon of one point
    return [number for point in points if point is not None for number in point]


def _point(entry: Any) -> tuple[float | None, float | None] | None:
    if isinstance(entry, Mapping):
        if not {"x", "y"} <= set(entry) or isinstance(entry["x"], list):
            return None
        entry = [entry["x"], entry["y"]]
    if not isinstance(entry, list) or len(entry) != 2 or _numbers(entry) is None:
        return None
    return number_or_none(entry[0]), number_or_none(entry[1])


def _with_holes(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> dict[str, Any]:
    """The polygons as outlines and holes: a pixel inside an even number of them is outside."""
    covered: NDArray[np.uint8] = np.zeros(size_hw, np.uint8)
    for polygon in polygons:
        covered ^= rle_to_mask(polygons_to_rle([polygon], size_hw))
    return rle_to_json(mask_to_rle(covered))


def _encloses_nothing(record: Mapping[str, Any], evidence: Evidence) -> bool:
    """Whether a mask of points and lines encloses nothing, however it is read, and its box agrees."""
    value = record.get("segmentation")
    if isinstance(value, str):
        return False
    found = _Found()
    found.take(value, evidence, 0)
    if found.is_unreadable or found.polygons or found.rles or not found.short:
        return False
    lines = [numbers for numbers in found.short if len(numbers) == 4]
    if any(abs((x2 - x1) * (y2 - y1)) > 0 for x1, y1, x2, y2 in lines):
        return False  # as the corners of a box, they enclose something
    box = box_numbers(record)
    if box is None or (evidence.box_xywh is None and not lines):
        return not lines  # a line may be the 4 numbers of a box
    x, y, width, height = box
    points = np.concatenate([np.reshape(numbers, (-1, 2)) for numbers in found.short])
    around = np.array([*points.min(axis=0), *points.max(axis=0)])
    return bool(np.abs(around - [x, y, x + width, y + height]).max() <= 1.01 and min(width, height) <= 1.01)
