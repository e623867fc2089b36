"""What a mask is that is in none of COCO's forms, and its only reading if it has exactly one.

COCO's forms are a list of polygons ``[x1, y1, x2, y2, ...]``, and an RLE ``{"size": [height, width],
"counts": ...}``. Each way to read another value is a `Reading` in one of these forms, and the box and the
area of the record decide between readings. The check, its hints and the repair ask `explain`, so that they
give the same answer.
"""

import ast
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco.mask_evidence import (
    CLOSE,
    EXACT,
    Evidence,
    Reading,
    evidence_of,
    number_or_none,
    whole_or_none,
)
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
_REPAIR_HINT = "CheckDataset.fix.enable=True writes it in COCO's form, with no loss."

_Size = tuple[int, int]  # height, width
_Runs = NDArray[np.int64]


@dataclass(frozen=True)
class OddMask:
    """What is wrong with a mask, and what becomes of it in a repair."""

    code: str  # of the finding
    message: str  # continues a sentence that starts with "segmentation"
    repaired: Any = None  # the mask in COCO's form, if it can be read in exactly one way
    is_empty: bool = False  # it encloses nothing, however it is read

    @property
    def hint(self) -> str | None:
        """What to do; None: the hint of the code."""
        return None if self.repaired is None else _REPAIR_HINT


def explain(record: Mapping[str, Any], size_hw: _Size | None) -> OddMask:
    """What the mask of an annotation is that `read_segmentation` does not read, or whose size is wrong.

    ``record`` is the annotation as in the file. ``size_hw``: of its image, None if that is unknown.
    """
    evidence = evidence_of(record, size_hw)
    if "segmentation" not in record:
        return _no_mask("segmentation_missing", "is missing", evidence)
    odd = _odd_mask(record["segmentation"], evidence)
    assert odd is not None
    return odd


def odd_numbers(value: Any, evidence: Evidence) -> OddMask | None:
    """What numbers are that may pass for polygons; None if they are polygons, or nothing is proved.

    RLE counts without a size, a list of x and a list of y, or x, y and visibility.
    """
    if not isinstance(value, list) or not value:
        return None
    found = _odd_counts(value[0] if len(value) == 1 else value, evidence)
    if found is not None:
        return found
    for what, polygons in _reordered(value):
        if evidence.only([Reading(polygons, CLOSE)]) is not None:
            return OddMask("polygon_points", f"has {what}; its box proves it: expected x and y", polygons)
    return None


# ---- what kind of value it is


def _odd_mask(value: Any, evidence: Evidence) -> OddMask | None:
    """None: the value is in one of COCO's forms."""
    if value is None:
        return _no_mask("segmentation_missing", "is null", evidence)
    if _is_hollow(value):
        return _no_mask("segmentation_empty", f"is empty ({shown(value)})", evidence)
    if isinstance(value, Mapping) and ("counts" in value or "size" in value):
        return _odd_rle(value, evidence)
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(text, str) and (text is value or _literal(text) is None):
        return _odd_text(text, evidence)
    if isinstance(value, (list, Mapping)):
        return odd_numbers(value, evidence) or _odd_polygons(value, evidence)
    return OddMask(
        "segmentation_invalid", f"is a {type(value).__name__}; expected a list of polygons or an RLE"
    )


def _no_mask(code: str, message: str, evidence: Evidence) -> OddMask:
    only = "only a box" if evidence.box_xywh is not None else "and no box with an area either"
    return OddMask(code, f"{message}: the annotation has no mask, {only}")


def _is_hollow(value: Any, depth: int = 0) -> bool:
    """Nothing but empty lists, empty objects, empty text and null."""
    if isinstance(value, list):
        return depth < _MAX_DEPTH and all(_is_hollow(part, depth + 1) for part in value)
    return value is None or value == {} or (isinstance(value, str) and not value.strip())


def _odd_text(text: str, evidence: Evidence) -> OddMask:
    value = _literal(text)
    if isinstance(value, (list, Mapping)):
        inner = _odd_mask(value, evidence)
        if inner is not None:
            return replace(inner, message=f"is text, and its content {inner.message}")
        return OddMask("segmentation_text", f"is text ({shown(text)}); expected a list or an object", value)
    counts = _odd_rle({"counts": text}, evidence)
    if counts is not None and counts.code == "rle_size_missing":
        return replace(counts, message="looks like RLE counts, size is missing")
    return OddMask(
        "segmentation_invalid", f"is the text {shown(text)}; expected a list of polygons or an RLE"
    )


