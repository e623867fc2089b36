"""The COCO file of one image: our reader, the data set check and pycocotools read it."""

import contextlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from cases import check_dataset
from made_instances import EASILY_LOST, disc, instances_of, rectangle
from PIL import Image
from pycocotools.coco import COCO

from paddlex_seg.data.coco.read import parse_file, read_coco
from paddlex_seg.inference.outputs.coco import coco_text, image_name
from paddlex_seg.masks.rle import annotation_to_rle, rle_to_mask

MASKS = list(EASILY_LOST.values())
LABELS = ["螺母", "bolt", "never found"]


def saved(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_our_reader_gives_the_objects_back(tmp_path: Path) -> None:
    found = instances_of(MASKS, class_ids=[i % 2 for i in range(len(MASKS))])
    path = saved(tmp_path / "a.json", coco_text(found, LABELS, file_name="sub/a.jpg"))
    parsed = parse_file(path)
    assert parsed.log.kept == []
    coco = read_coco(path)
    (record,) = coco.images
    assert (record.id, record.file_name, record.height, record.width) == (1, "sub/a.jpg", 60, 80)
    assert [(one.id, one.name) for one in coco.categories] == [(1, LABELS[0]), (2, LABELS[1]), (3, LABELS[2])]
    for number, (annotation, mask) in enumerate(zip(coco.annotations, MASKS, strict=True)):
        assert np.array_equal(rle_to_mask(annotation_to_rle(annotation, 60, 80)), mask)
        assert annotation.category_id == number % 2 + 1 and not annotation.iscrowd
        assert annotation.area == mask.sum()
        assert annotation.extra["score"] == pytest.approx(float(found.scores[number]))
        rows, columns = np.nonzero(mask)
        assert annotation.bbox_xywh == (
            columns.min(),
            rows.min(),
            columns.max() + 1 - columns.min(),
            rows.max() + 1 - rows.min(),
        )


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.json", coco_text(instances_of(MASKS), LABELS, file_name="a.jpg"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert coco.getCatIds() == [1, 2, 3] and coco.getImgIds() == [1]
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds()), MASKS, strict=True):
        assert np.array_equal(coco.annToMask(annotation), mask)


def test_a_predicted_folder_becomes_the_images_of_a_data_set(tmp_path: Path) -> None:
    """The check of a data set finds nothing to complain about in masks, boxes and names."""
    rng = np.random.default_rng(0)
    for split, name in (("train", "sub/a.png"), ("val", "b.png")):
        image = tmp_path / "data/images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(image)
        found = instances_of([disc((40, 30), 20), EASILY_LOST["ring"]], class_ids=[0, 1])
        file_name = image_name(str(image), name.removesuffix(".png"))
        text = coco_text(found, LABELS[:2], file_name=file_name)
        saved(tmp_path / f"data/annotations/instance_{split}.json", text)
    desk = check_dataset(tmp_path / "data", tmp_path / "output")
    assert desk.exit_code == 0, desk.text
    assert desk.codes == {}


def test_objects_without_a_pixel_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    found = instances_of(
        [np.zeros((60, 80), bool), disc((30, 30), 9)], boxes=[(1, 2, 3, 4), (21, 21, 39, 39)]
    )
    with caplog.at_level(logging.WARNING):
        document = json.loads(coco_text(found, LABELS, file_name="a.jpg"))
    assert len(document["annotations"]) == 1 and document["annotations"][0]["id"] == 1
    assert "a.jpg: 1 of 2 objects have a mask without pixels" in caplog.text


def test_an_image_without_objects_has_all_classes() -> None:
    document = json.loads(coco_text(instances_of([]), LABELS, file_name="a.jpg"))
    assert document["annotations"] == [] and len(document["images"]) == 1 and len(document["categories"]) == 3


def test_the_page_of_a_file_is_kept() -> None:
    document = json.loads(coco_text(instances_of([]), LABELS, file_name="a.tif", page_index=2))
    assert document["images"][0]["page_index"] == 2
    plain = json.loads(coco_text(instances_of([]), LABELS, file_name="a.tif"))
    assert set(plain["images"][0]) == {"id", "file_name", "width", "height"}


@pytest.mark.parametrize(
    ("input_path", "save_name", "expected"),
    [
        ("photos/a.jpg", "a", "a.jpg"),
        ("/data/photos/sub/b 1.PNG", "sub/b 1", "sub/b 1.PNG"),
        ("photos/sub/b.png", "sub/b_2", "sub/b.png"),  # b.jpg has the name sub/b
        ("scan.tif", "scan_3", "scan.tif"),
        ("v1.2.final.jpg", "v1.2.final", "v1.2.final.jpg"),
        ("https://x.org/c.jpg?size=1", "c", "c.png"),
        (None, "array_1", "array_1.png"),
        (None, "v1.2", "v1.2.png"),
    ],
)
def test_the_image_is_named_relative_to_the_predicted_folder(
    input_path: str | None, save_name: str, expected: str
) -> None:
    assert image_name(input_path, save_name) == expected


def test_rectangles_have_whole_numbers() -> None:
    document = json.loads(coco_text(instances_of([rectangle((2, 3, 9, 8))]), ["a"], file_name="a.jpg"))
    (annotation,) = document["annotations"]
    assert annotation["bbox"] == [2, 3, 7, 5] and annotation["area"] == 35 and annotation["iscrowd"] == 0
