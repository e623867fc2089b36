"""Pastes the network's small masks to the original image as RLE, without computing full-size masks.

The steps follow PaddleDetection and depend on ``mask_frame``. All resizing is bilinear.

- ``"image"`` (PP-YOLOE_seg): probabilities are resized to the network input, set to zero outside the box,
  resized to the original size and compared with 0.5.
- ``"image_uncut"`` (SOLOv2): the same, but the box does not cut the mask, and the padding of the network
  input is removed before the second resize.
- ``"box"`` (R-CNN): probabilities are resized to the box, with zeros outside, and compared with 0.5.
- ``"image_logits"`` (Mask-RT-DETR): logits are resized once, to the original size, and compared with 0.
- ``"original"`` (official exported graphs): masks are full-size already and are only encoded.

Bilinear resizing is separable, so x is interpolated first. Along a column, values are then linear between two
rows of the network's mask. The mask can begin or end at most once in between, and the position follows from
the two values. The cost of a column therefore depends on the rows of the network's mask, not on the pixels of
the image, and memory does not grow with the area of the image.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import mask_to_rle, rle_boxes_xywh, runs_to_rle
from paddlex_seg.structures import Instances, MaskFrame, Rle

THRESHOLD = np.float32(0.5)
LOGIT_THRESHOLD = np.float32(0)
COLUMNS_AT_ONCE = 512  # keeps the working set within the CPU cache of a few MB


def detections_to_instances(
    bbox: NDArray[np.float32],
    bbox_num: NDArray[np.integer],
    mask: NDArray,
    im_shape: NDArray[np.float32],
    scale_factor: NDArray[np.float32],
    *,
    input_hw: Sequence[int],
    original_sizes: Sequence[tuple[int, int]],
    mask_frame: MaskFrame,
) -> list[Instances]:
    """Instances of each image of a batch, best score first. Evaluation and prediction both use this.

    bbox, bbox_num, mask: as in `DetectionArrays`; im_shape, scale_factor: float32 [B, 2]; input_hw: the size
    of the (padded) network input; original_sizes: (height, width) of the B original images.

    The masks have the size in ``original_sizes``. PaddleDetection uses ``int(im_shape / scale_factor)``
    instead, which gives 599 for some images of 600 pixels due to float32. Boxes are not clipped to the image.
    An instance with an empty mask is kept. With ``"image_uncut"``, boxes are computed from the pasted masks;
    the box of an empty mask is all 0.
    """
    assert len(bbox_num) == len(original_sizes) == len(im_shape) == len(scale_factor)
    instances = []
    ends = np.cumsum(bbox_num)
    for size_hw, start, end, image_hw, scale_yx in zip(
        original_sizes, ends - bbox_num, ends, im_shape, scale_factor, strict=True
    ):
        boxes, small = bbox[start:end, 2:], mask[start:end]
        if mask_frame == "original":
            masks = encode_original_masks(small, original_hw=size_hw)
        elif mask_frame == "box":
            masks = paste_box_masks(small, boxes, original_hw=size_hw)
        elif mask_frame == "image_logits":
            masks = paste_image_logits(small, original_hw=size_hw)
        elif mask_frame == "image_uncut":
            masks = paste_uncut_masks(small, image_hw=image_hw, input_hw=input_hw, original_hw=size_hw)
            boxes = boxes_of_masks(masks)
        else:
            masks = paste_image_masks(small, boxes, scale_yx=scale_yx, input_hw=input_hw, original_hw=size_hw)
        rows = np.concatenate([bbox[start:end, :2], boxes], axis=1)
        instances.append(sorted_instances(rows, masks, size_hw))
    return instances


def boxes_of_masks(masks: Sequence[Rle]) -> NDArray[np.float32]:
    """The boxes [N, 4], xyxy, around all pixels of each mask; all 0 for an empty mask."""
    boxes_xywh = rle_boxes_xywh(masks).astype(np.float32)
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def sorted_instances(bbox: NDArray[np.float32], masks: Sequence[Rle], size_hw: tuple[int, int]) -> Instances:
    """Instances of one image from its rows ``[N, 6]`` (class, score, xyxy) and masks, best score first."""
    order = np.argsort(-bbox[:, 1], kind="stable")
    return Instances(
        size_hw=size_hw,
        class_ids=bbox[order, 0].astype(np.int64),
        scores=bbox[order, 1].astype(np.float32),
        boxes_xyxy=bbox[order, 2:].astype(np.float32),
        masks=tuple(masks[i] for i in order),
    )


def paste_image_masks(
    mask: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    *,
    scale_yx: NDArray[np.float32],
    input_hw: Sequence[int],
    original_hw: tuple[int, int],
) -> list[Rle]:
    """Masks of the original image. mask: [N, h, w] of the network input; boxes_xyxy: [N, 4], original."""
    rows, columns = (
        _Axis(small, network, scale, original)
        for small, network, scale, original in zip(
            mask.shape[1:], input_hw, scale_yx, original_hw, strict=True
        )
    )
    network_boxes = boxes_xyxy * np.tile(scale_yx[::-1], 2)
    return [
        _paste_image_mask(small, box, rows, columns) for small, box in zip(mask, network_boxes, strict=True)
    ]


def paste_uncut_masks(
    mask: NDArray[np.float32],
    *,
    image_hw: NDArray[np.float32],
    input_hw: Sequence[int],
    original_hw: tuple[int, int],
) -> list[Rle]:
    """Masks of the original image. mask: [N, h, w] of the network input; image_hw: input without padding."""
    in_small, in_network = [], []  # for y, then x
    for small, network, image, original in zip(mask.shape[1:], input_hw, image_hw, original_hw, strict=True):
        in_small.append(source_coordinates(small, network)[: int(image)])
        in_network.append(source_coordinates(int(image), original))
    return [_paste_uncut_mask(small, in_small, in_network, original_hw) for small in mask]


def paste_image_logits(mask: NDArray[np.float32], *, original_hw: tuple[int, int]) -> list[Rle]:
    """Masks of the original image. mask: [N, h, w], logits over the whole image."""
    y_in_mask, x_in_mask = (
        source_coordinates(small, original)
        for small, original in zip(mask.shape[1:], original_hw, strict=True)
    )
    return [
        _trace(
            small.T, x_in_crop=x_in_mask, y_in_crop=y_in_mask, size_hw=original_hw, threshold=LOGIT_THRESHOLD
        )
        for small in mask
    ]


def paste_box_masks(
    mask: NDArray[np.float32], boxes_xyxy: NDArray[np.float32], *, original_hw: tuple[int, int]
) -> list[Rle]:
    """Masks of the original image. mask: [N, h, w], each over its box; boxes_xyxy: [N, 4] in the original.

    As in PaddleDetection, a value of exactly 0.5 is inside the mask here, but outside in
    ``paste_image_masks``.
    """
    return [_paste_box_mask(small, box, original_hw) for small, box in zip(mask, boxes_xyxy, strict=True)]


def encode_original_masks(mask: NDArray, *, original_hw: tuple[int, int]) -> list[Rle]:
    """RLE of masks [N, H, W] that a graph has pasted: 0 outside, above 0 inside.

    H and W are the size of the largest image of the batch. Official graphs may miss the last row or column
    due to rounding; it is filled with 0.
    """
    encoded = []
    for one in mask:
        whole = np.zeros(original_hw, np.uint8, order="F")
        part = one[: original_hw[0], : original_hw[1]]
        whole[: part.shape[0], : part.shape[1]] = part > 0
        encoded.append(mask_to_rle(whole))
    return encoded


def source_coordinates(size_in: int, size_out: int) -> NDArray[np.float32]:
    """The source coordinates of a resize from ``size_in`` to ``size_out`` pixels along one axis.

    Half-pixel centres, clamped to the ends. The order of float32 operations is the same as in Paddle's
    kernel. Rounding changes coordinates by up to 5e-5 pixels, which is enough to change single mask pixels.
    """
    ratio = np.float32(size_in) / np.float32(size_out)
    centres = np.arange(size_out, dtype=np.float32) + np.float32(0.5)
    return np.clip(ratio * centres - np.float32(0.5), np.float32(0), np.float32(size_in - 1))


class _Axis:
    """One axis (y or x): coordinates between the small mask, the network input and the original image."""

    def __init__(self, small: int, network: int, scale: np.float32, original: int) -> None:
        enlarged = max(1, int(np.floor(np.float32(network) / scale + np.float32(0.5))))
        self.network_size, self.original_size = network, original
        self.network_in_small = source_coordinates(small, network)  # [network]
        # [original], or shorter due to rounding. The padding comes after the image and is cut off.
        self.original_in_network = source_coordinates(network, enlarged)[:original]

    def inside(self, low: np.float32, high: np.float32) -> tuple[int, int]:
        """First pixel and one past the last pixel of the network input with ``low <= index < high``.

        Edges were divided by the scale and multiplied again. The tolerance is for the rounding error of that.
        """
        first, stop = np.ceil(np.array([low, high]) - np.spacing(np.abs(np.array([low, high]))))
        return int(np.clip(first, 0, self.network_size)), int(np.clip(stop, 0, self.network_size))


def _paste_image_mask(
    small: NDArray[np.float32], network_box: NDArray[np.float32], rows: _Axis, columns: _Axis
) -> Rle:
    left, right = columns.inside(network_box[0], network_box[2])
    top, bottom = rows.inside(network_box[1], network_box[3])
    crop = _interpolate(
        small, rows.network_in_small[top:bottom]
    ).T  # [bottom - top, w], then [w, bottom - top]
    crop = _interpolate(crop, columns.network_in_small[left:right])  # [right - left, bottom - top]
    return _trace(
        crop,
        x_in_crop=columns.original_in_network - np.float32(left),
        y_in_crop=rows.original_in_network - np.float32(top),
        size_hw=(rows.original_size, columns.original_size),
        threshold=THRESHOLD,
    )


def _paste_uncut_mask(
    small: NDArray[np.float32],
    in_small: Sequence[NDArray[np.float32]],
    in_network: Sequence[NDArray[np.float32]],
    original_hw: tuple[int, int],
) -> Rle:
    """Paste one mask without cutting it at the box. Both coordinate arguments are for y, then x.

    in_small: the pixels of the unpadded network input, as coordinates in the small mask. in_network: the
    pixels of the original image, as coordinates in the unpadded network input.
    """
    # Bilinear resizing never exceeds its inputs, so only cells next to a cell above the threshold matter.
    inside = small > THRESHOLD
    windows = []
    for axis, coordinates in enumerate(in_small):
        where = np.flatnonzero(inside.any(axis=1 - axis))
        low, high = (where[0] - 1, where[-1] + 1) if len(where) else (0, -1)
        windows.append(slice(*np.searchsorted(coordinates, [low, high + 1e-3])))
    rows, columns = windows
    crop = _interpolate(small, in_small[0][rows]).T  # [w, rows]
    crop = _interpolate(crop, in_small[1][columns])  # [columns, rows]
    return _trace(
        crop,
        x_in_crop=in_network[1] - np.float32(columns.start),
        y_in_crop=in_network[0] - np.float32(rows.start),
        size_hw=original_hw,
        threshold=THRESHOLD,
    )


def _paste_box_mask(
    small: NDArray[np.float32], box_xyxy: NDArray[np.float32], original_hw: tuple[int, int]
) -> Rle:
    x1, y1, x2, y2 = box_xyxy.astype(np.float64)
    if not (x1 < x2 and y1 < y2):
        return _flips_to_rle(np.empty(0, np.int64), original_hw)
    height, width = small.shape
    y_centres, x_centres = (np.arange(size) + 0.5 for size in original_hw)
    return _trace(
        small.T,
        x_in_crop=((x_centres - x1) / (x2 - x1) * width - 0.5).astype(np.float32),
        y_in_crop=((y_centres - y1) / (y2 - y1) * height - 0.5).astype(np.float32),
        size_hw=original_hw,
        threshold=np.nextafter(THRESHOLD, np.float32(0)),
    )


def _trace(
    crop: NDArray[np.float32],
    *,
    x_in_crop: NDArray[np.float32],
    y_in_crop: NDArray[np.float32],
    size_hw: tuple[int, int],
    threshold: np.float32,
) -> Rle:
    """Resize ``crop``, which is zero outside, to the image, and encode the pixels above ``threshold``.

    crop: [columns, rows]; x_in_crop, y_in_crop: the image's columns and rows as coordinates in the crop,
    ascending. If they are shorter than the image, the remaining pixels are 0.
    """
    padded = np.pad(crop, 1)  # zeros around the crop, for the interpolation at its edges
    x_in_padded, y_in_padded = x_in_crop + np.float32(1), y_in_crop + np.float32(1)
    first, stop = np.searchsorted(x_in_padded, 0, side="right"), np.searchsorted(x_in_padded, len(padded) - 1)
    flips = [np.empty(0, np.int64)]
    for x in range(first, stop, COLUMNS_AT_ONCE):
        values = _interpolate(padded, x_in_padded[x : min(x + COLUMNS_AT_ONCE, stop)])
        column, y = _column_flips(values, y_in_padded, threshold)
        flips.append((x + column) * size_hw[0] + y)
    return _flips_to_rle(np.concatenate(flips), size_hw)


def _interpolate(lines: NDArray[np.float32], coordinates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear interpolation between neighbouring lines [n, m] at coordinates [k] in 0..n-1; returns [k, m]."""
    lower = coordinates.astype(np.int64)
    weight = (coordinates - lower.astype(np.float32))[:, None]
    upper = np.minimum(lower + 1, len(lines) - 1)
    return lines[lower] * (np.float32(1) - weight) + lines[upper] * weight


