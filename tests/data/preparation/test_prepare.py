import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import read_result, run_cli
from pycocotools import mask as mask_tools

from paddlex_seg.data.checking.check import check
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.conversion_errors import ERRORS_FILE
from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, write_demo_dataset
from paddlex_seg.data.preparation.convert import WRITERS, Prepared
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import CocoFile


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_dataset(folder, num_train=14, num_val=6)
    return folder


@pytest.fixture
def coco_set(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo / COCO_FOLDER, tmp_path / "coco set ü"))


@pytest.fixture
def labelme_set(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo / LABELME_FOLDER, tmp_path / "labelme set ü"))


def run(
    root: Path, convert: Mapping[str, Any] | None = None, split: Mapping[str, Any] | None = None
) -> list[Any]:
    return list(prepared(root, convert, split).findings)


def prepared(
    root: Path, convert: Mapping[str, Any] | None = None, split: Mapping[str, Any] | None = None
) -> Prepared:
    settings = ConvertSettings(**convert or {}), SplitSettings(**split or {})
    return prepare(root, root.parent / "output", *settings)


def splits_of(root: Path) -> dict[str, CocoFile]:
    names = ("train", "val", "test")
    paths = {name: root / "annotations" / f"instance_{name}.json" for name in names}
    return {name: read_coco(path) for name, path in paths.items() if path.exists()}


def names_of(coco: CocoFile) -> list[str]:
    return [record.file_name for record in coco.images]


def masks_of(splits: dict[str, CocoFile]) -> dict[str, Counter[tuple[str, bytes]]]:
    """For each image, the class and the pixels of each object."""
    found = {}
    for coco in splits.values():
        classes = {category.id: category.name for category in coco.categories}
        for record in coco.images:
            items = [item for item in coco.annotations if item.image_id == record.id]
            found[record.file_name] = Counter(
                (
                    classes[item.category_id],
                    bytes(mask_tools.merge([annotation_to_rle(item, record.height, record.width)])["counts"]),
                )
                for item in items
            )
    return found


LABELME = {"enable": True, "src_dataset_type": "LabelMe"}
SPLIT = {"enable": True, "train_percent": 60, "val_percent": 30, "test_percent": 10}


def test_converted_labelme_equals_the_coco_data_set(demo: Path, labelme_set: Path) -> None:
    assert run(labelme_set, convert=LABELME) == []
    converted, twin = splits_of(labelme_set), splits_of(demo / COCO_FOLDER)
    assert masks_of(converted) == masks_of(twin)
    for name in ("train", "val"):
        assert names_of(converted[name]) == names_of(twin[name])
        assert [c.name for c in converted[name].categories] == ["bolt", "washer"]
    assert not (labelme_set / "train_anno_list.txt.bak").exists()


def test_without_list_files_20_percent_go_to_val(labelme_set: Path) -> None:
    for name in ("train", "val"):
        (labelme_set / f"{name}_anno_list.txt").unlink()
    run(labelme_set, convert=LABELME)
    sizes = {name: len(coco.images) for name, coco in splits_of(labelme_set).items()}
    assert sizes == {"train": 16, "val": 4}
    lines = (labelme_set / "val_anno_list.txt").read_text(encoding="utf-8").split()
    assert [Path(line).stem for line in lines] == [
        Path(name).stem for name in names_of(splits_of(labelme_set)["val"])
    ]


def test_convert_and_split_work_together_and_a_second_run_changes_nothing(labelme_set: Path) -> None:
    old_list = (labelme_set / "train_anno_list.txt").read_text()
    run(labelme_set, convert=LABELME, split=SPLIT)
    first = splits_of(labelme_set)
    assert {name: len(coco.images) for name, coco in first.items()} == {"train": 12, "val": 6, "test": 2}
    assert (labelme_set / "train_anno_list.txt.bak").read_text() == old_list
    before = sorted(path.name for path in labelme_set.rglob("*"))
    run(labelme_set, convert=LABELME, split=SPLIT)
    assert splits_of(labelme_set) == first
    assert sorted(path.name for path in labelme_set.rglob("*")) == before


