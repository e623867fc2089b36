from pathlib import Path

import numpy as np
import pytest
import yaml
from converted import assert_same_objects, coco_file, encode, labelled_masks, ring_mask, save_image

from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.yolo import read_yolo, write_yolo
from paddlex_seg.errors import DatasetError

SQUARE = "0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"


def add(root: Path, image: str, lines: str | None = None, size_hw: tuple[int, int] = (40, 60)) -> None:
    """An image and its label file."""
    save_image(root / image, size_hw)
    if lines is not None:
        label = root / "/labels/".join(f"/{image}".rsplit("/images/", 1)).lstrip("/")
        label = label.with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(lines)


def settings(root: Path, **entries: object) -> None:
    (root / "data.yaml").write_text(yaml.safe_dump(entries, allow_unicode=True), encoding="utf-8")


def names_by_split(conversion: Conversion) -> dict[str, list[str]]:
    return {split: [record.file_name for record in coco.images] for split, coco in conversion.splits.items()}


def test_coordinates_become_pixels_of_the_image(tmp_path: Path) -> None:
    add(tmp_path, "images/train/a.jpg", f"1 {SQUARE}\n\n0 0 0 1.02 0 1 1 -0.01 1\n")
    settings(tmp_path, names=["bolt", "washer"], train="images/train")
    coco = read_yolo(tmp_path).splits["all"]
    assert coco.annotations[0].segmentation == [[15, 10, 30, 10, 30, 20, 15, 20]]
    assert coco.annotations[1].segmentation == [[0, 0, 61.2, 0, 60, 40, -0.6, 40]]
    assert [item.category_id for item in coco.annotations] == [2, 1]
    assert (coco.annotations[0].bbox_xywh, coco.annotations[0].area) == ((15, 10, 15, 10), 150)


def test_coordinates_are_those_of_the_upright_image(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg", (40, 60), orientation=6)
    add(tmp_path, "images/b.jpg", f"0 {SQUARE}\n")
    (tmp_path / "labels/a.txt").write_text(f"0 {SQUARE}\n")
    settings(tmp_path, names={0: "bolt"})
    coco = read_yolo(tmp_path).splits["all"]
    assert (coco.images[0].height, coco.images[0].width) == (60, 40)
    assert coco.annotations[0].segmentation == [[10, 15, 20, 15, 20, 30, 10, 30]]


@pytest.mark.parametrize(
    ("entries", "folders", "expected"),
    [
        (
            {"path": "../datasets/parts", "train": "images/train", "val": "images/val"},
            {"train": "images/train", "val": "images/val"},
            {"train": ["train/a.jpg"], "val": ["val/a.jpg"]},
        ),
        (
            {"train": "../train/images", "val": "../valid/images", "test": "../test/images"},
            {"train": "train/images", "val": "valid/images", "test": "test/images"},
            {"train": ["train/a.jpg"], "val": ["valid/a.jpg"], "test": ["test/a.jpg"]},
        ),
        (
            {},
            {"train": "images/train", "val": "images/val"},
            {"train": ["train/a.jpg"], "val": ["val/a.jpg"]},
        ),
        (
            {"train": ["images/one", "images/two"], "val": "images/val"},
            {"train": "images/one", "more": "images/two", "val": "images/val"},
            {"train": ["one/a.jpg", "two/a.jpg"], "val": ["val/a.jpg"]},
        ),
        ({"train": "images", "val": "images"}, {"all": "images/deep/er"}, {"all": ["deep/er/a.jpg"]}),
        ({}, {"all": "images"}, {"all": ["a.jpg"]}),
    ],
    ids=["ultralytics", "roboflow", "no keys", "several folders", "val is train", "flat"],
)
def test_layouts(
    tmp_path: Path, entries: dict, folders: dict[str, str], expected: dict[str, list[str]]
) -> None:
    for folder in folders.values():
        add(tmp_path, f"{folder}/a.jpg", f"0 {SQUARE}\n")
    settings(tmp_path, names=["bolt"], **entries)
    conversion = read_yolo(tmp_path)
    assert names_by_split(conversion) == expected
    codes = [item.code for item in conversion.findings]
    assert codes == ["split_divided"] * ("val" in entries and entries["val"] == entries["train"])
    assert all(len(coco.annotations) == len(coco.images) for coco in conversion.splits.values())
    for name in (name for names in expected.values() for name in names):
        source = conversion.images.get(name, tmp_path / "images" / name)
        assert isinstance(source, Path) and source.is_file()


def test_list_files_name_the_images_of_a_split(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        add(tmp_path, f"images/{name}.jpg", f"0 {SQUARE}\n")
    (tmp_path / "train.txt").write_text("./images/c.jpg\nimages/a.jpg\n")
    (tmp_path / "val.txt").write_text("./images/b.jpg\n")
    settings(tmp_path, names=["bolt"], train="train.txt", val="val.txt")
    assert names_by_split(read_yolo(tmp_path)) == {"train": ["c.jpg", "a.jpg"], "val": ["b.jpg"]}


def test_second_conversion_finds_what_the_first_one_put_into_images(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        add(tmp_path, f"{split}/images/a.jpg", f"0 {SQUARE}\n")
    settings(tmp_path, names=["bolt"])
    first = read_yolo(tmp_path)
    assert names_by_split(first) == {"train": ["train/a.jpg"], "val": ["valid/a.jpg"]}
    for name in first.images:
        save_image(tmp_path / "images" / name)
    second = read_yolo(tmp_path)
    assert second.splits == first.splits and second.images == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["螺栓", "washer"], ["螺栓", "washer"]),
        ({1: "washer", 0: "bolt"}, ["bolt", "washer"]),
        ({3: "washer", 0: "bolt"}, ["bolt", "washer"]),
    ],
    ids=["list", "mapping", "mapping with a gap"],
)
def test_names_are_categories_in_their_order(tmp_path: Path, names: object, expected: list[str]) -> None:
    number = max(names) if isinstance(names, dict) else 1
    add(tmp_path, "images/a.jpg", f"{number} {SQUARE}\n")
    settings(tmp_path, names=names)
    coco = read_yolo(tmp_path).splits["all"]
    assert [(category.id, category.name) for category in coco.categories] == list(enumerate(expected, 1))
    assert coco.annotations[0].category_id == 2


