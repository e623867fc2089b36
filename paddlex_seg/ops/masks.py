"""Masks on Paddle tensors: from the network's resolution to the original images."""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from paddlex_seg.ops.ragged import image_of_rows
from paddlex_seg.structures import Detections, MaskFrame

MASK_THRESHOLD = 0.5
LOGIT_THRESHOLD = 0.0


def original_sizes(im_shape: Tensor, scale_factor: Tensor) -> Tensor:
    """Height and width of the images before their resize, whole numbers as float32 [B, 2].

    Both arguments are float32 [B, 2] as in ``Batch``. Rounded, not cut off: 640 / (640 / 600) is 599.99997 in
    float32, and PaddleDetection makes 599 columns of it.
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
    """Binary masks int32 [N, H, W] of the original images, from masks that hold what ``mask_frame`` says.

    H and W are those of the largest image of the batch; beyond its own image a mask is 0. Runs eagerly and in
    graphs, which may leave the size ``input_hw`` of the padded input open; N may be 0.
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

    As ``paste_image_masks``, but a mask is stretched over its box with one linear interpolation, which blends
    with zeros around it. Pixels count as inside from 0.5 on. A box without area has an empty mask.
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

    H and W are those of the largest image of the batch; beyond its own image a mask is 0. Pixels count as
    inside above 0.5, after two linear resizes: to the padded input ``input_hw``, where the mask is cut to
    its box, then to the original. Runs eagerly and in graphs; N may be 0.

    Each step acts on rows and columns separately, so all of them are one matrix per axis and detection. That
    is several times faster than resizing twice, and images of a batch may differ in size.
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
            # All of the padded input shrinks by the scale factor; the padding is left out after that.
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

    As ``paste_image_masks``, but with one linear resize, from the masks' size to that of the original, and no
    cut. Pixels count as inside above 0. The input must not be padded.
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

    As ``paste_image_masks``, but of the padded input only the image is resized to the original, without
    blending with the padding behind it.
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
    """Boxes float32 [B, n, 4], xyxy in pixels of the original image, around what is above 0.5 in masks.

    mask: [B, n, h, w], probabilities of the whole padded input, one value for ``stride`` pixels per axis;
    B and n are not 0. A box ends where the interpolated mask crosses 0.5. That is within a pixel or two of
    the pasted mask, which is known only at the centres of pixels, and may have lost a speck between them. It
    ends at the edges of the image, and is all 0 when nothing of its mask is in there.
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

    The same as ``(probability > 0.5).astype("float32")``, which takes three times as long: Paddle makes a
    tensor of the threshold, as large as the other one.
    """
    return paddle.ceil(probability - MASK_THRESHOLD).abs()  # abs, since ceil gives -0.0


def _as_number(size: int | Tensor) -> int | Tensor:
    """The length of an axis. One that an exported graph leaves open is a tensor of whole numbers there, which
    does not calculate with floats.
    """
    return size if isinstance(size, int) else size.astype("float32")


def _with_spare_row(rows: Tensor) -> Tensor:
    """One row of zeros more, to be cut off at the end: oneDNN refuses arithmetic on no rows, and official
    PaddleX uses oneDNN.
    """
    return paddle.concat([rows, paddle.zeros([1, *rows.shape[1:]])])


def _stretch_weights(
    num_mask: int | Tensor, begin: Tensor, end: Tensor, num_own: Tensor, num_out: Tensor
) -> Tensor:
    """The matrices [N, num_out, num_mask] that stretch an axis over ``begin`` to ``end`` [N], pixels of the
    original; zeros elsewhere and from pixel ``num_own`` [N] on.
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
    """The matrices [N, num_out, num_mask] that resize an axis to the input, cut it, and resize it again.

    The cut keeps the input pixels whose index is from ``begin`` [N] to before ``end`` [N]. The original's
    pixel i of ``num_padded`` [N] lies at the same fraction of the input; from ``num_own`` [N] on, pixels are
    0.
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
    """The matrices [B, num_out, num_mask] that resize an axis to ``num_own`` [B] pixels; after those,
    zeros.
    """
    pixel = paddle.arange(num_out, dtype="float32").unsqueeze(0)  # [1, num_out]
    num_own = num_own.unsqueeze(1)  # [B, 1]
    own = (pixel < num_own).astype("float32")
    return own.unsqueeze(-1) * _resize_weights(num_mask, num_own, pixel)


def _image_resize_weights(
    num_mask: int | Tensor, num_input: int | Tensor, num_image: Tensor, num_own: Tensor, num_out: Tensor
) -> Tensor:
    """The matrices [B, num_out, num_mask] that resize an axis to the input, cut off its padding, and resize
    again.

    The first ``num_image`` [B] of ``num_input`` pixels become ``num_own`` [B]; after those, zeros.
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
    """Where masks [M, h, w] first and last cross 0.5 from left to right: two [M], columns from 0 to w.

    Values stand in the middle of columns and are interpolated in between; the outer ones reach to the edge.
    Between two rows nothing lies further out than on the rows themselves, so that only those are looked at.
    """
    num_columns = mask.shape[2]
    has_inside = is_inside(mask.max(axis=1))  # [M, w]
    first = has_inside.argmax(axis=1)  # [M]
    last = (has_inside * (paddle.arange(num_columns, dtype="float32") + 1)).argmax(axis=1)
    left = first.astype("float32") + 0.5 - _reach(mask, first, first - 1)
    right = last.astype("float32") + 0.5 + _reach(mask, last, last + 1)
    return left, right


def _reach(mask: Tensor, column: Tensor, outer: Tensor) -> Tensor:
    """How far [M] masks are above 0.5 from the middle of a column [M] towards its outer neighbour [M]."""
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
    """Weights [..., num_in] of the line that becomes pixels [...] of ``num_out`` in a linear resize."""
    position = _source_positions(num_in, num_out, pixel).unsqueeze(-1)
    return F.relu(1 - (position - paddle.arange(num_in, dtype="float32")).abs())


def _source_positions(num_in: int | Tensor, num_out: int | Tensor, pixel: Tensor) -> Tensor:
    """Where pixels [...] of ``num_out`` lie between the ``num_in`` pixels of the line they are resized from.

    The same as ``F.interpolate`` without aligned corners: half-pixel centres, clamped to the line's ends.
    """
    return ((pixel + 0.5) * _divide(num_in, num_out) - 0.5).clip(0, num_in - 1)


def _divide(length: int | Tensor, divisor: int | Tensor) -> float | Tensor:
    """``length / divisor``, in the divisor's shape. Where a dividend tensor is the smaller one, oneDNN, which
    official PaddleX uses, divides the wrong way round.
    """
    return (length + 0 * divisor) / divisor


def _is_between(index: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    return ((index >= begin.unsqueeze(1)) & (index < end.unsqueeze(1))).astype("float32")


def _scaled_rows(matrix: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Rows of matrix [m, k] at index [N, n], each times its weight [N, n]: [N, n, k]."""
    rows = matrix.gather(index.astype("int64").flatten())
    return (rows * weight.flatten().unsqueeze(1)).reshape([-1, index.shape[1], matrix.shape[1]])