def test_one_bad_file_does_not_stop_the_rest_and_the_exit_code_says_so(
    labelme_set: Path, tmp_path: Path
) -> None:
    (labelme_set / "annotations" / "line_0003.json").write_text("{broken")
    output = tmp_path / "out"
    outcome = run_cli(
        "check_dataset",
        output,
        Global__dataset_dir=labelme_set,
        CheckDataset__convert__enable=True,
        CheckDataset__convert__src_dataset_type="labelme",
    )
    assert outcome.code == 3
    assert "line_0003.json" in outcome.stderr and "Traceback" not in outcome.stderr
    assert sum(len(coco.images) for coco in splits_of(labelme_set).values()) == 19
    result = read_result(output, "check_dataset")
    assert result["check_pass"] is False
    assert result["finding_counts"]["source_unreadable"] == 1


def test_errors_of_a_conversion_stay_errors_until_a_conversion_without_errors(
    labelme_set: Path, tmp_path: Path
) -> None:
    bad = labelme_set / "annotations" / "line_0003.json"
    good = bad.read_bytes()
    bad.write_text("{broken")
    output, set_dir = tmp_path / "out", {"Global__dataset_dir": labelme_set}
    convert = {
        "CheckDataset__convert__enable": True,
        "CheckDataset__convert__src_dataset_type": "LabelMe",
    }
    for options in (convert, {}, convert, {}, {"CheckDataset__fix__enable": True}):
        assert run_cli("check_dataset", output, **set_dir, **options).code == 3
        result = read_result(output, "check_dataset")
        assert result["check_pass"] is False
        assert result["finding_counts"]["source_unreadable"] == 1
        assert sum(item["file"] == "annotations/line_0003.json" for item in result["findings"]) == 1
    repaired = run_cli("check_dataset", output, Global__dataset_dir=result["fix"]["path"])
    assert repaired.code == 3  # the copy lacks the same image
    trained = run_cli("train", tmp_path / "train", **set_dir, Train__pretrain_weight_path="scratch")
    assert trained.code == 3 and "line_0003.json" in trained.stderr
    bad.write_bytes(good)
    for options in (convert, {}):
        assert run_cli("check_dataset", output, **set_dir, **options).code == 0
    assert not (labelme_set / ERRORS_FILE).exists()


def test_errors_of_a_conversion_to_a_new_place_are_kept_there(coco_set: Path, tmp_path: Path) -> None:
    run(coco_set, convert={"enable": True, "dst_dataset_type": "MaskPNG"})
    source, output = coco_set.parent / "output/check_dataset/MaskPNG", tmp_path / "out"
    broken = next((source / "masks").rglob("*.png"))
    good = broken.read_bytes()
    broken.write_bytes(b"broken")
    convert = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "auto"}
    assert run_cli("check_dataset", output, Global__dataset_dir=source, **convert).code == 3
    again = run_cli("check_dataset", tmp_path / "again", Global__dataset_dir=output / "dataset")
    assert again.code == 3 and "conversion_errors.json" in again.stderr
    folds = {"CheckDataset__split__enable": True, "CheckDataset__split__folds": 2}
    run_cli("check_dataset", tmp_path / "again", Global__dataset_dir=output / "dataset", **folds)
    fold = run_cli("check_dataset", tmp_path / "fold", Global__dataset_dir=output / "dataset/folds/1")
    assert fold.code == 3
    broken.write_bytes(good)
    assert run_cli("check_dataset", output, Global__dataset_dir=source, **convert).code == 0
    assert run_cli("check_dataset", output, Global__dataset_dir=output / "dataset").code == 0