def test_names_may_stand_in_classes_txt(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg", f"1 {SQUARE}\n")
    (tmp_path / "classes.txt").write_text("bolt\nwasher\n")
    coco = read_yolo(tmp_path).splits["all"]
    assert labelled_masks(coco)["a.jpg"][0][0] == "washer"


def test_unusable_lines_are_findings_with_their_number_and_the_rest_is_converted(tmp_path: Path) -> None:
    lines = [
        f"0 {SQUARE}",
        "0 0.5 0.5 0.2 0.2",
        "0 0.1 0.1 0.2 0.2 0.3",
        "bolt 0.1 0.1 0.2 0.2 0.3 0.3",
        "0 0.1 0.1 0.2 0.2 nan 0.3",
        f"7 {SQUARE}",
        f"7 {SQUARE}",
        f"0.5 {SQUARE}",
        "0 0.1 0.1",
    ]
    add(tmp_path, "images/a.jpg", "\n".join(lines))
    settings(tmp_path, names=["bolt"])
    conversion = read_yolo(tmp_path)
    assert len(conversion.splits["all"].annotations) == 1
    found = [(item.code, item.message.partition(" is ")[0]) for item in conversion.findings]
    assert found[:-1] == [
        ("shape_without_area", "line 2"),
        ("shape_unusable", "line 3"),
        ("shape_unusable", "line 4"),
        ("shape_unusable", "line 5"),
        ("shape_unusable", "line 8"),
        ("shape_unusable", "line 9"),
    ]
    assert conversion.findings[-1].code == "label_unknown"
    assert "2 lines have the class 7" in conversion.findings[-1].message
    assert {item.file for item in conversion.findings} == {"labels/a.txt"}


def test_image_without_a_label_file_shows_no_object(tmp_path: Path) -> None:
    add(tmp_path, "images/a.jpg", f"0 {SQUARE}\n")
    add(tmp_path, "images/b.jpg")
    add(tmp_path, "images/c.jpg", "")
    settings(tmp_path, names=["bolt"])
    conversion = read_yolo(tmp_path)
    assert {name: len(items) for name, items in labelled_masks(conversion.splits["all"]).items()} == {
        "a.jpg": 1,
        "b.jpg": 0,
        "c.jpg": 0,
    }
    assert [(item.code, item.severity) for item in conversion.findings] == [("image_without_labels", "info")]
    assert "1 images have no label file" in conversion.findings[0].message


def test_damaged_and_missing_images_are_findings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add(tmp_path, f"images/{name}.jpg", f"0 {SQUARE}\n")
    (tmp_path / "images/b.jpg").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("images/a.jpg\nimages/b.jpg\nimages/gone.jpg\n")
    settings(tmp_path, names=["bolt"], train="list.txt")
    conversion = read_yolo(tmp_path)
    assert names_by_split(conversion) == {"all": ["a.jpg"]}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("list_entry_missing", "list.txt"),
        ("source_unreadable", "labels/b.txt"),
    ]
    assert "1 of 3 lines lead to no image; the first is 'images/gone.jpg'" in conversion.findings[0].message