def _literal(text: str) -> Any:
    """The value that a text in JSON or in Python's notation stands for; None if it stands for no value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about backslashes in Python's notation
        for parse in (json.loads, ast.literal_eval):
            try:
                return _lists(parse(text))
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
    return None


def _lists(value: Any) -> Any:
    """Tuples as lists."""
    if isinstance(value, (list, tuple)):
        return [_lists(part) for part in value]
    return {key: _lists(part) for key, part in value.items()} if isinstance(value, dict) else value


# ---- numbers in another order than that of a polygon


def _odd_counts(value: Any, evidence: Evidence) -> OddMask | None:
    """RLE counts without a size: whole numbers whose sum is that of the pixels of the image.

    If the last run is missing, the box must prove it.
    """
    counts = _whole_numbers(value)
    if counts is None or evidence.size_hw is None:
        return None
    height, width = evidence.size_hw
    missing = height * width - sum(counts)
    if missing:
        if missing < 0 or len(counts) % 2 or evidence.box_xywh is None:
            return None
        x, y = evidence.box_xywh[:2]
        if min(abs(counts[0] // height - x), abs(counts[0] // width - y)) > 1:
            return None  # without drawing: this is asked of many sound polygons
    repaired = evidence.only(_rle_readings(run_lengths(counts), counts, evidence))
    if missing and repaired is None:
        return None
    message = (
        "looks like RLE counts, size is missing: whole numbers that sum to "
        f"{sum(counts)} of the {height * width} pixels of the image"
    )
    return OddMask("rle_size_missing", message, repaired)


def _whole_numbers(value: Any) -> list[int] | None:
    """Two or more whole numbers of at least 0, in any form; None for anything else."""
    if not isinstance(value, list) or len(value) < 2:
        return None
    types = set(map(type, value))
    if not types <= {int, float, str} or any(type(number) is float and number % 1 for number in value):
        return None  # NaN too
    whole = value if types == {int} else map(whole_or_none, value)  # many sound polygons are whole numbers
    numbers = [number for number in whole if number is not None]
    return numbers if len(numbers) == len(value) and min(numbers) >= 0 else None


def _reordered(parts: Sequence[Any]) -> Iterator[tuple[str, list[list[float]]]]:
    """What numbers may be in another order, and the polygons that they then are."""
    sizes = [len(part) if isinstance(part, list) else 0 for part in parts]
    are_two = len(sizes) == 2 and sizes[0] == sizes[1] > 2
    if not are_two and any(size < 9 or size % 3 for size in sizes):
        return  # without a look at the numbers: this is asked of many sound polygons
    polygons = [_known_numbers(part) for part in parts]
    if are_two and all(polygons):
        points = zip(*polygons, strict=True)
        yield "a list of x and a list of y", [[number for xy in points for number in xy]]
    if all(len(part) >= 9 and len(part) % 3 == 0 and set(part[2::3]) <= {0, 1, 2} for part in polygons):
        without = [[number for i, number in enumerate(part) if i % 3 < 2] for part in polygons]
        yield "a third number, 0, 1 or 2, after each x and y", without


def _known_numbers(value: Any) -> list[float]:
    """The numbers of a flat list; none if it is no such list, or if some of them are unusable."""
    numbers = _numbers(value) or []
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else []


# ---- polygons

# The codes of odd parts, the gravest first. What makes a mask unreadable says more than its form.
_GRAVEST = (
    "segmentation_invalid polygon_nan rle_damaged rle_size_missing rle_size_mismatch polygon_odd "
    "polygon_is_box polygon_points polygon_nested segmentation_text polygon_flat_list rle_form "
    "polygon_too_few_points"
).split()


def _odd_polygons(value: Any, evidence: Evidence) -> OddMask | None:
    found = _Parts(evidence)
    if _numbers(value) is not None:
        found.note("polygon_flat_list", "is one list of numbers; expected a list of polygons")
    found.take(value, 0)
    if not found.notes:
        return None
    code = min(found.notes, key=_GRAVEST.index)
    return OddMask(code, found.notes[code], evidence.only(found.readings()), found.enclose_nothing())


@dataclass
class _Parts:
    """The parts of a mask, and what is odd about them."""

    evidence: Evidence
    polygons: list[list[float]] = field(default_factory=list)
    rles: list[Any] = field(default_factory=list)
    short: list[list[float]] = field(default_factory=list)  # parts of two or of four numbers
    notes: dict[str, str] = field(default_factory=dict)  # message by code, of the first place
    slack: float | None = None  # that the readings need, see `Reading`
    is_unreadable: bool = False
    num_deep: int = 0  # polygons from lists of points in a list of polygons

    def note(self, code: str, message: str) -> None:
        self.notes.setdefault(code, message)

    def fail(self, code: str, message: str) -> None:
        self.note(code, message)
        self.is_unreadable = True

    def readings(self) -> list[Reading]:
        """The union of all parts. If polygons came as lists of points, the later ones may be holes."""
        size = self.evidence.size_hw
        if self.is_unreadable or not (self.polygons or self.rles):
            return []
        if not self.rles:
            masks: list[Any] = [self.polygons]
            if self.num_deep > 1 and size is not None:
                masks.append(_with_holes(self.polygons, size))
            return [Reading(mask, self.slack) for mask in masks]
        if size is None:
            return []
        rles = [rle_from_json(rle) for rle in self.rles]
        if self.polygons:
            rles.append(polygons_to_rle(self.polygons, size))
        return [Reading(rle_to_json(merge_rles(rles)), self.slack)]

    def enclose_nothing(self) -> bool:
        """Whether these are points and lines that enclose nothing, however they are read."""
        if self.is_unreadable or self.polygons or self.rles or not self.short:
            return False
        points = np.concatenate([np.reshape(numbers, (-1, 2)) for numbers in self.short])
        if np.ptp(points, axis=0).all():
            return False  # as the corners of a box, they enclose something
        are_points = all(len(numbers) == 2 for numbers in self.short)
        box = self.evidence.box_xywh if are_points else self.evidence.bbox
        if box is None:
            return are_points  # a line may be the 4 numbers of a box
        x, y, width, height = box
        around = [*points.min(axis=0), *points.max(axis=0)]
        far = np.abs(np.subtract(around, [x, y, x + width, y + height])).max()
        return bool(far <= 1.01 and min(width, height) <= 1.01)

    def take(self, value: Any, depth: int) -> None:
        """Take the mask, or a part of it. ``depth``: 0 for the mask, 1 for a part, more for deeper lists."""
        inner = _literal(value) if isinstance(value, str) else None
        if isinstance(inner, (list, Mapping)):
            self.note("segmentation_text", f"has a part that is text ({shown(value)})")
            value = inner
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
            self._take_rle(value)
        elif isinstance(value, list) and value and depth < _MAX_DEPTH:
            if depth:
                self.note("polygon_nested", f"has a list of lists, {shown(value)}, where a polygon should be")
            for part in value:
                self.take(part, depth + 1)
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
            self.slack = CLOSE
        elif count >= 6:
            self.polygons.append(known)
        elif count == 4:
            self.note("polygon_is_box", _about_box(known, self.evidence))
            self.short.append(known)
            self.slack = CLOSE
        else:
            self.note(
                "polygon_too_few_points",
                f"has a polygon of {count} numbers; expected at least 6 (three points)",
            )
            self.short.append(known)

    def _take_rle(self, value: Mapping[str, Any]) -> None:
        self.note("rle_form", "has an RLE in a list; expected the RLE itself")
        odd = _odd_rle(value, self.evidence)
        if odd is not None:
            self.note(odd.code, odd.message)
        if odd is None or odd.repaired is not None:
            self.rles.append(value if odd is None else odd.repaired)
        else:
            self.is_unreadable = True


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
    if not isinstance(value, list) or not value or (len(value) == 1 and isinstance(value[0], list)):
        return None  # [[x, y]] is rather a polygon of one point
    numbers: list[float | None] = []
    for point in value:
        xy = [point[key] for key in "xy" if key in point] if isinstance(point, Mapping) else point
        pair = _numbers(xy)
        if pair is None or len(pair) != 2:
            return None
        numbers += pair
    return numbers


def _with_holes(polygons: Sequence[Sequence[float]], size_hw: _Size) -> dict[str, Any]:
    """The polygons as outlines and holes: a pixel inside an even number of them is outside."""
    covered: NDArray[np.uint8] = np.zeros(size_hw, np.uint8)
    for polygon in polygons:
        covered ^= rle_to_mask(polygons_to_rle([polygon], size_hw))
    return rle_to_json(mask_to_rle(covered))


# ---- RLEs


def _odd_rle(entry: Mapping[str, Any], evidence: Evidence) -> OddMask | None:
    """What is odd about an RLE; None if it is in COCO's form and has the size of its image."""
    try:
        runs, counts = _read_counts(entry.get("counts"))
    except ValueError as error:
        return OddMask("rle_damaged", f"is an RLE {error}")
    size, image, total = _read_size(entry["size"] if "size" in entry else entry), evidence.size_hw, runs.sum()
    if size is None:
        found = "without a size" if "size" not in entry else f"of size {shown(entry['size'])}"
        return OddMask(
            "rle_size_missing",
            f"is an RLE {found}; expected the size [height, width]",
            evidence.only(_rle_readings(runs, counts, evidence)),
        )
    if size[0] * size[1] != total:
        message = f"is an RLE whose runs sum to {total} pixels; expected {size[0] * size[1]}"
        readings = _rle_readings(runs, counts, evidence)
        if image is not None and total == image[0] * image[1]:
            message += f" for its size {list(size)}. They fit the image, which is {list(image)}"
            return OddMask("rle_size_mismatch", message, evidence.only(readings))
        return OddMask("rle_damaged", message, evidence.only(readings) if size == image else None)
    if image is not None and size != image:
        message = f"is an RLE of size {list(size)} (height, width), but its image is {list(image)}"
        if size != image[::-1]:
            return OddMask("rle_size_mismatch", message)
        message += ": swapped. One of them is [width, height]"
        as_written = rle_from_json({"size": list(size), "counts": counts})
        if evidence.fits(as_written, CLOSE):  # the mask is right, so the size of the image is wrong
            return OddMask("rle_size_mismatch", message)
        readings = [Reading(mask, CLOSE) for mask, _ in _rle_readings(runs, counts, evidence)]
        return OddMask("rle_size_mismatch", message, evidence.only(readings))
    wanted = {"size": list(size), "counts": counts}
    odd = {key: entry.get(key) for key in wanted if repr(entry.get(key)) != repr(wanted[key])}
    if not odd:
        return None
    text = " and ".join(f"{key} {shown(value)}" for key, value in odd.items())
    return OddMask(
        "rle_form",
        f"is an RLE with {text}; expected the size [height, width] in whole numbers, and counts as text or "
        "as a list of whole numbers",
        wanted,
    )


