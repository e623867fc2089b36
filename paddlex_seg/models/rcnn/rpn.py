"""Region proposal network: scores and refines anchors, boxes of fixed sizes all over the image.

Paper: S. Ren et al., "Faster R-CNN", https://arxiv.org/abs/1506.01497. Names of layers are those of the
published weights. Shapes: B images, A anchors of all levels, a anchors per pixel, R proposals of the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Normal

from paddlex_seg.models.layers import BiasedConv2D, relu_
from paddlex_seg.models.rcnn.assign import best_overlaps, random_subset
from paddlex_seg.ops.boxes import boxes_to_deltas, clip_boxes, deltas_to_boxes
from paddlex_seg.ops.nms import NOTHING, best_of_each_image, grouped_nms
from paddlex_seg.structures import Batch, Target

ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
NMS_IOU = 0.7
SMALLEST_SIDE = 1.0  # minimum side of a proposal in pixels
SAMPLES_PER_IMAGE = 256
POSITIVE_SHARE = 0.5
POSITIVE_IOU = 0.7
NEGATIVE_IOU = 0.3


@dataclass(frozen=True)
class ProposalLimits:
    """Number of boxes per level before NMS, and number of proposals per image after NMS."""

    per_level: int
    per_image: int


class Proposals(NamedTuple):
    """Proposals of a batch, image by image, best first. Image b has ``num[b]`` of the R rows."""

    boxes_xyxy: Tensor  # float32 [R, 4], pixels of the input, inside the image
    num: Tensor  # int32 [B]


class RpnOutputs(NamedTuple):
    """Outputs of the head for each anchor, level by level, row by row, and the anchors."""

    scores: list[Tensor]  # float32 [B, h * w * a], logits
    deltas: list[Tensor]  # float32 [B, h * w * a, 4]
    anchors: list[Tensor]  # float32 [h * w * a, 4], xyxy, pixels of the input; they may exceed the image

    def in_float32(self) -> "RpnOutputs":
        """Float32 copies for the losses, because 16 bits are not precise enough."""
        scores, deltas = ([tensor.astype("float32") for tensor in part] for part in self[:2])
        return RpnOutputs(scores, deltas, self.anchors)


class RpnHead(nn.Layer):
    """Scores and refines anchors. ``anchor_sizes[i]`` are the side lengths at level i with ``strides[i]``."""

    def __init__(
        self, in_channels: int, anchor_sizes: Sequence[Sequence[float]], strides: Sequence[int]
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.cells = [cell_anchors(sizes) for sizes in anchor_sizes]
        num_anchors = len(self.cells[0])
        self.rpn_feat = nn.Sequential(("rpn_conv", _conv(in_channels, in_channels, kernel_size=3)))
        self.rpn_rois_score = _conv(in_channels, num_anchors, kernel_size=1)
        self.rpn_rois_delta = _conv(in_channels, 4 * num_anchors, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> RpnOutputs:
        """features: [B, C, h, w] of each level."""
        scores, deltas, anchors = [], [], []
        for i, feature in enumerate(features):  # Paddle's graph compiler does not support zip(strict=True)
            x = relu_(self.rpn_feat(feature))
            scores.append(self.rpn_rois_score(x).transpose([0, 2, 3, 1]).flatten(1))
            delta = self.rpn_rois_delta(x).transpose([0, 2, 3, 1])
            deltas.append(delta.reshape([delta.shape[0], -1, 4]))
            anchors.append(grid_anchors(feature, self.cells[i], self.strides[i]))
        return RpnOutputs(scores, deltas, anchors)


def propose(outputs: RpnOutputs, im_shape: Tensor, limits: ProposalLimits) -> Proposals:
    """The best boxes of each image after NMS within each level.

    im_shape: float32 [B, 2], height and width of the images in the padded input. Runs in dynamic mode and in
    exported graphs.
    """
    boxes, scores = [], []
    for i in range(len(outputs.scores)):
        level_boxes, level_scores = _best_of_level(
            outputs.scores[i], outputs.deltas[i], outputs.anchors[i], im_shape, limits.per_level
        )
        boxes.append(level_boxes)
        scores.append(level_scores)
    boxes, scores = paddle.concat(boxes, axis=1), paddle.concat(scores, axis=1)  # [B, L * k, 4], [B, L * k]
    num_images, num_levels = im_shape.shape[0], len(outputs.scores)
    level = paddle.arange(num_levels).unsqueeze(1).expand([num_levels, limits.per_level]).reshape([1, -1])
    image = paddle.arange(num_images).unsqueeze(1)
    level = (level + paddle.zeros_like(image)).flatten()  # of each box
    image = (image + paddle.zeros_like(scores, dtype="int64")).flatten()
    boxes, scores = boxes.reshape([-1, 4]), scores.flatten()
    kept = grouped_nms(
        boxes,
        scores,
        image=image,
        num_images=num_images,
        group=level,
        num_groups=num_levels,
        iou_threshold=NMS_IOU,
    )
    boxes, scores = boxes.gather(kept), scores.gather(kept)
    best, num = best_of_each_image(scores, image.gather(kept), num_images, limit=limits.per_image)
    return Proposals(boxes.gather(best), num)


def rpn_losses(outputs: RpnOutputs, batch: Batch) -> dict[str, Tensor]:
    """``loss_rpn_cls`` and ``loss_rpn_reg``: sums over samples, divided by the maximum number of samples."""
    anchors = paddle.concat(outputs.anchors)  # [A, 4]
    scores, deltas = paddle.concat(outputs.scores, axis=1), paddle.concat(outputs.deltas, axis=1)
    normalizer = batch.joined.normalizer(paddle.to_tensor(float(SAMPLES_PER_IMAGE * len(batch.targets))))
    cls_terms, reg_terms = [], []
    for b, target in enumerate(batch.targets):
        positive, negative, matched = sample_anchors(anchors, target)
        sampled = paddle.concat([positive, negative])
        wanted = (paddle.arange(len(sampled)) < len(positive)).astype("float32")
        logits = scores[b].gather(sampled)
        cls_terms.append(F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum"))
        # Without objects the term is 0, but the layer gets a gradient.
        reg_terms.append(0.0 * deltas[b].mean())
        if len(positive):
            wanted = boxes_to_deltas(
                target.boxes_xyxy.gather(matched), anchors.gather(positive), DELTA_WEIGHTS
            )
            reg_terms.append((deltas[b].gather(positive) - wanted).abs().sum())
    return {
        "loss_rpn_cls": paddle.add_n(cls_terms) / normalizer,
        "loss_rpn_reg": paddle.add_n(reg_terms) / normalizer,
    }


@paddle.no_grad()
def sample_anchors(anchors: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of positive and negative anchors for training, int64 [p] and [n], and objects of the positives.

    Positive: IoU of at least 0.7 with an object, or the highest IoU with some object. Negative: IoU below 0.3
    with all objects.
    """
    overlap = best_overlaps(anchors, target.boxes_xyxy)
    is_positive = (overlap.iou >= POSITIVE_IOU) | overlap.is_best_of_object
    is_negative = (overlap.iou < NEGATIVE_IOU) & ~is_positive
    positive = random_subset(paddle.nonzero(is_positive).flatten(), int(SAMPLES_PER_IMAGE * POSITIVE_SHARE))
    negative = random_subset(paddle.nonzero(is_negative).flatten(), SAMPLES_PER_IMAGE - len(positive))
    return positive, negative, overlap.object.gather(positive)


