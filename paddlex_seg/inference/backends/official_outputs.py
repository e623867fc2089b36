"""Reads the outputs of official graphs, as PaddleX and PaddleDetection export them.

Models with boxes give boxes [N, 6] (class, score, x1, y1, x2, y2), the number of boxes [B] and masks
[N, H, W]. SOLOv2 gives the number of objects [1], classes [N], scores [N] and masks [N, H, W]. This is also
their order. Versions of Paddle and options of the export change the types, and the shapes where N is 0 or 1:
a number may have no axis, classes and scores may have a second one. An image without objects has no rows, or
one row that is no detection: class -1, or score 0.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.inference.backends.base import keep_rows
from paddlex_seg.structures import DetectionArrays

WITH_BOXES = "boxes (float [N, 6]), the number of boxes (int [images]) and masks ([N, height, width])"
WITHOUT_BOXES = (
    "the number of objects (int [1]), classes (int [N]), scores (float [N]) and masks ([N, height, width])"
)


def official_detections(outputs: Sequence[NDArray], num_images: int) -> DetectionArrays:
    """The detections in the 3 or 4 outputs of an official graph, without the rows that are none.

    Types and shapes tell which output is which; where they do not, the official order does. Raises ValueError
    when the outputs are of another model.
    """
    read = _with_boxes if len(outputs) == 3 else _without_boxes
    detections = _agreeing(read(outputs, num_images))
    # A filler of SOLOv2 may have the score 0 / 0.
    return keep_rows(detections, (detections.bbox[:, 0] >= 0) & (detections.bbox[:, 1] > 0))


def require_mask_size(masks: NDArray, size_hw: tuple[int, int]) -> None:
    """Raise ValueError when masks [N, H, W] of one image are not of its size; one pixel less is allowed."""
    if (
        len(masks)
        and max(abs(side - wanted) for side, wanted in zip(masks.shape[1:], size_hw, strict=True)) > 1
    ):
        raise ValueError(
            f"the masks have {list(masks.shape[1:])} pixels for an image of {list(size_hw)} (height, width)"
        )


def describe(outputs: Sequence[NDArray]) -> str:
    """Types and shapes of outputs, for messages."""
    return ", ".join(f"{one.dtype} {list(one.shape)}" for one in outputs)


def _with_boxes(outputs: Sequence[NDArray], num_images: int) -> DetectionArrays:
    for boxes, number, masks in permutations(outputs):
        if _are_boxes(boxes) and _is_number(number, num_images) and _are_masks(masks):
            rows = boxes if boxes.size > 1 else np.zeros((0, 6), np.float32)  # a lone -1: multiclass_nms
            return DetectionArrays(rows.astype(np.float32, copy=False), number.reshape(-1), _stacked(masks))
    raise ValueError(f"the outputs are {describe(outputs)}; expected {WITH_BOXES}")


def _without_boxes(outputs: Sequence[NDArray], num_images: int) -> DetectionArrays:
    fitting = [one for one in permutations(outputs) if _are_without_boxes(one, num_images)]
    if not fitting:
        raise ValueError(f"the outputs are {describe(outputs)}; expected {WITHOUT_BOXES}")
    # Number and class of a single object look the same, but the number must be 1.
    agreeing = [one for one in fitting if int(one[0].sum()) == one[1].size]
    number, labels, scores, masks = (agreeing or fitting)[0]
    stacked = _stacked(masks)
    count = min(labels.size, len(stacked))
    rows = _rows_around_masks(labels.reshape(-1)[:count], scores.reshape(-1)[:count], stacked[:count])
    return DetectionArrays(rows, number.reshape(-1), stacked)


def _are_without_boxes(outputs: Sequence[NDArray], num_images: int) -> bool:
    number, labels, scores, masks = outputs
    return (
        _is_number(number, num_images)
        and labels.dtype.kind in "iu"
        and scores.dtype.kind == "f"
        and labels.size == scores.size
        and max(labels.ndim, scores.ndim) <= 2
        and _are_masks(masks)
    )


def _are_boxes(array: NDArray) -> bool:
    has_rows = array.ndim == 2 and array.shape[1] == 6
    return array.dtype.kind == "f" and (has_rows or array.size <= 1)


def _is_number(array: NDArray, num_images: int) -> bool:
    return array.dtype.kind in "iu" and array.size == num_images and array.ndim <= 2


def _are_masks(array: NDArray) -> bool:
    """[N, H, W]; also [N, 1, H, W], one mask [H, W], and nothing at all."""
    has_one_channel = array.ndim == 4 and 1 in array.shape[:2]
    return array.dtype.kind in "biuf" and (array.ndim in (2, 3) or has_one_channel or array.size == 0)


def _stacked(masks: NDArray) -> NDArray:
    """Masks as [N, H, W] with H and W above 0. They are 0 and above 0, or bool."""
    if masks.size == 0:  # no objects, or an image of one pixel that was rounded down
        count, height, width = (len(masks), *masks.shape[-2:]) if masks.ndim in (3, 4) else (0, 1, 1)
        return np.zeros((count, max(1, height), max(1, width)), bool)
    stacked = masks.reshape(-1, *masks.shape[-2:])
    return stacked > 0.5 if stacked.dtype.kind == "f" else stacked


def _agreeing(detections: DetectionArrays) -> DetectionArrays:
    """The same with as many rows as ``bbox_num`` says, or fewer if there are fewer."""
    bbox, number, masks = detections
    total = int(number.sum())
    if len(number) == 1:
        total = min(total, len(bbox))
        number = np.array([total])
    if number.min(initial=0) < 0 or total > len(bbox) or total > len(masks):
        raise ValueError(
            f"the number of objects is {number.tolist()} for {len(bbox)} rows and {len(masks)} masks"
        )
    return DetectionArrays(bbox[:total], number, masks[:total])


def _rows_around_masks(labels: NDArray, scores: NDArray, masks: NDArray) -> NDArray[np.float32]:
    """Rows [N, 6] of `DetectionArrays`, with the boxes of full-size masks [N, H, W]; box 0 if empty."""
    edges = []
    for other_axis in (1, 2):  # x, then y
        line: NDArray[np.bool_] = np.max(masks, axis=other_axis, initial=0) > 0
        is_empty = np.logical_not(line.max(axis=1))
        begin, end = line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)
        edges.append((np.where(is_empty, 0, begin), np.where(is_empty, 0, end)))
    (left, right), (top, bottom) = edges
    return np.stack([labels, scores, left, top, right, bottom], axis=1).astype(np.float32)
