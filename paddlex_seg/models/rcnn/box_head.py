"""Box heads of Mask R-CNN and Cascade Mask R-CNN: classify proposals and refine their boxes.

Papers: S. Ren et al., "Faster R-CNN", https://arxiv.org/abs/1506.01497; Z. Cai and N. Vasconcelos, "Cascade
R-CNN", https://arxiv.org/abs/1712.00726. Names of layers are those of the published weights. Shapes: N boxes
of a batch, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Normal, XavierUniform

from paddlex_seg.models.backbones.resnet import block_names, resnet_stage
from paddlex_seg.models.base import ClassAxis
from paddlex_seg.models.rcnn.assign import RoiSamples, foreground_rows, label_rois, sample_rois
from paddlex_seg.models.rcnn.pooling import pool_rois
from paddlex_seg.models.rcnn.rpn import Proposals
from paddlex_seg.ops.boxes import boxes_to_deltas, clip_boxes, deltas_to_boxes
from paddlex_seg.ops.ragged import image_of_rows
from paddlex_seg.structures import Batch, JoinedTotals

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
FOREGROUND_IOU = 0.5
CASCADE_DELTA_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
CASCADE_FOREGROUND_IOU = (0.5, 0.6, 0.7)


class BoxLosses(NamedTuple):
    """The losses of a box head, and the samples and features for the mask head."""

    losses: dict[str, Tensor]
    samples: RoiSamples
    features: Tensor  # [n, ...], output of the head's layers for the samples


class ScoredBoxes(NamedTuple):
    """Proposals after a box head, image by image. Image b has ``num[b]`` rows."""

    boxes_xyxy: Tensor  # float32 [N, K, 4], or [N, 1, 4] where all classes share a box; inside the image
    scores: Tensor  # float32 [N, K], probabilities
    num: Tensor  # int32 [B]


class TwoFcHead(nn.Layer):
    """Two fully connected layers."""

    resolution = 7
    out_channels = 1024

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        size = in_channels * self.resolution**2
        self.fc6 = nn.Linear(size, 1024, weight_attr=ParamAttr(initializer=XavierUniform(fan_out=size)))
        self.fc7 = nn.Linear(1024, 1024, weight_attr=ParamAttr(initializer=XavierUniform()))

    def forward(self, pooled: Tensor) -> Tensor:
        """[N, C, 7, 7] to [N, 1024]."""
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


class Res5Head(nn.Layer):
    """The last stage of a ResNet."""

    resolution = 14
    out_channels = 2048

    def __init__(self) -> None:
        super().__init__()
        self.res5 = resnet_stage(1024, self.out_channels, block_names("res5", 3), stride=2)

    def forward(self, pooled: Tensor) -> Tensor:
        """[N, 1024, 14, 14] to [N, 2048, 7, 7]."""
        return self.res5(pooled)


class BoxHead(nn.Layer):
    """Predicts scores of all classes and a refined box for each class.

    ``head`` computes features [N, C] or [N, C, h, w] from pooled features.
    """

    def __init__(self, head: TwoFcHead | Res5Head, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.head = head
        self.bbox_score = _score_layer(head.out_channels, num_classes)
        self.bbox_delta = _delta_layer(head.out_channels, 4 * num_classes)

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """The classifier and the box deltas, four per class."""
        return (
            *_score_axes(self.bbox_score),
            ClassAxis(self.bbox_delta.weight, axis=1, entries_per_class=4),
            ClassAxis(self.bbox_delta.bias, axis=0, entries_per_class=4),
        )

    def loss(self, features: Sequence[Tensor], proposals: Proposals, batch: Batch) -> BoxLosses:
        """``loss_bbox_cls`` and ``loss_bbox_reg``, means over the sampled proposals."""
        samples = sample_rois(
            split_images(proposals.boxes_xyxy, proposals.num),
            batch.targets,
            num_classes=self.num_classes,
            foreground_iou=FOREGROUND_IOU,
        )
        roi_features = self.roi_features(features, samples.boxes_xyxy, samples.num)
        logits, deltas = _in_float32(self._predict(roi_features))
        deltas = deltas.reshape([-1, self.num_classes, 4])
        cls, reg = box_losses(logits, deltas, samples, DELTA_WEIGHTS, batch.joined)
        return BoxLosses({"loss_bbox_cls": cls, "loss_bbox_reg": reg}, samples, roi_features)

    def forward(self, features: Sequence[Tensor], proposals: Proposals, im_shape: Tensor) -> ScoredBoxes:
        """im_shape: float32 [B, 2], height and width of the images in the input."""
        boxes, num = proposals
        logits, deltas = self._predict(self.roi_features(features, boxes, num))
        refined = deltas_to_boxes(
            deltas.reshape([-1, self.num_classes, 4]), boxes.unsqueeze(1), DELTA_WEIGHTS
        )
        limits = im_shape.gather(image_of_rows(boxes.shape[0], num)).unsqueeze(1)
        return ScoredBoxes(clip_boxes(refined, limits), F.softmax(logits)[:, :-1], num)

    def roi_features(self, features: Sequence[Tensor], boxes_xyxy: Tensor, num: Tensor) -> Tensor:
        """Features [N, C] or [N, C, h, w] of boxes [N, 4]."""
        return self.head(pool_rois(features, boxes_xyxy, num, self.head.resolution))

    def _predict(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, K + 1], where the last one is the background, and deltas [N, 4 * K]."""
        flat = roi_features if roi_features.ndim == 2 else roi_features.mean(axis=(2, 3))
        return self.bbox_score(flat), self.bbox_delta(flat)


