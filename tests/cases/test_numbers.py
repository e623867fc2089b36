"""Boxes, areas and flags that cannot be used, do not fit the masks, or are written as text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import check_dataset, copy_case
from perfect import evaluate_perfect

Change = Callable[[dict[str, Any]], None]

FILES = ("instance_train.json", "instance_val.json")


def changed(tmp_path: Path, change: Change, case: str = "00-sound") -> Path:
    """A copy of a case with a change of every annotation."""
    root = copy_case(case, tmp_path / "data")
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for item in document["annotations"]:
            change(item)
        path.write_text(json.dumps(document))
    return root


def repaired(root: Path, output: Path) -> dict[str, Any]:
    """The annotation files of the repaired copy, which must pass without findings."""
    desk = check_dataset(root, output, CheckDataset__fix__enable=True)
    assert (desk.exit_code, desk.codes) == (0, {})
    folder = root.with_name("data_fixed") / "annotations"
    return {name: json.loads((folder / name).read_text()) for name in FILES}


def sound_documents() -> dict[str, Any]:
    folder = Path(__file__).parent / "data" / "00-sound" / "annotations"
    return {name: json.loads((folder / name).read_text()) for name in FILES}


def test_an_empty_box_is_a_missing_box(tmp_path: Path) -> None:
    root = copy_case("C05-bbox-empty", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"bbox_missing": 3}
    assert desk.messages("bbox_missing")[0] == "bbox is []; expected [x, y, width, height]"
    assert evaluate_perfect(root).bbox.AP == pytest.approx(1)
    assert repaired(root, tmp_path / "fixed") == sound_documents()


@pytest.mark.parametrize(
    "box",
    [
        None,
        "10 10 40 30",
        [10, 10, 40],
        [10, 10, 40, 30, 0.9],
        [10, 10, float("nan"), 30],
        [10, 10, 40, float("inf")],
        [10, 10, 40, 10**400],
        ["left", 10, 40, 30],
        [None] * 4,
        {"x": 10, "y": 10, "w": 40, "h": 30},
        [[10, 10, 40, 30]],
        0,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_box_that_is_not_four_numbers_is_a_missing_box(tmp_path: Path, box: Any) -> None:
    root = changed(tmp_path, lambda item: item.update(bbox=box))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"bbox_missing": 3}
    assert evaluate_perfect(root).bbox.AP == pytest.approx(1)
    assert repaired(root, tmp_path / "fixed") == sound_documents()


def test_records_of_zeros_get_the_numbers_of_their_masks(tmp_path: Path) -> None:
    root = copy_case("C06-eiseg-records", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"bbox_zero": 3, "area_mismatch": 3}
    metrics = evaluate_perfect(root, also_as_in_file=True)
    for summary in (metrics.segm, metrics.bbox):
        assert (summary.AP, summary.APm) == (pytest.approx(1), pytest.approx(1))
        assert summary.APs is summary.APl is None
    assert metrics.as_in_file is not None
    assert (metrics.as_in_file.num_boxes, metrics.as_in_file.num_areas) == (1, 1)
    assert (metrics.as_in_file.bbox.AP, metrics.as_in_file.segm.APm) == (0, None)
    assert metrics.to_json()["as_in_file"]["bbox"]["AP"] == 0
    assert "1 boxes and 1 areas in the annotation file do not fit the masks" in metrics.table()


UNFIT: dict[str, dict[str, Any]] = {
    "corners": {"bbox": [10, 10, 50, 40]},
    "negative": {"bbox": [50, 40, -40, -30], "area": -1200},
    "moved": {"bbox": [14, 10, 40, 30]},
    "7 % wider": {"bbox": [10, 10, 43, 30]},
    "off by one": {"bbox": [10, 10, 39, 29]},
    "of the box of another image": {"bbox": [60, 30, 20, 20], "area": 400},
    "area of a large object": {"area": 96**2 + 1},
    "area of a small object": {"area": 1000},
    "area as a share": {"area": 0.1953125},
    "no number": {"area": float("nan"), "bbox": []},
    "text": {"area": "1200 px", "bbox": "none"},
}


@pytest.mark.parametrize("name", UNFIT)
def test_perfect_predictions_are_perfect_whatever_the_numbers_of_the_file(tmp_path: Path, name: str) -> None:
    root = changed(tmp_path, lambda item: item.update(UNFIT[name]))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes
    metrics = evaluate_perfect(root)
    assert (metrics.segm.AP, metrics.bbox.AP) == (pytest.approx(1), pytest.approx(1))
    for summary in (metrics.segm, metrics.bbox):
        assert summary.APm == pytest.approx(1)
        assert summary.APs is summary.APl is None


@pytest.mark.parametrize("values", [{"bbox": [10, 10, 41, 30]}, {"area": 1150}, {"area": 1255.5}], ids=str)
def test_numbers_within_5_percent_are_those_of_the_file(tmp_path: Path, values: dict[str, Any]) -> None:
    root = changed(tmp_path, lambda item: item.update(values))
    assert check_dataset(root, tmp_path / "output").exit_code == 0
    assert evaluate_perfect(root, also_as_in_file=True).as_in_file is None


def test_flags_of_tools_are_read_as_0(tmp_path: Path) -> None:
    root = copy_case("C15-iscrowd", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"number_is_text": 1}
    assert desk.messages("number_is_text") == ["iscrowd is the text '0', not a number"]


@pytest.mark.parametrize(
    ("flag", "codes"),
    [
        (False, {}),
        (None, {}),
        (0.0, {}),
        ("0", {"number_is_text": 3}),
        ("false", {"number_is_text": 3}),
        ("False", {"number_is_text": 3}),
        (" 0.0", {"number_is_text": 3}),
        ("1", {"number_is_text": 3, "crowd": 3, "split_all_crowd": 2}),
        (True, {"crowd": 3, "split_all_crowd": 2}),
        ("perhaps", {"annotation_entry_invalid": 3}),
        (2, {"annotation_entry_invalid": 3}),
    ],
    ids=repr,
)
def test_a_flag_in_any_form_has_its_meaning(tmp_path: Path, flag: Any, codes: dict[str, int]) -> None:
    root = changed(tmp_path, lambda item: item.update(iscrowd=flag))
    assert check_dataset(root, tmp_path / "output").codes == codes


def test_a_record_without_a_flag_is_an_object(tmp_path: Path) -> None:
    root = changed(tmp_path, lambda item: item.pop("iscrowd"))
    assert check_dataset(root, tmp_path / "output").codes == {}


def test_numbers_as_text_are_read_with_a_warning_and_repaired(tmp_path: Path) -> None:
    root = copy_case("C16-number-strings", tmp_path / "data")
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    for name, document in sound_documents().items():
        assert json.loads((tmp_path / "data_fixed" / "annotations" / name).read_text()) == document


@pytest.mark.parametrize(
    "values",
    [
        {"area": "1200.0"},
        {"area": "1.2e3"},
        {"bbox": ["10", "10.0", "40", 30]},
        {"bbox": [" 10", "10 ", "40", "30"], "area": "1200"},
    ],
    ids=str,
)
def test_text_that_is_a_number_is_that_number(tmp_path: Path, values: dict[str, Any]) -> None:
    root = changed(tmp_path, lambda item: item.update(values))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert set(desk.codes) == {"number_is_text"}
    assert evaluate_perfect(root).bbox.APm == pytest.approx(1)
    assert repaired(root, tmp_path / "fixed") == sound_documents()


@pytest.mark.parametrize("text", ["nan", "1200 px", "0x4b0", "1_200", "١٢", "", "1e999"])
def test_other_text_is_no_number(tmp_path: Path, text: str) -> None:
    root = changed(tmp_path, lambda item: item.update(area=text))
    assert check_dataset(root, tmp_path / "output").codes == {"area_missing": 3}
    assert repaired(root, tmp_path / "fixed") == sound_documents()


@pytest.mark.parametrize("side", ["96.5", "wide", "-96"], ids=str)
def test_what_is_no_side_of_an_image_is_read_from_its_file(tmp_path: Path, side: Any) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_val.json"
    document = json.loads(path.read_text())
    document["images"][0]["width"] = side
    path.write_text(json.dumps(document))
    assert check_dataset(root, tmp_path / "output").codes["image_entry_invalid"] == 1
    assert repaired(root, tmp_path / "fixed") == sound_documents()


def test_an_impossible_size_is_an_error(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_val.json"
    document = json.loads(path.read_text())
    document["images"][0] |= {"width": 10**30, "height": 1e30}
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    assert len(desk.messages("image_entry_invalid")) == 2


def test_a_split_of_crowds_only_has_nothing_to_learn_from(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("C11-all-crowd", tmp_path / "data"), tmp_path / "output")
    assert desk.exit_code == 3
    assert desk.codes["split_all_crowd"] == 2
    assert "write iscrowd 0" in desk.text


@pytest.mark.parametrize("name", FILES)
def test_crowds_only_in_one_split_are_an_error(tmp_path: Path, name: str) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / name
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    assert [item["file"] for item in desk.result["findings"] if item["code"] == "split_all_crowd"] == [name]


def test_some_crowds_are_no_error(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_train.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))
    desk = check_dataset(root, tmp_path / "output")
    assert (desk.exit_code, desk.codes) == (0, {"crowd": 1})