def test_an_unreadable_record_of_errors_is_an_error(coco_set: Path) -> None:
    for content in ("{", '[{"code": "of_another_version"}]', "[1]"):
        (coco_set / ERRORS_FILE).write_text(content)
        assert check(coco_set).counts["source_unreadable"] == 1


def test_a_split_is_exact_and_keeps_the_old_files(coco_set: Path) -> None:
    before = splits_of(coco_set)
    texts = {path.name: path.read_bytes() for path in (coco_set / "annotations").iterdir()}
    run(coco_set, split=SPLIT)
    after = splits_of(coco_set)
    assert [len(after[name].images) for name in ("train", "val", "test")] == [12, 6, 2]
    assert masks_of(after) == masks_of(before)
    for name, text in texts.items():
        assert (coco_set / "annotations" / f"{name}.bak").read_bytes() == text
    run(coco_set, split={**SPLIT, "seed": 1})
    for name, text in texts.items():
        assert (coco_set / "annotations" / f"{name}.bak").read_bytes() == text
        assert (coco_set / "annotations" / f"{name}.bak.1").exists()
    run(coco_set, split={"enable": True, "train_percent": 50, "val_percent": 50})
    assert set(splits_of(coco_set)) == {
        "train",
        "val",
    }  # the old test split is gone, so it shares no image with train
    assert check(coco_set).counts.get("leak_duplicate", 0) == 0


def test_the_same_seed_gives_the_same_split_for_any_previous_split(coco_set: Path) -> None:
    run(coco_set, split={**SPLIT, "seed": 3})
    first = splits_of(coco_set)
    run(coco_set, split={**SPLIT, "seed": 4})
    assert splits_of(coco_set) != first
    run(coco_set, split={**SPLIT, "seed": 3})
    assert splits_of(coco_set) == first


def test_each_fold_is_a_complete_data_set(coco_set: Path) -> None:
    before = splits_of(coco_set)
    run(coco_set, split={"enable": True, "folds": 4})
    assert splits_of(coco_set) == before
    seen: Counter[str] = Counter()
    for number in range(1, 5):
        fold = coco_set / "folds" / str(number)
        assert dataset_paths(fold).root == fold
        assert not check(fold).errors
        seen.update(names_of(splits_of(fold)["val"]))
        assert not set(names_of(splits_of(fold)["val"])) & set(names_of(splits_of(fold)["train"]))
    assert set(seen.values()) == {1} and len(seen) == 20


def test_a_scene_stays_in_one_split(coco_set: Path) -> None:
    run(coco_set, split={**SPLIT, "group_by": r"line_00(\d)"})
    for tens in "012":
        sides = [
            name
            for name, coco in splits_of(coco_set).items()
            if any(file.startswith(f"line_00{tens}") for file in names_of(coco))
        ]
        assert len(sides) == 1


def test_almost_identical_images_stay_in_one_split(coco_set: Path) -> None:
    train = json.loads((coco_set / "annotations" / "instance_train.json").read_text())
    for k in range(6):  # add a copy of each of the first six images
        image = train["images"][k]
        shutil.copy(coco_set / "images" / image["file_name"], coco_set / "images" / f"again_{k}.jpg")
        train["images"].append({**image, "id": 900 + k, "file_name": f"again_{k}.jpg"})
    (coco_set / "annotations" / "instance_train.json").write_text(json.dumps(train))
    for seed in range(3):
        run(coco_set, split={**SPLIT, "group_by": "duplicates", "seed": seed})
        counts = check(coco_set).counts
        assert counts["image_duplicate"] == 6
        assert "leak_duplicate" not in counts and "leak_near_duplicate" not in counts


