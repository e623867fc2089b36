"""Reading detections of any tool."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_seg.data.coco.read import UnreadableFile, read_coco
from paddlex_seg.data.coco.results import ResultFile, read_results
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import are_sound, mask_to_rle, mask_to_runs, rle_to_mask, run_lengths

MASK = np.zeros((6, 8), np.uint8)
MASK[1:4, 2:7] = 1
TEXT = mask_to_rle(MASK)["counts"].decode()
RLE = {"size": [6, 8], "counts": TEXT}


def read(tmp_path: Path, rows: Any, *, images: Any = None, categories: Any = None) -> ResultFile:
    truth = tmp_path / "truth.json"
    images = images or [
        {"id": 12, "file_name": "a/000007.jpg", "width": 8, "height": 6},
        {"id": 5, "file_name": "b.jpg", "width": 8, "height": 6},
    ]
    categories = categories or [{"id": 3, "name": "bolt"}, {"id": 1, "name": "nut"}]
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    path = tmp_path / "results.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return read_results(path, read_coco(truth))


def row(**changes: Any) -> dict[str, Any]:
    values = {"image_id": 12, "category_id": 3, "score": 0.5, "segmentation": RLE, **changes}
    return {key: value for key, value in values.items() if value is not ...}


FORMS = {
    "compressed": RLE,
    "size_as_decimals": {"size": [6.0, 8.0], "counts": TEXT},
    "uncompressed": {"size": [6, 8], "counts": mask_to_runs(MASK)},
    "polygon": [[2, 1, 7, 1, 7, 4, 2, 4]],
    "bytes_as_text": {"size": [6, 8], "counts": repr(TEXT.encode())},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_mask_is_read(tmp_path: Path, form: Any) -> None:
    found = read(tmp_path, [row(segmentation=form)]).instances[12]
    assert np.array_equal(rle_to_mask(found.masks[0]), MASK)
    assert found.boxes_xyxy.tolist() == [[2, 1, 7, 4]]
    assert (found.class_ids.tolist(), found.size_hw) == ([0], (6, 8))


def test_numbers_stay_as_in_the_file(tmp_path: Path) -> None:
    box, score = [100.1, 3.3, 32.3, 0.7], 0.1234567890123456
    found = read(tmp_path, [row(bbox=box, score=score), row(score=0.9)]).instances[12]
    assert found.boxes_xywh is not None
    assert found.boxes_xywh.tolist() == [[2, 1, 5, 3], box]
    assert found.scores.tolist() == [0.9, score]
    assert found.take(np.array([1])).boxes_xywh.tolist() == [box]  # type: ignore[union-attr]


def test_equal_scores_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [row(category_id=k, score=s) for k, s in ((3, 0.2), (1, 0.7), (3, 0.7), (1, 0.2))]
    assert read(tmp_path, rows).instances[12].class_ids.tolist() == [1, 0, 0, 1]


BIG = 2**53 + 1
IMAGE_IDS = {
    "text_of_a_number": ("12", 12),
    "padded": ("00012", 12),
    "decimal": (12.0, 12),
    "stem": ("000007", 12),
    "name": ("000007.jpg", 12),
    "path": ("a/000007.jpg", 12),
    "path_elsewhere": ("/data/val/b.jpg", 5),
    "stem_of_text": ("b", 5),
}


@pytest.mark.parametrize(("given", "meant"), IMAGE_IDS.values(), ids=IMAGE_IDS)
def test_ids_with_one_meaning_are_understood(tmp_path: Path, given: Any, meant: Any) -> None:
    assert list(read(tmp_path, [row(image_id=given)]).instances) == [meant]


def test_ids_may_be_huge_or_text(tmp_path: Path) -> None:
    images = [
        {"id": id, "file_name": f"{place}.png", "width": 8, "height": 6}
        for place, id in enumerate((BIG, 2**90, "x-1", 3))
    ]
    rows = [row(image_id=id) for id in (BIG, 2**90, "x-1", float(2**90), 3)]
    found = read(tmp_path, rows, images=images)
    assert {id: len(one) for id, one in found.instances.items()} == {BIG: 1, 2**90: 2, "x-1": 1, 3: 1}


def test_a_rounded_id_must_mean_one_image(tmp_path: Path) -> None:
    images = [{"id": id, "file_name": f"{id}.png", "width": 8, "height": 6} for id in (2**60, 2**60 + 1)]
    with pytest.raises(DatasetError, match="image_id 1.15"):
        read(tmp_path, [row(image_id=float(2**60))], images=images)


def test_the_file_name_goes_before_an_id_made_of_it(tmp_path: Path) -> None:
    images = [
        {"id": 7, "file_name": "8.jpg", "width": 8, "height": 6},
        {"id": 8, "file_name": "7.jpg", "width": 8, "height": 6},
    ]
    found = read(tmp_path, [row(image_id=7, file_name="7.jpg")], images=images)
    assert list(found.instances) == [8]
    assert "name another image" in found.notes[0]


def test_text_that_means_two_images_is_refused(tmp_path: Path) -> None:
    """It may be the number of one image, and the name of another one."""
    images = [
        {"id": id, "file_name": name, "width": 8, "height": 6}
        for id, name in ((1, "2.jpg"), (2, "1.jpg"), (3, "3.jpg"))
    ]
    assert list(read(tmp_path, [row(image_id=1), row(image_id="3")], images=images).instances) == [1, 3]
    for text in ("1", "2"):
        with pytest.raises(DatasetError, match=f"image_id '{text}', which may mean several"):
            read(tmp_path, [row(image_id=text), row(image_id=text, file_name="x.jpg")], images=images)


@pytest.mark.parametrize("name", ["a", "0001"])
def test_two_images_of_one_name_need_ids(tmp_path: Path, name: str) -> None:
    images = [{"id": id, "file_name": f"{id}/{name}.jpg", "width": 8, "height": 6} for id in (1, 2)]
    assert list(read(tmp_path, [row(image_id=2, file_name=f"{name}.jpg")], images=images).instances) == [2]
    with pytest.raises(DatasetError, match=f"image_id '{name}', which may mean several"):
        read(tmp_path, [row(image_id=name)], images=images)


@pytest.mark.parametrize("key", ["annotations", "predictions"])
def test_a_document_explains_its_own_ids(tmp_path: Path, key: str) -> None:
    document = {
        "images": [{"id": 5, "file_name": "000007.jpg"}, {"id": 12, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "bolt"}],
        key: [row(image_id=5, category_id=1)],
    }
    found = read(tmp_path, document)
    assert {id: one.class_ids.tolist() for id, one in found.instances.items()} == {12: [0]}


def test_boxes_only_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, [row(segmentation=value, bbox=[1, 2, 3, 4]) for value in (..., None, [])])
    assert not found.has_masks and "boxes only" in found.notes[0]
    assert found.instances[12].masks == () and len(found.instances[12].take(np.array([0, 2]))) == 2


def test_an_empty_list_beside_masks_is_an_empty_mask(tmp_path: Path) -> None:
    found = read(tmp_path, [row(), row(segmentation=[], bbox=[1, 2, 3, 4])])
    assert [int(rle_to_mask(mask).sum()) for mask in found.instances[12].masks] == [15, 0]
    assert "without pixels" in found.notes[0]


def test_no_detections_are_a_result(tmp_path: Path) -> None:
    for text in ("[]", " [ ] ", "\n[\n]\n"):
        found = read(tmp_path, text)
        assert (found.instances, found.has_masks) == ({}, True)


WRONG_ROWS = {
    "no_object": (7, "is a number; expected an object"),
    "image_unknown": (row(image_id=99), "image_id 99; truth.json lists 12, 5"),
    "image_true": (row(image_id=True), "expected a whole number or text"),
    "image_missing": (row(image_id=...), "has no image_id"),
    "class_unknown": (row(category_id=2), "category_id 2; truth.json lists 3, 1"),
    "class_name_unknown": (row(category_id="nutt"), "category_id 'nutt'"),
    "score_missing": (row(score=...), "has no score"),
    "score_text": (row(score="0.5"), "score '0.5'"),
    "score_true": (row(score=True), "score true"),
    "score_nan": (row(score=float("nan")), "score nan"),
    "score_percent": (row(score=93.5), "above 1; expected a number from 0 to 1. Divide"),
    "score_logit": (row(score=-2.5), "below 0"),
    "box_short": (row(bbox=[1, 2, 3]), "expected four numbers"),
    "box_nan": (row(bbox=[1, 2, 3, float("nan")]), "expected four numbers"),
    "box_nan_within": (row(bbox=[5, float("nan"), 1, 2]), "expected four numbers"),
    "long_number": (row(segmentation={"size": [6, 8], "counts": "P" * 9 + "1"}), "damaged"),
    "box_infinite": (row(bbox=[1, 2, 3, float("inf")]), "expected four numbers"),
    "nothing": (row(segmentation=...), "has neither a segmentation nor a bbox"),
    "mask_of_another_image": (row(segmentation={"size": [7, 8], "counts": [50, 6]}), "its image is"),
    "size_exchanged": (row(segmentation={"size": [8, 6], "counts": TEXT}), "swapped"),
    "damaged": (row(segmentation={"size": [6, 8], "counts": TEXT[:-1]}), "damaged|sum to"),
    "not_ascii": (row(segmentation={"size": [6, 8], "counts": "é"}), "damaged"),
    "negative_run": (row(segmentation={"size": [6, 8], "counts": [50, -2]}), "RLE"),
    "polygon_nan": (row(segmentation=[[float("nan")] * 6]), "NaN"),
    "mask_number": (row(segmentation=5), "number|int"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_wrong_rows_are_named(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read(tmp_path, [row(), wrong])
    assert "results.json: 1 problem" in str(caught.value)
    assert "position 1" in str(caught.value)


def test_all_problems_of_a_file_are_in_one_error(tmp_path: Path) -> None:
    rows = [row(category_id=9)] * 5 + [row(score=2)] + [row(segmentation=..., bbox=[0, 0, 1, 1]), row()]
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, rows)
    text = str(caught.value)
    assert "7 problems" in text
    assert "5 rows (positions 0, 1, 2, ...) have the category_id 9" in text
    assert "the row at position 5 has a score above 1" in text
    assert "the row at position 6 has no segmentation, but other rows have one" in text


@pytest.mark.parametrize("text", ["[1,]", "[{}", "[{} {}]", "[] x", "{", "", "[1e", "nothing"])
def test_what_is_no_json_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnreadableFile, match="results.json: not JSON"):
        read(tmp_path, text)


@pytest.mark.parametrize("document", ["{}", '{"images": []}', "3", '"a"', '{"annotations": 3}'])
def test_another_document_is_told(tmp_path: Path, document: str) -> None:
    with pytest.raises(DatasetError, match="expected detections in COCO's result format"):
        read(tmp_path, document)


def test_an_annotation_file_is_not_taken_for_detections(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is this the right file"):
        read(tmp_path, {"images": [], "categories": [], "annotations": [row(score=...)]})


def test_texts_are_sound_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    texts, pixels = [], []
    for _ in range(400):
        height, width = random.integers(1, 40, 2)
        mask = random.random((height, width)) < random.random() ** 2
        text = mask_to_rle(mask)["counts"].decode()
        if random.random() < 0.6:  # damage one character, add one, or drop the last
            place = int(random.integers(len(text) + 1))
            text = (
                text[:place]
                + chr(int(random.integers(40, 128))) * int(random.integers(3))
                + text[place + 1 :]
            )
        texts.append(text)
        pixels.append(height * width)
    expected = [_is_sound(text, size) for text, size in zip(texts, pixels, strict=True)]
    assert 100 < sum(expected) < 300
    assert are_sound([text.encode() for text in texts], np.array(pixels)).tolist() == expected


def _is_sound(text: str, pixels: int) -> bool:
    try:
        runs = run_lengths(text)
    except ValueError:
        return False
    return bool((runs >= 0).all() and runs.sum() == pixels)


def test_rows_are_not_all_in_memory(tmp_path: Path) -> None:
    rows = [row(note="x" * 20_000) for _ in range(300)]  # 6 MB of text
    read(tmp_path, rows)  # caches
    coco = read_coco(tmp_path / "truth.json")
    tracemalloc.start()
    read_results(tmp_path / "results.json", coco)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # the bytes and the text of the file, and what waits to be checked
