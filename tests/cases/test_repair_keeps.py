"""What a repair may remove, what it says about it, and that it can be run again and undone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import check_dataset, copy_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddlex_seg.data.checking.repair.__main__ import main
from paddlex_seg.data.checking.repair.repaired_copy import repair_dataset
from paddlex_seg.data.checking.repair.undo import undo_repair
from paddlex_seg.data.coco.read import load_document

SQUARE = [10, 10, 50, 10, 50, 40, 10, 40]
LINE = {"segmentation": [[7, 6, 9, 6, 20, 6]], "bbox": [7, 6, 13, 0], "area": 0}  # encloses nothing
FIX = {"CheckDataset__fix__enable": True}


def changed(root: Path, change: Callable[[dict[str, Any]], None], split: str = "train") -> Path:
    """The sound data set, one of its annotation files changed."""
    copy_case("00-sound", root)
    path = root / "annotations" / f"instance_{split}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return root


def with_objects(root: Path, count: int, *others: dict[str, Any]) -> Path:
    """``count`` sound annotations in train, and others."""

    def change(document: dict[str, Any]) -> None:
        rows = []
        for id in range(1, count + len(others) + 1):
            x = id % 30
            square = {
                "segmentation": [[x, 10, x + 40, 10, x + 40, 40, x, 40]],
                "bbox": [x, 10, 40, 30],
                "area": 1200,
            }
            entry = {"id": id, "image_id": 1 + id // 30 % 2, "category_id": 1, "iscrowd": 0, **square}
            rows.append(entry if id <= count else {**entry, **others[id - count - 1]})
        document["annotations"] = rows

    return changed(root, change)


def annotations_of(root: Path, split: str = "train") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load_document(root / "annotations" / f"instance_{split}.json")[
        "annotations"
    ]
    return found


@pytest.mark.parametrize("case", ["C04-box-as-polygon", "C13-empty-lists"])
def test_what_has_no_reading_stays_and_the_copy_does_not_pass(tmp_path: Path, case: str) -> None:
    root = copy_case(case, tmp_path / "data")
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert desk.exit_code == 3
    assert desk.result["check_pass"] is False
    assert desk.result["fix"]["removed_objects"] == 0
    for split in ("train", "val"):
        assert annotations_of(tmp_path / "data_fixed", split) == annotations_of(root, split)


@pytest.mark.parametrize(
    "segmentation",
    [[[10, 10, 50, 40]], [10, 10, 40, 30], [[10, 10], [50, 40]], [[]], [], [[], []], None, "", {}, "missing"],
    ids=str,
)
def test_a_box_or_nothing_for_a_mask_is_never_removed(tmp_path: Path, segmentation: Any) -> None:
    def change(document: dict[str, Any]) -> None:
        document["annotations"][0]["segmentation"] = segmentation
        if segmentation == "missing":
            del document["annotations"][0]["segmentation"]

    root = changed(tmp_path / "data", change)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert desk.exit_code == 3
    assert annotations_of(tmp_path / "data_fixed") == annotations_of(root)


def test_an_annotation_of_an_unknown_image_stays(tmp_path: Path) -> None:
    root = changed(tmp_path / "data", lambda document: document["annotations"][0].update(image_id=77))
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert (desk.exit_code, desk.codes["image_id_dangling"]) == (3, 1)
    assert annotations_of(tmp_path / "data_fixed") == annotations_of(root)


@pytest.mark.parametrize(
    "values",
    [
        {**LINE, "bbox": [10, 10, 40, 30]},
        {"segmentation": [[200, 10, 240, 10, 240, 40, 200, 40]]},
        {"segmentation": {"size": [64, 96], "counts": [6144]}},
        {"segmentation": [[70, 70, 90, 70, 90, 90, 70, 90]], "bbox": [70, 70, 20, 20]},
    ],
    ids=["line", "outside", "no pixel", "inside the other way round"],
)
def test_a_mask_of_nothing_stays_if_its_box_says_that_there_is_an_object(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["annotations"][0].update(values)
        if "bbox" in values and values["bbox"][0] == 70:  # 64x96 listed as 96x64
            document["annotations"][0]["segmentation"] = [[10, 70, 40, 70, 40, 90, 10, 90]]
            document["annotations"][0]["bbox"] = [10, 70, 30, 20]

    root = changed(tmp_path / "data", change)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert desk.result["fix"]["removed_objects"] == 0
    first = annotations_of(tmp_path / "data_fixed")[0]
    assert (first["segmentation"], first["bbox"]) == (
        annotations_of(root)[0]["segmentation"],
        annotations_of(root)[0]["bbox"],
    )


def test_masks_beyond_a_wrong_listed_size_are_neither_cut_nor_removed(tmp_path: Path) -> None:
    root = tmp_path / "data"

    def change(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image.update(width=48, height=32)  # the image is 96 x 64
        far = {"segmentation": [[60, 40, 90, 40, 90, 60, 60, 60]], "bbox": None, "area": None}
        document["annotations"][1].update(far)

    changed(root, change)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert (desk.exit_code, desk.codes["image_size_mismatch"]) == (3, 2)
    assert desk.result["fix"]["removed_objects"] == 0
    masks = [item["segmentation"] for item in annotations_of(tmp_path / "data_fixed")]
    assert masks == [item["segmentation"] for item in annotations_of(root)]


def test_what_is_left_of_a_mask_is_removed_at_once(tmp_path: Path) -> None:
    flat, outside = [5, 5, 5, 5, 5, 5], [900, 900, 950, 900, 950, 950]

    def change(document: dict[str, Any]) -> None:
        document["annotations"][0].update(segmentation=[flat, outside], bbox=None, area=None)

    root = changed(tmp_path / "data", change)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert desk.result["fix"]["removed_objects"] == 1
    again = check_dataset(tmp_path / "data_fixed", tmp_path / "again", **FIX)
    assert again.result["fix"]["repaired"] == {}


def test_a_few_losses_are_told_and_pass(tmp_path: Path) -> None:
    root = with_objects(tmp_path / "data", 39, LINE)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert desk.exit_code == 0, desk.text
    fix = desk.result["fix"]
    assert (fix["removed_objects"], fix["removed_images"]) == (1, 0)
    assert fix["removed_by_code"] == {"objects": {"polygon_zero_area": 1}, "images": {}}
    assert fix["removed_share"] == {"objects": round(1 / 41, 6), "images": 0.0}
    assert "removed 1 of 41 objects (2.4%) and 0 of 3 images (0.0%): polygon_zero_area 1" in desk.text


def test_more_than_five_percent_fail_and_name_both_ways_out(tmp_path: Path) -> None:
    root = with_objects(tmp_path / "data", 10, LINE, LINE)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert desk.exit_code == 3
    assert desk.result["check_pass"] is False
    assert desk.codes["repair_removed_much"] == 1
    assert desk.result["fix"]["removed_objects"] == 2
    for words in ("2 of 13 objects (15.4%)", "polygon_zero_area 2", "correct them", "fix.allow_loss=True"):
        assert words in desk.text
    assert len(annotations_of(tmp_path / "data_fixed")) == 10
    desk = check_dataset(root, tmp_path / "again", CheckDataset__fix__allow_loss=True, **FIX)
    assert desk.exit_code == 0, desk.text
    assert desk.result["fix"]["removed_objects"] == 2
    assert "2 of 13 objects" in desk.text


def test_the_same_record_twice_is_no_loss(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["annotations"] += [dict(document["annotations"][0]) for _ in range(3)]

    desk = check_dataset(changed(tmp_path / "data", change), tmp_path / "out", **FIX)
    assert desk.exit_code == 0, desk.text
    assert desk.result["fix"]["removed_objects"] == 0
    assert desk.result["fix"]["removed_repetitions"] == {"objects": 3, "images": 0}
    assert len(annotations_of(tmp_path / "data_fixed")) == 2


def test_equal_masks_with_their_own_ids_stay(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["annotations"].append({**document["annotations"][0], "id": 50})

    root = changed(tmp_path / "data", change)
    desk = check_dataset(root, tmp_path / "out", **FIX)
    assert (desk.exit_code, desk.codes) == (0, {"annotation_duplicate": 1})
    assert annotations_of(tmp_path / "data_fixed") == annotations_of(root)


def pairs(polygon: list[float]) -> list[list[float]]:
    return [list(xy) for xy in zip(polygon[::2], polygon[1::2], strict=True)]


_NUMBERS = st.lists(
    st.one_of(st.integers(-20, 150), st.floats(-5, 110), st.sampled_from(["7", None])), max_size=9
)
MASKS = st.one_of(
    st.sampled_from(
        [
            [SQUARE],
            SQUARE,
            pairs(SQUARE),
            [pairs(SQUARE)],
            [[SQUARE]],
            [[10, 10, 40, 30]],
            [[*SQUARE, 40]],
            [],
            [[]],
            None,
            str([SQUARE]),
            [6144],
            {"size": [96, 64], "counts": [650, *[30, 34] * 39, 30, 2968]},
            [650, *[30, 34] * 39, 30],
            [[value / 100 for value in SQUARE]],
            [[value + 90 for value in SQUARE]],
            [[7, 6, 9, 6, 20, 6]],
            [[7, 7]],
        ]
    ),
    st.lists(_NUMBERS, max_size=3),
    _NUMBERS,
)
BOXES = st.sampled_from(
    [[10, 10, 40, 30], [10, 10, 50, 40], [0, 0, 0, 0], None, [0.1, 0.1, 0.4, 0.3], ["1"] * 4]
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.one_of(st.integers(1, 5), st.sampled_from(["a", None])),
            "image_id": st.sampled_from([1, 1, 2, 9]),
            "category_id": st.just(1),
            "segmentation": MASKS,
            "bbox": BOXES,
            "area": st.sampled_from([1200, 0, None]),
        }
    ),
    max_size=4,
)


@given(records=RECORDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_repair_of_its_own_copy_changes_nothing_and_undo_restores(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    tmp_path = tmp_path_factory.mktemp("repair")
    root = changed(tmp_path / "data", lambda document: document.update(annotations=records))
    first = repair_dataset(root)
    for name, document in undo_repair(first.root).items():
        assert json.dumps(document) == json.dumps(load_document(root / "annotations" / name))
    again = repair_dataset(first.root, tmp_path / "again")
    assert not again.counts
    assert annotations_of(again.root) == annotations_of(first.root)
    removed = first.objects.count + first.objects.repeated
    assert len(annotations_of(first.root)) + removed == len(records)


def test_undo_restores_text_ids(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for record in document["images"]:
            record["id"] = f"photo-{record['id']}"
        for record in document["annotations"]:
            record.update(id=f"mask-{record['id']}", image_id=f"photo-{record['image_id']}")
            record["segmentation"] = pairs(SQUARE)
        document["annotations"].append({**document["annotations"][0], **LINE, "id": "mask-9"})

    root = changed(tmp_path / "data", change)
    before = load_document(root / "annotations" / "instance_train.json")
    repair = repair_dataset(root)
    assert repair.counts == {"polygon_points": 2, "polygon_zero_area": 1}
    assert [entry["id"] for entry in annotations_of(repair.root)] == ["mask-1", "mask-2"]
    main([str(repair.root), "--into", str(tmp_path / "original")])
    assert load_document(tmp_path / "original" / "instance_train.json") == before
