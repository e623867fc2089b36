"""The losses of Mask-RT-DETR, which are those of Mask DINO: https://arxiv.org/abs/2206.02777.

Shapes: B images, Q queries, K classes, M matched queries, [h, w] mask features, [H, W] input size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from paddlex_seg.models.mask_rt_detr.denoising import Denoising
from paddlex_seg.models.mask_rt_detr.matcher import match
from paddlex_seg.models.mask_rt_detr.objects import Matches, Objects
from paddlex_seg.models.mask_rt_detr.transformer import Predictions
from paddlex_seg.ops.boxes import cxcywh_to_xyxy, giou_loss, iou
from paddlex_seg.ops.losses import varifocal_loss_with_logits
from paddlex_seg.ops.point_sampling import RandomPoints, sample_masks, uncertain_points
from paddlex_seg.structures import JoinedTotals

SUFFIXES = ("", "_aux", "_dn", "_aux_dn")
WEIGHTS = {"class": 4.0, "bbox": 5.0, "giou": 2.0, "mask": 5.0, "dice": 5.0}
NUM_POINTS = 12544  # per mask
NUM_CANDIDATES = 3 * NUM_POINTS
NUM_UNCERTAIN = NUM_POINTS * 3 // 4  # the other points are random
MASKS_AT_ONCE = 64  # masks per chunk when whole masks are compared, to limit memory


def mask_rt_detr_losses(
    matching: Sequence[Predictions],
    restored: Sequence[Predictions],
    mask_features: Tensor,
    objects: Objects,
    denoising: Denoising | None,
    joined: JoinedTotals,
) -> dict[str, Tensor]:
    """Named scalars: ``loss``, the sum of all weighted terms, and the terms.

    Terms of the last layer: ``loss_class``, ``loss_bbox``, ``loss_giou``, ``loss_mask`` and ``loss_dice``.
    ``..._aux``: the same, summed over all earlier layers. ``..._dn`` and ``..._aux_dn``: the same for
    denoising.

    matching: predictions of the Q queries, first those of the query selection; restored: predictions of the
    denoising queries, empty without denoising. Terms are divided by the number of objects (at least 1) of the
    joined batch, denoising terms also by the number of groups. If a matching cost is not finite, all losses
    are NaN.
    """
    count = joined.normalizer(paddle.to_tensor(float(sum(objects.counts))))
    names = [f"loss_{name}{suffix}" for suffix in SUFFIXES for name in WEIGHTS]
    matches = match(matching, mask_features, objects)
    if matches is None:
        return dict.fromkeys(["loss", *names], paddle.full([], float("nan")))
    sets = [_MatchedSet(*pair, suffix="_aux", divisor=count) for pair in zip(matching, matches, strict=True)]
    sets[-1] = sets[-1]._replace(suffix="")
    if denoising is not None:
        found, divisor = denoising.matches(objects), count * denoising.num_groups
        sets += [_MatchedSet(one, found, suffix="_aux_dn", divisor=divisor) for one in restored]
        sets[-1] = sets[-1]._replace(suffix="_dn")
    losses = dict.fromkeys(names, paddle.zeros([]))
    for one, logits in zip(sets, _matched_mask_logits(sets, mask_features), strict=True):
        for name, value in _losses(one, logits, objects).items():
            key = f"loss_{name}{one.suffix}"
            losses[key] = losses[key] + WEIGHTS[name] * value / one.divisor
    # Without objects these tensors would get no gradient.
    unused = 0.0 * (matching[-1].boxes.sum() + matching[-1].mask_embeddings.sum() + mask_features.sum())
    return {"loss": paddle.add_n(list(losses.values())) + unused, **losses}


class _MatchedSet(NamedTuple):
    """The predictions of one layer and the matched objects."""

    predictions: Predictions
    matches: Matches
    suffix: str  # one of SUFFIXES
    divisor: Tensor

    @property
    def query(self) -> Tensor:
        """int64 [M], index in the B * Q queries."""
        return paddle.to_tensor(self.matches.query)

    @property
    def object(self) -> Tensor:
        """int64 [M], index in the objects of the batch."""
        return paddle.to_tensor(self.matches.object)


def _losses(one: _MatchedSet, logits: Tensor, objects: Objects) -> dict[str, Tensor]:
    """Losses summed over the matched queries. logits: mask logits [M, h, w].

    The target class score of a query is its mask IoU with the object in the last layer, and its box IoU in
    the other layers.
    """
    class_logits = one.predictions.class_logits
    if len(one.matches.query) == 0:
        no_scores = paddle.zeros([class_logits.size])
        return {"class": varifocal_loss_with_logits(class_logits.flatten(), no_scores, no_scores > 0)}
    boxes = one.predictions.boxes.reshape([-1, 4]).gather(one.query)
    wanted_boxes = objects.boxes.gather(one.object)
    corners, wanted_corners = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted_boxes)
    is_last = not one.suffix.startswith("_aux")
    scores = (
        _mask_iou(logits.detach(), one.object, objects) if is_last else iou(corners.detach(), wanted_corners)
    )
    entry = one.query * class_logits.shape[-1] + objects.class_ids.gather(one.object)
    wanted = paddle.scatter(paddle.zeros([class_logits.size]), entry, scores)
    is_positive = paddle.scatter(paddle.zeros([class_logits.size]), entry, paddle.ones_like(scores)) > 0
    return {
        "class": varifocal_loss_with_logits(class_logits.flatten(), wanted, is_positive),
        "bbox": (boxes - wanted_boxes).abs().sum(),
        "giou": giou_loss(corners, wanted_corners).sum(),
        **_mask_losses(logits, one.object, objects),
    }


def _matched_mask_logits(sets: Sequence[_MatchedSet], mask_features: Tensor) -> list[Tensor]:
    """Mask logits [M, h, w] of the matched queries of each set, with one matrix product per image.

    The masks of all queries of all layers would need gigabytes of memory.
    """
    num_images, num_prototypes, height, width = mask_features.shape
    num_rows = np.array(
        [
            np.bincount(one.matches.query // one.predictions.boxes.shape[1], minlength=num_images)
            for one in sets
        ]
    )  # [sets, B]
    embeddings: list[list[Tensor]] = [[] for _ in range(num_images)]
    for one, counts in zip(sets, num_rows, strict=True):
        images = np.flatnonzero(counts)
        if len(images) > 0:
            matched = one.predictions.mask_embeddings.reshape([-1, num_prototypes]).gather(one.query)
            for image, part in zip(images, matched.split(counts[images].tolist()), strict=True):
                embeddings[image].append(part)
    parts: list[list[Tensor]] = [[] for _ in sets]
    for image, features in enumerate(mask_features.flatten(2).unbind(0)):
        owners = np.flatnonzero(num_rows[:, image])
        if len(owners) > 0:
            logits = paddle.matmul(paddle.concat(embeddings[image]), features)
            for owner, part in zip(owners, logits.split(num_rows[owners, image].tolist()), strict=True):
                parts[owner].append(part)
    none = paddle.zeros([0, height * width])
    return [paddle.concat(own or [none]).reshape([-1, height, width]) for own in parts]


def _mask_losses(logits: Tensor, matched: Tensor, objects: Objects) -> dict[str, Tensor]:
    """Binary cross entropy (mean over points) and dice loss, at points mostly near the edge of the predicted
    mask.
    """
    num_masks = len(logits)
    points = uncertain_points(logits, RandomPoints(num_masks, NUM_CANDIDATES), NUM_UNCERTAIN)
    points = paddle.concat([points, RandomPoints(num_masks, NUM_POINTS - NUM_UNCERTAIN).all()], axis=2)
    values = sample_masks(logits, points)
    wanted = sample_masks(objects.masks, points, matched)
    cross_entropy = F.binary_cross_entropy_with_logits(values, wanted, reduction="none").mean(axis=1)
    probability = F.sigmoid(values)
    shared = 2 * (probability * wanted).sum(axis=1)
    dice = 1 - (shared + 1) / (probability.sum(axis=1) + wanted.sum(axis=1) + 1)
    return {"mask": cross_entropy.sum(), "dice": dice.sum()}


@paddle.no_grad()
def _mask_iou(logits: Tensor, matched: Tensor, objects: Objects) -> Tensor:
    """IoU of predicted masks [M, h, w] with the masks of their objects, at twice the resolution: [M]."""
    size = [2 * side for side in logits.shape[1:]]
    wanted_masks = paddle.concat(
        [
            F.interpolate(part.astype("float32").unsqueeze(1), size, mode="bilinear").squeeze(1) > 0.5
            for part in _in_chunks(objects.masks)
        ]
    )
    ious = []
    for part, objects_of_part in zip(_in_chunks(logits), _in_chunks(matched), strict=True):
        found = F.interpolate(part.unsqueeze(1), size, mode="bilinear").squeeze(1) > 0
        wanted = wanted_masks.gather(objects_of_part)
        overlap = (found & wanted).astype("float32").sum(axis=[1, 2])
        union = (found | wanted).astype("float32").sum(axis=[1, 2])
        ious.append((overlap + 1e-2) / (union + 1e-2))
    return paddle.concat(ious)


def _in_chunks(rows: Tensor) -> list[Tensor]:
    return [rows[begin : begin + MASKS_AT_ONCE] for begin in range(0, len(rows), MASKS_AT_ONCE)]
