"""Opens crops of image files, given in pixels of an annotation file, for embedding in a page."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from paddlex_seg.data.bands import is_tiff
from paddlex_seg.data.images import DECODER_ERRORS, image_path, image_size, load_image, turn_upright
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Bands, ImageRecord


class Window(NamedTuple):
    """A crop of an image, in pixels of the orientation and size that the annotations refer to."""

    x: float
    y: float
    width: float
    height: float


def window_around(boxes_xywh: Sequence[Sequence[float]], width: int, height: int) -> Window:
    """A crop of about three times the size of the boxes, or the whole image if the boxes are large."""
    whole = Window(0, 0, width, height)
    if not boxes_xywh:
        return whole
    boxes = np.array(boxes_xywh, np.float64)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).clip(0, whole[2:])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = max(3 * float((high - low).max()), 96.0)
    if side >= max(width, height):
        return whole
    size = np.minimum(side, whole[2:])
    start = ((low + high - size) / 2).clip(0, whole[2:] - size)
    return Window(*start.tolist(), *size.tolist())


def scaled_size(window: Window, side: int) -> tuple[int, int]:
    """Width and height of the crop at a longer side of ``side`` pixels, at most four times its own size."""
    scale = min(side / max(window.width, window.height), 4.0)
    return max(1, round(window.width * scale)), max(1, round(window.height * scale))


def load_window(
    record: ImageRecord, window: Window, image_dir: Path, *, side: int, bands: Bands | None = None
) -> tuple[Image.Image, bool] | None:
    """The crop as RGB in `scaled_size`, and whether the image has the size of the annotation file.

    If it has another size, the crop is the whole image. None if the image file cannot be read.
    """
    try:
        part, image, fits = _load(record, window, image_path(image_dir, record.file_name), side, bands)
    except (DatasetError, Image.DecompressionBombError, *DECODER_ERRORS):
        return None
    box = (part.x, part.y, part.x + part.width, part.y + part.height)
    size_wh = scaled_size(part, side)
    return image.resize(size_wh, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0), fits


def _load(
    record: ImageRecord, window: Window, path: Path, side: int, bands: Bands | None
) -> tuple[Window, Image.Image, bool]:
    """The crop in pixels of the returned image, the image, and whether the annotations fit the image.

    The image has the same orientation as from `load_image`, but may be smaller: JPEG files are decoded at
    reduced size. If the annotation file lists another size than the image has, the crop is the whole image.
    """
    listed_hw = record.height, record.width
    size = image_size(path)
    fits = listed_hw in (size.shown_hw, size.stored_hw)
    turn = not fits or size.shown_hw == listed_hw
    longest = max(window.width, window.height) if fits else max(size.stored_hw)
    image = None if bands is not None or is_tiff(path) else _reduced_jpeg(path, side / longest, turn)
    if image is None:
        image = Image.fromarray(load_image(path, listed_hw if fits else None, bands=bands))
    if not fits:
        return Window(0, 0, image.width, image.height), image, False
    across, down = image.width / record.width, image.height / record.height
    x, y, width, height = window
    return Window(x * across, y * down, width * across, height * down), image, True


def _reduced_jpeg(path: Path, scale: float, turn: bool) -> Image.Image | None:
    """A JPEG decoded at a size that is at least ``scale`` of its own; None for other formats."""
    with Image.open(path) as file:
        if not isinstance(file, JpegImageFile):
            return None
        file.draft("RGB", (math.ceil(file.width * scale), 1))
        return (turn_upright(file) if turn else file).convert("RGB")
