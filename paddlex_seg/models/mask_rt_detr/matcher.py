"""Matching of queries to annotated objects with the lowest total cost (Hungarian matching).

Papers: N. Carion et al., "End-to-End Object Detection with Transformers", https://arxiv.org/abs/2005.12872,
and, for the mask costs, F. Li et al., "Mask DINO", https://arxiv.org/abs/2206.02777. Shapes: B images,
Q queries, K classes, P points, n objects of an image, [H, W] input size.
"""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor
from scipy.optimize import linear_sum_assignment

from paddlex_seg.models.mask_rt_detr.objects import Matches, Objects
from paddlex_seg.models.mask_rt_detr.transformer import Predictions
from paddlex_seg.ops.boxes import cxcywh_to_xyxy, giou_loss
from paddlex_seg.ops.point_sampling import RandomPoints, sample_features, sample_masks

CLASS_COST, BOX_COST, GIOU_COST, MASK_COST, DICE_COST = 4.0, 5.0, 2.0, 5.0, 5.0
NUM_POINTS = 12544  # per image, for the comparison of masks
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


@paddle.no_grad()
def match(
    predictions: Sequence[Predictions], mask_features: Tensor, objects: Objects
) -> list[Matches] | None:
    """The matches of each of the predictions: min(Q, n) pairs per image. None if a cost is not finite.

    Masks are compared at random points of the image. All queries, objects and predictions of an image use the
    same points; PaddleDetection draws new points for each of the predictions.
    """
    owners = [image for image, count in enumerate(objects.counts) if count > 0]
    wanted = {}  # image -> values of its objects at its points
    if owners:
        points = RandomPoints(len(objects.counts), NUM_POINTS).all()
        features = sample_features(mask_features, points)  # [B, P, C]
    for image in owners:
        own_points = points[image].expand([objects.counts[image], -1, -1])
        wanted[image] = sample_masks(objects.masks, own_points, objects.of_image(image))  # [n, P]
    all_matches = []
    for one in predictions:
        queries, matched = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for image in owners:
            own = Predictions(*(tensor[image] for tensor in one))
            own_objects = objects.of_image(image)
            logits = paddle.matmul(own.mask_embeddings, features[image], transpose_y=True)  # [Q, P]
            cost = _class_cost(own.class_logits, objects.class_ids.gather(own_objects))
            cost += _box_cost(own.boxes, objects.boxes.gather(own_objects))
            costs = (cost + _mask_cost(logits, wanted[image])).numpy()
            if not np.isfinite(costs).all():
                return None
            query, own_object = linear_sum_assignment(costs)
            queries.append(image * one.boxes.shape[1] + query)
            matched.append(objects.first[image] + own_object)
        all_matches.append(Matches(np.concatenate(queries), np.concatenate(matched)))
    return all_matches


def _class_cost(class_logits: Tensor, class_ids: Tensor) -> Tensor:
    """Focal cost [Q, n] of logits [Q, K] and classes [n]."""
    probability = F.sigmoid(class_logits).gather(class_ids, axis=1)
    missed = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-8).log()
    mistaken = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-8).log()
    return CLASS_COST * (missed - mistaken)


def _box_cost(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Box cost [Q, n] of boxes [Q, 4] and [n, 4], cxcywh."""
    boxes, wanted = boxes.unsqueeze(1), wanted.unsqueeze(0)
    giou = giou_loss(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted)) - 1
    return BOX_COST * (boxes - wanted).abs().sum(axis=-1) + GIOU_COST * giou


def _mask_cost(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mask cost [Q, n] of logits [Q, P] and object mask values [n, P] at the same points."""
    overlap = paddle.matmul(logits, wanted, transpose_y=True)
    # Binary cross entropy of all pairs, using -log(sigmoid(-x)) = -log(sigmoid(x)) + x.
    cross_entropy = (F.softplus(logits).sum(axis=1, keepdim=True) - overlap) / NUM_POINTS
    probability = F.sigmoid(logits)
    shared = 2 * paddle.matmul(probability, wanted, transpose_y=True)
    dice = 1 - (shared + 1) / (probability.sum(axis=1, keepdim=True) + wanted.sum(axis=1) + 1)
    return MASK_COST * cross_entropy + DICE_COST * dice
