"""The objects of one image as an image of numbers."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.files.images import encode_image
from paddlex_seg.masks.rle import rle_box_xywh, rle_window
from paddlex_seg.structures import Instances


def id_mask(instances: Instances) -> NDArray[np.uint16]:
    """uint16 [H, W]: 0 is background, k is object k, counted from 1 in the order of the instances.

    Where objects overlap, the one with the higher score is on top; of equal ones the first.
    """
    assert len(instances) < 2**16, len(instances)
    numbers = np.zeros(instances.size_hw, np.uint16)
    from_below = np.argsort(-instances.scores, kind="stable")[::-1]
    for i in from_below.tolist():
        left, top, width, height = (int(value) for value in rle_box_xywh(instances.masks[i]))
        window = rle_window(instances.masks[i], (left, top, left + width, top + height))
        numbers[top : top + height, left : left + width][window.astype(bool)] = i + 1
    return numbers


def id_mask_png(instances: Instances) -> bytes:
    """`id_mask` as a gray PNG with 16 bits."""
    return encode_image(Image.fromarray(id_mask(instances)), ".png")