def _column_flips(
    values: NDArray[np.float32], y_in_values: NDArray[np.float32], threshold: np.float32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions where the mask begins or ends: (column, row of the image), column by column.

    values: [columns, n], zero at 0 and n - 1, linear in between. y_in_values: the rows of the image as
    coordinates in ``values``; they may lie outside 0..n - 1. If the crop ends at the image's edge, no row of
    the image is near its zeros, and the mask begins or ends at the edge, which is correct.
    """
    inside = values > threshold
    column, row = np.nonzero(inside[:, 1:] != inside[:, :-1])
    before, after = values[column, row].astype(np.float64), values[column, row + 1].astype(np.float64)
    crossing = row + (threshold - before) / (after - before)
    # A pixel exactly at the threshold is outside: a mask begins after it, or ends before it.
    begins = np.searchsorted(y_in_values, crossing, side="right")
    ends = np.searchsorted(y_in_values, crossing, side="left")
    return column, np.where(after > before, begins, ends)


def _flips_to_rle(flips: NDArray[np.int64], size_hw: tuple[int, int]) -> Rle:
    """RLE of the mask that starts with 0 and changes its value at each sorted position (column by column).

    Two flips at the same position cancel each other: the gap between them is narrower than a pixel.
    """
    height, width = size_hw
    positions, times = np.unique(flips, return_counts=True)
    positions = positions[times % 2 == 1]
    counts = np.diff(np.concatenate([[0], positions, [height * width]]))
    if len(positions) and positions[-1] == height * width:
        counts = counts[:-1]
    return runs_to_rle(counts.tolist(), size_hw)
