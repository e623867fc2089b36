"""Run-length encodings of polygons, RLEs and masks."""

from typing import Any

import numpy as np
import pytest
from converted import small_ring, uncompressed
from pycocotools import mask as mask_tools

from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle
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
