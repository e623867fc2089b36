"""Draws instances into an image. Images are RGB uint8."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from paddlex_seg.fonts import is_writable, line_mask
from paddlex_seg.masks.rle import rle_area, rle_box_xywh, rle_to_mask
from paddlex_seg.structures import Instances, Rle

_MASK_OPACITY = 0.45
_SMALLEST_TEXT = 6  # pixels; smaller text cannot be read

_Image = NDArray[np.uint8]  # [H, W, 3], RGB
_Colour = tuple[int, int, int]


def draw_instances(
    image: _Image, instances: Instances, labels: Sequence[str], show_scores: bool = True
) -> _Image:
    """A copy of ``image`` [H, W, 3] with the mask, outline, box and label of each instance.

    labels: class names by class index. A class has the same colour in every image; its instances differ in
    shade. Large instances are drawn first, so that small ones stay visible. Labels are drawn last. Use
    ``show_scores=False`` for annotations. Raises ValueError when image and instances differ in size.
    """
    if image.shape[:2] != instances.size_hw:
        raise ValueError(f"the image is {image.shape[:2]}, but the instances are for {instances.size_hw}")
    drawn = np.ascontiguousarray(image).copy()
    colours = _shades(instances.class_ids)
    order = np.argsort([-rle_area(mask) for mask in instances.masks], kind="stable")
    for i in order:
        _draw_mask(drawn, instances.masks[i], colours[i])
    for i in order:
        _draw_box(drawn, instances.boxes_xyxy[i], colours[i])
    names = [label_text(labels, int(class_id)) for class_id in instances.class_ids]
    scores = [f"{score:.2f}" if show_scores else "" for score in instances.scores]
    texts = [[name, score] if score else [name] for name, score in zip(names, scores, strict=True)]
    return _draw_labels(drawn, [(texts[i], instances.boxes_xyxy[i], colours[i]) for i in order])


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
    """Blend one mask into ``image``, in place."""
    x, y, width, height = (int(value) for value in rle_box_xywh(rle))
    if width == 0 or height == 0:
        return
    mask = np.ascontiguousarray(rle_to_mask(rle)[y : y + height, x : x + width])
    window = image[y : y + height, x : x + width]
    inside = mask.astype(bool)
    window[inside] = np.rint(window[inside] * (1 - _MASK_OPACITY) + np.array(colour) * _MASK_OPACITY)
    # Drawn into the whole image with an offset: OpenCV would cut the line at the edge of ``window``.
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, _line_width(image), cv2.LINE_AA, offset=(x, y))


def _draw_box(image: _Image, box_xyxy: NDArray[np.float32], colour: _Colour) -> None:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.rint(np.clip(box_xyxy, 0, [width - 1, height - 1] * 2)).astype(int).tolist()
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, _line_width(image))


def _line_width(image: _Image) -> int:
    return max(1, round(max(image.shape[:2]) * 0.0025))


def _draw_labels(
    image: _Image, labels: Sequence[tuple[Sequence[str], NDArray[np.float32], _Colour]]
) -> _Image:
    """Draw each text on a filled rectangle above its box, or inside the box if there is no space above.

    Labels lie inside the image. A text that is too wide is shortened, and left out if the image is tiny.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    size = min(float(np.clip(0.024 * max(canvas.size), 11, 80)), 0.6 * canvas.height)
    for texts, box, colour in labels if size >= _SMALLEST_TEXT else ():
        text = line_mask(texts, size, max_width=canvas.width - 4)
        if text is None or text.height + 4 > canvas.height:
            continue
        width, height = text.width + 4, text.height + 4
        above = round(float(box[1])) - height
        x = int(np.clip(round(float(box[0])), 0, canvas.width - width))
        y = int(np.clip(above if above >= 0 else round(float(box[1])), 0, canvas.height - height))
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        canvas.paste(_contrast(colour), (x + 2, y + 2), text)
    return np.asarray(canvas).copy()


def _contrast(colour: _Colour) -> _Colour:
    luminance = float(np.dot(colour, (0.299, 0.587, 0.114)))
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)


def label_text(labels: Sequence[str], class_id: int) -> str:
    """The name of a class, or "class <index>" if it has no name or no font on this machine can write it."""
    if class_id < len(labels) and is_writable(labels[class_id]):
        return labels[class_id]
    return f"class {class_id}"