@pytest.mark.parametrize(
    ("names", "with_image", "with_labels", "message"),
    [
        (None, True, True, "'names' is missing; expected the class names"),
        ("bolt", True, True, "'names' is 'bolt'; expected the class names"),
        (["bolt"], False, False, "no images"),
        (["bolt"], True, False, "none of 1 images has a label file"),
    ],
    ids=["no names", "names of a wrong kind", "no images", "no labels"],
)
def test_missing_names_images_or_labels_are_an_error(
    tmp_path: Path, names: object, with_image: bool, with_labels: bool, message: str
) -> None:
    if with_image:
        add(tmp_path, "images/a.jpg", f"0 {SQUARE}\n" if with_labels else None)
    settings(tmp_path, nc=1, **({} if names is None else {"names": names}))
    with pytest.raises(DatasetError, match=message):
        read_yolo(tmp_path)


# ---- writing


def test_written_files_are_as_others_read_them(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        save_image(tmp_path / "images" / name)
    labels = ["washer", "螺栓"]
    train = coco_file("train", {"a.jpg": [("螺栓", [[15, 10, 30, 10, 30, 20, 15, 20]])]}, labels)
    val = coco_file("val", {"b.jpg": []}, labels)
    out = tmp_path / "out"
    assert write_yolo({"train": train, "val": val}, tmp_path / "images", out) == []
    assert (out / "labels/train/a.txt").read_text() == f"1 {SQUARE}\n"
    assert (out / "labels/val/b.txt").read_text() == ""
    assert (out / "images/train/a.jpg").is_file() and (out / "images/val/b.jpg").is_file()
    assert yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8")) == {
        "train": "images/train",
        "val": "images/val",
        "nc": 2,
        "names": {0: "washer", 1: "螺栓"},
    }


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10.3, 10.7, 30.1, 10, 10, 30.9], [40.2, 5, 50, 5, 50, 15]],
        [[5, 5, 30, 5, 30, 30, 5, 30], [20, 20, 50, 20, 50, 35, 20, 35]],
        [[5, 5, 30, 30, 30, 5, 5, 30]],
        encode(ring_mask()),
        encode(np.random.default_rng(3).random((40, 60)) < 0.4),
    ],
    ids=["two parts", "overlapping parts", "crosses itself", "hole and touching corner", "noise"],
)
def test_parts_and_holes_survive_exactly(tmp_path: Path, segmentation: object) -> None:
    save_image(tmp_path / "images/a.jpg")
    coco = coco_file("train", {"a.jpg": [("bolt", segmentation)]}, ["bolt"])
    val = coco_file("val", {}, ["bolt"])
    assert write_yolo({"train": coco, "val": val}, tmp_path / "images", tmp_path / "out") == []
    assert len((tmp_path / "out/labels/train/a.txt").read_text().splitlines()) == 1
    read = read_yolo(tmp_path / "out").splits["train"]
    (found,), (expected,) = labelled_masks(read)["train/a.jpg"], labelled_masks(coco)["a.jpg"]
    np.testing.assert_array_equal(found[1], expected[1])


