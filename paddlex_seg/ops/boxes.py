"""Box operations on Paddle tensors. ``xyxy`` means x1, y1, x2, y2. All arguments must have the same unit."""

import math
from collections.abc import Sequence

import paddle
from paddle import Tensor

MAX_LOG_RATIO = math.log(1000 / 16)  # limit of size deltas, so that exp() does not overflow early in training


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes xyxy [..., 4] around points [..., 2] (x, y), given distances to left, top, right, bottom
    [..., 4].
    """
    return paddle.concat([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def boxes_to_distances(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Distances [..., 4] from points [..., 2] to left, top, right and bottom; negative where a point is
    outside.
    """
    return paddle.concat([points - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points], axis=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Centre x, centre y, width and height of boxes xyxy: [..., 4]."""
    corner, opposite = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return paddle.concat([(corner + opposite) / 2, opposite - corner], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Boxes xyxy from centre x, centre y, width and height: [..., 4]."""
    center, half_size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return paddle.concat([center - half_size, center + half_size], axis=-1)


def inverse_sigmoid(fraction: Tensor, epsilon: float = 1e-5) -> Tensor:
    """The number whose sigmoid is ``fraction``, clipped to 0..1. ``fraction`` and ``1 - fraction`` below
    ``epsilon`` are replaced by ``epsilon``.
    """
    fraction = fraction.clip(min=0.0, max=1.0)
    return paddle.log(fraction.clip(min=epsilon) / (1 - fraction).clip(min=epsilon))


def pairwise_iou(boxes: Tensor, others: Tensor, epsilon: float = 1e-9) -> Tensor:
    """IoU of each of ``boxes`` [n, 4] with each of ``others`` [m, 4], both xyxy: [n, m].

    A box with x2 < x1 or y2 < y1 counts as empty.
    """
    return iou(boxes.unsqueeze(1), others.unsqueeze(0), epsilon)


def iou(boxes: Tensor, others: Tensor, epsilon: float = 1e-9) -> Tensor:
    """IoU of ``boxes`` and ``others``, xyxy [..., 4] with shapes that broadcast: [...].

    A box with x2 < x1 or y2 < y1 counts as empty.
    """
    overlap = _areas(_overlaps(boxes, others))
    return overlap / (_areas(boxes) + _areas(others) - overlap + epsilon)


def giou_loss(boxes: Tensor, targets: Tensor, epsilon: float = 1e-10) -> Tensor:
    """1 - generalised IoU, 0..2, of boxes and targets, xyxy [..., 4] with shapes that broadcast: [...]."""
    outer = paddle.maximum(boxes[..., 2:], targets[..., 2:]) - paddle.minimum(
        boxes[..., :2], targets[..., :2]
    )
    overlap = _areas(_overlaps(boxes, targets))
    union = _width_times_height(boxes[..., 2:] - boxes[..., :2])
    union = union + _width_times_height(targets[..., 2:] - targets[..., :2]) - overlap + epsilon
    hull = _width_times_height(outer) + epsilon
    return 1 - (overlap / union - (hull - union) / hull)


def boxes_to_deltas(boxes: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Encode boxes [..., 4] relative to reference boxes [..., 4], both xyxy: deltas dx, dy, dw, dh [..., 4].

    dx and dy: difference of the centres divided by the reference size. dw and dh: logarithm of the size
    ratio. Deltas are multiplied by ``weights``. Source: S. Ren et al., "Faster R-CNN",
    https://arxiv.org/abs/1506.01497, equation 2.
    """
    center, size = _center_size(boxes)
    reference_center, reference_size = _center_size(references)
    deltas = [(center - reference_center) / reference_size, paddle.log(size / reference_size)]
    return paddle.concat(deltas, axis=-1) * paddle.to_tensor(list(weights), dtype="float32")


def deltas_to_boxes(deltas: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes xyxy from deltas, the inverse of ``boxes_to_deltas``. Shapes broadcast.

    Width and height are limited to 62.5 times those of the reference.
    """
    center, size = _center_size(references)
    deltas = deltas / paddle.to_tensor(list(weights), dtype="float32")
    center = center + deltas[..., :2] * size
    half_size = 0.5 * (paddle.exp(deltas[..., 2:].clip(max=MAX_LOG_RATIO)) * size)
    return paddle.concat([center - half_size, center + half_size], axis=-1)


def clip_boxes(boxes_xyxy: Tensor, size_hw: Tensor) -> Tensor:
    """Boxes xyxy [..., 4] clipped to images of height and width [..., 2]; the shapes broadcast."""
    limit = size_hw.flip(-1)
    return paddle.concat(
        [paddle.minimum(boxes_xyxy[..., i : i + 2], limit).clip(min=0) for i in (0, 2)], axis=-1
    )


def mask_boxes(masks: Tensor) -> Tensor:
    """The tight boxes of masks, bool [..., h, w], as xyxy fractions of the mask size: [..., 4].

    The box of an empty mask is 0, 0, 0, 0.
    """
    edges = []
    for axis in (-2, -1):  # x from the columns with a pixel, then y from the rows
        occupied = masks.any(axis=axis).astype("float32")
        size = occupied.shape[-1]
        position = paddle.arange(size, dtype="float32")
        begin = size - (occupied * (size - position)).max(axis=-1)
        end = (occupied * (position + 1)).max(axis=-1)
        edges.append(paddle.stack([begin * (end > 0).astype("float32"), end], axis=-1) / size)
    return paddle.stack(edges, axis=-1).flatten(-2)  # x1, y1, x2, y2


def _center_size(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return boxes_xyxy[..., :2] + 0.5 * size, size


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersections of boxes. Without an intersection, x2 < x1 or y2 < y1."""
    corner = paddle.maximum(boxes[..., :2], others[..., :2])
    return paddle.concat([corner, paddle.minimum(boxes[..., 2:], others[..., 2:])], axis=-1)


def _areas(boxes_xyxy: Tensor) -> Tensor:
    return _width_times_height((boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clip(min=0))


def _width_times_height(size: Tensor) -> Tensor:
    # Not prod(): its gradient divides by each factor and is NaN for a width of 0.
    return size[..., 0] * size[..., 1]
