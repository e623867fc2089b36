"""Task-aligned assignment of objects to grid cells.

Paper: C. Feng et al., "TOOD: Task-aligned One-stage Object Detection", https://arxiv.org/abs/2108.07755.
Shapes: B images, K classes, L grid cells, n objects of one image, P positive cells of the batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor

from paddlex_seg.ops.boxes import pairwise_iou
from paddlex_seg.structures import Target

CANDIDATES_PER_OBJECT = 13
SCORE_POWER = 1
IOU_POWER = 6
EPSILON = 1e-9


class Positives(NamedTuple):
    """The positive cells, each assigned to one object, sorted by object. P may be 0."""

    cell: Tensor  # int64 [P], position in the B * L cells of the batch
    object: Tensor  # int64 [P], position in the concatenated objects of all images, ascending
    score: (
        Tensor  # float32 [P], target score: the best IoU for the best cell of an object, less for the others
    )


@paddle.no_grad()
def assign_positives(
    scores: Tensor, boxes_xyxy: Tensor, centers: Tensor, targets: Sequence[Target]
) -> Positives:
    """The positive cells of a batch.

    scores: float32 [B, L, K], 0..1; boxes_xyxy: float32 [B, L, 4], pixels; centers: float32 [L, 2], pixels.
    """
    found = []
    first_object = 0
    for b, target in enumerate(targets):
        num_objects = target.boxes_xyxy.shape[0]
        if num_objects == 0:
            continue
        cell, obj, score = _assign_image(scores[b], boxes_xyxy[b], centers, target)
        found.append((cell + b * centers.shape[0], obj + first_object, score))
        first_object += num_objects
    if not found:
        none = paddle.zeros([0], dtype="int64")
        return Positives(none, none, paddle.zeros([0], dtype="float32"))
    return Positives(*(paddle.concat(parts) for parts in zip(*found, strict=True)))


def _assign_image(
    scores: Tensor, boxes_xyxy: Tensor, centers: Tensor, target: Target
) -> tuple[Tensor, Tensor, Tensor]:
    iou = pairwise_iou(target.boxes_xyxy, boxes_xyxy)  # [n, L]
    class_score = paddle.index_select(scores, target.class_ids, axis=1).T  # [n, L]
    alignment = class_score.pow(SCORE_POWER) * iou.pow(IOU_POWER)
    inside = _centers_inside(centers, target.boxes_xyxy)
    positive = _best_cells(alignment * inside) * inside
    positive = _one_object_per_cell(positive, iou)
    score = _target_scores(alignment * positive, iou * positive)
    pairs = paddle.nonzero(positive)  # [P, 2], object by object
    return pairs[:, 1], pairs[:, 0], paddle.gather_nd(score, pairs)


def _centers_inside(centers: Tensor, boxes_xyxy: Tensor) -> Tensor:
    left_top = centers.unsqueeze(0) - boxes_xyxy[:, None, :2]
    right_bottom = boxes_xyxy[:, None, 2:] - centers.unsqueeze(0)
    nearest_side = paddle.minimum(left_top, right_bottom).amin(axis=-1)
    return (nearest_side > EPSILON).astype("float32")  # [n, L]


def _best_cells(alignment: Tensor) -> Tensor:
    count = min(CANDIDATES_PER_OBJECT, alignment.shape[1])
    _, best = paddle.topk(alignment, count, axis=1)
    ones = paddle.ones(best.shape, dtype="float32")
    return paddle.put_along_axis(paddle.zeros_like(alignment), best, ones, axis=1)


def _one_object_per_cell(positive: Tensor, iou: Tensor) -> Tensor:
    """If several objects select a cell, it is assigned to the object with the highest IoU.

    This object may be one that did not select the cell.
    """
    num_selected = positive.sum(axis=0, keepdim=True)  # [1, L]
    best_object = iou.argmax(axis=0, keepdim=True)
    is_best = (paddle.arange(iou.shape[0]).unsqueeze(1) == best_object).astype("float32")
    return paddle.where(num_selected > 1, is_best, positive)


def _target_scores(alignment: Tensor, iou: Tensor) -> Tensor:
    """Target scores. Arguments are 0 where not positive. The best cell of an object gets its best IoU."""
    best_alignment = alignment.amax(axis=1, keepdim=True)
    return alignment / (best_alignment + EPSILON) * iou.amax(axis=1, keepdim=True)  # [n, L]
