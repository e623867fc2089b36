"""RLEs in other forms than COCO's: without size, with swapped sides, or written as text or in a list."""

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco.mask_readings import Evidence, OddMask, Reading, whole_or_none
from paddlex_seg.data.coco.wrong_value import shown
from paddlex_seg.masks.rle import mask_to_rle, rle_to_json, run_lengths, runs_to_rle

_Size = tuple[int, int]
_Counts = str | list[int]


def odd_rle(entry: Mapping[str, Any], evidence: Evidence) -> OddMask | None:
    """What is odd about an RLE; None if it is in COCO's form and has the size of its image."""
    try:
        runs, counts = _read_counts(entry.get("counts"))
    except ValueError as error:
        return OddMask("rle_damaged", f"is an RLE {error}")
    size = _read_size(entry["size"] if "size" in entry else entry)
    if size is None:
        found = "without a size" if "size" not in entry else f"of size {shown(entry['size'])}"
        return OddMask(
            "rle_size_missing",
            f"is an RLE {found}; expected the size [height, width]",
            counts_readings(runs, counts, evidence),
        )
    if size[0] * size[1] != runs.sum():
        return _wrong_sum(runs, counts, size, evidence)
    if evidence.size_hw is not None and size != evidence.size_hw:
        return _other_size(runs, counts, size, evidence)
    sides = entry.get("size")
    is_plain = isinstance(sides, list) and list(size) == sides and entry["counts"] == counts
    if is_plain and not any(type(run) is float for run in entry["counts"]):
        return None
    wanted = {"size": list(size), "counts": counts}
    odd = {key: entry.get(key) for key in wanted if entry.get(key) != wanted[key]} or {"counts": counts}
    text = " and ".join(f"{key} {shown(value)}" for key, value in odd.items())
    return OddMask(
        "rle_form",
        f"is an RLE with {text}; expected the size [height, width] in whole numbers, and counts as text or "
        "as a list of whole numbers",
        (Reading(wanted),),
    )


def counts_readings(runs: NDArray[np.int64], counts: _Counts, evidence: Evidence) -> tuple[Reading, ...]:
    """Readings of counts without a size: COCO's, column by column, or row by row as other tools write them.

    The last run, of background, may be missing.
    """
    if evidence.size_hw is None:
        return ()
    size = evidence.size_hw
    missing = size[0] * size[1] - int(runs.sum())
    if missing == 0:
        columns = Reading(
            {"size": list(size), "counts": counts}, "close" if evidence.box_xywh is not None else "none"
        )
        return columns, *_by_rows(runs, size)
    if missing > 0 and len(runs) % 2 == 0:
        return _padded(runs, missing, size)
    return ()


def _padded(runs: NDArray[np.int64], missing: int, size: _Size) -> tuple[Reading, ...]:
    runs = np.append(runs, missing)
    readings = (Reading({"size": list(size), "counts": runs.tolist()}), *_by_rows(runs, size))
    return tuple(Reading(reading.segmentation, "exact") for reading in readings)


def _by_rows(runs: NDArray[np.int64], size: _Size) -> tuple[Reading, ...]:
    pixels = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs)
    return (Reading(rle_to_json(mask_to_rle(pixels.reshape(size))), "close"),)


def _wrong_sum(runs: NDArray[np.int64], counts: _Counts, size: _Size, evidence: Evidence) -> OddMask:
    message = f"is an RLE whose runs sum to {runs.sum()} pixels; expected {size[0] * size[1]}"
    if evidence.size_hw is not None and runs.sum() == evidence.size_hw[0] * evidence.size_hw[1]:
        message += f" for its size {list(size)}. They fit the image, which is {list(evidence.size_hw)}"
        return OddMask("rle_size_mismatch", message, counts_readings(runs, counts, evidence))
    missing = size[0] * size[1] - int(runs.sum())
    if size == evidence.size_hw and missing > 0 and len(runs) % 2 == 0:
        return OddMask("rle_damaged", message, _padded(runs, missing, size))
    return OddMask("rle_damaged", message)


def _other_size(runs: NDArray[np.int64], counts: _Counts, size: _Size, evidence: Evidence) -> OddMask:
    image = evidence.size_hw
    assert image is not None
    message = f"is an RLE of size {list(size)} (height, width), but its image is {list(image)}"
    if size != image[::-1]:
        return OddMask("rle_size_mismatch", message)
    message += ": swapped. One of them is [width, height]"
    if Evidence(size, evidence.box_xywh, evidence.area).fits(runs_to_rle(runs.tolist(), size), "close"):
        return OddMask("rle_size_mismatch", message)  # the mask is right, so the size of the image is wrong
    swapped = Reading({"size": list(image), "counts": counts}, "close")
    return OddMask("rle_size_mismatch", message, (swapped, *_by_rows(runs, image)))


def _read_size(value: Any) -> _Size | None:
    """(height, width) from whole numbers in any form; None if that is impossible."""
    if isinstance(value, str):
        value = [side for side in value.strip(" []()").replace(",", " ").split(" ") if side]
    if isinstance(value, Mapping):
        value = [value.get("height", value.get("h")), value.get("width", value.get("w"))]
    if isinstance(value, list) and len(value) == 1:
        return _read_size(value[0])
    if not isinstance(value, list) or len(value) != 2:
        return None
    height, width = (whole_or_none(side) for side in value)
    return None if height is None or width is None or min(height, width) < 1 else (height, width)


def _read_counts(counts: Any) -> tuple[NDArray[np.int64], _Counts]:
    """The runs, and the counts in COCO's form. Raises ValueError, whose text continues "an RLE"."""
    if isinstance(counts, list) and len(counts) == 1 and isinstance(counts[0], (str, list)):
        return _read_counts(counts[0])
    if isinstance(counts, str):
        text = counts.strip()
        if text[:2] in ("b'", 'b"') and text[1] == text[-1]:  # bytes in Python's notation
            text = text[2:-1].replace("\\\\", "\\")
        try:
            return _checked(run_lengths(text)), text
        except ValueError:
            inner = literal(text)
            if not isinstance(inner, list):
                raise
            return _read_counts(inner)
    if isinstance(counts, list):
        numbers = [whole_or_none(run) for run in counts]
        return _checked(run_lengths(numbers)), [number for number in numbers if number is not None]
    return run_lengths(counts), counts  # raises, and says what was found


def _checked(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(runs):
        raise ValueError("without counts")
    if (runs < 0).any():
        raise ValueError("with runs below 0")
    return runs


def literal(text: str) -> Any:
    """The value that a text in JSON or in Python's notation stands for; None if it stands for no value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about backslashes in Python's notation
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
    return None