def test_bridge_is_as_short_as_it_can_be(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    parts = [[5, 5, 20, 5, 20, 20, 5, 20], [24, 16, 50, 16, 50, 30, 24, 30]]
    write_yolo(
        {"all": coco_file("all", {"a.jpg": [("bolt", parts)]}, ["bolt"])},
        tmp_path / "images",
        tmp_path / "out",
    )
    numbers = [float(word) for word in (tmp_path / "out/labels/a.txt").read_text().split()[1:]]
    points = np.reshape(numbers, (-1, 2)) * (60, 40)
    lengths = np.linalg.norm(np.diff(points, axis=0, append=points[:1]), axis=1)
    sides = 4 * 15 + 2 * (26 + 14)
    assert lengths.sum() == pytest.approx(sides + 2 * np.hypot(4, 4))


def test_what_yolo_cannot_hold_is_a_finding(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    crowd = coco_file("train", {"a.jpg": [("bolt", [[5, 5, 9, 5, 9, 9]])]}, ["bolt"], crowd=True)
    empty = encode(np.zeros((40, 60), bool))
    nothing = coco_file("val", {"a.jpg": [("bolt", empty)], "gone.jpg": []}, ["bolt"])
    findings = write_yolo({"train": crowd, "val": nothing}, tmp_path / "images", tmp_path / "out")
    assert [(item.code, item.image_id, item.annotation_id) for item in findings] == [
        ("mask_approximated", 5, 3),
        ("mask_approximated", 5, 3),
        ("image_missing", 6, None),
    ]
    assert (tmp_path / "out/labels/train/a.txt").read_text() == ""


def test_line_that_is_not_the_mask_is_a_finding_with_its_iou(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mask is known that is written inexactly, so the test moves the outline by one pixel."""
    from paddlex_seg.data.formats.yolo import write as yolo

    exact = yolo.mask_to_rings
    monkeypatch.setattr(yolo, "mask_to_rings", lambda mask: [ring + (1, 0) for ring in exact(mask)])
    save_image(tmp_path / "images/a.jpg")
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    coco = coco_file("all", {"a.jpg": [("bolt", encode(mask))]}, ["bolt"])
    (found,) = write_yolo({"all": coco}, tmp_path / "images", tmp_path / "out")
    assert (found.code, found.image_id, found.annotation_id) == ("mask_approximated", 5, 3)
    assert "IoU of 0.818" in found.message  # 90 of 110 pixels


def test_image_labelled_unturned_is_a_finding(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg", (40, 60), orientation=6)
    coco = coco_file("all", {"a.jpg": [("bolt", [[5, 5, 9, 5, 9, 9]])]}, ["bolt"])
    findings = write_yolo({"all": coco}, tmp_path / "images", tmp_path / "out")
    assert [item.code for item in findings] == ["image_size_mismatch"]


def test_images_that_differ_in_their_ending_get_labels_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        save_image(tmp_path / "images" / name)
    objects = {"a.jpg": [("bolt", [[10, 10, 30, 10, 10, 30]])], "a.png": []}
    write_yolo({"all": coco_file("all", objects, ["bolt"])}, tmp_path / "images", tmp_path / "out")
    read = labelled_masks(read_yolo(tmp_path / "out").splits["all"])
    assert {name: len(items) for name, items in read.items()} == {"a.jpg": 1, "a_2.png": 0}


def test_reading_and_writing_again_changes_no_name(tmp_path: Path) -> None:
    for split in ("train", "val"):
        add(tmp_path, f"images/{split}/sub/a.jpg", f"0 {SQUARE}\n")
    settings(tmp_path, names=["bolt"], train="images/train", val="images/val")
    once = read_yolo(tmp_path)
    write_yolo(once.splits, tmp_path / "images", tmp_path / "out")
    twice = read_yolo(tmp_path / "out")
    assert names_by_split(twice) == {"train": ["train/sub/a.jpg"], "val": ["val/sub/a.jpg"]}
    for split, coco in once.splits.items():
        assert_same_objects(twice.splits[split], coco)
