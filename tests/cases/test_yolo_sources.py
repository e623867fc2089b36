"""YOLO data sets as tools write them and people move them: paths, units, classes, lists, left-over files.

- CVAT, format Ultralytics YOLO Segmentation: ``data.yaml`` with ``path: .`` and one list for each subset; the
  lines of a list begin with ``data/``; subsets are named Train, Validation and Test; images without objects
  have no label file; a track number may follow the points (cvat-ai/datumaro, exporter.py of
  src/datumaro/plugins/data_formats/yolo, YoloUltralyticsSegmentationExporter).
- Label Studio, format YOLO: ``classes.txt``, ``notes.json``, ``images``, ``labels``
  (HumanSignal/label-studio-sdk, src/label_studio_sdk/converter/converter.py, convert_to_yolo).
- Roboflow: ``train: ../train/images``, ``val: ../valid/images``, ``test: ../test/images`` beside the folders.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import CASES, check_dataset, copy_case
from converted import save_image

from paddlex_seg.data.findings import Finding
from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.yolo import read_yolo
from paddlex_seg.errors import DatasetError

CONVERT = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "YOLO"}
SQUARE = "0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"  # 15 x 10 pixels of an image of 60 x 40
HALF_OF_LARGE = "50 40 150 40 150 140 50 140"  # 10,000 pixels


def add(
    root: Path, image: str, lines: str | None = f"0 {SQUARE}\n", size_hw: tuple[int, int] = (40, 60)
) -> None:
    """An image and its label file."""
    save_image(root / image, size_hw)
    if lines is not None:
        label = root / "/labels/".join(f"/{image}".rsplit("/images/", 1)).lstrip("/")
        label = label.with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(lines, encoding="utf-8")


def settings(root: Path, name: str = "data.yaml", **entries: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"names": ["bolt"], **entries}, allow_unicode=True)
    (root / name).write_text(text, encoding="utf-8")


def objects(conversion: Conversion) -> dict[str, dict[str, int]]:
    """The number of objects of each image, by split."""
    found = {}
    for split, coco in conversion.splits.items():
        of_image = Counter(item.image_id for item in coco.annotations)
        found[split] = {record.file_name: of_image[record.id] for record in coco.images}
        assert len(found[split]) == len(coco.images)
    return found


def areas(conversion: Conversion) -> list[float | None]:
    return [item.area for coco in conversion.splits.values() for item in coco.annotations]


def codes(conversion: Conversion) -> list[str]:
    return [item.code for item in conversion.findings]


def the_finding(conversion: Conversion, code: str) -> Finding:
    (found,) = (item for item in conversion.findings if item.code == code)
    return found


def one_file(root: Path, lines: str, size_hw: tuple[int, int] = (40, 60), **entries: Any) -> Conversion:
    add(root, "images/a.jpg", lines, size_hw)
    settings(root, **entries)
    return read_yolo(root)


# ---- where the images are


def test_the_set_may_be_one_folder_below_data_yaml(tmp_path: Path) -> None:
    data = copy_case("Y03-ds-below", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    assert desk.exit_code == 0, desk.text
    conversion = read_yolo(CASES / "Y03-ds-below")
    assert objects(conversion) == {
        "train": {"ds/train/p0.jpg": 1, "ds/train/p1.jpg": 1},
        "val": {"ds/valid/p2.jpg": 1},
    }
    assert conversion.findings == ()


@pytest.mark.parametrize(
    ("entries", "below"),
    [
        ({"train": "../train/images", "val": "../valid/images"}, ""),
        ({"path": "/content/parts-3", "train": "train/images", "val": "valid/images"}, ""),
        ({"train": "/content/parts-3/train/images", "val": "/content/parts-3/valid/images"}, ""),
        ({"train": "D:\\data\\parts\\train\\images", "val": "D:\\data\\parts\\valid\\images"}, ""),
        ({"path": "../datasets/parts", "train": "train/images", "val": "valid/images"}, ""),
        ({"path": "parts", "train": "train/images", "val": "valid/images"}, "parts/"),
        ({"train": "./train/images/", "val": ["valid/images"]}, "a/b/"),
        ({"path": "", "train": "train", "valid": "valid", "test": ""}, ""),
    ],
    ids=[
        "roboflow",
        "path",
        "absolute",
        "windows",
        "beside",
        "path below",
        "two below",
        "folders above images",
    ],
)
def test_paths_of_other_machines_lead_into_the_set(
    tmp_path: Path, entries: dict[str, Any], below: str
) -> None:
    add(tmp_path, f"{below}train/images/a.jpg")
    add(tmp_path, f"{below}valid/images/b.jpg")
    settings(tmp_path, **entries)
    conversion = read_yolo(tmp_path)
    assert objects(conversion) == {"train": {f"{below}train/a.jpg": 1}, "val": {f"{below}valid/b.jpg": 1}}
    assert conversion.findings == ()


def test_the_set_beside_a_copy_elsewhere_is_the_one_that_is_read(tmp_path: Path) -> None:
    for root in ("new", "old"):
        add(tmp_path / root, "images/train/a.jpg")
        add(tmp_path / root, "images/val/b.jpg")
    settings(tmp_path / "new", path=str(tmp_path / "old"), train="images/train", val="images/val")
    conversion = read_yolo(tmp_path / "new")
    assert objects(conversion) == {"train": {"train/a.jpg": 1}, "val": {"val/b.jpg": 1}}
    assert conversion.images == {}  # all images are in new/images


def test_data_yaml_may_be_in_the_only_folder(tmp_path: Path) -> None:
    add(tmp_path, "export/train/images/a.jpg")
    add(tmp_path, "export/valid/images/b.jpg")
    settings(tmp_path / "export", train="../train/images", val="../valid/images")
    assert objects(read_yolo(tmp_path)) == {
        "train": {"export/train/a.jpg": 1},
        "val": {"export/valid/b.jpg": 1},
    }


def test_two_folders_that_fit_an_entry_are_not_chosen_from(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        add(tmp_path, f"{folder}/train/images/a.jpg")
    add(tmp_path, "one/val/images/b.jpg")
    settings(tmp_path, train="train/images", val="val/images")
    conversion = read_yolo(tmp_path)
    assert "train: train/images" in the_finding(conversion, "list_entry_missing").message


def test_export_of_cvat(tmp_path: Path) -> None:
    for subset, names in (("Train", ("a", "b")), ("Validation", ("c",))):
        for name in names:
            add(tmp_path, f"images/{subset}/{name}.jpg", None if name == "b" else f"0 {SQUARE}\n")
        lines = "".join(f"data/images/{subset}/{name}.jpg\n" for name in names)
        (tmp_path / f"{subset}.txt").write_text(lines)
    settings(tmp_path, path=".", names={0: "bolt"}, Train="Train.txt", Validation="Validation.txt")
    conversion = read_yolo(tmp_path)
    assert objects(conversion) == {
        "train": {"Train/a.jpg": 1, "Train/b.jpg": 0},
        "val": {"Validation/c.jpg": 1},
    }
    assert [(item.code, item.severity) for item in conversion.findings] == [("image_without_labels", "info")]


def test_export_of_cvat_with_one_subset_and_track_numbers(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        add(tmp_path, f"images/train/{name}.jpg", f"0 {SQUARE} {number}\n0 {SQUARE} 7\n")
    (tmp_path / "train.txt").write_text("data/images/train/a.jpg\ndata/images/train/b.jpg\n")
    settings(tmp_path, path=".", names={0: "bolt"}, train="train.txt")
    conversion = read_yolo(tmp_path)
    assert objects(conversion) == {"all": {"train/a.jpg": 2, "train/b.jpg": 2}}
    assert areas(conversion) == [150] * 4
    assert codes(conversion) == ["label_extra_number"]


def test_export_of_label_studio(tmp_path: Path) -> None:
    add(tmp_path, "images/8f3a1c2d-a.jpg", f"1 {SQUARE}\n")
    add(tmp_path, "images/0b77e9aa-b.jpg", "")
    (tmp_path / "classes.txt").write_text("_background_\nbolt\n")
    notes = {"categories": [{"id": 0, "name": "_background_"}, {"id": 1, "name": "bolt"}], "info": {}}
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    conversion = read_yolo(tmp_path)
    assert objects(conversion) == {"all": {"0b77e9aa-b.jpg": 0, "8f3a1c2d-a.jpg": 1}}
    coco = conversion.splits["all"]
    names = {category.id: category.name for category in coco.categories}
    assert [names[item.category_id] for item in coco.annotations] == ["bolt"]
    assert conversion.findings == ()


# ---- entries and lists that lead nowhere


def test_a_val_entry_that_leads_nowhere_is_an_error_and_no_images_are_taken_from_train(
    tmp_path: Path,
) -> None:
    data = copy_case("Y11-val-missing", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    assert desk.exit_code == 3
    (message,) = desk.messages("list_entry_missing")
    assert "val: images/val2017 leads nowhere; looked for" in message and "/images/val2017" in message
    assert objects(read_yolo(CASES / "Y11-val-missing")) == {
        "train": {f"train/p{number}.jpg": 1 for number in range(4)},
        "val": {},
    }


def test_a_train_entry_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    add(tmp_path, "images/val/a.jpg")
    settings(tmp_path, train="images/training", val="images/val")
    conversion = read_yolo(tmp_path)
    assert the_finding(conversion, "list_entry_missing").severity == "error"
    assert objects(conversion) == {"train": {}, "val": {"val/a.jpg": 1}}


def test_the_usual_folder_is_named_and_not_taken(tmp_path: Path) -> None:
    add(tmp_path, "images/train/a.jpg")
    add(tmp_path, "images/val/b.jpg")
    settings(tmp_path, train="images/train", val="images/val2017")
    conversion = read_yolo(tmp_path)
    assert "images/val" in the_finding(conversion, "list_entry_missing").hint
    assert objects(conversion)["val"] == {}


def test_a_test_entry_that_leads_nowhere_is_a_warning(tmp_path: Path) -> None:
    """Roboflow writes the entry even if there are no test images."""
    add(tmp_path, "train/images/a.jpg")
    add(tmp_path, "valid/images/b.jpg")
    settings(tmp_path, train="../train/images", val="../valid/images", test="../test/images")
    conversion = read_yolo(tmp_path)
    assert list(conversion.splits) == ["train", "val"]
    assert [(item.code, item.severity) for item in conversion.findings] == [("test_entry_missing", "warning")]


def test_no_entry_leads_anywhere(tmp_path: Path) -> None:
    add(tmp_path, "pictures/images/a.jpg")
    settings(tmp_path, train="images/train", val="images/val")
    with pytest.raises(
        DatasetError, match="train: images/train leads nowhere.*val: images/val leads nowhere"
    ):
        read_yolo(tmp_path)


def test_lines_that_lead_nowhere_are_one_error_with_their_number(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add(tmp_path, f"images/{name}.jpg")
    (tmp_path / "train.txt").write_text("./images/a.jpg\nimages/x.jpg\nimages/y.jpg\n")
    (tmp_path / "val.txt").write_text("/home/x/parts/images/b.jpg\n")
    settings(tmp_path, train="train.txt", val="val.txt")
    conversion = read_yolo(tmp_path)
    found = the_finding(conversion, "list_entry_missing")
    assert (found.file, found.severity) == ("train.txt", "error")
    assert "2 of 3 lines lead to no image; the first is 'images/x.jpg'" in found.message
    assert objects(conversion) == {"train": {"a.jpg": 1}, "val": {"b.jpg": 1}}


@pytest.mark.parametrize("kind", ["list", "folder"])
def test_an_empty_val_is_an_error(tmp_path: Path, kind: str) -> None:
    add(tmp_path, "images/train/a.jpg")
    if kind == "list":
        (tmp_path / "val.txt").write_text("\n")
    else:
        (tmp_path / "images/val").mkdir()
    settings(tmp_path, train="images/train", val="val.txt" if kind == "list" else "images/val")
    conversion = read_yolo(tmp_path)
    assert "val" in the_finding(conversion, "list_entry_missing").message
    assert objects(conversion)["val"] == {}


def test_labelled_images_in_no_list_are_counted(tmp_path: Path) -> None:
    for name in "abcd":
        add(tmp_path, f"images/{name}.jpg")
    (tmp_path / "train.txt").write_text("images/a.jpg\n")
    (tmp_path / "val.txt").write_text("images/b.jpg\n")
    settings(tmp_path, train="train.txt", val="val.txt")
    found = the_finding(read_yolo(tmp_path), "source_unlisted")
    assert (
        "2 label files and their images are in no split" in found.message and "labels/c.txt" in found.message
    )


def test_a_split_of_another_name_is_reported(tmp_path: Path) -> None:
    add(tmp_path, "images/train/a.jpg")
    add(tmp_path, "images/holdout/b.jpg")
    settings(tmp_path, train="images/train", holdout="images/holdout")
    messages = [item.message for item in read_yolo(tmp_path).findings if item.code == "source_unlisted"]
    assert any("holdout: images/holdout is neither train, val nor test" in message for message in messages)


# ---- units of coordinates


def test_coordinates_that_are_not_divided_are_named(tmp_path: Path) -> None:
    data = copy_case("Y05-pixel-coordinates", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    assert desk.exit_code == 3
    assert len(desk.messages("coordinates_unclear")) == 3
    assert all("not divided by width and height" in text for text in desk.messages("coordinates_unclear"))


@pytest.mark.parametrize(
    "line",
    [HALF_OF_LARGE, "50.0 40.5 150.0 40.5 150.0 140.5 50.0 140.5", "0 0 100 0 100 100 0 100"],
    ids=["whole", "halves", "at the corner"],
)
def test_pixels_inside_the_image_are_read_as_pixels(tmp_path: Path, line: str) -> None:
    conversion = one_file(tmp_path, f"0 {line}\n0 {HALF_OF_LARGE}\n", size_hw=(240, 320))
    assert areas(conversion) == [10_000, 10_000]
    found = the_finding(conversion, "coordinates_scaled")
    assert found.severity == "warning" and "in pixels, not divided by width and height" in found.message


def test_pixels_of_a_small_image_are_read_as_pixels(tmp_path: Path) -> None:
    conversion = one_file(tmp_path, "0 10 10 50 10 50 40 10 40\n", size_hw=(64, 96))
    assert areas(conversion) == [1200] and codes(conversion) == ["coordinates_scaled"]


def test_percent_is_read_as_percent(tmp_path: Path) -> None:
    conversion = one_file(tmp_path, "0 25 25 75 25 75 99.5 25 99.5\n", size_hw=(40, 60))
    assert areas(conversion) == [30 * 30]
    assert "in percent" in the_finding(conversion, "coordinates_scaled").message


def test_what_may_be_pixels_or_percent_is_an_error(tmp_path: Path) -> None:
    conversion = one_file(tmp_path, "0 10.5 10.5 50.5 10.5 50.5 40.5 10.5 40.5\n", size_hw=(480, 640))
    found = the_finding(conversion, "coordinates_unclear")
    assert found.severity == "error" and "pixels or percent" in found.message
    assert areas(conversion) == []


def test_mixed_units_are_an_error_in_each_file(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg", f"0 {SQUARE}\n0 10 10 30 10 30 30 10 30\n")
    add(tmp_path, "images/b.jpg", "0 10 10 30 10 30 30 10 30\n")
    settings(tmp_path)
    conversion = read_yolo(tmp_path)
    assert areas(conversion) == [150]
    found = [item for item in conversion.findings if item.code == "coordinates_unclear"]
    assert [item.file for item in found] == ["labels/a.txt", "labels/b.txt"]
    assert "1 lines (2) have coordinates up to 30" in found[0].message
    assert "may be pixels" in found[0].message


@pytest.mark.parametrize(
    "line",
    ["0 0 1.02 0 1.02 1.01 -0.03 1", "0.5 0.5 1.6 0.5 1.6 0.9 0.5 0.9", "0.2 0.2 3.5 0.2 3.5 0.8 0.2 0.8"],
    ids=["a little", "half an image", "far, but begins inside"],
)
def test_polygons_that_leave_the_image_are_still_fractions(tmp_path: Path, line: str) -> None:
    conversion = one_file(tmp_path, f"0 {line}\n0 {SQUARE}\n")
    assert len(areas(conversion)) == 2 and conversion.findings == ()


# ---- classes


def test_a_class_beyond_the_names_is_named_with_the_likely_cause(tmp_path: Path) -> None:
    data = copy_case("Y09-class-off-by-one", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    assert desk.exit_code == 3
    assert "1 lines have the class 1; expected 0..0" in desk.messages("label_unknown")[0]
    assert "count from 1" in read_yolo(data).findings[0].hint


def test_classes_counted_from_1_are_told_from_a_single_wrong_one(tmp_path: Path) -> None:
    from_1 = one_file(tmp_path / "a", f"1 {SQUARE}\n2 {SQUARE}\n", names=["bolt", "nut"])
    assert "count from 1" in the_finding(from_1, "label_unknown").hint
    wrong = one_file(tmp_path / "b", f"0 {SQUARE}\n2 {SQUARE}\n", names=["bolt", "nut"])
    assert "class 2; expected 0..1" in the_finding(wrong, "label_unknown").message
    assert "count from 1" not in the_finding(wrong, "label_unknown").hint


def test_negative_and_decimal_classes(tmp_path: Path) -> None:
    conversion = one_file(tmp_path, f"-1 {SQUARE}\n0.0 {SQUARE}\n1e0 {SQUARE}\n", names=["bolt", "nut"])
    assert "1 lines have the class -1" in the_finding(conversion, "label_unknown").message
    assert len(areas(conversion)) == 2


@pytest.mark.parametrize(
    ("text", "names", "code"),
    [
        ("names: [no, 007, on]\n", ["no", "007", "on"], None),
        ("names:\n  0: bolt\n  2: nut\n", ["bolt", "nut"], "names_inconsistent"),
        ("nc: 3\nnames: [bolt, nut]\n", ["bolt", "nut"], "names_inconsistent"),
        ("names: [bolt, nut, bolt]\n", ["bolt", "nut"], "names_inconsistent"),
        ("names: [bolt, null]\n", ["bolt", "null"], "label_not_text"),
        ("nc: 2\nnames: ['bolt', 'nut']\n", ["bolt", "nut"], None),
    ],
    ids=["no is a text", "gap", "nc", "repeated", "null", "sound"],
)
def test_names_as_they_are_written(tmp_path: Path, text: str, names: list[str], code: str | None) -> None:
    add(tmp_path, "images/a.jpg")
    (tmp_path / "data.yaml").write_text(text)
    conversion = read_yolo(tmp_path)
    assert [category.name for category in conversion.splits["all"].categories] == names
    assert codes(conversion) == ([] if code is None else [code])


# ---- lines and files


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff0 {SQUARE}\r\n\r\n0 {SQUARE}\r\n",
        f"0\t{SQUARE}\n0  {SQUARE} \n".replace(" ", "\t"),
        f"0 {SQUARE}\n0 {SQUARE}\n".replace(" ", ","),
        f"0 {SQUARE}\n0 {SQUARE}\n".replace(" ", ", "),
        f"0 {SQUARE}\n0 {SQUARE}".replace(" ", ";"),
        f"0 {SQUARE}\n0 {SQUARE}\n".replace(".", ","),
    ],
    ids=["Windows and mark", "tabs", "commas", "commas and blanks", "semicolons", "decimal commas"],
)
def test_lines_of_other_programs(tmp_path: Path, content: str) -> None:
    conversion = one_file(tmp_path, content)
    assert areas(conversion) == [150, 150] and conversion.findings == ()


def test_a_confidence_after_all_points_cannot_be_told_from_a_lost_coordinate(tmp_path: Path) -> None:
    conversion = one_file(tmp_path, f"0 {SQUARE} 0.91\n0 {SQUARE} 0.5\n")
    assert areas(conversion) == [] and codes(conversion) == ["shape_unusable"] * 2


def test_label_files_may_end_in_upper_case(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg")
    (tmp_path / "labels/a.txt").rename(tmp_path / "labels/a.TXT")
    settings(tmp_path)
    conversion = read_yolo(tmp_path)
    assert areas(conversion) == [150] and conversion.findings == ()


def test_one_line_with_a_number_too_many_is_an_error(tmp_path: Path) -> None:
    conversion = one_file(tmp_path, f"0 {SQUARE}\n0 {SQUARE} 0.91\n")
    assert areas(conversion) == [150] and codes(conversion) == ["shape_unusable"]


def test_oriented_boxes_are_polygons(tmp_path: Path) -> None:
    assert areas(one_file(tmp_path, "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n")) == [
        pytest.approx(300, abs=40)
    ]


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2 0.2 9"], ids=["box", "with a track number"]
)
def test_detection_labels_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(DatasetError, match="all 2 lines of the label files are boxes"):
        one_file(tmp_path, f"{line}\n{line}\n")


def test_pose_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="kpt_shape"):
        one_file(tmp_path, "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 2\n", kpt_shape=[2, 3])


def test_two_images_of_one_label_file_are_an_error(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg")
    save_image(tmp_path / "images/a.png")
    settings(tmp_path)
    found = the_finding(read_yolo(tmp_path), "source_shared")
    assert found.severity == "error" and "images/a.jpg, images/a.png" in found.message


def test_labels_without_an_image_are_an_error(tmp_path: Path) -> None:
    add(tmp_path, "images/train/a.jpg")
    for name in ("b", "c"):
        (tmp_path / f"labels/train/{name}.txt").write_text(f"0 {SQUARE}\n")
    (tmp_path / "labels/classes.txt").write_text("bolt\n")
    settings(tmp_path, train="images/train")
    found = the_finding(read_yolo(tmp_path), "label_without_image")
    assert found.severity == "error" and "2 label files have no image" in found.message


def test_labels_in_an_unexpected_folder_are_named(tmp_path: Path) -> None:
    for name in "abc":
        add(tmp_path, f"images/train/{name}.jpg", f"0 {SQUARE}\n" if name == "a" else None)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/b.txt").write_text(f"0 {SQUARE}\n")
    (tmp_path / "annotations/readme.txt").write_text("labels of b\n")
    settings(tmp_path, train="images/train")
    conversion = read_yolo(tmp_path)
    found = the_finding(conversion, "label_misplaced")
    assert found.severity == "error" and "annotations/b.txt" in found.message
    assert (
        "1 images have no label file and are background"
        in the_finding(conversion, "image_without_labels").message
    )


def test_all_labels_in_an_unexpected_folder_are_named(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg", None)
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt/a.txt").write_text(f"0 {SQUARE}\n")
    settings(tmp_path)
    with pytest.raises(DatasetError, match="1 text files have names of images, such as txt/a.txt"):
        read_yolo(tmp_path)


def test_labels_without_any_image_are_counted_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"0 {SQUARE}\n")
    settings(tmp_path)
    with pytest.raises(DatasetError, match="no images found.*1 label files were found"):
        read_yolo(tmp_path)


def test_linked_folders_are_followed_and_their_files_count_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    add(data, "store/images/train/a.jpg")
    add(tmp_path, "images/val/b.jpg")
    for folder in ("images", "labels"):
        (data / folder).mkdir()
        (data / folder / "train").symlink_to(f"../store/{folder}/train", target_is_directory=True)
        (data / folder / "val").symlink_to(tmp_path / folder / "val", target_is_directory=True)
    settings(data, train="images/train", val="images/val")
    conversion = read_yolo(data)
    assert objects(conversion) == {"train": {"train/a.jpg": 1}, "val": {"val/b.jpg": 1}}
    assert conversion.findings == ()


def test_images_without_labels_in_no_split_are_counted(tmp_path: Path) -> None:
    add(tmp_path, "images/train/a.jpg")
    for name in ("b", "c"):
        add(tmp_path, f"images/new/{name}.jpg", None)
    settings(tmp_path, train="images/train")
    conversion = read_yolo(tmp_path)
    assert "2 images without labels are in no split" in the_finding(conversion, "image_unreferenced").message


def test_dead_links_are_findings(tmp_path: Path) -> None:
    for name in "abc":
        add(tmp_path, f"images/{name}.jpg", None if name == "c" else f"0 {SQUARE}\n")
    (tmp_path / "images/b.jpg").unlink()
    for name in ("images/b.jpg", "labels/c.txt"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    settings(tmp_path)
    conversion = read_yolo(tmp_path)
    assert objects(conversion) == {"all": {"a.jpg": 1, "c.jpg": 0}}
    assert the_finding(conversion, "source_unreadable").file == "labels/b.txt"


@pytest.mark.parametrize("folder", ["images/train", "images", "."])
def test_labels_beside_the_images_are_read(tmp_path: Path, folder: str) -> None:
    for name in "ab":
        save_image(tmp_path / folder / f"{name}.jpg", (40, 60))
        (tmp_path / folder / f"{name}.txt").write_text(f"0 {SQUARE}\n")
    (tmp_path / "classes.txt").write_text("bolt\n")
    conversion = read_yolo(tmp_path)
    assert sum(sum(counts.values()) for counts in objects(conversion).values()) == 2
    assert conversion.findings == ()


def test_captions_beside_the_images_are_no_labels(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg")
    add(tmp_path, "images/b.jpg", None)
    (tmp_path / "images/b.txt").write_text("a bolt on a table\n")
    settings(tmp_path)
    conversion = read_yolo(tmp_path)
    assert objects(conversion) == {"all": {"a.jpg": 1, "b.jpg": 0}}
    assert the_finding(conversion, "image_without_labels").message.startswith("1 images")


@pytest.mark.parametrize(("images", "labels"), [("Images", "Labels"), ("IMAGES", "LABELS")])
def test_folders_in_upper_case_are_read(tmp_path: Path, images: str, labels: str) -> None:
    save_image(tmp_path / images / "train/a.JPG", (40, 60))
    (tmp_path / labels / "train").mkdir(parents=True)
    (tmp_path / labels / "train/a.TXT").write_text(f"0 {SQUARE}\n")
    settings(tmp_path, train=f"{images}/train")
    assert sum(objects(read_yolo(tmp_path))["all"].values()) == 1


def test_key_points_are_no_polygons(tmp_path: Path) -> None:
    for name in "ab":
        add(tmp_path, f"images/{name}.jpg", "0 0.3 0.3 0.2 0.2 0.3 0.3 2 0.4 0.4 1 0.5 0.5 0\n")
    settings(tmp_path)
    with pytest.raises(DatasetError, match="key points"):
        read_yolo(tmp_path)


def test_triangles_with_track_numbers_are_no_key_points(tmp_path: Path) -> None:
    for track, name in enumerate("ab", start=1):
        add(tmp_path, f"images/{name}.jpg", f"0 0.25 0.25 0.5 0.25 0.5 0.5 {track}\n")
    settings(tmp_path)
    assert objects(read_yolo(tmp_path)) == {"all": {"a.jpg": 1, "b.jpg": 1}}