def cell_anchors(sizes: Sequence[float]) -> list[list[float]]:
    """Boxes xyxy around the origin: each size (square root of the area) in all aspect ratios."""
    anchors = []
    for size in sizes:
        for ratio in ASPECT_RATIOS:
            width = math.sqrt(size * size / ratio)
            height = ratio * width
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return anchors


def grid_anchors(feature: Tensor, cell: list[list[float]], stride: int) -> Tensor:
    """The anchors ``cell``, moved to the top left corner of each pixel of a feature map: [h * w * a, 4]."""
    y, x = paddle.meshgrid(
        paddle.arange(feature.shape[2], dtype="float32") * stride,
        paddle.arange(feature.shape[3], dtype="float32") * stride,
    )
    corner = paddle.stack([x, y, x, y], axis=-1).reshape([-1, 1, 4])
    return (corner + paddle.to_tensor(cell, dtype="float32")).reshape([-1, 4])


def _best_of_level(
    scores: Tensor, deltas: Tensor, anchors: Tensor, im_shape: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """Boxes [B, limit, 4] and scores [B, limit] of the best anchors. Missing ones have score ``NOTHING``."""
    num_images, num_anchors = scores.shape[0], scores.shape[1]
    nothing = paddle.full([1, limit], NOTHING).expand([num_images, limit])
    best, index = paddle.topk(paddle.concat([scores, nothing], axis=1), limit, axis=1)
    index = index.clip(max=num_anchors - 1)
    own_index = index + paddle.arange(num_images).unsqueeze(1) * num_anchors
    chosen = deltas.reshape([-1, 4]).gather(own_index.flatten())
    boxes = deltas_to_boxes(chosen, anchors.gather(index.flatten()), DELTA_WEIGHTS)
    boxes = clip_boxes(boxes.reshape([num_images, limit, 4]), im_shape.unsqueeze(1))
    sides = boxes[..., 2:] - boxes[..., :2]
    is_large = (sides >= SMALLEST_SIDE).all(axis=-1)
    return boxes, paddle.where(is_large, best, paddle.full_like(best, NOTHING))


def _conv(in_channels: int, out_channels: int, *, kernel_size: int) -> BiasedConv2D:
    return BiasedConv2D(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        weight_attr=ParamAttr(initializer=Normal(std=0.01)),
    )
