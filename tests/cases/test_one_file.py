"""A data set with one annotation file is divided; text ids and keys of other tools stay."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import check_dataset, copy_case
from PIL import Image

PERCENT = {"CheckDataset__split__train_percent": 60, "CheckDataset__split__val_percent": 40}
FOLDS = {"CheckDataset__split__folds": 3}
BY_SITE = {"CheckDataset__split__group_by": r"^(site\d)/"}
FILES = ("instance_train.json", "instance_val.json", "instances_train.json", "instances_val.json")
SQUARE = {"segmentation": [[10, 10, 50, 10, 50, 40, 10, 40]], "bbox": [10, 10, 40, 30], "area": 1200}


def one_file(root: Path, name: str) -> dict[str, Any]:
    """Ten images of five sites, all listed in the annotation file ``name``. Returns its content."""
    (root / "annotations").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(10):
        file = root / "images" / f"site{number // 2}" / f"p{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(file)
        listed = {"id": f"img-{number}", "file_name": f"{file.parent.name}/{file.name}", "width": 96}
        images.append({**listed, "height": 64, "license": 3, "camera": f"c{number}"})
        entry = {"id": f"a{number}", "image_id": f"img-{number}", "category_id": "bolt-id", **SQUARE}
        annotations.append({**entry, "iscrowd": 0, "attributes": {"occluded": True}, "track": number})
    document = {
        "info": {"version": "1"},
        "licenses": [{"id": 3, "name": "CC"}],
        "own": [1, 2],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": "bolt-id", "name": "bolt", "supercategory": "part", "color": "#fff"}],
    }
    (root / "annotations" / name).write_text(json.dumps(document))
    return document


def parts_of(root: Path) -> dict[str, dict[str, Any]]:
    return {
        split: json.loads((root / "annotations" / f"instance_{split}.json").read_text())
        for split in ("train", "val")
    }


def assert_complete(parts: dict[str, dict[str, Any]], document: dict[str, Any]) -> None:
    """Each record is in one part, unchanged."""
    for key in ("images", "annotations"):
        found = [entry for part in parts.values() for entry in part[key]]
        assert sorted(found, key=lambda entry: str(entry["id"])) == document[key]
    for part in parts.values():
        assert part["images"]
        assert all(part[key] == document[key] for key in ("info", "licenses", "own", "categories"))


def sites_of(part: dict[str, Any]) -> set[str]:
    return {entry["file_name"].partition("/")[0] for entry in part["images"]}


@pytest.mark.parametrize("options", [PERCENT, {**PERCENT, **BY_SITE}], ids=["images", "sites"])
@pytest.mark.parametrize("name", FILES)
def test_one_file_is_split(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    document = one_file(tmp_path / "data", name)
    desk = check_dataset(tmp_path / "data", tmp_path / "out", CheckDataset__split__enable=True, **options)
    assert (desk.exit_code, desk.codes) == (0, {}), desk.text
    parts = parts_of(tmp_path / "data")
    assert_complete(parts, document)
    assert len(parts["train"]["images"]) == 6
    if "CheckDataset__split__group_by" in options:
        assert not sites_of(parts["train"]) & sites_of(parts["val"])
    kept = tmp_path / "data" / "annotations" / f"{name}.bak"
    assert json.loads(kept.read_text()) == document


@pytest.mark.parametrize("options", [FOLDS, {**FOLDS, **BY_SITE}], ids=["images", "sites"])
@pytest.mark.parametrize("name", FILES)
def test_one_file_is_divided_into_folds_and_the_first_is_checked(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    root = tmp_path / "data"
    document = one_file(root, name)
    desk = check_dataset(root, tmp_path / "out", CheckDataset__split__enable=True, **options)
    assert (desk.exit_code, desk.codes) == (0, {}), desk.text
    assert "The first fold is checked" in desk.text
    assert json.loads((root / "annotations" / name).read_text()) == document
    for number in (1, 2, 3):
        parts = parts_of(root / "folds" / str(number))
        assert_complete(parts, document)
        if "CheckDataset__split__group_by" in options:
            assert not sites_of(parts["train"]) & sites_of(parts["val"])


def test_folds_of_a_data_set_with_both_files_leave_it_to_be_checked(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "out", CheckDataset__split__enable=True, **FOLDS)
    assert desk.exit_code == 0, desk.text
    assert "The first fold is checked" not in desk.text
    assert desk.result["dataset_path"] == root.name
