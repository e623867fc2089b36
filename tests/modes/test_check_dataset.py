import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Outcome, run_cli
from PIL import Image

from paddlex_seg.data.checking.cache import CheckCache
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.data.image_facts import Decode
from paddlex_seg.data.images import load_image
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.written import REGISTER
from paddlex_seg.modes.check_dataset import check_and_draw


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_demo_dataset(folder, num_train=12, num_val=3)
    return folder / COCO_FOLDER


def change_split(dataset: Path, split: str, **changes: object) -> None:
    path = dataset / "annotations" / f"instance_{split}.json"
    write_coco(replace(read_coco(path), **changes), path)


@pytest.fixture
def own_copy(demo: Path, tmp_path: Path) -> Path:
    """A data set whose annotation files a test may change."""
    dataset = tmp_path / "own"
    dataset.mkdir()
    (dataset / "images").symlink_to(demo / "images")
    for split in ("train", "val"):
        coco = read_coco(demo / "annotations" / f"instance_{split}.json")
        write_coco(coco, dataset / "annotations" / f"instance_{split}.json")
    return dataset


def test_the_table_of_images_has_the_keys_of_earlier_versions_too(demo: Path, tmp_path: Path) -> None:
    attributes = check_and_draw(demo, tmp_path)["attributes"]
    for split, row in attributes["images"].items():
        earlier = attributes["pictures"][split]
        assert earlier["pictures"] == row["images"] > 0
        assert earlier["objects_per_picture"] == row["objects_per_image"]


def test_a_kept_result_of_an_earlier_version_is_not_given_back(tmp_path: Path) -> None:
    cache = CheckCache(tmp_path)
    result: dict[str, Any] = {
        "attributes": {"train_sample_paths": [], "val_sample_paths": [], "images": {}},
        "analysis": {},
    }
    cache.keep("as it was", result)
    assert cache.earlier_result("as it was") == result
    result["attributes"]["pictures"] = result["attributes"].pop("images")
    cache.keep("as it was", result)
    assert cache.earlier_result("as it was") is None


def test_what_was_seen_of_images_is_read_from_the_file_of_an_earlier_version(tmp_path: Path) -> None:
    cache = CheckCache(tmp_path)
    assert cache.images.name == "images.jsonl"
    earlier = cache.images.with_name("pictures.jsonl")
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    assert cache.images == earlier


def test_the_result_of_a_sound_data_set_counts_images(demo: Path, tmp_path: Path) -> None:
    result = check_and_draw(demo, tmp_path)
    train = read_coco(demo / "annotations" / "instance_train.json")
    val = read_coco(demo / "annotations" / "instance_val.json")
    keys = ["check_pass", "attributes", "analysis", "dataset_path", "show_type", "dataset_type"]
    assert list(result)[:6] == keys
    attributes = result["attributes"]
    assert list(attributes)[:5] == [
        "num_classes",
        "train_samples",
        "train_sample_paths",
        "val_samples",
        "val_sample_paths",
    ]
    assert (attributes["num_classes"], attributes["train_samples"], attributes["val_samples"]) == (2, 12, 3)
    assert attributes["train_annotations"] == len(train.annotations)
    assert attributes["val_annotations"] == len(val.annotations)
    assert sum(row["train"] for row in attributes["class_counts"]) == len(train.annotations)
    assert sum(row["val"] for row in attributes["class_counts"]) == len(val.annotations)
    assert result["check_pass"] is True
    assert result["dataset_path"] == COCO_FOLDER
    assert (result["show_type"], result["dataset_type"]) == ("image", "COCOInstSegDataset")
    assert json.loads(json.dumps(result)) == result


