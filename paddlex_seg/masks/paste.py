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

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.masks.rle import mask_to_rle, rle_boxes_xywh, runs_to_rle
from paddlex_seg.structures import Instances, MaskFrame, Rle

THRESHOLD = np.float32(0.5)
LOGIT_THRESHOLD = np.float32(0)
ONE = np.float32(1)
# Keeps the working set, about 10 bytes a value, within the CPU cache of a core. With a quarter of it, calls
# of NumPy are so short that masks of images need up to a fifth more time, and threads wait for each other.
VALUES_AT_ONCE = 131_072
LEAST_COLUMNS = 8
# Masks x pixels of an image that are worth a thread; two threads lost for 20 ragged ones of 576x768. Those of
# boxes and logits are resized once, so that Python itself takes most of the time, which threads do not share.
PIXELS_PER_THREAD = 12_000_000
LIGHT_PIXELS_PER_THREAD = 50_000_000


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
    return _each(
        lambda small, box: _paste_image_mask(small, box, rows, columns),
        original_hw,
        PIXELS_PER_THREAD,
        mask,
        network_boxes,
    )


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
    return _each(
        lambda small: _paste_uncut_mask(small, in_small, in_network, original_hw),
        original_hw,
        PIXELS_PER_THREAD,
        mask,
    )


def paste_image_logits(mask: NDArray[np.float32], *, original_hw: tuple[int, int]) -> list[Rle]:
    """Masks of the original image. mask: [N, h, w], logits over the whole image."""
    y_in_mask, x_in_mask = (
        source_coordinates(small, original)
        for small, original in zip(mask.shape[1:], original_hw, strict=True)
    )
    return _each(
        lambda small: _paste_logits(small, x_in_mask, y_in_mask, original_hw),
        original_hw,
        LIGHT_PIXELS_PER_THREAD,
        mask,
    )


def paste_box_masks(
    mask: NDArray[np.float32], boxes_xyxy: NDArray[np.float32], *, original_hw: tuple[int, int]
) -> list[Rle]:
    """Masks of the original image. mask: [N, h, w], each over its box; boxes_xyxy: [N, 4] in the original.

    As in PaddleDetection, a value of exactly 0.5 is inside the mask here, but outside in
    ``paste_image_masks``.
    """
    return _each(
        lambda small, box: _paste_box_mask(small, box, original_hw),
        original_hw,
        LIGHT_PIXELS_PER_THREAD,
        mask,
        boxes_xyxy,
    )


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


