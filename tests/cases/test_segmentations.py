"""Masks in other forms than COCO's: what each is called, and the only mask that it can be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import check_dataset, copy_case
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_seg.data.coco.odd_segmentations import explain
from paddlex_seg.data.coco.read import load_document, read_coco
from paddlex_seg.data.coco.segmentations import OddSegmentation, read_segmentation
from paddlex_seg.masks.rle import (
    annotation_to_rle,
    mask_to_rle,
    mask_to_runs,
    polygons_to_rle,
    rle_area,
    rle_box_xywh,
    rle_to_json,
    rle_to_mask,
    segmentation_to_rle,
)

SIZE = HEIGHT, WIDTH = 64, 96
SQUARE = [10, 10, 50, 10, 50, 40, 10, 40]  # 1,200 pixels
SMALL = [60, 5, 90, 5, 90, 15, 60, 15]  # 300 pixels
CORNER = [30, 4, 70, 4, 70, 12, 40, 12, 40, 50, 30, 50]  # not the same by rows and by columns


def pairs(polygon: list[Any]) -> list[list[Any]]:
    return [list(xy) for xy in zip(polygon[::2], polygon[1::2], strict=True)]


def compressed(*polygons: list[int]) -> dict[str, Any]:
    return rle_to_json(polygons_to_rle(polygons, SIZE))


def runs(polygon: list[int], order: Callable[[Any], Any] = lambda mask: mask) -> list[int]:
    return mask_to_runs(order(rle_to_mask(polygons_to_rle([polygon], SIZE))).astype(bool))


def by_rows(mask: Any) -> Any:
    """A mask whose columns are the rows of ``mask``."""
    return mask.T


def record(segmentation: Any, *polygons: list[int]) -> dict[str, Any]:
    """An annotation with box and area of the polygons."""
    mask = polygons_to_rle(polygons or [SQUARE], SIZE)
    return {"segmentation": segmentation, "bbox": rle_box_xywh(mask).tolist(), "area": rle_area(mask)}


COUNTS = compressed(CORNER)["counts"]
PLAIN = runs(CORNER)

# name: segmentation, polygons of the mask that it is, code, words of the message
READABLE: dict[str, tuple[Any, list[list[int]], str, str]] = {
    "pairs": (pairs(SQUARE), [SQUARE], "polygon_points", "pairs"),
    "pairs of decimal numbers": (pairs([x + 0.0 for x in SQUARE]), [SQUARE], "polygon_points", "pairs"),
    "pairs in a list": ([pairs(SQUARE)], [SQUARE], "polygon_points", "pairs"),
    "pairs in two lists": ([[pairs(SQUARE)]], [SQUARE], "polygon_points", "pairs"),
    "pairs for each part": ([pairs(SQUARE), pairs(SMALL)], [SQUARE, SMALL], "polygon_points", "pairs"),
    "one part of pairs": ([SQUARE, pairs(SMALL)], [SQUARE, SMALL], "polygon_points", "pairs"),
    "objects with x and y": ([{"x": x, "y": y} for x, y in pairs(SQUARE)], [SQUARE], "polygon_points", "x"),
    "such objects in a list": (
        [[{"y": y, "x": x} for x, y in pairs(SQUARE)]],
        [SQUARE],
        "polygon_points",
        "",
    ),
    "lists of x and y": (
        {"all_points_x": SQUARE[::2], "all_points_y": SQUARE[1::2]},
        [SQUARE],
        "polygon_points",
        "",
    ),
    "a list of x, a list of y": ([SQUARE[::2], SQUARE[1::2]], [SQUARE], "polygon_points", "a list of x and"),
    "pairs of text": (pairs([str(x) for x in SQUARE]), [SQUARE], "polygon_points", "pairs"),
    "one level too many": ([[SQUARE]], [SQUARE], "polygon_nested", "list of lists"),
    "one level too many, two parts": ([[SQUARE, SMALL]], [SQUARE, SMALL], "polygon_nested", ""),
    "three levels too many": ([[[[SQUARE]]]], [SQUARE], "polygon_nested", ""),
    "flat": (SQUARE, [SQUARE], "polygon_flat_list", "one list of numbers"),
    "text numbers": ([[str(x) for x in SQUARE]], [SQUARE], "segmentation_text", "text"),
    "some text numbers": ([["10.0", *SQUARE[1:]]], [SQUARE], "segmentation_text", "text"),
    "the whole as text": (json.dumps([SQUARE]), [SQUARE], "segmentation_text", "text"),
    "the whole as text in Python": (str([tuple(SQUARE)]), [SQUARE], "segmentation_text", "text"),
    "pairs as text": (json.dumps(pairs(SQUARE)), [SQUARE], "polygon_points", "pairs"),
    "a part as text": ([SQUARE, str(SMALL)], [SQUARE, SMALL], "segmentation_text", "text"),
    "an empty part": ([[], SQUARE], [SQUARE], "polygon_too_few_points", "without points"),
    "a part of one point": ([SQUARE, [7, 7]], [SQUARE], "polygon_too_few_points", "2 numbers"),
    "a part of two points": ([SQUARE, [12, 12, 20, 20]], [SQUARE], "polygon_is_box", "two points"),
    "the last number twice": ([[*SQUARE, SQUARE[-1]]], [SQUARE], "polygon_odd", "repeats"),
    "half of the closing point": ([[*SQUARE, SQUARE[0]]], [SQUARE], "polygon_odd", "9 numbers"),
    "an outline and its hole": (
        [pairs(SQUARE), pairs([20, 20, 40, 20, 40, 30, 20, 30])],
        [SQUARE],
        "polygon_points",
        "pairs",
    ),
    "counts": (PLAIN, [CORNER], "rle_size_missing", "looks like RLE counts, size is missing"),
    "counts in a list": ([PLAIN], [CORNER], "rle_size_missing", "looks like RLE counts, size is missing"),
    "counts as decimal numbers": ([float(run) for run in PLAIN], [CORNER], "rle_size_missing", "RLE counts"),
    "counts as text": (COUNTS, [CORNER], "rle_size_missing", "looks like RLE counts, size is missing"),
    "counts as text in a list": ([COUNTS], [CORNER], "rle_size_missing", "looks like RLE counts"),
    "counts by rows": (runs(CORNER, by_rows), [CORNER], "rle_size_missing", "looks like RLE counts"),
    "counts without the last run": (PLAIN[:-1], [CORNER], "rle_size_missing", "looks like RLE counts"),
    "counts by rows without the last run": (runs(CORNER, by_rows)[:-1], [CORNER], "rle_size_missing", ""),
    "no size": ({"counts": COUNTS}, [CORNER], "rle_size_missing", "without a size"),
    "size is null": ({"size": None, "counts": PLAIN}, [CORNER], "rle_size_missing", "size null"),
    "size by name": ({"height": 64, "width": 96, "counts": COUNTS}, [CORNER], "rle_form", ""),
    "size in a list": ({"size": [[64, 96]], "counts": COUNTS}, [CORNER], "rle_form", "[[64, 96]]"),
    "sides as text": ({"size": ["64", "96"], "counts": COUNTS}, [CORNER], "rle_form", "['64', '96']"),
    "size as text": ({"size": "[64, 96]", "counts": COUNTS}, [CORNER], "rle_form", "[64, 96]"),
    "size swapped": ({"size": [96, 64], "counts": COUNTS}, [CORNER], "rle_size_mismatch", "swapped"),
    "size swapped, plain": ({"size": [96, 64], "counts": PLAIN}, [CORNER], "rle_size_mismatch", "swapped"),
    "mask transposed": (
        {"size": [96, 64], "counts": runs(CORNER, by_rows)},
        [CORNER],
        "rle_size_mismatch",
        "swapped",
    ),
    "size of another image": ({"size": [50, 50], "counts": PLAIN}, [CORNER], "rle_size_mismatch", "fit the"),
    "bytes as text": ({"size": [64, 96], "counts": str(COUNTS.encode())}, [CORNER], "rle_form", "b'"),
    "runs as decimal numbers": (
        {"size": [64, 96], "counts": [float(run) for run in PLAIN]},
        [CORNER],
        "rle_form",
        "counts",
    ),
    "runs as text": ({"size": [64, 96], "counts": [str(run) for run in PLAIN]}, [CORNER], "rle_form", ""),
    "list as text": ({"size": [64, 96], "counts": str(PLAIN)}, [CORNER], "rle_form", "counts"),
    "runs in a list": ({"size": [64, 96], "counts": [PLAIN]}, [CORNER], "rle_form", "counts"),
    "text in a list": ({"size": [64, 96], "counts": [COUNTS]}, [CORNER], "rle_form", "counts"),
    "line break behind the counts": ({"size": [64, 96], "counts": COUNTS + "\n"}, [CORNER], "rle_form", ""),
    "RLE in a list": ([compressed(CORNER)], [CORNER], "rle_form", "in a list"),
    "two RLEs in a list": ([compressed(SQUARE), compressed(SMALL)], [SQUARE, SMALL], "rle_form", "in a list"),
    "RLE beside a polygon": ([compressed(SQUARE), SMALL], [SQUARE, SMALL], "rle_form", "in a list"),
    "RLE as text": (json.dumps(compressed(CORNER)), [CORNER], "segmentation_text", "text"),
    "last run missing": ({"size": [64, 96], "counts": PLAIN[:-1]}, [CORNER], "rle_damaged", "sum to"),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_mask_with_one_reading_is_named_and_repaired_to_it(name: str) -> None:
    segmentation, polygons, code, words = READABLE[name]
    if name != "size swapped" and code != "rle_size_mismatch":
        with pytest.raises(OddSegmentation):
            read_segmentation(segmentation)
    wanted = polygons_to_rle(polygons, SIZE)
    entry = record(segmentation, *polygons)
    if name == "an outline and its hole":
        hole = rle_to_mask(wanted)
        hole[20:30, 20:40] = 0
        wanted = mask_to_rle(hole)
        entry["area"] = rle_area(wanted)
    found = explain(entry, SIZE)
    assert found.code == code
    assert words in found.message
    assert found.hint is not None and "fix.enable" in found.hint
    assert segmentation_to_rle(read_segmentation(found.repaired), SIZE) == wanted


NO_READING: dict[str, tuple[Any, str, str]] = {
    "box": ([[10, 10, 40, 30]], "polygon_is_box", "the 4 numbers of the box"),
    "flat box": ([10, 10, 40, 30], "polygon_is_box", "the 4 numbers of the box"),
    "corners of the box": ([[10, 10, 50, 40]], "polygon_is_box", "the 4 numbers of the box [x1, y1, x2, y2]"),
    "corners as pairs": ([[10, 10], [50, 40]], "polygon_is_box", "the 4 numbers of the box"),
    "another line": ([[1, 2, 3, 4]], "polygon_is_box", "two points, or the 4 numbers of the box"),
    "empty part": ([[]], "segmentation_empty", "has no mask, only a box"),
    "empty list": ([], "segmentation_empty", "has no mask, only a box"),
    "empty parts": ([[], []], "segmentation_empty", "has no mask, only a box"),
    "empty in lists": ([[[]]], "segmentation_empty", "has no mask, only a box"),
    "empty text": ("", "segmentation_empty", "has no mask, only a box"),
    "empty object": ({}, "segmentation_empty", "has no mask, only a box"),
    "null": (None, "segmentation_missing", "has no mask, only a box"),
    "null in a list": ([None], "segmentation_empty", "has no mask, only a box"),
    "one point": ([[10, 10]], "polygon_too_few_points", "2 numbers"),
    "odd in the middle": ([[10, 50, 10, 50, 40, 10, 40]], "polygon_odd", "7 numbers"),
    "three numbers": ([[5, 5, 9]], "polygon_odd", "3 numbers"),
    "not a number": ([[*SQUARE[:-1], float("nan")]], "polygon_nan", "not pixel coordinates"),
    "null for a number": ([[*SQUARE[:-1], None]], "polygon_nan", "not pixel coordinates"),
    "word for a number": ([[*SQUARE[:-1], "forty"]], "polygon_nan", "not pixel coordinates"),
    "beyond a million": ([[*SQUARE[:-1], 1e7]], "polygon_nan", "not pixel coordinates"),
    "huge whole number": ([[*SQUARE[:-1], 10**400]], "polygon_nan", "not pixel coordinates"),
    "file name": ("masks/1.png", "segmentation_invalid", "masks/1.png"),
    "number": (7, "segmentation_invalid", "is a int"),
    "true": ([True], "segmentation_invalid", "bool"),
    "counts that end too early": ({"size": [64, 96], "counts": PLAIN[:-2]}, "rle_damaged", "sum to"),
    "damaged counts": ({"size": [64, 96], "counts": "zz"}, "rle_damaged", "damaged"),
    "no counts": ({"size": [64, 96]}, "rle_damaged", "counts"),
    "size of another shape": ({"size": [32, 96], "counts": [32 * 96]}, "rle_size_mismatch", "its image is"),
}


@pytest.mark.parametrize("name", NO_READING)
def test_a_mask_without_a_reading_is_named_and_neither_repaired_nor_empty(name: str) -> None:
    segmentation, code, words = NO_READING[name]
    found = explain(record(segmentation), SIZE)
    assert (found.code, found.repaired, found.is_empty) == (code, None, False)
    assert words in found.message
    assert found.hint is None


def test_without_a_box_two_readings_stay_two() -> None:
    for name in ("size swapped", "last run missing", "the last number twice", "a list of x, a list of y"):
        assert explain({"segmentation": READABLE[name][0]}, SIZE).repaired is None
    ring = {"segmentation": READABLE["an outline and its hole"][0]}
    assert explain(ring, SIZE).repaired is None
    assert explain({"segmentation": PLAIN}, SIZE).repaired == {"size": [64, 96], "counts": PLAIN}


def test_counts_that_contradict_the_box_stay() -> None:
    assert explain(record(PLAIN, SQUARE), SIZE).repaired is None


@pytest.mark.parametrize(
    ("segmentation", "box", "is_empty"),
    [
        ([[7, 7]], None, True),
        ([[7, 7]], [0, 0, 0, 0], True),
        ([[7, 7]], [7, 7, 1, 1], True),
        ([[7, 7]], [10, 10, 40, 30], False),
        ([[7, 6, 9, 6]], [7, 6, 2, 0], True),
        ([[7, 6, 9, 6]], [7, 6, 2, 1], True),
        ([[7, 6, 9, 6]], [0, 0, 0, 0], False),
        ([[7, 6, 9, 6]], None, False),
        ([[7, 6, 9, 6]], [7, 6, 9, 6], False),
        ([[7, 6, 20, 16]], [7, 6, 13, 10], False),
        ([[]], None, False),
        ([[*SQUARE, 3]], None, False),
    ],
)
def test_only_points_and_lines_with_a_box_that_says_so_enclose_nothing(
    segmentation: Any, box: Any, is_empty: bool
) -> None:
    assert explain({"segmentation": segmentation, "bbox": box}, SIZE).is_empty == is_empty


@given(
    st.recursive(
        st.one_of(st.integers(-9, 99), st.floats(), st.none(), st.sampled_from(["12.5", "a", "[1, 2]", ""])),
        lambda inner: st.one_of(
            st.lists(inner, max_size=8),
            st.dictionaries(st.sampled_from(["x", "y", "size", "counts"]), inner, max_size=3),
        ),
        max_leaves=20,
    ),
    st.lists(st.one_of(st.integers(0, 96), st.floats(), st.none()), min_size=4, max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_each_value_is_read_or_explained(value: Any, box: Any) -> None:
    try:
        read_segmentation(value)
    except OddSegmentation:
        found = explain({"segmentation": value, "bbox": box}, SIZE)
        assert found.code and found.message
        if found.repaired is not None:
            read_segmentation(found.repaired)


# ---- the same by command


def mask_areas(root: Path, split: str) -> list[int]:
    coco = read_coco(root / "annotations" / f"instance_{split}.json")
    return [rle_area(annotation_to_rle(item, *SIZE)) for item in coco.annotations]


REPAIRED_CASES = {
    "C01-points-as-pairs": {"polygon_points": 3},
    "T01-rle-counts-as-list": {"rle_size_missing": 3},
    "R04-rle-forms": {
        "rle_form": 2,
        "rle_size_missing": 1,
        "segmentation_text": 1,
        "rle_size_mismatch": 1,
    },
    "N02-normalised": {"coordinates_normalised": 3},
}


@pytest.mark.parametrize("case", REPAIRED_CASES)
def test_a_case_is_an_error_and_its_repair_has_each_object(tmp_path: Path, case: str) -> None:
    root = copy_case(case, tmp_path / "data")
    before = {path.name: load_document(path) for path in (root / "annotations").iterdir()}
    first = check_dataset(root, tmp_path / "first")
    assert (first.exit_code, first.codes) == (3, REPAIRED_CASES[case])
    second = check_dataset(root, tmp_path / "second", CheckDataset__fix__enable=True)
    assert second.exit_code == 0, second.text
    assert second.result["fix"]["removed_objects"] == second.result["fix"]["removed_images"] == 0
    for split in ("train", "val"):
        count = len(before[f"instance_{split}.json"]["annotations"])
        assert mask_areas(tmp_path / "data_fixed", split) == [1200] * count
    assert before == {path.name: load_document(path) for path in (root / "annotations").iterdir()}


WORDS = {
    "C01-points-as-pairs": ("polygon_points", "pairs"),
    "C04-box-as-polygon": ("polygon_is_box", "the 4 numbers of the box"),
    "C13-empty-lists": ("segmentation_empty", "has no mask, only a box"),
    "T01-rle-counts-as-list": ("rle_size_missing", "looks like RLE counts, size is missing"),
    "N02-normalised": ("coordinates_normalised", "coordinates look normalised"),
}


@pytest.mark.parametrize("case", WORDS)
def test_the_message_of_a_case_says_what_it_is(tmp_path: Path, case: str) -> None:
    code, words = WORDS[case]
    desk = check_dataset(copy_case(case, tmp_path / "data"), tmp_path / "out")
    messages = desk.messages(code)
    assert len(messages) >= 2
    assert all(words in message for message in messages)
    assert words in desk.text


def test_size_as_decimal_numbers_is_read(tmp_path: Path) -> None:
    root = copy_case("R04-rle-forms", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "out")
    assert 1 not in [item["annotation_id"] for item in desk.result["findings"]]


# ---- coordinates in other units


def with_masks(root: Path, change: Callable[[dict[str, Any]], None], split: str | None = None) -> Path:
    """The sound data set, its annotations changed."""
    copy_case("00-sound", root)
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for item in document["annotations"]:
            if split is None or split in path.name:
                change(item)
        path.write_text(json.dumps(document))
    return root


def scaled(item: dict[str, Any], factor: float, box_too: bool = False) -> None:
    sides = np.array([WIDTH, HEIGHT]) / factor
    item["segmentation"] = [
        (np.reshape(part, (-1, 2)) / sides).reshape(-1).tolist() for part in item["segmentation"]
    ]
    if box_too:
        item["bbox"] = (np.reshape(item["bbox"], (-1, 2)) / sides).reshape(-1).tolist()
        item["area"] = item["bbox"][2] * item["bbox"][3]


def nothing(item: dict[str, Any]) -> None:
    """No change."""


OTHER_UNITS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "0..1, box in pixels": ("coordinates_normalised", lambda item: scaled(item, 1)),
    "0..1, box too": ("coordinates_normalised", lambda item: scaled(item, 1, box_too=True)),
    "0..1, no box": (
        "coordinates_normalised",
        lambda item: (scaled(item, 1), item.pop("bbox"), item.pop("area"), None)[-1],
    ),
    "percent, box in pixels": ("coordinates_percent", lambda item: scaled(item, 100)),
}


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("name", OTHER_UNITS)
def test_coordinates_in_another_unit_are_named_and_repaired(
    tmp_path: Path, name: str, split: str | None
) -> None:
    code, change = OTHER_UNITS[name]
    root = with_masks(tmp_path / "data", change, split)
    desk = check_dataset(root, tmp_path / "out")
    assert desk.exit_code == 3
    errors = {item["code"] for item in desk.result["findings"] if item["severity"] == "error"}
    assert errors == {code}
    desk = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert desk.exit_code == 0, desk.text
    sound = copy_case("00-sound", tmp_path / "sound")
    for name in ("train", "val"):
        assert mask_areas(tmp_path / "data_fixed", name) == mask_areas(sound, name)


@pytest.mark.parametrize("corners", [SQUARE, [10, 10, 30, 10, 50, 10, 50, 40, 10, 40]], ids=["four", "five"])
def test_a_third_number_after_each_point_is_told_by_the_box(tmp_path: Path, corners: list[int]) -> None:
    triples = [number for x, y in pairs(corners) for number in (x, y, 2)]
    root = with_masks(tmp_path / "data", lambda item: item.update(segmentation=[triples]))
    desk = check_dataset(root, tmp_path / "out")
    assert desk.exit_code == 3
    desk = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert desk.exit_code == 0, desk.text
    assert mask_areas(tmp_path / "data_fixed", "train") == [1200, 1200]


def test_one_small_object_beside_others_is_not_taken_for_normalised(tmp_path: Path) -> None:
    root = with_masks(tmp_path / "data", nothing)
    path = root / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    first = document["annotations"][0]
    tiny = {**first, "id": 77, "segmentation": [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]], "bbox": [0.1, 0.1, 0.8, 0.8]}
    document["annotations"].append({**tiny, "area": 0.32})
    path.write_text(json.dumps(document))
    assert "coordinates_normalised" not in check_dataset(root, tmp_path / "out").codes


@pytest.mark.parametrize(
    ("polygon", "last"),
    [([0, 10, 96, 10, 96, 64, 0, 64], None), ([0, 10, 40, 10, 40, 40, 0, 40], -1)],
    ids=["all runs", "without the last run"],
)
def test_counts_that_pass_for_a_polygon_are_named_and_repaired(
    tmp_path: Path, polygon: list[int], last: int | None
) -> None:
    counts = runs(polygon)[:last]
    assert len(counts) % 2 == 0 and max(counts) <= HEIGHT  # as a polygon, they are inside the image
    read_segmentation([counts])
    root = with_masks(tmp_path / "data", lambda item: item.update(record([counts], polygon)), split="train")
    desk = check_dataset(root, tmp_path / "out")
    assert (desk.exit_code, desk.codes["rle_size_missing"]) == (3, 2)
    desk = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert desk.exit_code == 0, desk.text
    area = rle_area(polygons_to_rle([polygon], SIZE))
    assert mask_areas(tmp_path / "data_fixed", "train") == [area] * 2


def test_one_normalised_object_beside_others_is_proved_by_its_box(tmp_path: Path) -> None:
    root = with_masks(tmp_path / "data", nothing)
    path = root / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    other = {**document["annotations"][0], "id": 77, **record([SMALL], SMALL)}
    scaled(other, 1)
    document["annotations"].append(other)
    path.write_text(json.dumps(document))
    assert check_dataset(root, tmp_path / "out").codes["coordinates_normalised"] == 1
    assert check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True).exit_code == 0
    assert mask_areas(tmp_path / "data_fixed", "train") == [1200, 1200, 300]
