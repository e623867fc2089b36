"""The table of objects, as spreadsheets and programs read it."""

import csv
import io

import numpy as np
import pytest
from made_instances import disc, instances_of, rectangle

from paddlex_seg.inference.outputs.table import HEADER, csv_bytes, table_rows
from paddlex_seg.structures import Instances


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def rows_of(instances: Instances, labels: list[str], **changes) -> list[list[str]]:
    place = {"input_path": "photos/a.jpg", "page_index": None, "save_name": "a", **changes}
    return table_rows(instances, labels, **place)


def test_each_object_has_one_row() -> None:
    masks = [rectangle((10, 20, 40, 30)), disc((60.5, 30.5), 10)]
    found = instances_of(masks, class_ids=[1, 0], scores=[0.875, 0.5])
    first, second = read(csv_bytes(rows_of(found, ["螺母", "bolt"], page_index=3)))
    assert list(first) == list(HEADER)
    assert first == {
        **{"image": "photos/a.jpg", "page": "3", "id": "1", "class_id": "1", "class": "bolt"},
        **{"score": "0.8750", "x1": "10.00", "y1": "20.00", "x2": "40.00", "y2": "30.00", "area": "300"},
        **{"centre_x": "25.00", "centre_y": "25.00", "orientation": "0.00"},
        "contour_length": first["contour_length"],
    }
    assert float(first["contour_length"]) == pytest.approx(80, rel=0.02)
    assert (second["id"], second["class"], second["orientation"]) == ("2", "螺母", "")
    assert float(second["area"]) == pytest.approx(np.pi * 100, rel=0.04)


def test_no_objects_give_the_header_alone() -> None:
    content = csv_bytes(rows_of(instances_of([]), ["nut"]))
    assert content == b"\xef\xbb\xbf" + ",".join(HEADER).encode() + b"\r\n"


def test_an_array_is_named_by_its_files_and_an_empty_mask_has_no_place() -> None:
    found = instances_of([np.zeros((60, 80), bool)], boxes=[(1, 2, 3, 4)])
    (row,) = read(csv_bytes(rows_of(found, ["nut"], input_path=None, save_name="array_1")))
    assert (row["image"], row["page"], row["area"]) == ("array_1", "", "0")
    assert (row["centre_x"], row["centre_y"], row["orientation"]) == ("", "", "")


ODD_NAMES = [
    "a, b",
    'say "nut"',
    "two\nlines",
    "two\r\nlines",
    "; a",
    "a;b",
    " nut ",
    "螺母",
    "",
    "ñ\ttab",
    "'",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_comes_back(name: str) -> None:
    found = instances_of([rectangle((1, 1, 9, 9))] * 2)
    rows = read(csv_bytes(rows_of(found, [name], input_path=f"photos/{name}.jpg")))
    assert [row["class"] for row in rows] == [name] * 2
    assert [row["image"] for row in rows] == [f"photos/{name}.jpg"] * 2


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", '=HYPERLINK("http://x")']
)
def test_no_name_becomes_a_formula(name: str) -> None:
    found = instances_of([rectangle((1, 1, 9, 50))])
    (row,) = read(csv_bytes(rows_of(found, [name], input_path=name)))
    assert row["class"] == row["image"] == f"'{name}"


def test_numbers_below_zero_stay_numbers() -> None:
    y, x = np.mgrid[:60, :80]
    (row,) = read(csv_bytes(rows_of(instances_of([abs(x - y) < 4]), ["nut"])))
    assert float(row["orientation"]) == pytest.approx(-45, abs=1)


def test_a_name_that_is_not_utf8_is_written_in_escapes() -> None:
    found = instances_of([rectangle((1, 1, 9, 9))])
    assert b"\\udcff.jpg" in csv_bytes(rows_of(found, ["nut"], input_path="\udcff.jpg"))