class CascadeBoxHead(nn.Layer):
    """Three sequential box heads. Each refines the boxes of the previous one; all classes share a box."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_stages = len(CASCADE_DELTA_WEIGHTS)
        self.head = nn.LayerList([TwoFcHead(in_channels) for _ in range(self.num_stages)])
        for i in range(self.num_stages):
            self.add_sublayer(f"bbox_score_stage{i}", _score_layer(TwoFcHead.out_channels, num_classes))
            self.add_sublayer(f"bbox_delta_stage{i}", _delta_layer(TwoFcHead.out_channels, 4))

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """The classifiers of the three stages."""
        layers = [getattr(self, f"bbox_score_stage{i}") for i in range(self.num_stages)]
        return tuple(axis for layer in layers for axis in _score_axes(layer))

    def loss(self, features: Sequence[Tensor], proposals: Proposals, batch: Batch) -> BoxLosses:
        """``loss_bbox_cls_stage<i>`` and ``loss_bbox_reg_stage<i>``, means over boxes divided by 3."""
        losses: dict[str, Tensor] = {}
        samples = first = sample_rois(
            split_images(proposals.boxes_xyxy, proposals.num),
            batch.targets,
            num_classes=self.num_classes,
            foreground_iou=CASCADE_FOREGROUND_IOU[0],
        )
        for i in range(self.num_stages):
            logits, deltas, roi_features = self._predict(features, samples.boxes_xyxy, samples.num, stage=i)
            logits, deltas = _in_float32((logits, deltas))
            weights = CASCADE_DELTA_WEIGHTS[i]
            cls, reg = box_losses(logits, deltas.unsqueeze(1), samples, weights, batch.joined)
            losses[f"loss_bbox_cls_stage{i}"] = cls / self.num_stages
            losses[f"loss_bbox_reg_stage{i}"] = reg / self.num_stages
            if i == 0:
                first_features = roi_features
            if i + 1 < self.num_stages:
                boxes = self._refine(
                    samples.boxes_xyxy, samples.num, deltas.detach(), batch.im_shape, stage=i
                )
                samples = label_rois(
                    [_not_empty(own) for own in split_images(boxes, samples.num)],
                    batch.targets,
                    num_classes=self.num_classes,
                    foreground_iou=CASCADE_FOREGROUND_IOU[i + 1],
                )
        return BoxLosses(losses, first, first_features)

    def forward(self, features: Sequence[Tensor], proposals: Proposals, im_shape: Tensor) -> ScoredBoxes:
        """im_shape: float32 [B, 2], height and width of the images in the input."""
        boxes, num = proposals
        scores = []
        for i in range(self.num_stages):
            logits, deltas, _ = self._predict(features, boxes, num, stage=i)
            scores.append(F.softmax(logits)[:, :-1])
            boxes = self._refine(boxes, num, deltas, im_shape, stage=i)
        return ScoredBoxes(boxes.unsqueeze(1), paddle.add_n(scores) / self.num_stages, num)

    def _predict(
        self, features: Sequence[Tensor], boxes_xyxy: Tensor, num: Tensor, *, stage: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, K + 1], deltas [N, 4] and the features that they are computed from."""
        x = self.head[stage](pool_rois(features, boxes_xyxy, num, TwoFcHead.resolution))
        score, delta = (getattr(self, f"bbox_{kind}_stage{stage}") for kind in ("score", "delta"))
        return score(x), delta(x), x

    def _refine(
        self, boxes_xyxy: Tensor, num: Tensor, deltas: Tensor, im_shape: Tensor, *, stage: int
    ) -> Tensor:
        refined = deltas_to_boxes(deltas, boxes_xyxy, CASCADE_DELTA_WEIGHTS[stage])
        return clip_boxes(refined, im_shape.gather(image_of_rows(boxes_xyxy.shape[0], num)))


