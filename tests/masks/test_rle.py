"""Run-length encodings of polygons, RLEs and masks."""

import time
from typing import Any

import numpy as np
import pytest
from converted import small_ring, uncompressed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as mask_tools

from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_crop, rle_cutouts, rle_window
from paddlex_seg.structures import Annotation

SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]  # 4 x 4 pixels


def annotation(segmentation: Any) -> Annotation:
    return Annotation(id=1, image_id=1, category_id=1, segmentation=segmentation)


def test_the_union_of_polygons_counts_shared_pixels_once() -> None:
    rle = annotation_to_rle(annotation([SQUARE, [4, 1, 8, 1, 8, 5, 4, 5]]), 8, 10)
    expected = np.zeros((8, 10), np.uint8)
    expected[1:5, 2:8] = 1
    assert (mask_tools.decode(rle) == expected).all()


@pytest.mark.parametrize("form", ["compressed text", "compressed bytes", "counts"])
def test_rle_of_every_kind_keeps_its_hole(form: str) -> None:
    compressed = mask_tools.encode(np.asfortranarray(small_ring(), np.uint8))["counts"]
    counts = {
        "compressed text": compressed.decode(),
        "compressed bytes": compressed,
        "counts": uncompressed(small_ring())["counts"],
    }
    rle = annotation_to_rle(annotation({"size": [8, 10], "counts": counts[form]}), 8, 10)
    assert isinstance(rle["counts"], bytes)
    assert (mask_tools.decode(rle) == small_ring()).all()


def test_rle_of_another_size_than_the_image_is_refused() -> None:
    with pytest.raises(DatasetError, match="annotation 1"):
        annotation_to_rle(annotation({"size": [8, 10], "counts": [80]}), 10, 8)


@settings(max_examples=60, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), edges=st.data())
def test_a_window_is_a_part_of_the_mask(mask: np.ndarray, edges: st.DataObject) -> None:
    y1, y2 = sorted(edges.draw(st.tuples(*[st.integers(0, mask.shape[0])] * 2)))
    x1, x2 = sorted(edges.draw(st.tuples(*[st.integers(0, mask.shape[1])] * 2)))
    window = rle_window(mask_to_rle(mask), (x1, y1, x2, y2))
    assert window.dtype == np.uint8 and window.shape == (y2 - y1, x2 - x1)
    assert np.array_equal(window, mask[y1:y2, x1:x2])
    if window.size:
        assert rle_crop(mask_to_rle(mask), (x1, y1, x2, y2)) == mask_to_rle(window)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_a_crop_is_the_rle_of_the_window(share: float) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((60, 80)) < share
    for _ in range(50):
        (x1, x2), (y1, y2) = (sorted(rng.choice(side + 1, 2, replace=False)) for side in (80, 60))
        assert rle_crop(mask_to_rle(mask), (x1, y1, x2, y2)) == mask_to_rle(mask[y1:y2, x1:x2])


@settings(max_examples=60, deadline=None)
@given(masks=st.lists(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=4))
def test_cutouts_are_the_pixels_in_the_box_around_each_mask(masks: list[np.ndarray]) -> None:
    cutouts = rle_cutouts([mask_to_rle(mask) for mask in masks])
    assert len(cutouts) == len(masks)
    for mask, (left, top, pixels) in zip(masks, cutouts, strict=True):
        whole = np.zeros(mask.shape, np.uint8)
        whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        assert np.array_equal(whole, mask)
        if mask.any():
            assert pixels.any(axis=1)[[0, -1]].all() and pixels.any(axis=0)[[0, -1]].all()
        else:
            assert (left, top, pixels.size) == (0, 0, 0)


def test_a_cutout_of_runs_without_pixels() -> None:
    """Tools write runs of length 0. A full column and the next one are one run, or two that touch."""
    expected = np.zeros((4, 5), np.uint8)
    expected[1:, 1] = expected[:, 2] = 1
    for counts in ([5, 7, 8], [5, 3, 0, 4, 8], [5, 0, 0, 7, 0, 0, 8], [0, 0, 5, 7, 8, 0, 0]):
        rle = mask_tools.frPyObjects({"size": [4, 5], "counts": counts}, 4, 5)
        ((left, top, pixels),) = rle_cutouts([rle])
        assert (left, top) == (1, 0)
        assert np.array_equal(pixels, expected[:, 1:3])


def test_a_window_of_a_large_image_is_fast() -> None:
    mask = np.zeros((6000, 8000), bool)
    mask[3000:3050, 4000:4050] = True
    rle = mask_to_rle(mask)
    start = time.process_time()
    for _ in range(100):
        rle_window(rle, (4000, 3000, 4050, 3050))
    assert time.process_time() - start < 2  # decoding whole masks takes ten times as long
