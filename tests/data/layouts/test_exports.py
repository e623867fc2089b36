"""Data sets as annotation tools write them are recognised and converted, and the export stays as it is.

The layouts, each with its source, are in ``tests/helpers/exports.py``.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from exports import (
    AREA,
    EXPORTS,
    POLYGON,
    Layout,
    coco,
    coco_2017,
    cvat_coco,
    draw,
    eiseg_coco,
    flat_coco,
    label_studio_brush,
    label_studio_yolo,
    labelme,
    labelme2coco,
    mask_of,
    pascal_voc,
    put,
    roboflow_coco,
    voc,
    xanylabeling_coco,
)

from paddlex_seg.data.checking.check import check
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.layouts.found import find_layout, require_place
from paddlex_seg.data.preparation.convert import NothingConverted, Prepared
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import ConfigError, DatasetError, ForeignDataset, UnclearDataset
from paddlex_seg.masks.rle import annotation_to_rle, rle_area

NO_SPLIT = SplitSettings()


def convert(root: Path, source: str = "auto", split: SplitSettings = NO_SPLIT, **settings: Any) -> Prepared:
    wish = ConvertSettings(enable=True, src_dataset_type=source, **settings)
    return prepare(root, root.parent / "output", wish, split)


def state(root: Path) -> dict[str, tuple[str, int]]:
    """The content and the time of the last change of each file."""
    files = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files
    }


def deeper(root: Path) -> Path:
    outer = root.with_name("outer")
    (outer / "export of monday").mkdir(parents=True)
    shutil.move(root, outer / "export of monday" / "task 1")
    return outer


def zipped(root: Path) -> Path:
    return Path(shutil.make_archive(str(root.with_name("packed")), "zip", root))


def folder_of_zip(root: Path) -> Path:
    """A folder with an archive, whose files are all in one folder."""
    folder = root.with_name("download")
    folder.mkdir()
    shutil.make_archive(str(folder / "task"), "zip", root.parent, root.name)
    (folder / ".DS_Store").write_bytes(b"")
    return folder


def as_it_is(root: Path) -> Path:
    return root


@pytest.mark.parametrize("packed", [as_it_is, deeper, zipped, folder_of_zip])
@pytest.mark.parametrize("build", EXPORTS, ids=lambda build: build.__name__)
def test_an_export_is_recognised_and_converted_and_stays_as_it_is(
    build: Layout, packed: Any, tmp_path: Path
) -> None:
    build(tmp_path / "export")
    root = packed(tmp_path / "export")
    format, sizes = EXPORTS[build]
    before = state(root)
    assert find_layout(root, require_place(root)).format == format
    with pytest.raises(ForeignDataset):
        dataset_paths(root)
    prepared = convert(root)
    assert state(root) == before
    assert prepared.dataset_dir == tmp_path / "output" / "dataset"
    report = check(prepared.dataset_dir, "full")
    assert {name: len(split.images) for name, split in report.splits.items()} == sizes
    assert {name: len(split.annotations) for name, split in report.splits.items()} == sizes
    assert [category.name for category in report.train.categories] == ["bolt"]
    for split in report.splits.values():
        size_of = {record.id: (record.height, record.width) for record in split.images}
        areas = [rle_area(annotation_to_rle(item, *size_of[item.image_id])) for item in split.annotations]
        assert areas == [AREA] * len(areas)
    assert not report.errors
    assert prepared.entry is not None
    expected = {name: {"images": size, "objects": size} for name, size in sizes.items()}
    assert prepared.entry["splits"] == expected
    assert prepared.entry["path"] == str(prepared.dataset_dir)


@pytest.mark.parametrize("build", EXPORTS, ids=lambda build: build.__name__)
def test_a_second_conversion_changes_nothing(build: Layout, tmp_path: Path) -> None:
    build(tmp_path / "export")
    target = convert(tmp_path / "export").dataset_dir
    before = state(target)
    convert(tmp_path / "export")
    assert state(target) == before


def test_the_pixels_of_each_image_come_with_its_annotations(tmp_path: Path) -> None:
    """The same image name in several splits, as Roboflow and CVAT projects have it."""
    roboflow_coco(tmp_path / "export")
    root = convert(tmp_path / "export").dataset_dir
    paths = dataset_paths(root)
    for split, folder, path in (("train", "train", paths.train_json), ("val", "valid", paths.val_json)):
        names = [entry["file_name"] for entry in json.loads(path.read_text())["images"]]
        assert names == [f"{folder}/a{number}_jpg.rf.0a1b.jpg" for number in range(len(names))], split
        for name in names:
            assert (root / "images" / name).read_bytes() == (tmp_path / "export" / name).read_bytes()


def test_all_keys_of_a_coco_export_are_kept(tmp_path: Path) -> None:
    cvat_coco(tmp_path / "export")
    paths = dataset_paths(convert(tmp_path / "export").dataset_dir)
    document = json.loads(paths.train_json.read_text())
    assert document["info"] == {"description": "made for a test"}
    assert document["licenses"] == [{"id": 0, "name": "", "url": ""}]
    assert {entry["license"] for entry in document["images"]} == {0}
    assert [entry["attributes"] for entry in document["annotations"]] == [
        {"occluded": False, "rust": "low"}
    ] * 4


def test_records_that_are_not_valid_are_kept_for_the_repair(tmp_path: Path) -> None:
    flat_coco(tmp_path / "export")
    document = json.loads((tmp_path / "export" / "coco.json").read_text())
    document["annotations"][0]["segmentation"] = [
        [[x, y] for x, y in zip(POLYGON[::2], POLYGON[1::2], strict=True)]
    ]
    document["annotations"].append({"id": 77, "image_id": 999, "category_id": 1, "segmentation": [POLYGON]})
    put(tmp_path / "export" / "coco.json", document)
    paths = dataset_paths(convert(tmp_path / "export").dataset_dir)
    written = [
        entry
        for path in (paths.train_json, paths.val_json)
        for entry in json.loads(path.read_text())["annotations"]
    ]
    assert sorted(entry["id"] for entry in written) == [1, 2, 3, 4, 5, 77]
    assert next(entry for entry in written if entry["id"] == 1) == document["annotations"][0]


def test_a_guessed_encoding_is_told(tmp_path: Path) -> None:
    flat_coco(tmp_path / "export")
    path = tmp_path / "export" / "coco.json"
    document = json.loads(path.read_text())
    document["categories"][0]["name"] = "螺丝"
    path.write_bytes(json.dumps(document, ensure_ascii=False).encode("gbk"))
    told = [item for item in convert(tmp_path / "export").findings if item.code == "json_encoding_guessed"]
    assert [(item.file, item.severity) for item in told] == [("coco.json", "warning")]
    assert "'螺丝'" in told[0].message


def test_images_that_nothing_lists_are_told_and_listed_ones_that_are_missing_keep_their_record(
    tmp_path: Path,
) -> None:
    flat_coco(tmp_path / "export")
    (tmp_path / "export" / "t0.jpg").unlink()
    for number in range(3):
        draw(tmp_path / "export" / f"more{number}.jpg", 60 + number)
    prepared = convert(tmp_path / "export")
    told = [item.message for item in prepared.findings if item.code == "image_unreferenced"]
    assert told == ["3 images are in no annotation file and were left out; the first is more0.jpg"]
    report = check(prepared.dataset_dir)
    assert report.counts["image_missing"] == 1
    assert sum(len(split.images) for split in report.splits.values()) == 5


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("t0.JPG", "t0.jpg"),
        ("C:\\photos\\t0.jpg", "t0.jpg"),
        ("my%20bolt.jpg", "my bolt.jpg"),
        ("t0.png", "t0.jpg"),
    ],
)
def test_an_image_is_found_under_another_name_and_that_is_told(
    listed: str, there: str, tmp_path: Path
) -> None:
    draw(tmp_path / "export" / there, 1)
    draw(tmp_path / "export" / "other.jpg", 2)
    put(tmp_path / "export" / "coco.json", coco([listed, "other.jpg"]))
    prepared = convert(tmp_path / "export")
    assert (prepared.dataset_dir / "images" / there).is_file()
    same_name = os.path.basename(listed.replace("\\", "/")) == there
    assert [item.code for item in prepared.findings] == ["image_name_differs"] * (not same_name)


def test_an_image_is_found_under_another_name_in_the_folder_of_its_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        draw(tmp_path / "export" / split / "a.jpg", len(split))
        put(tmp_path / "export" / split / "_annotations.coco.json", coco(["A.JPG"]))
    report = check(convert(tmp_path / "export").dataset_dir)
    assert [record.file_name for record in report.train.images] == ["train/a.jpg"]
    assert [record.file_name for record in report.val.images] == ["valid/a.jpg"]


def test_an_image_of_another_split_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    roboflow_coco(tmp_path / "export")
    (tmp_path / "export" / "valid" / "a1_jpg.rf.0a1b.jpg").unlink()  # train has an image of this name
    report = check(convert(tmp_path / "export").dataset_dir)
    assert report.counts["image_missing"] == 1
    assert len(report.val.images) == 2


def test_an_export_without_images_says_so(tmp_path: Path) -> None:
    cvat_coco(tmp_path / "export")
    shutil.rmtree(tmp_path / "export" / "images")
    with pytest.raises(NothingConverted, match="none of the 5 listed images is there.*Save images"):
        convert(tmp_path / "export")
    assert not (tmp_path / "output" / "dataset").exists()


def test_masks_and_drawings_are_not_taken_for_images(tmp_path: Path) -> None:
    for build in (eiseg_coco, labelme2coco):
        build(tmp_path / build.__name__)
        prepared = convert(tmp_path / build.__name__)
        assert "image_unreferenced" not in {item.code for item in prepared.findings}
        for path in (prepared.dataset_dir / "images").iterdir():
            sources = (tmp_path / build.__name__ / folder / path.name for folder in ("", "JPEGImages"))
            assert path.read_bytes() in [source.read_bytes() for source in sources if source.is_file()]


def test_the_classes_that_tools_list_for_themselves_stay_when_they_are_used(tmp_path: Path) -> None:
    roboflow_coco(tmp_path / "export")
    path = tmp_path / "export" / "valid" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["category_id"] = 0
    put(path, document)
    prepared = convert(tmp_path / "export")
    assert [category.name for category in check(prepared.dataset_dir).train.categories] == ["parts", "bolt"]
    assert "category_left_out" not in {item.code for item in prepared.findings}


def test_two_files_for_one_split_are_not_chosen_from(tmp_path: Path) -> None:
    flat_coco(tmp_path / "export")
    shutil.copy(tmp_path / "export" / "coco.json", tmp_path / "export" / "coco_old.json")
    for open_it in (dataset_paths, convert):  # without a conversion, too: no command that would fail is named
        with pytest.raises(UnclearDataset, match=r"coco\.json and coco_old\.json are both for all images"):
            open_it(tmp_path / "export")


def test_two_files_for_one_split_below_are_named_in_their_folder(tmp_path: Path) -> None:
    for name in ("instances_train.json", "train_2.json"):
        put(tmp_path / "export" / "train" / "data" / name, coco(["a.jpg"]))
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "export")
    for place in (tmp_path / "export", tmp_path / "packed.zip"):
        with pytest.raises(UnclearDataset) as error:
            dataset_paths(place)
        assert "instances_train.json and " in str(error.value)
        assert "train_2.json are both for the split 'train'" in str(error.value)


def test_masks_of_eiseg_alone_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "data" / f"t{number}.png", number)
        (tmp_path / "data" / "label").mkdir(exist_ok=True)
        mask_of(1).save(tmp_path / "data" / "label" / f"t{number}.png")
    for open_it in (dataset_paths, convert):
        with pytest.raises(UnclearDataset, match="show classes, not objects. Save as COCO in EISeg"):
            open_it(tmp_path / "data")


def test_pascal_voc_as_it_is_unpacked(tmp_path: Path) -> None:
    """The 20 classes without a guess, the border in no object, and only what the lists of its task name."""
    pascal_voc(tmp_path / "export")
    prepared = convert(tmp_path / "export")
    assert not prepared.findings
    report = check(prepared.dataset_dir)
    assert {name: len(split.images) for name, split in report.splits.items()} == {"train": 3, "val": 2}
    assert [category.name for category in report.train.categories][::19] == ["aeroplane", "tvmonitor"]
    for split in report.splits.values():
        items = [(item.category_id, item.image_id) for item in split.annotations]
        assert items == [(split.categories[0].id, record.id) for record in split.images]
        assert {rle_area(annotation_to_rle(item, 64, 96)) for item in split.annotations} == {AREA}


def test_polygons_beside_brush_labels_are_told(tmp_path: Path) -> None:
    label_studio_brush(tmp_path / "export")
    assert not convert(tmp_path / "export").findings
    path = tmp_path / "export" / "project-3.json"
    tasks = json.loads(path.read_text())
    points = [[1, 1], [9, 1], [9, 9]]
    tasks[2]["annotations"][0]["result"] += [
        {"type": "polygonlabels", "from_name": "p", "value": {"points": points, "polygonlabels": ["bolt"]}},
        {"type": "choices", "from_name": "c", "value": {"choices": ["rusty"]}},
    ]
    put(path, tasks)
    [found] = convert(tmp_path / "export").findings
    assert (found.code, found.message.split()[0]) == ("source_unsupported", "1")


def test_an_export_of_xanylabeling_whose_own_files_are_in_images_is_a_question(tmp_path: Path) -> None:
    xanylabeling_coco(tmp_path / "export")
    (tmp_path / "export" / "photos").rename(tmp_path / "export" / "images")
    with pytest.raises(ConfigError, match="several formats.*COCO, LabelMe"):
        convert(tmp_path / "export")
    assert not check(convert(tmp_path / "export", source="COCO").dataset_dir).errors


def test_a_wrong_source_names_what_is_there(tmp_path: Path) -> None:
    voc(tmp_path / "export")
    with pytest.raises(ConfigError, match=r"is YOLO, but .*Pascal VOC with masks.*Set it to VOC or auto"):
        convert(tmp_path / "export", source="YOLO")
    assert convert(tmp_path / "export", source="VOC").dataset_dir.is_dir()


def test_annotations_in_two_formats_are_a_question(tmp_path: Path) -> None:
    label_studio_yolo(tmp_path / "export")
    put(tmp_path / "export" / "result.json", coco([f"images/3f2a1b4c-t{number}.jpg" for number in range(5)]))
    with pytest.raises(ConfigError, match="several formats.*COCO, YOLO"):
        convert(tmp_path / "export")
    assert (convert(tmp_path / "export", source="COCO").entry or {})["format"] == "COCO"


def test_several_data_sets_are_not_merged(tmp_path: Path) -> None:
    voc(tmp_path / "export" / "monday")
    voc(tmp_path / "export" / "tuesday")
    with pytest.raises(DatasetError, match=r"several data sets \(monday \(VOC\), tuesday \(VOC\)\)"):
        convert(tmp_path / "export")


def test_what_is_not_recognised_is_described(tmp_path: Path) -> None:
    put(tmp_path / "data" / "labels.json", {"frames": [], "version": 2})
    put(tmp_path / "data" / "export.json", [{"data": {}, "predictions": []}])
    draw(tmp_path / "data" / "photos" / "a.jpg", 1)
    draw(tmp_path / "data" / "photos" / "b.jpg", 2)
    (tmp_path / "data" / "old").mkdir()
    (tmp_path / "data" / "old" / "first.zip").write_bytes(b"")
    for call in (lambda root: dataset_paths(root), lambda root: convert(root)):
        with pytest.raises(DatasetError) as error:
            call(tmp_path / "data")
        for text in (
            "photos/",
            "labels.json (keys frames, version)",
            "Label Studio's own format",
            "2 in photos",
        ):
            assert text in str(error.value)
        assert "old/first.zip" in str(error.value)


@pytest.mark.parametrize(
    ("content", "tool"),
    [
        ([{"image": "/data/a.jpg", "label": [{"polygonlabels": ["bolt"]}]}], "Label Studio"),
        ({"a.jpg1": {"regions": [{"region_attributes": {}}]}}, "VGG Image Annotator"),
        ([{"DataRow ID": "a", "Label": {}}], "Labelbox"),
        ({"version": "2.0", "schema_ref": "x", "item": {}}, "V7 Darwin"),
        ({"metadata": {}, "instances": [{"className": "bolt"}]}, "SuperAnnotate"),
        ([{"task_id": "a", "response": {}}], "Scale"),
    ],
)
def test_the_own_formats_of_other_tools_are_named(content: object, tool: str, tmp_path: Path) -> None:
    put(tmp_path / "data" / "export.json", content)
    draw(tmp_path / "data" / "photos" / "a.jpg", 1)
    with pytest.raises(DatasetError, match=f"{tool}.*COCO"):
        convert(tmp_path / "data")


def test_a_list_of_images_without_annotations_is_no_split(tmp_path: Path) -> None:
    coco_2017(tmp_path / "export")
    draw(tmp_path / "export" / "test2017" / "a.jpg", 99)
    put(tmp_path / "export/annotations/image_info_test2017.json", {**coco(["a.jpg"]), "annotations": []})
    prepared = convert(tmp_path / "export")
    assert not (prepared.dataset_dir / "annotations" / "instance_test.json").exists()
    left_out = [item.file for item in prepared.findings if item.code == "annotation_file_unused"]
    assert "annotations/image_info_test2017.json" in left_out


def test_a_new_split_of_an_export_keeps_everything(tmp_path: Path) -> None:
    split = SplitSettings(enable=True, train_percent=50, val_percent=50)
    roboflow_coco(tmp_path / "export")
    report = check(convert(tmp_path / "export", split=split).dataset_dir)
    assert {name: len(coco.images) for name, coco in report.splits.items()} == {"train": 3, "val": 3}
    assert sum(len(coco.annotations) for coco in report.splits.values()) == 6


def test_folds_and_almost_equal_images_of_an_export(tmp_path: Path) -> None:
    cvat_coco(tmp_path / "export")
    split = SplitSettings(enable=True, folds=5, group_by="duplicates")
    root = convert(tmp_path / "export", split=split).dataset_dir
    assert sorted(path.name for path in (root / "folds").iterdir()) == ["1", "2", "3", "4", "5"]
    assert not check(root / "folds" / "3").errors


@pytest.mark.parametrize("build", [flat_coco, voc])
def test_a_split_by_content_leaves_no_backup(build: Layout, tmp_path: Path) -> None:
    build(tmp_path / "export")
    split = SplitSettings(enable=True, train_percent=60, val_percent=40, group_by="duplicates")
    root = convert(tmp_path / "export", split=split).dataset_dir
    assert [path.name for path in root.rglob("*") if ".bak" in path.name] == []
    assert json.loads((root / "conversion.json").read_text())["source"] == str(tmp_path / "export")


def test_files_of_the_user_are_not_replaced(tmp_path: Path) -> None:
    flat_coco(tmp_path / "export")
    put(tmp_path / "output" / "dataset" / "thesis.txt", "all my work")
    with pytest.raises(ConfigError, match="no conversion wrote"):
        convert(tmp_path / "export")
    with pytest.raises(ConfigError, match="cannot replace or contain"):
        convert(tmp_path / "export", dst_dir=str(tmp_path))
    assert (tmp_path / "output" / "dataset" / "thesis.txt").read_text() == "all my work"
    assert convert(tmp_path / "export", dst_dir=str(tmp_path / "new")).dataset_dir == tmp_path / "new"


def test_another_source_keeps_the_earlier_conversion(tmp_path: Path) -> None:
    flat_coco(tmp_path / "export")
    voc(tmp_path / "other")
    convert(tmp_path / "export")
    convert(tmp_path / "other")
    kept = tmp_path / "output" / "dataset.bak"
    assert sorted(path.name for path in (kept / "images").iterdir()) == [
        f"t{number}.jpg" for number in range(5)
    ]
    assert not check(tmp_path / "output" / "dataset").errors


def test_labelme_files_beside_images_are_converted_in_their_folder(tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "data" / "images" / f"p{number}.jpg", number)
        labelme(tmp_path / "data" / "annotations" / f"p{number}.json", f"../images/p{number}.jpg")
    assert convert(tmp_path / "data").dataset_dir == tmp_path / "data"
    assert not check(tmp_path / "data").errors
    labelme(tmp_path / "data" / "annotations" / "p5.json", "../images/p5.jpg")
    draw(tmp_path / "data" / "images" / "p5.jpg", 5)
    (tmp_path / "data" / "train_anno_list.txt").unlink()
    (tmp_path / "data" / "val_anno_list.txt").unlink()
    convert(tmp_path / "data")  # the files in LabelMe's format are still the source
    assert sum(len(coco.images) for coco in check(tmp_path / "data").splits.values()) == 6
