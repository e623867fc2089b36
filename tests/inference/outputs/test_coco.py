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
from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.inference.outputs.coco import FoundObjects, coco_text, image_name
from paddlex_seg.inference.results import Result, save_to_coco
from paddlex_seg.masks.rle import annotation_to_rle, rle_to_mask

MASKS = list(EASILY_LOST.values())
LABELS = ["螺母", "bolt", "never found"]


def saved(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_our_reader_gives_the_objects_back(tmp_path: Path) -> None:
    found = instances_of(MASKS, class_ids=[i % 2 for i in range(len(MASKS))])
    path = saved(tmp_path / "a.json", coco_text([FoundObjects(found, "sub/a.jpg")], LABELS))
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
    path = saved(tmp_path / "a.json", coco_text([FoundObjects(instances_of(MASKS), "a.jpg")], LABELS))
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
        text = coco_text([FoundObjects(found, file_name)], LABELS[:2])
        saved(tmp_path / f"data/annotations/instance_{split}.json", text)
    desk = check_dataset(tmp_path / "data", tmp_path / "output")
    assert desk.exit_code == 0, desk.text
    assert desk.codes == {}


def test_objects_without_a_pixel_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    found = instances_of(
        [np.zeros((60, 80), bool), disc((30, 30), 9)], boxes=[(1, 2, 3, 4), (21, 21, 39, 39)]
    )
    with caplog.at_level(logging.WARNING):
        document = json.loads(coco_text([FoundObjects(found, "a.jpg")], LABELS))
    assert len(document["annotations"]) == 1 and document["annotations"][0]["id"] == 1
    assert "a.jpg: 1 of 2 objects have a mask without pixels" in caplog.text


def test_an_image_without_objects_has_all_classes() -> None:
    document = json.loads(coco_text([FoundObjects(instances_of([]), "a.jpg")], LABELS))
    assert document["annotations"] == [] and len(document["images"]) == 1 and len(document["categories"]) == 3


def test_the_page_of_a_file_is_kept() -> None:
    document = json.loads(coco_text([FoundObjects(instances_of([]), "a.tif", 2)], LABELS))
    assert document["images"][0]["page_index"] == 2
    plain = json.loads(coco_text([FoundObjects(instances_of([]), "a.tif")], LABELS))
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
    document = json.loads(coco_text([FoundObjects(instances_of([rectangle((2, 3, 9, 8))]), "a.jpg")], ["a"]))
    (annotation,) = document["annotations"]
    assert annotation["bbox"] == [2, 3, 7, 5] and annotation["area"] == 35 and annotation["iscrowd"] == 0


def result_of(input_path: str | None, save_name: str, masks: list[np.ndarray]) -> Result:
    return Result(
        input_path=input_path,
        page_index=None,
        save_name=save_name,
        image=np.zeros((60, 80, 3), np.uint8),
        instances=instances_of(masks),
        labels=LABELS,
    )


def test_one_file_takes_all_images_of_a_prediction(tmp_path: Path) -> None:
    bad = Result(input_path="broken.jpg", page_index=None, save_name="broken", error="damaged")
    results = [
        result_of("p/a.jpg", "a", [disc((30, 30), 9), disc((50, 30), 5)]),
        bad,
        result_of("q/a.jpg", "a_2", []),
        result_of(None, "array_1", [disc((20, 20), 8)]),
    ]
    path = save_to_coco(iter(results), tmp_path / "new" / "all.json")
    coco = read_coco(path)
    assert [record.file_name for record in coco.images] == ["a.jpg", "a_2.jpg", "array_1.png"]
    assert [(one.id, one.image_id) for one in coco.annotations] == [(1, 1), (2, 1), (3, 3)]
    assert [one.name for one in coco.categories] == LABELS
    assert coco.annotations[2].area == disc((20, 20), 8).sum()
    with pytest.raises(PaddlexSegError, match="no input gave a result"):
        save_to_coco([bad], tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