def test_samples_are_drawn_over_their_images(demo: Path, tmp_path: Path) -> None:
    attributes = check_and_draw(demo, tmp_path)["attributes"]
    assert len(attributes["train_sample_paths"]) == 10
    assert len(attributes["val_sample_paths"]) == 3
    for name in attributes["train_sample_paths"] + attributes["val_sample_paths"]:
        drawn, original = load_image(tmp_path / name), load_image(demo / "images" / Path(name).name)
        assert name.startswith("check_dataset/demo_img/")
        assert drawn.shape == original.shape
    difference = abs(drawn.astype(int) - original).max(axis=2)
    assert (difference > 40).mean() > 0.01  # objects are marked
    assert np.median(difference) < 20  # the rest is unchanged, red and blue are not swapped


def test_the_histogram_is_an_image(demo: Path, tmp_path: Path) -> None:
    result = check_and_draw(demo, tmp_path)
    assert result["analysis"]["histogram"] == "check_dataset/histogram.png"
    with Image.open(tmp_path / "check_dataset" / "histogram.png") as image:
        assert image.size == (960, 600)


def test_a_second_check_of_unchanged_data_gives_the_same_result_at_once(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check_and_draw(demo, tmp_path)
    monkeypatch.setattr("paddlex_seg.modes.check_dataset._check", None)
    assert check_and_draw(demo, tmp_path) == first


def test_links_in_the_folder_of_images_are_no_obstacle(own_copy: Path, tmp_path: Path) -> None:
    images = own_copy / "images"
    originals = images.resolve()
    images.unlink()
    shutil.copytree(originals, images)
    (images / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    first = check_and_draw(own_copy, tmp_path / "output")
    assert first["finding_counts"]["image_unreferenced"] == 1
    assert check_and_draw(own_copy, tmp_path / "output") == first


def test_what_lies_behind_a_linked_folder_is_looked_at_every_time(own_copy: Path, tmp_path: Path) -> None:
    images = own_copy / "images"
    originals = images.resolve()
    images.unlink()
    images.mkdir()
    shutil.copytree(originals, tmp_path / "elsewhere")
    (images / "line").symlink_to(tmp_path / "elsewhere")
    for split in ("train", "val"):
        records = read_coco(own_copy / "annotations" / f"instance_{split}.json").images
        renamed = tuple(replace(record, file_name=f"line/{record.file_name}") for record in records)
        change_split(own_copy, split, images=renamed)
    assert check_and_draw(own_copy, tmp_path / "output")["check_pass"]
    (tmp_path / "elsewhere" / records[0].file_name).write_bytes(b"")
    with pytest.raises(DatasetError, match="has no bytes"):
        check_and_draw(own_copy, tmp_path / "output")


@pytest.mark.parametrize("change", ["annotation", "image", "new image", "sample lost", "decode"])
def test_a_change_of_any_kind_is_checked_again(own_copy: Path, tmp_path: Path, change: str) -> None:
    images = own_copy / "images"
    originals = images.resolve()
    images.unlink()
    shutil.copytree(originals, images)
    first = check_and_draw(own_copy, tmp_path / "output")
    train = read_coco(own_copy / "annotations" / "instance_train.json")
    decode: Decode = "thumbnail"
    if change == "annotation":
        change_split(own_copy, "train", annotations=train.annotations[:-1])
    elif change == "image":
        (images / train.images[0].file_name).write_bytes(b"")
        with pytest.raises(DatasetError, match="has no bytes"):
            check_and_draw(own_copy, tmp_path / "output")
        return
    elif change == "new image":
        shutil.copy(images / train.images[0].file_name, images / "forgotten.jpg")
    elif change == "sample lost":
        (tmp_path / "output" / first["attributes"]["train_sample_paths"][0]).unlink()
    else:
        decode = "full"
    result = check_and_draw(own_copy, tmp_path / "output", decode)
    assert (tmp_path / "output" / result["attributes"]["train_sample_paths"][0]).is_file()
    if change == "annotation":
        assert result["attributes"]["train_annotations"] == first["attributes"]["train_annotations"] - 1
    elif change == "new image":
        assert result["finding_counts"]["image_unreferenced"] == 1


def test_no_temporary_files_stay_behind(demo: Path, tmp_path: Path) -> None:
    check_and_draw(demo, tmp_path)
    assert {path.name for path in tmp_path.rglob(".*")} == {REGISTER}


def test_all_errors_are_listed_with_a_count(own_copy: Path, tmp_path: Path) -> None:
    val = read_coco(own_copy / "annotations" / "instance_val.json")
    images = [replace(val.images[0], id=100 + i, file_name=f"lost_{i}.jpg") for i in range(25)]
    change_split(own_copy, "val", images=tuple(images), annotations=())
    with pytest.raises(DatasetError) as caught:
        check_and_draw(own_copy, tmp_path / "output")
    message = str(caught.value)
    assert "26 problems" in message  # 25 images, and no annotations
    assert "lost_0.jpg" in message
    assert "... and 6 more" in message
    result = json.loads((tmp_path / "output" / "check_dataset_result.json").read_text(encoding="utf-8"))
    assert result["check_pass"] is False
    assert result["finding_counts"]["image_missing"] == 25
    assert len([item for item in result["findings"] if item["code"] == "image_missing"]) == 25
    assert (tmp_path / "output" / result["analysis"]["report"]).is_file()


def test_file_names_that_leave_the_folder_write_nothing(own_copy: Path, tmp_path: Path) -> None:
    train = read_coco(own_copy / "annotations" / "instance_train.json")
    first = replace(train.images[0], file_name="../../escaped.jpg")
    change_split(own_copy, "train", images=(first, *train.images[1:]))
    with pytest.raises(DatasetError, match="escaped.jpg"):
        check_and_draw(own_copy, tmp_path / "output")
    assert not list(tmp_path.rglob("escaped.jpg"))


def test_a_nested_data_set_and_sub_folders_are_kept(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path / "outer", num_train=1, num_val=1)
    root = tmp_path / "outer" / COCO_FOLDER
    (root / "images" / "day 1").mkdir()
    (root / "images" / "line_0001.jpg").rename(root / "images" / "day 1" / "a.jpg")
    train = read_coco(root / "annotations" / "instance_train.json")
    change_split(root, "train", images=(replace(train.images[0], file_name="day 1\\a.jpg"),))
    for other in (tmp_path / "outer").iterdir():
        if other != root:
            other.rename(tmp_path / "elsewhere")
    result = check_and_draw(tmp_path / "outer", tmp_path / "output")
    assert result["attributes"]["train_sample_paths"] == ["check_dataset/demo_img/day 1/a.jpg"]
    assert (tmp_path / "output" / "check_dataset" / "demo_img" / "day 1" / "a.jpg").is_file()


@pytest.mark.parametrize("name", ["coco_subset", "fruits_nuts", "microcontrollers"])
def test_genuine_data_sets_pass(shared_dir: Path, tmp_path: Path, name: str) -> None:
    assert check_and_draw(shared_dir / "data" / name, tmp_path)["check_pass"] is True


def test_the_limit_of_pixels_is_named_and_a_raised_one_is_used_at_once(dataset: Path, tmp_path: Path) -> None:
    """Neither the cache of the result nor that of the images answers with the old limit."""
    largest = max(
        record.height * record.width
        for split in ("train", "val")
        for record in read_coco(dataset / "annotations" / f"instance_{split}.json").images
    )

    def check_with(limit: int) -> Outcome:
        settings = {"Global__dataset_dir": dataset, "Global__max_image_pixels": limit}
        return run_cli("check_dataset", tmp_path, **settings)

    for _ in range(2):
        low = check_with(largest - 1)
        assert low.code == 3
        assert f"has {largest:,} pixels, the limit is {largest - 1:,}" in low.stderr
        assert "Global.max_image_pixels" in low.stderr
        assert check_with(largest).code == 0
