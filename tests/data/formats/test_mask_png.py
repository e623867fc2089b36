import json
from pathlib import Path

import numpy as np
import pytest
from converted import assert_same_objects, coco_file, encode, labelled_masks, ring_mask, save_image
from PIL import Image

from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.mask_png import read_mask_png, write_mask_png
from paddlex_seg.errors import DatasetError


def save_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def square(left: int, size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[4:14, left : left + 10] = True
    return mask


def numbers(dtype: type, **values: int) -> np.ndarray:
    ids = np.zeros((40, 60), dtype)
    for left, value in zip((0, 20, 40), values.values(), strict=False):
        ids[square(left)] = value
    return ids


def labels(conversion: Conversion, split: str = "all") -> dict[str, list[str]]:
    return {
        name: [label for label, _ in items]
        for name, items in labelled_masks(conversion.splits[split]).items()
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8 bits", "16 bits"])
def test_object_numbers_with_classes_in_a_json_file(tmp_path: Path, dtype: type) -> None:
    save_image(tmp_path / "images/line 1/a.jpg")
    high = np.iinfo(dtype).max
    save_png(tmp_path / "masks/line 1/a.png", numbers(dtype, a=3, b=high, c=7))
    (tmp_path / "masks/line 1/a.json").write_text(json.dumps({"3": "bolt", str(high): "螺母"}))
    conversion = read_mask_png(tmp_path)
    ((first, mask), (second, _)) = labelled_masks(conversion.splits["all"])["line 1/a.jpg"]
    assert (first, second) == ("bolt", "螺母")
    np.testing.assert_array_equal(mask, square(0))
    assert [(item.code, item.message) for item in conversion.findings] == [
        ("label_unknown", "object 7 has no class")
    ]


def test_object_numbers_with_a_mask_of_classes(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    save_png(tmp_path / "masks/a.png", numbers(np.uint8, a=1, b=2, c=3))
    save_png(tmp_path / "classes/a.png", numbers(np.uint8, a=2, b=1, c=9))
    (tmp_path / "label.txt").write_text("_background_\nbolt\nwasher\n")
    conversion = read_mask_png(tmp_path)
    assert labels(conversion) == {"a.jpg": ["washer", "bolt"]}
    assert [category.name for category in conversion.splits["all"].categories] == ["bolt", "washer"]
    assert [item.code for item in conversion.findings] == ["label_unknown"]


@pytest.mark.parametrize(
    ("listed", "expected"), [(None, "object"), ("bolt\n", "bolt")], ids=["no list", "list of one"]
)
def test_object_numbers_of_a_single_class(tmp_path: Path, listed: str | None, expected: str) -> None:
    save_image(tmp_path / "images/a.jpg")
    save_png(tmp_path / "masks/a.png", numbers(np.uint8, a=255, b=2))
    if listed:
        (tmp_path / "labels.txt").write_text(listed)
    assert labels(read_mask_png(tmp_path)) == {"a.jpg": [expected, expected]}


def test_object_numbers_without_classes_are_a_finding_if_there_are_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / f"images/{name}.jpg")
        save_png(tmp_path / f"masks/{name}.png", numbers(np.uint8, a=1))
    (tmp_path / "masks/b.json").write_text('{"1": "bolt"}')
    (tmp_path / "label.txt").write_text("bolt\nwasher\n")
    conversion = read_mask_png(tmp_path)
    assert labels(conversion) == {"b.jpg": ["bolt"]}
    assert [(item.code, item.file) for item in conversion.findings] == [("source_unreadable", "images/a.jpg")]


@pytest.mark.parametrize(
    "files",
    [
        ["bolt_1.png", "hex_nut_12.png"],
        ["bolt/1.png", "hex_nut/anything.png"],
        ["1_bolt.png", "2_hex_nut.png"],
    ],
    ids=["class and number", "folder of the class", "number and class"],
)
def test_one_mask_per_object_named_by_class(tmp_path: Path, files: list[str]) -> None:
    save_image(tmp_path / "images/a.jpg")
    for left, file in enumerate(files):
        save_png(tmp_path / "masks/a" / file, (square(5 * left) * 255).astype(np.uint8))
    conversion = read_mask_png(tmp_path)
    found = labelled_masks(conversion.splits["all"])["a.jpg"]
    assert [label for label, _ in found] == ["bolt", "hex_nut"]
    np.testing.assert_array_equal(found[1][1], square(5))  # they overlap


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_mask_of_any_kind_of_pixels_is_what_is_not_black(tmp_path: Path, mode: str) -> None:
    save_image(tmp_path / "images/a.jpg")
    path = tmp_path / "masks/a/bolt_1.png"
    save_png(path, (square(5) * 255).astype(np.uint8))
    image = Image.open(path)
    if mode == "I;16":
        save_png(path, (square(5) * 40000).astype(np.uint16))
    else:
        image.convert(mode).save(path)
    ((_, mask),) = labelled_masks(read_mask_png(tmp_path).splits["all"])["a.jpg"]
    np.testing.assert_array_equal(mask, square(5))


def test_image_without_mask_shows_no_object_and_mask_without_image_is_a_finding(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / f"images/{name}.jpg")
    for name in ("a/bolt_1.png", "gone/bolt_1.png", "lost.png"):
        save_png(tmp_path / "masks" / name, (square(5) * 255).astype(np.uint8))
    conversion = read_mask_png(tmp_path)
    assert labels(conversion) == {"a.jpg": ["bolt"], "b.jpg": []}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("image_missing", "masks/gone/bolt_1.png"),
        ("image_missing", "masks/lost.png"),
        ("image_without_labels", "masks"),
    ]


def test_one_bad_mask_among_good_ones_is_a_finding(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        save_image(tmp_path / f"images/{name}.jpg")
        save_png(tmp_path / f"masks/{name}/bolt_1.png", (square(5) * 255).astype(np.uint8))
    (tmp_path / "masks/b/bolt_1.png").write_bytes(b"no png")
    save_png(tmp_path / "masks/c/bolt_2.png", (square(5, (41, 60)) * 255).astype(np.uint8))
    (tmp_path / "masks/d/instances.json").write_text('[{"file": "../../label.txt", "label": "bolt"}]')
    (tmp_path / "masks/e/bolt_1.png").unlink()
    (tmp_path / "masks/e.png").write_bytes(b"no png")
    conversion = read_mask_png(tmp_path)
    assert labels(conversion) == {"a.jpg": ["bolt"]}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_unreadable", f"images/{name}.jpg") for name in ("b", "c", "d", "e")
    ]


def test_unlisted_and_ignored_labels(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    for name in ("bolt_1", "nut_1", "__ignore___1"):
        save_png(tmp_path / f"masks/a/{name}.png", (square(5) * 255).astype(np.uint8))
    (tmp_path / "label.txt").write_text("washer\nbolt\n")
    conversion = read_mask_png(tmp_path)
    assert labels(conversion) == {"a.jpg": ["bolt"]}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("label_unknown", "masks/a/nut_1.png")
    ]


def test_lists_give_the_splits(tmp_path: Path) -> None:
    for name in ("a b", "c", "d"):
        save_image(tmp_path / f"images/{name}.jpg")
        save_png(tmp_path / f"masks/{name}/bolt_1.png", (square(5) * 255).astype(np.uint8))
    (tmp_path / "train.txt").write_text("images/d.jpg\na b\ngone\n")
    (tmp_path / "val.txt").write_text("c.jpg\n")
    conversion = read_mask_png(tmp_path)
    names = {split: [record.file_name for record in coco.images] for split, coco in conversion.splits.items()}
    assert names == {"train": ["d.jpg", "a b.jpg"], "val": ["c.jpg"]}
    assert [(item.code, item.file) for item in conversion.findings] == [("list_entry_missing", "train.txt")]
    assert "1 of 3 entries" in conversion.findings[0].message and "'gone'" in conversion.findings[0].message


def test_no_mask_at_all_is_an_error(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    with pytest.raises(DatasetError, match=r"no \*.png in masks/"):
        read_mask_png(tmp_path)


# ---- writing


def test_overlaps_odd_class_names_and_splits_survive(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "sub.jpg", "sub/a.jpg"]
    for name in names:
        save_image(tmp_path / "images" / name)
    odd = ["../螺栓 №1", "a/b_7", "12"]
    objects = [(label, encode(square(5 * place) | ring_mask())) for place, label in enumerate(odd)]
    train = coco_file("train", {"a.jpg": objects, "a.png": [], "sub.jpg": []}, odd)
    val = coco_file("val", {"sub/a.jpg": objects[::-1]}, odd)
    out = tmp_path / "out"
    assert write_mask_png({"train": train, "val": val}, tmp_path / "images", out) == []
    conversion = read_mask_png(out)
    assert conversion.findings == ()
    assert_same_objects(conversion.splits["train"], train)
    assert_same_objects(conversion.splits["val"], val)
    assert [category.name for category in conversion.splits["val"].categories] == odd
    assert sorted(path.name for path in (out / "masks/a").iterdir())[0].startswith("3_")


def test_crowd_region_comes_back_as_one_and_an_empty_mask_is_a_finding(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    objects = [("bolt", [[10, 10, 30, 10, 10, 30]]), ("bolt", encode(np.zeros((40, 60), bool)))]
    coco = coco_file("all", {"a.jpg": objects}, ["bolt"], crowd=True)
    findings = write_mask_png({"all": coco}, tmp_path / "images", tmp_path / "out")
    assert [(item.code, item.annotation_id) for item in findings] == [("mask_approximated", 4)]
    read = read_mask_png(tmp_path / "out").splits["all"]
    assert [item.iscrowd for item in read.annotations] == [True]


def test_image_of_both_splits_keeps_the_masks_of_each(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    train = coco_file("train", {"a.jpg": [("bolt", encode(square(5)))]}, ["bolt"])
    val = coco_file("val", {"a.jpg": [("bolt", encode(square(30)))]}, ["bolt"])
    write_mask_png({"train": train, "val": val}, tmp_path / "images", tmp_path / "out")
    splits = read_mask_png(tmp_path / "out").splits
    ((_, mask),) = labelled_masks(splits["val"])["a_2.jpg"]
    np.testing.assert_array_equal(mask, square(30))
    ((_, mask),) = labelled_masks(splits["train"])["a.jpg"]
    np.testing.assert_array_equal(mask, square(5))
