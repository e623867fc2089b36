"""Polygons around masks."""

from typing import Any

import numpy as np
from pycocotools import mask as mask_tools

from paddlex_seg.masks.polygons import mask_to_polygons
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import Annotation


def annotation(segmentation: Any) -> Annotation:
    return Annotation(id=1, image_id=1, category_id=1, segmentation=segmentation)


def test_polygons_of_a_mask_draw_nearly_the_same_mask() -> None:
    y, x = np.mgrid[0:120, 0:160]
    mask = ((x - 50) ** 2 + (y - 60) ** 2 < 40**2) | ((abs(x - 130) < 12) & (abs(y - 60) < 50))
    polygons = mask_to_polygons(mask)
    drawn = mask_tools.decode(annotation_to_rle(annotation(polygons), 120, 160)).astype(bool)
    assert len(polygons) == 2
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.98
