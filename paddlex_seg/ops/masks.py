"""Mask operations on Paddle tensors: resize network masks to the original images."""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from paddlex_seg.ops.ragged import image_of_rows
from paddlex_seg.structures import Detections, MaskFrame

MASK_THRESHOLD = 0.5
LOGIT_THRESHOLD = 0.0


def original_sizes(im_shape: Tensor, scale_factor: Tensor) -> Tensor:
    """Height and width of the original images, whole numbers as float32 [B, 2].

    Both arguments are float32 [B, 2] as in ``Batch``. The result is rounded, not truncated: 640 / (640 / 600)
    is 599.99997 in float32, which PaddleDetection truncates to 599 columns.
    """
    return paddle.round(im_shape / scale_factor)


def paste_masks(
    detections: Detections,
    im_shape: Tensor,
    scale_factor: Tensor,
    *,
    input_hw: Sequence[int | Tensor],
    mask_frame: MaskFrame,
) -> Tensor:
    """Binary masks int32 [N, H, W] of the original images. ``mask_frame``: what the network masks contain.

    H and W are those of the largest image of the batch; outside of its own image a mask is 0. N may be 0.
    Runs in dynamic mode and in exported graphs; in a graph, the padded input size ``input_hw`` may be
    dynamic.
    """
    bbox, bbox_num, mask = detections
    if mask_frame == "box":
        return paste_box_masks(mask, bbox, bbox_num, im_shape, scale_factor)
    if mask_frame == "image":
        return paste_image_masks(mask, bbox, bbox_num, im_shape, scale_factor, input_hw)
    if mask_frame == "image_uncut":
        return paste_uncut_masks(mask, bbox_num, im_shape, scale_factor, input_hw)
    return paste_image_logits(mask, bbox_num, im_shape, scale_factor)


def paste_box_masks(
    mask: Tensor, bbox: Tensor, bbox_num: Tensor, im_shape: Tensor, scale_factor: Tensor
) -> Tensor:
    """Binary masks int32 [N, H, W] of the original images from ``Detections`` whose masks cover their boxes.

    Like ``paste_image_masks``, but a mask is resized to its box in one linear interpolation. At the edge of
    the box it is interpolated with zeros. Pixels of at least 0.5 are inside. A box without area has an empty
    mask.
    """
    num_rows = mask.shape[0]
    mask, bbox = _with_spare_row(mask), _with_spare_row(bbox)
    image_of_row = image_of_rows(num_rows + 1, bbox_num)
    sizes = original_sizes(im_shape, scale_factor)  # [B, 2]
    weights = []
    for axis in (0, 1):  # y, then x
        stretch = _stretch_weights(
            num_mask=_as_number(mask.shape[1 + axis]),
            begin=bbox[:, 3 - axis],
            end=bbox[:, 5 - axis],
            num_own=sizes[:, axis].gather(image_of_row),
            num_out=sizes[:, axis].amax().astype("int64"),
        )
        weights.append(stretch)  # [N, H or W, h or w]
    probability = paddle.matmul(paddle.matmul(weights[0], mask), weights[1], transpose_y=True)
    return (probability >= MASK_THRESHOLD).astype("int32")[:num_rows]


def paste_image_masks(
    mask: Tensor,
    bbox: Tensor,
    bbox_num: Tensor,
    im_shape: Tensor,
    scale_factor: Tensor,
    input_hw: Sequence[int | Tensor],
) -> Tensor:
    """Binary masks int32 [N, H, W] of the original images from ``Detections`` whose masks cover the whole
    input.

    H and W are those of the largest image of the batch; outside of its own image a mask is 0. A mask is
    resized to the padded input ``input_hw``, cropped to its box, and resized to the original image. Both
    resizes are linear. Pixels above 0.5 are inside. N may be 0. Runs in dynamic mode and in exported graphs.

    Each step is separable into rows and columns, so all steps together are one matrix per axis and detection.
    This is several times faster than two resizes, and images of a batch may have different sizes.
    """
    num_rows = mask.shape[0]
    mask, bbox = _with_spare_row(mask), _with_spare_row(bbox)
    image_of_row = image_of_rows(num_rows + 1, bbox_num)
    sizes = original_sizes(im_shape, scale_factor)  # [B, 2]
    weights = []
    for axis in (0, 1):  # y, then x
        scale = scale_factor[:, axis].gather(image_of_row)  # [N]
        num_input = _as_number(input_hw[axis])
        cut = _cut_resize_weights(
            num_mask=_as_number(mask.shape[1 + axis]),
            num_input=num_input,
            begin=bbox[:, 3 - axis] * scale,
            end=bbox[:, 5 - axis] * scale,
            # The padded input as a whole is divided by the scale factor. The padding is removed afterwards.
            num_padded=paddle.round(_divide(num_input, scale)).clip(min=1),
            num_own=sizes[:, axis].gather(image_of_row),
            num_out=sizes[:, axis].amax().astype("int64"),
        )
        weights.append(cut)
    probability = paddle.matmul(paddle.matmul(weights[0], mask), weights[1], transpose_y=True)
    return (probability > MASK_THRESHOLD).astype("int32")[:num_rows]


