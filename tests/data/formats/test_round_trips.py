"""COCO to each format and back: the same objects, pixel by pixel."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import (
    assert_same_objects,
    coco_file,
    encode,
    labelled_masks,
    ring_mask,
    save_image,
    uncompressed,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_instances import instances_of
from pycocotools import mask as mask_tools

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.data.findings import Finding
from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.data.formats.labelme.write import write_labelme
from paddlex_seg.data.formats.mask_images import id_map_to_rles
from paddlex_seg.data.formats.mask_png import read_mask_png, write_mask_png
from paddlex_seg.data.formats.predictions import results_to_coco
from paddlex_seg.data.formats.yolo import read_yolo, write_yolo
from paddlex_seg.errors import DatasetError
from paddlex_seg.inference.mask_forms import json_masks, mask_entries
from paddlex_seg.masks.outlines import join_rings, mask_to_rings
from paddlex_seg.structures import CocoFile

Writer = Callable[[Mapping[str, CocoFile], Path, Path], list[Finding]]
Reader = Callable[[Path], Conversion]
WAYS = [(write_labelme, read_labelme), (write_mask_png, read_mask_png), (write_yolo, read_yolo)]
IDS = ["labelme", "mask_png", "yolo"]

# Random masks of coarse blocks have holes, several parts and touching corners. Factor 1: blocks of one pixel.
masks = st.builds(
    lambda blocks, factor: np.kron(blocks, np.ones((factor, factor), bool)).astype(bool)[:24, :24],
    arrays(bool, (24, 24), elements=st.booleans(), fill=st.nothing()),
    st.sampled_from([1, 3, 6]),
).filter(lambda mask: mask.any())


@pytest.mark.parametrize(("write", "read"), WAYS, ids=IDS)
@settings(max_examples=25, deadline=None)
@given(found=st.lists(st.tuples(masks, st.booleans()), min_size=1, max_size=3))
def test_any_mask_comes_back(write: Writer, read: Reader, found: list[tuple[np.ndarray, bool]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        save_image(root / "images/a.png", (24, 24))
        objects = [("bolt", encode(mask) if compressed else uncompressed(mask)) for mask, compressed in found]
        coco = coco_file("all", {"a.png": objects}, ["nut", "bolt"], size_hw=(24, 24))
        assert write({"all": coco}, root / "images", root / "out") == []
        conversion = read(root / "out")
        assert {item.code for item in conversion.findings} <= {"split_divided"}  # data.yaml needs a val
        assert_same_objects(conversion.splits["all"], coco)


@settings(max_examples=100, deadline=None)
@given(mask=masks)
def test_joined_outline_draws_the_mask(mask: np.ndarray) -> None:
    polygon = join_rings(mask_to_rings(mask)).ravel().tolist()
    drawn = mask_tools.decode(mask_tools.frPyObjects([polygon], *mask.shape))[..., 0]
    np.testing.assert_array_equal(drawn.astype(bool), mask)


@settings(max_examples=50, deadline=None)
@given(ids=arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)))
def test_object_numbers_are_encoded_as_pycocotools_encodes_each_mask(ids: np.ndarray) -> None:
    found = id_map_to_rles(ids)
    assert list(found) == [number for number in np.unique(ids) if number]
    for number, rle in found.items():
        expected = mask_tools.encode(np.asfortranarray(ids == number, dtype=np.uint8))
        assert (rle["size"], rle["counts"]) == (expected["size"], expected["counts"])


@pytest.mark.parametrize(("write", "read"), WAYS, ids=IDS)
def test_demo_data_set_comes_back(tmp_path: Path, write: Writer, read: Reader) -> None:
    write_demo_dataset(tmp_path, num_train=6, num_val=2)
    root = tmp_path / COCO_FOLDER
    splits = {split: read_coco(root / f"annotations/instance_{split}.json") for split in ("train", "val")}
    assert write(splits, root / "images", tmp_path / "out") == []
    conversion = read(tmp_path / "out")
    assert list(conversion.splits) == ["train", "val"] and conversion.findings == ()
    for split, coco in conversion.splits.items():
        prefix = f"{split}/" if read is read_yolo else ""
        renamed = tuple(
            replace(record, file_name=record.file_name.removeprefix(prefix)) for record in coco.images
        )
        assert_same_objects(replace(coco, images=renamed), splits[split])


@pytest.mark.parametrize(("write", "read"), WAYS[:1], ids=IDS[:1])
def test_polygons_keep_every_digit(tmp_path: Path, write: Writer, read: Reader) -> None:
    save_image(tmp_path / "images/a.jpg")
    parts = [[10.123456789012345, 0.1, 30, 10, 10, 30.7], [-3.5, 5, 50, 5, 50, 15]]
    coco = coco_file("all", {"a.jpg": [("bolt", parts), ("bolt", parts[:1])]}, ["bolt"])
    write({"all": coco}, tmp_path / "images", tmp_path / "out")
    read_back = read(tmp_path / "out").splits["all"]
    assert [item.segmentation for item in read_back.annotations] == [parts, parts[:1]]


@pytest.mark.parametrize(("write", "read"), WAYS, ids=IDS)
def test_conversion_can_be_written_as_coco_and_read_again(
    tmp_path: Path, write: Writer, read: Reader
) -> None:
    save_image(tmp_path / "images/a.jpg")
    coco = coco_file("all", {"a.jpg": [("bolt", encode(ring_mask()))]}, ["bolt"])
    write({"all": coco}, tmp_path / "images", tmp_path / "out")
    converted = read(tmp_path / "out").splits["all"]
    write_coco(converted, tmp_path / "again.json")
    again = read_coco(tmp_path / "again.json")
    assert_same_objects(again, coco)
    assert again.annotations == converted.annotations
    assert again.annotations[0].area == ring_mask().sum()
    assert again.annotations[0].bbox_xywh == (8, 5, 26, 20)


# ---- predictions


def save_result(path: Path, input_path: str, found: list[tuple[int, str, np.ndarray]], **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "input_path": input_path,
        "page_index": None,
        "boxes": [
            {"cls_id": index, "label": label, "score": 0.9, "coordinate": [0.0, 0.0, 1.0, 1.0]}
            for index, label, _ in found
        ],
        "masks": [encode(mask) for _, _, mask in found],
    }
    path.write_text(json.dumps({**result, **more}, ensure_ascii=False), encoding="utf-8")


def test_predictions_become_labelme_files(tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "output"
    for name in ("a.jpg", "sub/b.png", "c.jpg"):
        save_image(photos / name)
    other = np.zeros((40, 60), bool)
    other[:5] = True
    save_result(
        output / "a_res.json", str(photos / "a.jpg"), [(1, "washer", ring_mask()), (0, "螺栓", other)]
    )
    save_result(output / "sub/b_res.json", "/elsewhere/sub/b.png", [(0, "螺栓", other)])
    save_result(output / "c_res.json", str(photos / "c.jpg"), [])
    save_result(output / "a_1_res.json", str(photos / "a.jpg"), [(0, "螺栓", other)], page_index=1)
    coco = results_to_coco(output, photos)
    assert [category.name for category in coco.categories] == ["螺栓", "washer"]
    assert {name: [label for label, _ in items] for name, items in labelled_masks(coco).items()} == {
        "a.jpg": ["washer", "螺栓"],
        "c.jpg": [],
        "sub/b.png": ["螺栓"],
    }
    assert write_labelme({"all": coco}, photos, tmp_path / "labelme") == []
    assert_same_objects(
        read_labelme(tmp_path / "labelme").splits["all"],
        replace(coco, images=tuple(sorted(coco.images, key=lambda record: record.file_name))),
    )


def test_class_names_fix_the_classes_of_predictions(tmp_path: Path) -> None:
    save_image(tmp_path / "photos/a.jpg")
    save_result(tmp_path / "output/a_res.json", "a.jpg", [(1, "washer", ring_mask())])
    coco = results_to_coco(tmp_path / "output", tmp_path / "photos", class_names=["bolt", "washer"])
    assert [category.name for category in coco.categories] == ["bolt", "washer"]
    assert coco.annotations[0].category_id == 2
    with pytest.raises(DatasetError, match="results of the classes washer"):
        results_to_coco(tmp_path / "output", tmp_path / "photos", class_names=["bolt"])


@pytest.mark.parametrize("form", ["polygons", "crops", "png", "dense"])
def test_masks_in_another_form_are_refused(tmp_path: Path, form: str) -> None:
    save_image(tmp_path / "photos/a.jpg")
    masks = json_masks(mask_entries(instances_of([ring_mask()]), form))
    save_result(tmp_path / "output/a_res.json", "a.jpg", [(1, "washer", ring_mask())], masks=masks)
    with pytest.raises(DatasetError, match="not in the form rle"):
        results_to_coco(tmp_path / "output", tmp_path / "photos")


def test_an_unusable_input_is_no_image_without_objects(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / f"photos/{name}.jpg")
    save_result(tmp_path / "output/a_res.json", "a.jpg", [])
    save_result(tmp_path / "output/b_res.json", "b.jpg", [], error="b.jpg: not a readable image")
    coco = results_to_coco(tmp_path / "output", tmp_path / "photos")
    assert [record.file_name for record in coco.images] == ["a.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no \\*_res.json"),
        ("{", "not a result of mode predict"),
        ("[]", "has no boxes and masks"),
        ('{"input_path": "gone.jpg", "boxes": [], "masks": []}', "has no image a"),
    ],
    ids=["nothing", "no JSON", "other JSON", "image elsewhere"],
)
def test_file_that_is_not_a_prediction_is_an_error(tmp_path: Path, text: str | None, message: str) -> None:
    save_image(tmp_path / "photos/b.jpg")
    (tmp_path / "output").mkdir()
    if text is not None:
        (tmp_path / "output/a_res.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        results_to_coco(tmp_path / "output", tmp_path / "photos")