@pytest.mark.parametrize("kind", WRITERS)
def test_a_data_set_is_converted_to_another_format_and_back(coco_set: Path, kind: str) -> None:
    before = masks_of(splits_of(coco_set))
    findings = run(coco_set, convert={"enable": True, "dst_dataset_type": kind})
    folder = coco_set.parent / "output" / "check_dataset" / kind
    back = prepared(folder, convert={"enable": True, "src_dataset_type": kind})
    assert not back.findings
    # LabelMe files beside images/ are converted in place, everything else is left as it is.
    assert back.dataset_dir == (folder if kind == "LabelMe" else folder.parent / "output" / "dataset")
    after = masks_of(splits_of(back.dataset_dir))
    if kind != "YOLO":
        assert not findings
        assert after == before
    else:  # YOLO stores one polygon per object, and splits as folders
        assert {item.code for item in findings} <= {"mask_approximated"}
        assert {os.path.basename(name): len(masks) for name, masks in after.items()} == {
            name: len(masks) for name, masks in before.items()
        }


def test_an_older_conversion_result_is_kept_as_backup(coco_set: Path) -> None:
    for _ in range(2):
        run(coco_set, convert={"enable": True, "dst_dataset_type": "LabelMe"})
    folder = coco_set.parent / "output" / "check_dataset"
    assert sorted(path.name for path in folder.iterdir()) == ["LabelMe", "LabelMe.bak"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"split": {"enable": True}}, "sum to 100"),
        ({"split": {"enable": True, "train_percent": 80, "val_percent": 30}}, "sum to 100"),
        ({"split": {"enable": True, "train_percent": 100, "val_percent": 0}}, "above 0"),
        ({"split": {"enable": True, "folds": 3, "train_percent": 80}}, "cannot be used together"),
        ({"split": {**SPLIT, "group_by": "("}}, "regular expression"),
        ({"split": {"enable": True, "folds": 21}}, "21 folds"),
        ({"convert": {"enable": True}}, "LabelMe, VOC, YOLO, MaskPNG, COCO, auto"),
        ({"convert": {**LABELME, "dst_dataset_type": "YOLO"}}, "in one run"),
    ],
)
def test_invalid_settings_change_nothing(coco_set: Path, settings: Any, expected: str) -> None:
    before = {path: path.read_bytes() for path in coco_set.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=expected):
        run(coco_set, **settings)
    assert {path: path.read_bytes() for path in coco_set.rglob("*") if path.is_file()} == before


def test_there_must_be_something_to_convert_or_to_split(tmp_path: Path) -> None:
    (tmp_path / "empty" / "images").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no such folder"):
        run(tmp_path / "none", convert=LABELME)
    with pytest.raises(DatasetError, match="empty"):
        run(tmp_path / "empty", convert=LABELME)
    with pytest.raises(DatasetError, match="no data set was recognised"):
        run(tmp_path / "empty", split=SPLIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its runs by fork")
def test_stopped_runs_leave_the_old_data_set_or_the_new_one(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "helpers" / "kill_preparations.py"
    command = [sys.executable, str(script), str(tmp_path), "56", "1"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert outcome.returncode == 0, outcome.stderr
    counts = json.loads(outcome.stdout.splitlines()[-1])
    assert counts["kills"] == 56
    assert min(counts["old"], counts["new"]) >= 3  # some kills were before the commit and some after it


def test_repair_through_the_command_line(coco_set: Path, tmp_path: Path) -> None:
    path = coco_set / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [0, 0, -5, 5]
    path.write_text(json.dumps(document))
    options = {"Global__dataset_dir": coco_set, "CheckDataset__fix__enable": True}
    outcome = run_cli("check_dataset", tmp_path / "out", **options)
    assert outcome.code == 0
    assert "repaired bbox_negative (1)" in outcome.stdout
    result = read_result(tmp_path / "out", "check_dataset")
    assert result["fix"]["repaired"] == {"bbox_negative": 1}
    assert result["dataset_path"] == f"{coco_set.name}_fixed"
    assert np.all(
        np.array(read_coco(Path(result["fix"]["path"]) / "annotations" / path.name).annotations[0].bbox_xywh)
        >= 0
    )
    assert json.loads(path.read_text()) == document
