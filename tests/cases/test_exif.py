"""Labels made on the stored or on the upright image, widths and heights exchanged, and resized images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import check_dataset, copy_case
from PIL import Image

from paddlex_seg.data.checking.check import check
from paddlex_seg.data.checking.repair.repaired_copy import repair_dataset
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.images import load_image
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_to_mask

FIX: dict[str, Any] = {"CheckDataset__fix__enable": True}
# EXIF orientation -> how the upright image is stored: the inverse of what a viewer does.
STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
OBJECT = (200, 30, 10)


def write_turned(
    root: Path,
    orientation: int,
    *,
    labels: str,
    listed: str,
    box: tuple[int, int, int, int] = (6, 10, 30, 22),
    rle: bool = False,
    contrast: bool = True,
    count: int = 3,
    size: tuple[int, int] = (96, 64),
) -> None:
    """A data set with one object per image, all images stored with the EXIF orientation.

    labels, listed: "stored" or "upright", the image that was labelled, and the one whose size is listed.
    box: of the object, xyxy in the labelled image. size: of the labelled image, width and height.
    """
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    x1, y1, x2, y2 = box
    polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
    for split, first, number in (("train", 1, count - 1), ("val", 101, 1)):
        images, annotations = [], []
        for id in range(first, first + number):
            noise = np.random.default_rng(id).integers(90, 110, (size[1], size[0], 3), np.uint8)
            if contrast:
                noise[y1:y2, x1:x2] = OBJECT
            picture = Image.fromarray(noise)
            if labels == "upright":
                stored = picture.transpose(STORED_BY[orientation])
                sizes = {"stored": stored.size, "upright": picture.size}
            else:
                stored = picture
                turned = size[::-1] if orientation > 4 else size
                sizes = {"stored": size, "upright": turned}
            exif = Image.Exif()
            exif[0x0112] = orientation
            stored.save(root / "images" / f"{id}.png", exif=exif)
            width, height = sizes[listed]
            images.append({"id": id, "file_name": f"{id}.png", "width": width, "height": height})
            segmentation: Any = [polygon]
            if rle:
                mask = np.zeros((size[1], size[0]), np.uint8)
                mask[y1:y2, x1:x2] = 1
                segmentation = {**mask_to_rle(mask), "size": [size[1], size[0]]}
                segmentation["counts"] = segmentation["counts"].decode()
            annotations.append(
                {
                    "id": id,
                    "image_id": id,
                    "category_id": 1,
                    "segmentation": segmentation,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
        document = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "bolt", "supercategory": "part"}],
        }
        (root / "annotations" / f"instance_{split}.json").write_text(json.dumps(document))


def masks_lie_on_objects(root: Path) -> bool:
    """Whether the pixels under each mask are those of the object, in the image as training loads it."""
    for split in ("train", "val"):
        coco = read_coco(root / "annotations" / f"instance_{split}.json")
        records = {record.id: record for record in coco.images}
        assert coco.annotations
        for item in coco.annotations:
            record = records[item.image_id]
            size_hw = (record.height, record.width)
            image = load_image(root / "images" / record.file_name, size_hw=size_hw)
            mask = rle_to_mask(annotation_to_rle(item, *size_hw)) > 0
            if abs(image[mask].mean(axis=0) - OBJECT).max() > 10:
                return False
    return True


def test_labels_on_the_upright_image_are_recognised_and_the_sizes_are_swapped(tmp_path: Path) -> None:
    data = copy_case("F11-exif-labelstudio", tmp_path / "data")
    plain = check_dataset(data, tmp_path / "plain")
    assert (plain.exit_code, plain.codes) == (3, {"image_exif_swapped": 3})
    assert "masks fit only in the upright image" in plain.messages("image_exif_swapped")[0]
    fixed = check_dataset(data, tmp_path / "fixed", **FIX)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    document = json.loads((tmp_path / "data_fixed/annotations/instance_train.json").read_text())
    assert [(image["width"], image["height"]) for image in document["images"]] == [(64, 96)] * 2
    assert len(document["annotations"]) == 2
    original = json.loads((data / "annotations/instance_train.json").read_text())
    assert document["annotations"] == original["annotations"]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("labels", ["stored", "upright"])
@pytest.mark.parametrize("listed", ["stored", "upright"])
@pytest.mark.parametrize("how", ["outlines", "edges", "rle"])
def test_a_quarter_turn_is_told_apart_and_training_sees_the_object(
    tmp_path: Path, orientation: int, labels: str, listed: str, how: str
) -> None:
    box = {"outlines": (70, 6, 90, 30), "edges": (6, 10, 30, 22), "rle": (6, 10, 30, 22)}[how]
    write_turned(tmp_path / "data", orientation, labels=labels, listed=listed, box=box, rle=how == "rle")
    report = check(tmp_path / "data")
    if labels == listed:
        assert report.counts == ({"image_exif_frame": 3} if labels == "stored" else {})
        assert masks_lie_on_objects(tmp_path / "data")
        return
    assert report.counts["image_exif_swapped"] == 3
    message = next(item.message for item in report.errors if item.code == "image_exif_swapped")
    assert f"in the {labels} image" in message
    repair_dataset(tmp_path / "data")
    assert not check(tmp_path / "data_fixed").errors
    assert masks_lie_on_objects(tmp_path / "data_fixed")


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("labels", ["stored", "upright"])
@pytest.mark.parametrize("rle", [False, True])
def test_a_turn_that_keeps_the_size_is_told_by_the_edges_and_the_masks_are_turned(
    tmp_path: Path, orientation: int, labels: str, rle: bool
) -> None:
    size = (80, 80) if orientation > 4 else (96, 64)
    write_turned(tmp_path / "data", orientation, labels=labels, listed="stored", size=size, rle=rle)
    counts = check(tmp_path / "data").counts
    assert masks_lie_on_objects(tmp_path / "data") is (labels == "upright")
    assert counts == ({} if labels == "upright" else {"image_exif_turned": 3})
    repair_dataset(tmp_path / "data")
    assert not check(tmp_path / "data_fixed").counts  # boxes and areas fit, too
    assert masks_lie_on_objects(tmp_path / "data_fixed")


@pytest.mark.parametrize("orientation", [3, 6])
def test_what_cannot_be_told_is_a_warning_and_not_repaired(tmp_path: Path, orientation: int) -> None:
    write_turned(tmp_path / "data", orientation, labels="stored", listed="stored", contrast=False)
    plain = check_dataset(tmp_path / "data", tmp_path / "plain")
    assert plain.exit_code == 0
    assert plain.codes["image_exif_unclear"] == 3
    fixed = check_dataset(tmp_path / "data", tmp_path / "fixed", **FIX)
    assert fixed.codes["image_exif_unclear"] == 3
    assert fixed.result["fix"]["repaired"] == {}


def test_images_that_fit_both_ways_follow_those_that_do_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_turned(data, 6, labels="upright", listed="stored", box=(6, 70, 30, 90), size=(64, 96))
    for split, ids in (("train", [1]), ("val", [101])):  # image 2 alone tells
        path = data / "annotations" / f"instance_{split}.json"
        document = json.loads(path.read_text())
        for item in document["annotations"]:
            if item["image_id"] in ids:
                item.update(segmentation=[[5, 5, 20, 5, 20, 20, 5, 20]], bbox=[5, 5, 15, 15], area=225)
        path.write_text(json.dumps(document))
    desk = check_dataset(data, tmp_path / "output")
    assert desk.codes["image_exif_swapped"] == 3
    texts = desk.messages("image_exif_swapped")
    assert sum("like those of the other images" in text for text in texts) == 2


def test_labels_of_two_kinds_of_tools_are_told_apart_image_by_image(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_turned(data, 6, labels="upright", listed="stored", box=(6, 70, 30, 90), size=(64, 96))
    path = data / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0].update(
        segmentation=[[70, 6, 90, 6, 90, 30, 70, 30]], bbox=[70, 6, 20, 24], area=480
    )
    path.write_text(json.dumps(document))
    desk = check_dataset(data, tmp_path / "output")
    assert desk.codes["image_exif_swapped"] == 2
    assert desk.codes["image_exif_frame"] == 1


# ---- sizes without EXIF


def relist(root: Path, **sizes: Any) -> None:
    for path in (root / "annotations").glob("*.json"):
        document = json.loads(path.read_text())
        for image in document["images"]:
            for key, value in sizes.items():
                image[key] = value
                if value is None:
                    del image[key]
        path.write_text(json.dumps(document))


def test_exchanged_width_and_height_are_named_and_repaired_as_the_image_is(tmp_path: Path) -> None:
    data = copy_case("C07-size-swapped", tmp_path / "data")
    plain = check_dataset(data, tmp_path / "plain")
    assert (plain.exit_code, plain.codes) == (3, {"image_size_swapped": 3})
    assert "swapped" in plain.messages("image_size_swapped")[0]
    fixed = check_dataset(data, tmp_path / "fixed", **FIX)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    for split in ("train", "val"):
        coco = read_coco(tmp_path / "data_fixed" / "annotations" / f"instance_{split}.json")
        assert {(record.width, record.height) for record in coco.images} == {(96, 64)}
        assert [item.area for item in coco.annotations] == [1200] * len(coco.images)


def test_masks_of_a_turned_image_are_not_called_swapped(tmp_path: Path) -> None:
    data = copy_case("C07-size-swapped", tmp_path / "data")
    path = data / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0].update(
        segmentation=[[10, 50, 40, 50, 40, 90, 10, 90]], bbox=[10, 50, 30, 40], area=1200
    )
    path.write_text(json.dumps(document))
    for name, options in (("plain", {}), ("fixed", FIX)):
        desk = check_dataset(data, tmp_path / name, **options)
        assert (desk.exit_code, desk.codes) == (3, {"image_size_mismatch": 3})
        assert "it was turned" in desk.messages("image_size_mismatch")[0]


def test_a_size_that_is_a_multiple_names_the_factor_and_is_not_repaired(tmp_path: Path) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    relist(data, width=192, height=128)
    for name, options in (("plain", {}), ("fixed", FIX)):
        desk = check_dataset(data, tmp_path / name, **options)
        assert (desk.exit_code, desk.codes) == (3, {"image_size_mismatch": 3})
        assert "2 times as large" in desk.messages("image_size_mismatch")[0]


@pytest.mark.parametrize(
    "sizes", [{"width": None}, {"height": 0}, {"width": float("nan")}, {"width": "wide", "height": None}]
)
def test_a_missing_size_is_that_of_the_image(tmp_path: Path, sizes: dict[str, Any]) -> None:
    data = copy_case("00-sound", tmp_path / "data")
    relist(data, **sizes)
    assert check_dataset(data, tmp_path / "plain").exit_code == 3
    assert check_dataset(data, tmp_path / "fixed", **FIX).exit_code == 0
    coco = read_coco(tmp_path / "data_fixed" / "annotations" / "instance_train.json")
    assert {(record.width, record.height) for record in coco.images} == {(96, 64)}
