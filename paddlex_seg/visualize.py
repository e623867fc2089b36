"""Draws instances into an image. Images are RGB uint8."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from paddlex_seg.fonts import is_writable, line_mask
from paddlex_seg.masks.rle import rle_areas, rle_boxes_xywh, rle_window
from paddlex_seg.structures import Instances, Rle

_MASK_OPACITY = 0.45
_SMALLEST_TEXT = 6  # pixels; smaller text cannot be read
_MOST_LABELLED = 0.25  # part of the image; if labels would cover more, their text is smaller
_SMALL_TEXT = 11  # pixels, to which text is made smaller for that reason

_Image = NDArray[np.uint8]  # [H, W, 3], RGB
_Colour = tuple[int, int, int]


def draw_instances(
    image: _Image, instances: Instances, labels: Sequence[str], show_scores: bool = True
) -> _Image:
    """A copy of ``image`` [H, W, 3] with the mask, outline, box and label of each instance.

    labels: class names by class index. A class has the same colour in every image; its instances differ in
    shade. Large instances are drawn first, so that small ones stay visible. Labels are drawn last, near their
    boxes, where no other label is; those with high scores choose first. Use ``show_scores=False`` for
    annotations. Raises ValueError when image and instances differ in size.
    """
    if image.shape[:2] != instances.size_hw:
        raise ValueError(f"the image is {image.shape[:2]}, but the instances are for {instances.size_hw}")
    drawn = np.ascontiguousarray(image).copy()
    colours = _shades(instances.class_ids)
    areas = rle_areas(instances.masks)
    for i in np.argsort(-areas, kind="stable").tolist():
        _draw_mask(drawn, instances.masks[i], colours[i])
    for i in np.argsort(-areas, kind="stable").tolist():
        _draw_box(drawn, instances.boxes_xyxy[i], colours[i])
    names = [label_text(labels, int(class_id)) for class_id in instances.class_ids]
    scores = [f"{score:.2f}" if show_scores else "" for score in instances.scores]
    texts = [[name, score] if score else [name] for name, score in zip(names, scores, strict=True)]
    best_first = np.lexsort((areas, -instances.scores)).tolist()
    return _draw_labels(drawn, [(texts[i], instances.boxes_xyxy[i], colours[i]) for i in best_first])


def class_colour(class_id: int) -> _Colour:
    """The RGB colour of a class, the same in every image and run. Successive classes differ clearly."""
    hue = (0.58 + class_id * 0.618034) % 1.0  # golden ratio steps keep the hues well apart
    saturation = (0.85, 0.6)[class_id // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _shades(class_ids: NDArray[np.int64]) -> list[_Colour]:
    """The class colour of each instance, lighter or darker by its position within the class."""
    turns: dict[int, int] = {}
    colours = []
    for class_id in class_ids.tolist():
        turn = turns[class_id] = turns.get(class_id, -1) + 1
        colours.append(_shade(class_colour(class_id), (0.0, 0.3, -0.25, 0.15, -0.12)[turn % 5]))
    return colours


def _shade(colour: _Colour, amount: float) -> _Colour:
    towards = 255 if amount > 0 else 0
    red, green, blue = (round(value + (towards - value) * abs(amount)) for value in colour)
    return red, green, blue


def _draw_mask(image: _Image, rle: Rle, colour: _Colour) -> None:
    """Blend one mask into ``image``, in place, and draw its outline along the inner side of its edge."""
    ((x, y, width, height),) = rle_boxes_xywh([rle]).astype(int).tolist()
    if width == 0 or height == 0:
        return
    mask = rle_window(rle, (x, y, x + width, y + height))
    window = image[y : y + height, x : x + width]
    values = np.arange(256)[:, None] * (1 - _MASK_OPACITY) + np.array(colour) * _MASK_OPACITY
    blended = cv2.LUT(window, np.rint(values).astype(np.uint8)[:, None])
    # From the pixels outside, which are also around the window.
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
    # Lines must not cover small objects.
    line = depth <= min(_line_width(image), max(1, min(width, height) // 8))
    blended.reshape(-1, 3)[np.flatnonzero(line)] = colour
    cv2.copyTo(blended, mask, window)  # ten times as fast as indexing by a mask


def _draw_box(image: _Image, box_xyxy: NDArray[np.float32], colour: _Colour) -> None:
    """Along the edge; around it if the line would cover a small object."""
    height, width = image.shape[:2]
    line = _line_width(image)
    x1, y1, x2, y2 = np.rint(np.clip(box_xyxy, 0, [width - 1, height - 1] * 2)).astype(int).tolist()
    away = line // 2 + 1 if line > 3 and min(x2 - x1, y2 - y1) < 6 * line else 0
    cv2.rectangle(image, (x1 - away, y1 - away), (x2 + away, y2 + away), colour, line)


def _line_width(image: _Image) -> int:
    height, width = image.shape[:2]
    return max(1, round(min(max(height, width) * 0.0025, min(height, width) * 0.02)))


def _draw_labels(
    image: _Image, labels: Sequence[tuple[Sequence[str], NDArray[np.float32], _Colour]]
) -> _Image:
    """Draw each text on a filled rectangle, placed by `place_labels`; of overlapping ones the first on top.

    Labels lie inside the image. A text that is too wide is shortened, and left out if the image is tiny. A
    label that had to move away from its box is connected with it by a line.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    size = _text_size(canvas, [texts for texts, _, _ in labels])
    lines = [
        line_mask(texts, size, max_width=canvas.width - 4) if size >= _SMALLEST_TEXT else None
        for texts, _, _ in labels
    ]
    fitting = [
        (line, box, colour)
        for line, (_, box, colour) in zip(lines, labels, strict=True)
        if line is not None and line.height + 4 <= canvas.height
    ]
    boxes = np.array([box for _, box, _ in fitting]).reshape(-1, 4)
    sizes = np.array([(line.width + 4, line.height + 4) for line, _, _ in fitting], int).reshape(-1, 2)
    places = place_labels(boxes, sizes, canvas.size)
    for (_, box, colour), place in zip(fitting, places, strict=True):
        _connect(pen, box.clip(0, [canvas.width - 1, canvas.height - 1] * 2).round().tolist(), place, colour)
    for (line, _, colour), (x1, y1, x2, y2) in zip(fitting[::-1], places[::-1], strict=True):
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
        canvas.paste(_contrast(colour), (x1 + 2, y1 + 2), line)
    return np.asarray(canvas).copy()