def _rle_readings(runs: _Runs, counts: str | list[int], evidence: Evidence) -> list[Reading]:
    """Counts in the size of the image: COCO's, column by column, or row by row as other tools write them.

    The last run, of background, may be missing.
    """
    size = evidence.size_hw
    missing = -1 if size is None else size[0] * size[1] - int(runs.sum())
    if size is None or missing < 0 or (missing and len(runs) % 2):
        return []
    if missing:
        runs = np.append(runs, missing)
    pixels = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs)
    columns = {"size": list(size), "counts": runs.tolist() if missing else counts}
    rows = rle_to_json(mask_to_rle(pixels.reshape(size)))
    if missing:
        return [Reading(columns, EXACT), Reading(rows, EXACT)]
    return [Reading(columns, None if evidence.box_xywh is None else CLOSE), Reading(rows, CLOSE)]


def _read_size(value: Any) -> _Size | None:
    """(height, width) from whole numbers in any form; None if that is impossible."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        value = [side for side in value.strip(" []()").replace(",", " ").split(" ") if side]
    if isinstance(value, Mapping):
        value = [value.get("height", value.get("h")), value.get("width", value.get("w"))]
    if not isinstance(value, list) or len(value) != 2:
        return None
    height, width = (whole_or_none(side) for side in value)
    return None if height is None or width is None or min(height, width) < 1 else (height, width)


def _read_counts(counts: Any) -> tuple[_Runs, str | list[int]]:
    """The runs, and the counts in COCO's form. Raises ValueError, whose text continues "an RLE"."""
    if isinstance(counts, list) and len(counts) == 1 and isinstance(counts[0], (str, list)):
        return _read_counts(counts[0])
    if isinstance(counts, list):
        counts = [run if (whole := whole_or_none(run)) is None else whole for run in counts]
    if isinstance(counts, str):
        counts = counts.strip()
        if counts[:2] in ("b'", 'b"') and counts[1] == counts[-1]:  # bytes in Python's notation
            counts = counts[2:-1].replace("\\\\", "\\")
        inner = _literal(counts) if counts.startswith("[") else None
        if isinstance(inner, list):  # no counts of COCO end with a bracket
            return _read_counts(inner)
    runs = run_lengths(counts)
    if not len(runs) or (runs < 0).any():
        raise ValueError("with runs below 0" if len(runs) else "without counts")
    return runs, counts