def _each(
    paste: Callable[..., Rle], original_hw: tuple[int, int], per_thread: int, *rows: NDArray
) -> list[Rle]:
    """``paste`` for each mask and what belongs to it. Threads share the work if there is much.

    NumPy works without Python's lock, so threads use several cores.
    """
    height, width = original_hw
    num_threads = min(num_usable_cores(), len(rows[0]) * height * width // per_thread)
    if num_threads < 2:
        return list(map(paste, *rows))
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(paste, *rows))


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
    inside = small > THRESHOLD
    left, right = _overlap(
        columns.inside(network_box[0], network_box[2]),
        _lines_near(inside, 1, columns.network_in_small),
    )
    top, bottom = _overlap(
        rows.inside(network_box[1], network_box[3]), _lines_near(inside, 0, rows.network_in_small)
    )
    return _trace(
        _interpolate(small, _between(rows.network_in_small[top:bottom], len(small))).T,
        x_in_small=columns.network_in_small[left:right],
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
    inside = small > THRESHOLD
    top, bottom = _lines_near(inside, 0, in_small[0])
    left, right = _lines_near(inside, 1, in_small[1])
    return _trace(
        _interpolate(small, _between(in_small[0][top:bottom], len(small))).T,
        x_in_small=in_small[1][left:right],
        x_in_crop=in_network[1] - np.float32(left),
        y_in_crop=in_network[0] - np.float32(top),
        size_hw=original_hw,
        threshold=THRESHOLD,
    )


def _paste_logits(
    small: NDArray[np.float32],
    x_in_mask: NDArray[np.float32],
    y_in_mask: NDArray[np.float32],
    original_hw: tuple[int, int],
) -> Rle:
    inside = small > LOGIT_THRESHOLD
    (top, bottom), (left, right) = (_lines_around(inside, axis) for axis in (0, 1))
    return _trace(
        small[top:bottom, left:right].T,
        x_in_crop=x_in_mask - np.float32(left),
        y_in_crop=y_in_mask - np.float32(top),
        size_hw=original_hw,
        threshold=LOGIT_THRESHOLD,
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


def _lines_around(inside: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """The lines of the small mask, first and one past the last, that decide about a mask; see `_trace`.

    inside: [h, w], whether a value is above the threshold; axis: 0 for rows, 1 for columns. One more line on
    each side is interpolated with them.
    """
    where = np.flatnonzero(inside.any(axis=1 - axis))
    return (max(int(where[0]) - 1, 0), int(where[-1]) + 2) if len(where) else (0, 0)


def _lines_near(inside: NDArray[np.bool_], axis: int, in_small: NDArray[np.float32]) -> tuple[int, int]:
    """As `_lines_around`, but lines of the network input: ``in_small`` has their coordinates in the mask.

    Bilinear resizing never exceeds its inputs. So only lines next
    to a line with such a value can have one, too. One more line on each side is interpolated with them.
    """
    where = np.flatnonzero(inside.any(axis=1 - axis))
    if not len(where):
        return 0, 0
    first, stop = np.searchsorted(in_small, [where[0] - 1, where[-1] + 1])
    return max(int(first) - 1, 0), min(int(stop) + 1, len(in_small))


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    first = max(one[0], other[0])
    return first, max(first, min(one[1], other[1]))


def _trace(
    small: NDArray[np.float32],
    *,
    x_in_crop: NDArray[np.float32],
    y_in_crop: NDArray[np.float32],
    size_hw: tuple[int, int],
    threshold: np.float32,
    x_in_small: NDArray[np.float32] | None = None,
) -> Rle:
    """Resize a crop, which is zero outside, to the image, and encode the pixels above ``threshold``.

    small: [w, rows]; x_in_small: the columns of the crop as coordinates in ``small``, None if they are its
    own; x_in_crop, y_in_crop: the image's columns and rows as coordinates in the crop, ascending. If they are
    shorter than the image, the remaining pixels are 0. Of a mask that goes on outside of the crop, without
    values above the threshold, the result is exact if no value in the outer lines of the crop is above it.
    """
    small = np.ascontiguousarray(small)
    num_rows = small.shape[1]
    num_columns = len(small) if x_in_small is None else len(x_in_small)
    in_small = None if x_in_small is None else _between(x_in_small, len(small))
    first = np.searchsorted(x_in_crop, -1, side="right")
    stop = np.searchsorted(x_in_crop, num_columns)
    # In the crop with zeros around it. The coordinates themselves are not moved, because that would round.
    in_padded = _between(x_in_crop, num_columns + 1).moved(1)
    flips = [np.empty(0, np.int64)]
    at_once = max(LEAST_COLUMNS, VALUES_AT_ONCE // (num_rows + 2))
    for x in range(first, stop, at_once):
        part = in_padded.part(x, min(x + at_once, stop))
        begin, end = int(part.lower[0]), int(part.upper[-1]) + 1
        # These columns of the crop, with the zeros around it.
        padded = np.zeros((end - begin, num_rows + 2), np.float32)
        low, high = max(begin, 1), min(end, num_columns + 1)
        columns = slice(low - 1, high - 1)
        padded[low - begin : high - begin, 1:-1] = (
            small[columns] if in_small is None else _interpolate(small, in_small.part(low - 1, high - 1))
        )
        values = _interpolate(padded, part.moved(-begin))
        column, y = _column_flips(values, y_in_crop, threshold)
        flips.append((x + column) * size_hw[0] + y)
    return _flips_to_rle(np.concatenate(flips), size_hw)


class _Between(NamedTuple):
    """Where lines lie between lines of another array: the line before, the next one, and its weight."""

    lower: NDArray[np.int64]  # [k]
    upper: NDArray[np.int64]  # [k]
    weight: NDArray[np.float32]  # [k], of the upper line, 0..1

    def part(self, first: int, stop: int) -> "_Between":
        """Some of the lines."""
        return _Between(self.lower[first:stop], self.upper[first:stop], self.weight[first:stop])

    def moved(self, by: int) -> "_Between":
        """The same if the other array begins ``by`` lines earlier."""
        return _Between(self.lower + by, self.upper + by, self.weight)


def _between(coordinates: NDArray[np.float32], num_lines: int) -> _Between:
    """Coordinates [k] up to num_lines - 1 as neighbours and weights."""
    lower = np.floor(coordinates).astype(np.int64)
    return _Between(lower, np.minimum(lower + 1, num_lines - 1), coordinates - lower.astype(np.float32))


def _interpolate(lines: NDArray[np.float32], at: _Between) -> NDArray[np.float32]:
    """Linear interpolation between neighbouring lines [n, m]; returns [k, m]."""
    weight = at.weight[:, None]
    result, upper = lines.take(at.lower, axis=0), lines.take(at.upper, axis=0)
    result *= ONE - weight  # in place, because new arrays cost more than the arithmetic
    upper *= weight
    result += upper
    return result


def _column_flips(
    values: NDArray[np.float32], y_in_crop: NDArray[np.float32], threshold: np.float32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions where the mask begins or ends: (column, row of the image), column by column.

    values: [columns, n + 2] of a crop with n rows, zero at both ends, linear in between. y_in_crop: the rows
    of the image as coordinates in the crop; they may lie outside. If the crop ends at the image's edge, no
    row of the image is near its zeros, and the mask begins or ends at the edge, which is correct.
    """
    flat = values.ravel()
    inside = flat > threshold
    # Each column begins and ends outside, so nothing changes from one column to the next.
    place = np.flatnonzero(inside[1:] != inside[:-1])
    column = place // values.shape[1]
    before, after = flat[place].astype(np.float64), flat[place + 1].astype(np.float64)
    crossing = place - column * values.shape[1] - 1 + (threshold - before) / (after - before)
    # A pixel exactly at the threshold is outside: a mask begins after it, or ends before it.
    crossing = np.where(after > before, np.nextafter(crossing, np.inf), crossing)
    return column, np.searchsorted(y_in_crop, crossing)


def _flips_to_rle(flips: NDArray[np.int64], size_hw: tuple[int, int]) -> Rle:
    """RLE of the mask that starts with 0 and changes its value at each position (column by column).

    Two flips at the same position cancel each other: the gap between them is narrower than a pixel.
    """
    height, width = size_hw
    if (flips[1:] < flips[:-1]).any():  # by rounding
        flips = np.sort(flips)
    starts = np.flatnonzero(np.concatenate([[True], flips[1:] != flips[:-1]])[: len(flips)])
    times = np.diff(starts, append=len(flips))
    positions = flips[starts[times % 2 == 1]]
    counts = np.diff(positions, prepend=0, append=height * width)
    if len(positions) and positions[-1] == height * width:
        counts = counts[:-1]
    return runs_to_rle(counts, size_hw)
