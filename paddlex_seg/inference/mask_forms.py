"""The forms in which results give masks.

Boxes of ``crops``, ``png`` and ``dense`` are those of the instances, inside the image. Their edges are
rounded to whole pixels, halves to the even number, as Python and PaddleX do. A client puts such a mask at the
top left corner of its box.
"""

import base64
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from paddlex_seg.errors import ConfigError
from paddlex_seg.files.images import encode_image
from paddlex_seg.masks.polygons import rle_to_polygons
from paddlex_seg.masks.rle import rle_crop, rle_to_json, rle_to_mask, rle_window
from paddlex_seg.structures import Instances

MaskForm = Literal["rle", "polygons", "crops", "png", "dense"]
MASK_FORMS: tuple[MaskForm, ...] = get_args(MaskForm)
_Box = tuple[int, int, int, int]


def check_mask_form(form: str) -> MaskForm:
    """``form`` if there is such a form. Raises ConfigError."""
    for known in MASK_FORMS:
        if form == known:
            return known
    raise ConfigError(f"masks is {form!r}; expected one of {', '.join(MASK_FORMS)}.")


def mask_entries(instances: Instances, form: MaskForm = "rle", *, whole: bool = False) -> list[Any]:
    """One entry for each mask, in the order of the instances. All but ``dense`` are plain values for JSON.

    ``rle``: COCO's compressed RLE of the whole image. ``polygons``: a list of polygons ``[x1, y1, ...]``, see
    `rle_to_polygons`. ``crops``: the RLE of the box, and the box. ``png``: the box, and a PNG of it with one
    bit per pixel in base64. These boxes have at least one pixel. ``dense``: as in PaddleX, int32 of 0 and 1
    of the box, which may be empty; with ``whole``, as PaddleX gives for SOLOv2, uint8 [H, W] of the image.
    """
    if form == "rle":
        return [rle_to_json(mask) for mask in instances.masks]
    if form == "polygons":
        return [rle_to_polygons(mask) for mask in instances.masks]
    if form == "dense" and whole:
        return [np.ascontiguousarray(rle_to_mask(mask)) for mask in instances.masks]
    boxes = _rounded_boxes(instances)
    if form == "dense":
        pairs = zip(instances.masks, boxes, strict=True)
        return [rle_window(mask, box).astype(np.int32) for mask, box in pairs]
    boxes = [_with_a_pixel(box, instances.size_hw) for box in boxes]
    pairs = zip(instances.masks, boxes, strict=True)
    if form == "crops":
        entries = [rle_to_json(rle_crop(mask, box)) for mask, box in pairs]
    else:
        crops = (rle_window(mask, box).astype(bool) for mask, box in pairs)
        files = [encode_image(Image.fromarray(crop), ".png") for crop in crops]
        entries = [{"png": base64.b64encode(file).decode("ascii")} for file in files]
    return [{"box": list(box), **entry} for box, entry in zip(boxes, entries, strict=True)]


def json_masks(entries: Sequence[Any]) -> list[Any]:
    """The entries for JSON. Arrays become nested lists of 0 and 1, as PaddleX writes them."""
    return [entry.tolist() if isinstance(entry, np.ndarray) else entry for entry in entries]


def _rounded_boxes(instances: Instances) -> list[_Box]:
    height, width = instances.size_hw
    edges = np.rint(instances.boxes_xyxy.clip(0, [width, height, width, height])).astype(int)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in edges.tolist()]


def _with_a_pixel(box: _Box, size_hw: tuple[int, int]) -> _Box:
    x1, y1 = min(box[0], size_hw[1] - 1), min(box[1], size_hw[0] - 1)
    return x1, y1, max(box[2], x1 + 1), max(box[3], y1 + 1)
