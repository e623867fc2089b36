"""The forms of masks in results: each can be turned back into the mask."""

import base64
import io
import json

import numpy as np
import pytest
from made_instances import EASILY_LOST, box_of, disc, instances_of, ragged, rectangle
from PIL import Image
from pycocotools import mask as coco_mask

from paddlex_seg.errors import ConfigError
from paddlex_seg.inference.mask_forms import MASK_FORMS, check_mask_form, json_masks, mask_entries
from paddlex_seg.masks.rle import mask_to_rle, polygons_to_rle, rle_iou

MASKS = list(EASILY_LOST.values())
SIZE_HW = (60, 80)


def decoded(rle: dict) -> np.ndarray:
    return coco_mask.decode({"size": rle["size"], "counts": rle["counts"].encode()})


def placed(crop: np.ndarray, box: list[int]) -> np.ndarray:
    """As a client does it: the crop at its box."""
    image = np.zeros(SIZE_HW, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = crop
    return image


def as_masks(form: str, entries: list) -> list[np.ndarray]:
    if form == "rle":
        return [decoded(entry) for entry in entries]
    if form == "crops":
        return [placed(decoded(entry), entry["box"]) for entry in entries]
    files = [Image.open(io.BytesIO(base64.b64decode(entry["png"]))) for entry in entries]
    assert all(file.mode == "1" for file in files)
    return [placed(np.asarray(file), entry["box"]) for file, entry in zip(files, entries, strict=True)]


@pytest.mark.parametrize("form", ["rle", "crops", "png"])
def test_a_mask_comes_back_pixel_by_pixel(form: str) -> None:
    entries = mask_entries(instances_of(MASKS), form)
    for mask, found in zip(MASKS, as_masks(form, json.loads(json.dumps(entries))), strict=True):
        assert np.array_equal(found, mask)


def test_polygons_draw_the_mask() -> None:
    entries = json.loads(json.dumps(mask_entries(instances_of(MASKS), "polygons")))
    assert len(entries) == len(MASKS)
    for mask, polygons in zip(MASKS, entries, strict=True):
        assert rle_iou(polygons_to_rle(polygons, SIZE_HW), mask_to_rle(mask)) >= 0.98


# Halves are rounded to the even number.
BOXES = [
    ((2.5, 3.5, 20.5, 21.5), (2, 4, 20, 22)),
    ((2.49, 3.51, 20.51, 21.49), (2, 4, 21, 21)),
    ((-7.0, -3.0, 99.0, 99.0), (0, 0, 80, 60)),
    ((0.5, 1.5, 79.5, 59.5), (0, 2, 80, 60)),
]


@pytest.mark.parametrize(("box", "rounded"), BOXES, ids=str)
def test_dense_is_the_crop_of_paddlex(box: tuple[float, ...], rounded: tuple[int, int, int, int]) -> None:
    mask = EASILY_LOST["a ragged blob"]
    (dense,) = mask_entries(instances_of([mask], boxes=[box]), "dense")
    x1, y1, x2, y2 = rounded
    assert [min(max(round(edge), 0), limit) for edge, limit in zip(box, (80, 60, 80, 60), strict=True)] == [
        *rounded
    ]
    assert dense.dtype == np.int32 and np.array_equal(dense, mask[y1:y2, x1:x2])
    (crop,) = mask_entries(instances_of([mask], boxes=[box]), "crops")
    assert crop["box"] == [*rounded] and crop["size"] == [y2 - y1, x2 - x1]
    assert np.array_equal(decoded(crop), dense)


def test_dense_of_a_whole_image_is_that_of_solov2() -> None:
    dense = mask_entries(instances_of(MASKS), "dense", whole=True)
    for mask, found in zip(MASKS, dense, strict=True):
        assert found.dtype == np.uint8 and found.flags.c_contiguous and np.array_equal(found, mask)


@pytest.mark.parametrize("box", [(2.6, 3.0, 3.4, 9.0), (79.6, 2, 80, 9), (3, 59.6, 9, 60)], ids=str)
def test_a_box_thinner_than_a_pixel(box: tuple[float, ...]) -> None:
    """Dense is empty, as in PaddleX; RLE and PNG, which cannot be empty, have one pixel."""
    instances = instances_of([EASILY_LOST["the whole image"]], boxes=[box])
    (dense,) = mask_entries(instances, "dense")
    assert dense.size == 0 or dense.shape == (6, 0)
    for form in ("crops", "png"):
        entries = mask_entries(instances, form)
        (found,) = as_masks(form, entries)
        x1, y1, x2, y2 = entries[0]["box"]
        assert 0 <= x1 < x2 <= 80 and 0 <= y1 < y2 <= 60 and found.sum() == (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize("form", MASK_FORMS)
def test_an_empty_mask_and_no_objects(form: str) -> None:
    empty = np.zeros(SIZE_HW, bool)
    assert mask_entries(instances_of([]), form) == []
    (entry,) = json_masks(mask_entries(instances_of([empty], boxes=[(2, 3, 9, 8)]), form))
    json.dumps(entry)
    if form == "polygons":
        assert entry == []
    elif form == "dense":
        assert entry == [[0] * 7] * 5
    else:
        assert as_masks(form, [entry])[0].sum() == 0


def test_dense_becomes_nested_lists_for_json() -> None:
    instances = instances_of([rectangle((1, 1, 3, 2))])
    assert json_masks(mask_entries(instances, "dense")) == [[[1, 1]]]
    assert json_masks(mask_entries(instances, "rle")) == mask_entries(instances, "rle")


def test_an_unknown_form_is_refused() -> None:
    assert check_mask_form("png") == "png"
    with pytest.raises(
        ConfigError, match="masks is 'mask'; expected one of rle, polygons, crops, png, dense"
    ):
        check_mask_form("mask")


@pytest.mark.parametrize(
    "mask",
    [
        ragged(600, (1080, 1920), grain=25),
        ragged(1000, (1080, 1920), grain=40),
        disc((960, 540), 530, (1080, 1920)),
    ],
    ids=["600 pixels, rough", "1000 pixels, rough", "a large disc"],
)
def test_an_rle_of_a_full_hd_image_takes_less_than_10_kb(mask: np.ndarray) -> None:
    instances = instances_of([mask])
    for form in ("rle", "crops"):
        assert 500 < len(json.dumps(mask_entries(instances, form))) < 10_000
    assert box_of(mask)[2] - box_of(mask)[0] > 500
