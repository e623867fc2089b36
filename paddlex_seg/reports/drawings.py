"""Images with masks as layers: one JPEG, and above it the outline of each mask as an SVG path.

Masks that a page can show and hide would otherwise need an image file for every combination. Paths stay sharp
when the page is zoomed, and a usual mask takes a few hundred bytes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.outlines import mask_to_rings
from paddlex_seg.masks.polygons import simplified
from paddlex_seg.masks.rle import rle_areas, rle_box_xywh, rle_boxes_xywh, rle_window
from paddlex_seg.reports.evaluation_records import DrawnMask
from paddlex_seg.reports.images import Embedded, embed_jpeg
from paddlex_seg.reports.text import shorten
from paddlex_seg.reports.windows import Window, load_window
from paddlex_seg.structures import Bands, ImageRecord, Rle
from paddlex_seg.visualize import place_labels

MAX_MASKS = 150  # that are drawn of a layer; wrong ones first, then the largest
_MAX_PATH_BYTES = 60_000  # of all masks of a layer
_MAX_LABELS = 14  # of a layer
_MOST_DETAILED = 40_000  # bytes of an RLE; one with more is noise
_FINEST = (
    1440  # the longest side of a drawing in units; a unit is a pixel of the image, unless that is larger
)
_TOLERANCE = 0.75  # units between a mask and its path
_TEXT = 0.026  # of the long side: the size of the text in a drawing
_LETTER = 0.6  # of the size of the text: the usual width of a letter


class Outline(NamedTuple):
    """The mask of an object or a detection."""

    path: str  # for <path d="">
    state: str  # of `DrawnMask`
    tip: str


class Label(NamedTuple):
    """A text in a drawing. x, y: where its line starts."""

    x: float
    y: float
    text: str
    state: str


@dataclass(frozen=True)
class Layer:
    """The masks of one kind. The largest come first, so that small ones are on top."""

    outlines: tuple[Outline, ...]
    labels: tuple[Label, ...]
    total: int  # masks; only some are drawn if they are too many


@dataclass(frozen=True)
class Drawing:
    """An image with its layers. Their coordinates go from 0 to ``width`` and ``height``."""

    image: Embedded | None  # None if there is no image file that can be read
    width: int
    height: int
    text_size: float
    layers: tuple[Layer, ...]
    fits: bool  # whether the image file has the size of the annotation file; else it has no layers


def draw(
    record: ImageRecord,
    window: Window,
    layers: Sequence[Sequence[DrawnMask]],
    *,
    image_dir: Path | None,
    side: int,
    max_bytes: int,
    bands: Bands | None = None,
    labelled: bool = True,
) -> Drawing:
    """The crop ``window`` of an image with these masks.

    side: the longer side of the JPEG in pixels. max_bytes: of the JPEG. image_dir: None if there are no image
    files. labelled: with the names of the masks: of all if they are few, else of the wrong ones.
    """
    loaded = None if image_dir is None else load_window(record, window, image_dir, side=side, bands=bands)
    image, fits = (None, True) if loaded is None else (embed_jpeg(loaded[0], max_bytes), loaded[1])
    scale = min(1.0, _FINEST / max(window.width, window.height))
    size_wh = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    text_size = round(_TEXT * max(size_wh), 1)
    if not fits and image is not None:
        size_wh = image.width, image.height
    return Drawing(
        image,
        *size_wh,
        text_size=text_size,
        layers=tuple(_layer(masks if fits else (), window, size_wh, text_size, labelled) for masks in layers),
        fits=fits,
    )


def whole(record: ImageRecord) -> Window:
    """The whole image."""
    return Window(0, 0, record.width, record.height)


def _layer(
    masks: Sequence[DrawnMask], window: Window, size_wh: tuple[int, int], text_size: float, labelled: bool
) -> Layer:
    areas = rle_areas([item.mask for item in masks])
    is_right = np.array([item.state != "wrong" for item in masks], bool)
    chosen: list[tuple[int, str]] = []
    used = 0
    for i in np.lexsort((-areas, is_right))[:MAX_MASKS].tolist():
        path = _short_path(masks[i].mask, window, size_wh)
        used += len(path)
        if used > _MAX_PATH_BYTES:
            break
        chosen.append((i, path))
    largest_first = sorted(chosen, key=lambda item: -areas[item[0]])
    outlines = [Outline(path, masks[i].state, _tip(masks[i])) for i, path in largest_first if path]
    named = [masks[i] for i, path in chosen if path]
    if len(named) > _MAX_LABELS:
        named = [item for item in named if item.state == "wrong"][:_MAX_LABELS]
    labels = _labels(named, window, size_wh, text_size) if labelled else ()
    return Layer(tuple(outlines), tuple(labels), len(masks))


def _tip(item: DrawnMask) -> str:
    score = "" if item.score is None else f" {item.score:.2f}"
    state = {"right": "", "wrong": "missed: " if item.score is None else "false: ", "ignored": "ignored: "}
    note = f" ({shorten(item.note, 80)})" if item.note else ""
    return f"{state[item.state]}{shorten(item.name, 60)}{score}{note}"


# ---- Paths


def _short_path(mask: Rle, window: Window, size_wh: tuple[int, int]) -> str:
    """`_path` in as much detail as fits a quarter of the bytes of a layer. Noise is drawn coarsely."""
    details = (1.0, 1 / 3, 1 / 9, 1 / 27) if len(mask["counts"]) < _MOST_DETAILED else (1 / 9, 1 / 27)
    for detail in details:
        path = _path(mask, window, size_wh, detail)
        if len(path) <= _MAX_PATH_BYTES // 4:
            return path
    return ""


def _path(mask: Rle, window: Window, size_wh: tuple[int, int], detail: float) -> str:
    """The mask in the crop as the data of an SVG path, for the even-odd rule; empty if it is not there.

    detail: the finest steps are 1 / detail units.
    """
    left, top, width, height = (int(value) for value in rle_box_xywh(mask))
    across, down = size_wh[0] / window.width, size_wh[1] / window.height
    low_x, high_x = max(left, math.floor(window.x)), min(left + width, math.ceil(window.x + window.width))
    low_y, high_y = max(top, math.floor(window.y)), min(top + height, math.ceil(window.y + window.height))
    if low_x >= high_x or low_y >= high_y:
        return ""
    part = rle_window(mask, (low_x, low_y, high_x, high_y))
    if across * detail < 1:
        part = _smaller(part, across * detail, down * detail)
    steps = np.array([high_x - low_x, high_y - low_y]) / part.shape[::-1] * (across, down)
    start = np.array([low_x - window.x, low_y - window.y]) * (across, down)
    # Crops of small objects have few pixels, whose corners need a decimal when they are moved.
    digits = 0 if window.x == int(window.x) and across == 1 else 1
    rings = (simplified(ring, _TOLERANCE) * steps + start for ring in mask_to_rings(part.astype(bool)))
    return "".join(_ring_text(ring, digits) for ring in rings)


def _smaller(mask: NDArray[np.uint8], across: float, down: float) -> NDArray[np.uint8]:
    """The mask at a smaller scale. Parts thinner than half a pixel vanish, unless all of it would."""
    height, width = mask.shape
    size_wh = max(1, round(width * across)), max(1, round(height * down))
    share = cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    return (share >= min(0.5, float(share.max()))).astype(np.uint8)


def _ring_text(ring: NDArray[np.float64], digits: int) -> str:
    """A closed line. Its steps are relative to each other, which takes fewer digits than places."""
    factor = 10**digits
    corners = np.rint(ring * factor).astype(int)
    x, y = (f"{value / factor:g}" for value in corners[0].tolist())
    steps = " ".join(f"{value / factor:g}" for value in np.diff(corners, axis=0).ravel().tolist())
    return f"M{x} {y}l{steps.replace(' -', '-')}z"


# ---- Labels


def _labels(
    masks: Sequence[DrawnMask], window: Window, size_wh: tuple[int, int], text_size: float
) -> Iterator[Label]:
    """The names of the masks, beside their boxes, where no other name is."""
    texts = [shorten(item.name, 24) + ("" if item.score is None else f" {item.score:.2f}") for item in masks]
    boxes = rle_boxes_xywh([item.mask for item in masks])
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    scale = np.array([size_wh[0] / window.width, size_wh[1] / window.height])
    boxes = ((boxes.reshape(-1, 2, 2) - window[:2]) * scale).clip(0, size_wh).reshape(-1, 4)
    sizes = np.array([[_LETTER * text_size * len(text) + 4, 1.2 * text_size] for text in texts])
    sizes = np.ceil(sizes.reshape(-1, 2)).astype(int)
    places = place_labels(boxes, sizes, size_wh)
    for item, text, (x1, _, _, y2) in zip(masks, texts, places, strict=True):
        yield Label(x1 + 2, round(y2 - 0.28 * text_size, 1), text, item.state)
