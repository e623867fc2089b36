"""Boxes on Paddle tensors. ``xyxy`` means x1, y1, x2, y2 in whatever unit, the same for all arguments."""

import paddle
from paddle import Tensor


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


def pairwise_iou(boxes: Tensor, others: Tensor, epsilon: float = 1e-9) -> Tensor:
    """Intersection over union of each of boxes [n, 4] with each of others [m, 4], both xyxy: [n, m].

    A box turned inside out counts as empty.
    """
    left_top = paddle.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = paddle.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = _width_times_height((right_bottom - left_top).clip(min=0))  # [n, m]
    union = _areas(boxes).unsqueeze(1) + _areas(others).unsqueeze(0) - overlap
    return overlap / (union + epsilon)


def giou_loss(boxes: Tensor, targets: Tensor, epsilon: float = 1e-10) -> Tensor:
    """1 - generalised IoU of box pairs [n, 4] xyxy, 0..2 each: [n]."""
    inner = paddle.minimum(boxes[:, 2:], targets[:, 2:]) - paddle.maximum(boxes[:, :2], targets[:, :2])
    outer = paddle.maximum(boxes[:, 2:], targets[:, 2:]) - paddle.minimum(boxes[:, :2], targets[:, :2])
    overlap = _width_times_height(inner.clip(min=0))
    union = _width_times_height(boxes[:, 2:] - boxes[:, :2])
    union = union + _width_times_height(targets[:, 2:] - targets[:, :2]) - overlap + epsilon
    hull = _width_times_height(outer) + epsilon
    return 1 - (overlap / union - (hull - union) / hull)


def _areas(boxes_xyxy: Tensor) -> Tensor:
    return _width_times_height((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clip(min=0))


def _width_times_height(size: Tensor) -> Tensor:
    # Not prod(): its gradient divides by each factor and is NaN for a width of 0.
    return size[..., 0] * size[..., 1]