def paste_image_logits(mask: Tensor, bbox_num: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Tensor:
    """Binary masks int32 [N, H, W] of the original images from ``Detections`` whose masks are logits of the
    whole input.

    Like ``paste_image_masks``, but with one linear resize from the mask size to the original size, and
    without cropping to the box. Pixels above 0 are inside. The input must not be padded.
    """
    num_rows = mask.shape[0]
    mask = _with_spare_row(mask)
    image_of_row = image_of_rows(num_rows + 1, bbox_num)
    sizes = original_sizes(im_shape, scale_factor)  # [B, 2]
    weights = []
    for axis in (0, 1):  # y, then x
        resize = _own_resize_weights(
            num_mask=_as_number(mask.shape[1 + axis]),
            num_own=sizes[:, axis],
            num_out=sizes[:, axis].amax().astype("int64"),
        )
        weights.append(resize.gather(image_of_row))  # [N, H or W, h or w]
    logits = paddle.matmul(paddle.matmul(weights[0], mask), weights[1], transpose_y=True)
    return (logits > LOGIT_THRESHOLD).astype("int32")[:num_rows]


def paste_uncut_masks(
    mask: Tensor, bbox_num: Tensor, im_shape: Tensor, scale_factor: Tensor, input_hw: Sequence[int | Tensor]
) -> Tensor:
    """Binary masks int32 [N, H, W] of the original images from ``Detections`` whose masks cover the whole
    input and are not cut to boxes.

    Like ``paste_image_masks``, but the padding is removed before the resize to the original, so that no value
    is interpolated with the padding.
    """
    num_rows = mask.shape[0]
    mask = _with_spare_row(mask)
    image_of_row = image_of_rows(num_rows + 1, bbox_num)
    sizes = original_sizes(im_shape, scale_factor)  # [B, 2]
    weights = []
    for axis in (0, 1):  # y, then x
        resize = _image_resize_weights(
            num_mask=_as_number(mask.shape[1 + axis]),
            num_input=_as_number(input_hw[axis]),
            num_image=im_shape[:, axis],
            num_own=sizes[:, axis],
            num_out=sizes[:, axis].amax().astype("int64"),
        )
        weights.append(resize.gather(image_of_row))  # [N, H or W, h or w]
    probability = paddle.matmul(paddle.matmul(weights[0], mask), weights[1], transpose_y=True)
    return (probability > MASK_THRESHOLD).astype("int32")[:num_rows]


def boxes_around_masks(mask: Tensor, im_shape: Tensor, scale_factor: Tensor, *, stride: int) -> Tensor:
    """Boxes float32 [B, n, 4] around the mask values above 0.5, xyxy in pixels of the original image.

    mask: [B, n, h, w], probabilities for the whole padded input with this ``stride``; B and n are not 0. The
    edges of a box are where the interpolated mask crosses 0.5. They may differ by a pixel or two from the
    pasted mask, which is evaluated only at the centres of pixels and can miss a very small region between
    them. Boxes are clipped to the image. If no value inside the image is above 0.5, the box is all 0.
    """
    sizes = original_sizes(im_shape, scale_factor)  # [B, 2]
    for axis in (0, 1):
        starts_inside = paddle.arange(mask.shape[2 + axis], dtype="float32") * stride < im_shape[:, [axis]]
        mask = mask * starts_inside.astype("float32").unsqueeze([1, 3 - axis])
    edges = []
    for axis, rows in ((1, mask.flatten(0, 1)), (0, mask.flatten(0, 1).transpose([0, 2, 1]))):  # x, then y
        scale = stride * (sizes[:, [axis]] / im_shape[:, [axis]])  # [B, 1]
        for edge in _outer_crossings(rows):
            edges.append(paddle.minimum(edge.reshape([scale.shape[0], -1]) * scale, sizes[:, [axis]]))
    left, right, top, bottom = edges
    is_somewhere = is_inside(mask).max(axis=[2, 3]) * (left < right).astype("float32")
    return paddle.stack([left, top, right, bottom], axis=2) * is_somewhere.unsqueeze(2)


def is_inside(probability: Tensor) -> Tensor:
    """1.0 where a probability is above 0.5, else 0.0.

    ``(probability > 0.5).astype("float32")`` gives the same but takes three times as long, because Paddle
    expands the threshold to a tensor of the full size.
    """
    return paddle.ceil(probability - MASK_THRESHOLD).abs()  # abs because ceil returns -0.0


def _as_number(size: int | Tensor) -> int | Tensor:
    """The length of an axis for arithmetic with floats. In an exported graph a dynamic length is an integer
    tensor and must be cast to float32.
    """
    return size if isinstance(size, int) else size.astype("float32")


def _with_spare_row(rows: Tensor) -> Tensor:
    """Append one row of zeros; the caller removes it at the end. Official PaddleX uses oneDNN, which fails on
    tensors with 0 rows.
    """
    return paddle.concat([rows, paddle.zeros([1, *rows.shape[1:]])])


def _stretch_weights(
    num_mask: int | Tensor, begin: Tensor, end: Tensor, num_own: Tensor, num_out: Tensor
) -> Tensor:
    """Matrices [N, num_out, num_mask] that resize an axis to the range from ``begin`` to ``end`` [N].

    The range is in pixels of the original image. Rows outside of it, and from ``num_own`` [N] on, are 0.
    """
    begin, end, num_own = begin.unsqueeze(1), end.unsqueeze(1), num_own.unsqueeze(1)  # [N, 1]
    has_length = end > begin
    length = paddle.where(has_length, end - begin, paddle.ones_like(begin))
    pixel = paddle.arange(num_out, dtype="float32").unsqueeze(0)  # [1, num_out]
    position = (pixel + 0.5 - begin) / length * num_mask - 0.5  # [N, num_out]
    shown = (has_length & (pixel < num_own)).astype("float32")
    weights = F.relu(1 - (position.unsqueeze(-1) - paddle.arange(num_mask, dtype="float32")).abs())
    return shown.unsqueeze(-1) * weights


def _cut_resize_weights(
    num_mask: int | Tensor,
    num_input: int | Tensor,
    begin: Tensor,
    end: Tensor,
    num_padded: Tensor,
    num_own: Tensor,
    num_out: Tensor,
) -> Tensor:
    """Matrices [N, num_out, num_mask] that resize an axis to the input, crop it, and resize it to the image.

    Cropping keeps input pixels with ``begin`` [N] <= index < ``end`` [N]. The whole input of ``num_input``
    pixels corresponds to ``num_padded`` [N] pixels of the original. Rows from ``num_own`` [N] on are 0.
    """
    to_input = _resize_weights(num_mask, num_input, paddle.arange(num_input, dtype="float32"))
    pixel = paddle.arange(num_out, dtype="float32").unsqueeze(0)  # [1, num_out]
    position = _source_positions(num_input, num_padded.unsqueeze(1), pixel)
    lower = position.floor()  # [N, num_out]
    upper = (lower + 1).clip(max=num_input - 1)
    own = (pixel < num_own.unsqueeze(1)).astype("float32")
    lower_weight = own * (1 - (position - lower)) * _is_between(lower, begin, end)
    upper_weight = own * (position - lower) * _is_between(upper, begin, end)
    return _scaled_rows(to_input, lower, lower_weight) + _scaled_rows(to_input, upper, upper_weight)


def _own_resize_weights(num_mask: int | Tensor, num_own: Tensor, num_out: Tensor) -> Tensor:
    """Matrices [B, num_out, num_mask] that resize an axis to ``num_own`` [B] pixels. Later rows are 0."""
    pixel = paddle.arange(num_out, dtype="float32").unsqueeze(0)  # [1, num_out]
    num_own = num_own.unsqueeze(1)  # [B, 1]
    own = (pixel < num_own).astype("float32")
    return own.unsqueeze(-1) * _resize_weights(num_mask, num_own, pixel)


def _image_resize_weights(
    num_mask: int | Tensor, num_input: int | Tensor, num_image: Tensor, num_own: Tensor, num_out: Tensor
) -> Tensor:
    """Matrices [B, num_out, num_mask] that resize an axis to the input, remove its padding, and resize it to
    the original.

    The first ``num_image`` [B] of ``num_input`` pixels become ``num_own`` [B] pixels. Later rows are 0.
    """
    to_input = _resize_weights(num_mask, num_input, paddle.arange(num_input, dtype="float32"))
    pixel = paddle.arange(num_out, dtype="float32").unsqueeze(0)  # [1, num_out]
    num_image, num_own = num_image.unsqueeze(1), num_own.unsqueeze(1)  # [B, 1]
    last = num_image - 1
    position = paddle.minimum(((pixel + 0.5) * (num_image / num_own) - 0.5).clip(min=0), last)
    lower = position.floor()  # [B, num_out]
    own = (pixel < num_own).astype("float32")
    lower_weight, upper_weight = own * (1 - (position - lower)), own * (position - lower)
    upper = paddle.minimum(lower + 1, last)
    return _scaled_rows(to_input, lower, lower_weight) + _scaled_rows(to_input, upper, upper_weight)


def _outer_crossings(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The leftmost and rightmost crossing of 0.5 in masks [M, h, w]: x from 0 to w, two tensors [M].

    Values belong to the middle of a column and are interpolated linearly between columns. The outermost
    values extend to the edge. The outermost crossing always lies on a row, never between two rows, so only
    rows are searched.
    """
    num_columns = mask.shape[2]
    has_inside = is_inside(mask.max(axis=1))  # [M, w]
    first = has_inside.argmax(axis=1)  # [M]
    last = (has_inside * (paddle.arange(num_columns, dtype="float32") + 1)).argmax(axis=1)
    left = first.astype("float32") + 0.5 - _reach(mask, first, first - 1)
    right = last.astype("float32") + 0.5 + _reach(mask, last, last + 1)
    return left, right


def _reach(mask: Tensor, column: Tensor, outer: Tensor) -> Tensor:
    """Distance [M] from the middle of a column [M] to the crossing of 0.5 towards its outer neighbour [M]."""
    last = mask.shape[2] - 1
    value, outer_value = (
        paddle.take_along_axis(
            mask, index.clip(0, last).reshape([-1, 1, 1]).expand([-1, mask.shape[1], 1]), axis=2
        ).squeeze(2)
        for index in (column, outer)
    )  # [M, h]
    reach = (value - MASK_THRESHOLD) / (value - outer_value).clip(min=1e-6) * is_inside(value)
    has_neighbour = ((outer >= 0) & (outer <= last)).astype("float32")
    return reach.max(axis=1) * has_neighbour + 0.5 * (1 - has_neighbour)


def _resize_weights(num_in: int | Tensor, num_out: int | Tensor, pixel: Tensor) -> Tensor:
    """Weights [..., num_in] of source pixels for output pixels [...] in a linear resize to ``num_out``."""
    position = _source_positions(num_in, num_out, pixel).unsqueeze(-1)
    return F.relu(1 - (position - paddle.arange(num_in, dtype="float32")).abs())


def _source_positions(num_in: int | Tensor, num_out: int | Tensor, pixel: Tensor) -> Tensor:
    """Source positions of output pixels [...] when ``num_in`` pixels are resized to ``num_out``.

    The same as ``F.interpolate`` with align_corners=False: half-pixel centres, clamped to 0..num_in - 1.
    """
    return ((pixel + 0.5) * _divide(num_in, num_out) - 0.5).clip(0, num_in - 1)


def _divide(length: int | Tensor, divisor: int | Tensor) -> float | Tensor:
    """``length / divisor``, with ``length`` first expanded to the shape of the divisor.

    If the dividend is the smaller tensor, oneDNN, which official PaddleX uses, swaps dividend and divisor.
    """
    return (length + 0 * divisor) / divisor


def _is_between(index: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    return ((index >= begin.unsqueeze(1)) & (index < end.unsqueeze(1))).astype("float32")


def _scaled_rows(matrix: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Rows of matrix [m, k] at index [N, n], each multiplied by its weight [N, n]: [N, n, k]."""
    rows = matrix.gather(index.astype("int64").flatten())
    return (rows * weight.flatten().unsqueeze(1)).reshape([-1, index.shape[1], matrix.shape[1]])