def box_losses(
    logits: Tensor,
    deltas: Tensor,
    samples: RoiSamples,
    delta_weights: Sequence[float],
    joined: JoinedTotals,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of classes and L1 loss of foreground deltas, both divided by the number of samples.

    logits: float32 [n, K + 1]; deltas: float32 [n, K, 4], or [n, 1, 4] where all classes share a box.
    """
    share = joined.share_of_mean(logits.shape[0])
    cls = share * F.cross_entropy(logits, samples.class_ids)
    foreground = foreground_rows(samples, num_classes=logits.shape[1] - 1)
    if len(foreground) == 0:
        return cls, 0.0 * deltas.mean()  # 0, but gives the layer a gradient
    boxes, object_boxes = samples.boxes_xyxy.gather(foreground), samples.object_boxes_xyxy.gather(foreground)
    wanted = boxes_to_deltas(object_boxes, boxes, delta_weights)
    shares_box = deltas.shape[1] == 1
    column = paddle.zeros_like(foreground) if shares_box else samples.class_ids.gather(foreground)
    found = deltas.gather_nd(paddle.stack([foreground, column], axis=1))
    return cls, share * (found - wanted).abs().sum() / logits.shape[0]


def split_images(rows: Tensor, num: Tensor) -> list[Tensor]:
    """The rows of each image. rows: [N, ...]; num: int32 [B]."""
    counts = num.tolist()
    return [rows[sum(counts[:b]) : sum(counts[: b + 1])] for b in range(len(counts))]


def _in_float32(predicted: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    # Losses and refined boxes need float32, because 16 bits are not precise enough.
    logits, deltas = predicted
    return logits.astype("float32"), deltas.astype("float32")


def _not_empty(boxes_xyxy: Tensor) -> Tensor:
    """Drop boxes with zero width or height or with NaN. The result may be empty."""
    keep = paddle.nonzero((boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)).flatten()
    return boxes_xyxy.gather(keep)


def _score_layer(in_channels: int, num_classes: int) -> nn.Linear:
    return nn.Linear(in_channels, num_classes + 1, weight_attr=ParamAttr(initializer=Normal(std=0.01)))


def _score_axes(layer: nn.Linear) -> tuple[ClassAxis, ClassAxis]:
    return (
        ClassAxis(layer.weight, axis=1, background_entries=1),
        ClassAxis(layer.bias, axis=0, background_entries=1),
    )


def _delta_layer(in_channels: int, out_channels: int) -> nn.Linear:
    return nn.Linear(in_channels, out_channels, weight_attr=ParamAttr(initializer=Normal(std=0.001)))