def _text_size(canvas: Image.Image, texts: Sequence[Sequence[str]]) -> float:
    size = min(float(np.clip(0.024 * max(canvas.size), _SMALL_TEXT, 80)), 0.6 * canvas.height)
    letters = sum(len(part) + 1 for parts in texts for part in parts)
    covered = letters * 0.6 * size * 1.3 * size / (canvas.width * canvas.height)
    return max(size * min(1, (_MOST_LABELLED / max(covered, 1e-9)) ** 0.5), min(size, _SMALL_TEXT))


def _connect(pen: ImageDraw.ImageDraw, box: list[float], label: tuple[int, ...], colour: _Colour) -> None:
    start, end = [], []
    for axis in (0, 1):
        low, high = label[axis], label[axis + 2] - 1
        middle = min(max((low + high) / 2, box[axis]), box[axis + 2])
        end.append(middle)
        start.append(min(max(middle, low), high))
    if max(abs(start[0] - end[0]), abs(start[1] - end[1])) > 1:
        pen.line((*start, *end), fill=colour, width=1)


def place_labels(
    boxes_xyxy: NDArray[np.floating], sizes_wh: NDArray[np.integer], image_wh: tuple[int, int]
) -> list[tuple[int, int, int, int]]:
    """Where each label goes, as xyxy in whole pixels inside the image. The first ones choose first.

    A label stands above its box, at the left. If the image ends there, or another label is there, it stands
    at another side of the box or inside, else at the nearest free place within some lines. If there is none,
    it covers as little of other labels as possible.
    """
    placed = np.zeros((len(boxes_xyxy), 4), int)
    for i, (box, size) in enumerate(zip(boxes_xyxy, sizes_wh, strict=True)):
        home = np.rint([box[0], box[1] - size[1]]).astype(int)  # above the box, at the left
        for corners in (_at_box(box, size), home + _AROUND * size // (4, 1)):
            spots = _inside(corners, size, image_wh)
            shared = _shared_areas(spots, placed[:i])
            placed[i] = spots[shared.argmin()]  # the first of the best
            if not shared.min():
                break
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in placed.tolist()]


def _at_box(box_xyxy: NDArray[np.floating], size_wh: NDArray[np.integer]) -> NDArray[np.int64]:
    """Top left corners [k, 2] of a label that touches its box, the best first."""
    (x1, y1, x2, y2), (width, height) = np.rint(box_xyxy).astype(int).tolist(), size_wh.tolist()
    above, below, right = y1 - height, y2 + 1, x2 + 1
    outside = [(x1, above), (right - width, above), (x1, below), (right - width, below)]
    beside = [(right, y1), (x1 - width, y1)]
    return np.array([outside[0], (x1, y1), *outside[1:], *beside, (x1, y2 + 1 - height)])


# Steps [k, 2] of a quarter of the width and of the height of a label, the shortest first.
_AROUND = np.stack(np.meshgrid(np.arange(-8, 9), np.arange(-6, 7)), axis=2).reshape(-1, 2)
_AROUND = _AROUND[np.argsort(np.hypot(*_AROUND.T), kind="stable")]


def _inside(
    corners: NDArray[np.int64], size_wh: NDArray[np.integer], image_wh: tuple[int, int]
) -> NDArray[np.int64]:
    """The places [k, 4] xyxy with these corners, those moved sideways that leave the image at a side.

    Others that leave it above or below are left out. If all do, the first is moved.
    """
    limit = np.array(image_wh) - size_wh
    fits = (corners[:, 1] >= 0) & (corners[:, 1] <= limit[1])
    inside = (corners[fits] if fits.any() else corners[:1]).clip(0, limit)
    return np.concatenate([inside, inside + size_wh], axis=1)


def _shared_areas(spots: NDArray[np.int64], placed: NDArray[np.int64]) -> NDArray[np.int64]:
    """[k]: how much of each place is taken, in pixels."""
    sides = np.minimum(spots[:, None, 2:], placed[:, 2:]) - np.maximum(spots[:, None, :2], placed[:, :2])
    return sides.clip(0).prod(axis=2).sum(axis=1)


def _contrast(colour: _Colour) -> _Colour:
    luminance = float(np.dot(colour, (0.299, 0.587, 0.114)))
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)


def label_text(labels: Sequence[str], class_id: int) -> str:
    """The name of a class, or "class <index>" if it has no name or no font on this machine can write it."""
    if class_id < len(labels) and is_writable(labels[class_id]):
        return labels[class_id]
    return f"class {class_id}"
