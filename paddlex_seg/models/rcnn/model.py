"""Mask R-CNN and Cascade Mask R-CNN: proposals are classified and refined, then masks are predicted.

Papers: K. He et al., "Mask R-CNN", https://arxiv.org/abs/1703.06870; Z. Cai and N. Vasconcelos, "Cascade
R-CNN", https://arxiv.org/abs/1712.00726. Differs from PaddleDetection: no dummy row if nothing is detected,
no row for a box outside of the image, and without FPN, the mask loss of each image uses the features of this
image, not those of the first image of the batch. Shapes: B images, K classes, N detections of the batch,
[H, W] input size.
"""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.backbones.resnet import ResNet
from paddlex_seg.models.base import ClassAxis, InstanceSegmenter
from paddlex_seg.models.fpn import FeaturePyramid
from paddlex_seg.models.layers import freeze_norms
from paddlex_seg.models.rcnn.assign import UNIT_BOX, foreground_rows
from paddlex_seg.models.rcnn.box_head import (
    BoxHead,
    BoxLosses,
    CascadeBoxHead,
    Res5Head,
    ScoredBoxes,
    TwoFcHead,
)
from paddlex_seg.models.rcnn.mask_head import MaskHead, mask_loss
from paddlex_seg.models.rcnn.pooling import (
    PYRAMID_STRIDES,
    SINGLE_STRIDE,
    pool_rois,
    with_spare_box,
)
from paddlex_seg.models.rcnn.rpn import ProposalLimits, Proposals, RpnHead, propose, rpn_losses
from paddlex_seg.ops.boxes import clip_boxes
from paddlex_seg.ops.masks import original_sizes
from paddlex_seg.ops.nms import NOTHING, best_of_each_image, grouped_nms
from paddlex_seg.ops.ragged import image_of_rows
from paddlex_seg.structures import Batch, Detections, MaskFrame

MASK_POOL_RESOLUTION = 14
PYRAMID_CHANNELS = 256
DISTILLED_LR_FACTORS = (0.05, 0.05, 0.1, 0.15)  # per stage, for a backbone distilled from a larger network


class MaskRcnn(InstanceSegmenter):
    """Backbone, optional neck (FPN), proposals, box head and mask head.

    If the features of the box head are [N, C, h, w], they are the input of the mask head.
    """

    mask_frame: MaskFrame = "box"

    def __init__(
        self,
        backbone: nn.Layer,
        neck: nn.Layer | None,
        rpn_head: RpnHead,
        bbox_head: BoxHead | CascadeBoxHead,
        mask_head: MaskHead,
        *,
        train_limits: ProposalLimits,
        limits: ProposalLimits,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        if not isinstance(bbox_head, CascadeBoxHead):
            self.neck = neck
        self.rpn_head, self.bbox_head = rpn_head, bbox_head
        self.neck = neck  # after the box head in the published weights of a cascade
        self.mask_head = mask_head
        self.train_limits, self.limits = train_limits, limits
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """The tensors of the box head, and the last layer of the mask head."""
        masks = self.mask_head.mask_fcn_logits
        return (
            *self.bbox_head.class_axes(),
            ClassAxis(masks.weight, axis=0),
            ClassAxis(masks.bias, axis=0),
        )

    def most_detections(self, input_hw: tuple[int, int]) -> int:
        """The number of proposals: each finds one object."""
        return self.limits.per_image

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and its terms: ``loss_rpn_*``, ``loss_bbox_*`` and ``loss_mask``."""
        features = self._features(batch.image)
        outputs = self.rpn_head(features).in_float32()
        # RoI align has no 16-bit kernels, and features and boxes must have the same dtype.
        features = [feature.astype("float32") for feature in features]
        with paddle.no_grad():
            proposals = propose(outputs, batch.im_shape, self.train_limits)
        boxes = self.bbox_head.loss(features, proposals, batch)
        terms = {
            **rpn_losses(outputs, batch),
            **boxes.losses,
            "loss_mask": self._mask_loss(features, boxes, batch),
        }
        return {"loss": paddle.add_n(list(terms.values())), **terms}

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of each image in descending score. Boxes lie inside the image.

        Masks are 28x28 probabilities inside the box, 14x14 without FPN.
        """
        features = self._features(image)
        proposals = propose(self.rpn_head(features), im_shape, self.limits)
        scored = self.bbox_head(features, Proposals(*with_spare_box(*proposals)), im_shape)
        rows, boxes, num = self._select(scored, num_images=im_shape.shape[0])
        # Append a spare row, because some runtimes fail on tensors with 0 rows.
        boxes, num_spare = with_spare_box(boxes, num)
        rows = paddle.concat([rows, paddle.zeros([1, 2])])
        class_ids = rows[:, 0].astype("int64")
        masks = F.sigmoid(self.mask_head(self._mask_features(features, boxes, num_spare), class_ids))
        image_index = image_of_rows(boxes.shape[0], num_spare)
        scale = scale_factor.gather(image_index).flip(-1)  # x, y
        original = original_sizes(im_shape, scale_factor).gather(image_index)
        boxes = clip_boxes(boxes / paddle.concat([scale, scale], axis=1), original)
        return Detections(paddle.concat([rows, boxes], axis=1)[:-1], num, masks[:-1])

    def _features(self, image: Tensor) -> list[Tensor]:
        features = self.backbone(image)
        return features[-1:] if self.neck is None else self.neck(features)

    def _mask_features(self, features: list[Tensor], boxes_xyxy: Tensor, num: Tensor) -> Tensor:
        if self.neck is None:
            return self.bbox_head.roi_features(features, boxes_xyxy, num)
        return pool_rois(features, boxes_xyxy, num, MASK_POOL_RESOLUTION)

    def _mask_loss(self, features: list[Tensor], boxes: BoxLosses, batch: Batch) -> Tensor:
        samples = boxes.samples
        rows = foreground_rows(samples, self.bbox_head.num_classes)
        has_foreground = len(rows) > 0
        share = batch.joined.share_of_mean(len(rows))
        if not has_foreground:
            rows = paddle.zeros([1], dtype="int64")
        if self.neck is None:
            pooled = boxes.features.gather(rows)
        else:
            image = image_of_rows(len(samples.boxes_xyxy), samples.num).gather(rows)
            num = (image.unsqueeze(1) == paddle.arange(len(batch.targets))).astype("int32").sum(axis=0)
            pooled = pool_rois(
                features, samples.boxes_xyxy.gather(rows), num.astype("int32"), MASK_POOL_RESOLUTION
            )
        class_ids = samples.class_ids.gather(rows).clip(max=self.bbox_head.num_classes - 1)
        logits = self.mask_head(pooled, class_ids).astype("float32")
        if not has_foreground:  # the loss is 0, but every layer gets a gradient
            return 0.0 * logits.mean()
        return share * mask_loss(logits, samples, batch.targets, rows)

    def _select(self, scored: ScoredBoxes, *, num_images: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The detections: rows of class and score [N, 2], boxes [N, 4] in pixels of the input, num [B]."""
        boxes, scores, num = scored
        image = image_of_rows(boxes.shape[0], num)
        is_box = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)  # [R, K or 1]
        is_spare = paddle.arange(boxes.shape[0]).unsqueeze(1) == boxes.shape[0] - 1
        candidate = paddle.nonzero((scores > self.score_threshold) & is_box & ~is_spare)  # [n, 2]
        row, class_id = candidate[:, 0], candidate[:, 1]
        column = class_id if boxes.shape[1] == scores.shape[1] else paddle.zeros_like(class_id)
        # Append a spare candidate, because NMS fails on 0 boxes. Its score is NOTHING, so it is never kept.
        boxes = paddle.concat(
            [boxes.gather_nd(paddle.stack([row, column], axis=1)), paddle.to_tensor([UNIT_BOX])]
        )
        score = paddle.concat([scores.gather_nd(candidate), paddle.full([1], NOTHING)])
        none = paddle.zeros([1], dtype="int64")
        class_id, image = paddle.concat([class_id, none]), paddle.concat([image.gather(row), none])
        kept = grouped_nms(
            boxes,
            score,
            image=image,
            num_images=num_images,
            group=class_id,
            num_groups=self.bbox_head.num_classes,
            iou_threshold=self.iou_threshold,
        )
        best, num = best_of_each_image(
            score.gather(kept), image.gather(kept), num_images, limit=self.max_detections
        )
        kept = kept.gather(best)
        rows = paddle.stack([class_id.gather(kept).astype("float32"), score.gather(kept)], axis=1)
        return rows, boxes.gather(kept), num


def _pyramid_rcnn(
    backbone: ResNet,
    num_classes: int,
    *,
    from_scratch: bool,
    lr_factors: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    cascade: bool = False,
) -> MaskRcnn:
    if not from_scratch:
        backbone.freeze(lr_factors)
    bbox_head: BoxHead | CascadeBoxHead
    if cascade:
        bbox_head, proposals_in_training = CascadeBoxHead(PYRAMID_CHANNELS, num_classes), 2000
    else:
        bbox_head, proposals_in_training = BoxHead(TwoFcHead(PYRAMID_CHANNELS), num_classes), 1000
    return MaskRcnn(
        backbone,
        FeaturePyramid(backbone.out_channels, PYRAMID_CHANNELS),
        RpnHead(PYRAMID_CHANNELS, [[32], [64], [128], [256], [512]], strides=(*PYRAMID_STRIDES, 64)),
        bbox_head,
        MaskHead(PYRAMID_CHANNELS, num_classes, num_convs=4),
        train_limits=ProposalLimits(per_level=2000, per_image=proposals_in_training),
        limits=ProposalLimits(per_level=1000, per_image=1000),
    )


# ``from_scratch``: the whole backbone is trained, with batch statistics in its norms. The published models
# freeze the norms of a pretrained backbone; random weights would not train with frozen norms.


def mask_rcnn_r50(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNet50: without FPN; the last stage of the backbone is the box head ("C4")."""
    backbone = ResNet(50, num_stages=3)
    head = Res5Head()
    if not from_scratch:
        backbone.freeze()
        freeze_norms(head)
    channels = backbone.out_channels[-1]
    return MaskRcnn(
        backbone,
        None,
        RpnHead(channels, [[32, 64, 128, 256, 512]], strides=(SINGLE_STRIDE,)),
        BoxHead(head, num_classes),
        MaskHead(head.out_channels, num_classes, num_convs=0),
        train_limits=ProposalLimits(per_level=12000, per_image=2000),
        limits=ProposalLimits(per_level=6000, per_image=1000),
    )


def mask_rcnn_r50_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNet50-FPN."""
    return _pyramid_rcnn(ResNet(50), num_classes, from_scratch=from_scratch)


def mask_rcnn_r50_vd_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNet50-vd-FPN."""
    return _pyramid_rcnn(ResNet(50, vd=True), num_classes, from_scratch=from_scratch)


def mask_rcnn_r50_vd_ssld_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNet50-vd-SSLDv2-FPN."""
    backbone = ResNet(50, vd=True)
    return _pyramid_rcnn(backbone, num_classes, from_scratch=from_scratch, lr_factors=DISTILLED_LR_FACTORS)


def mask_rcnn_r101_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNet101-FPN."""
    return _pyramid_rcnn(ResNet(101), num_classes, from_scratch=from_scratch)


def mask_rcnn_r101_vd_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNet101-vd-FPN."""
    return _pyramid_rcnn(ResNet(101, vd=True), num_classes, from_scratch=from_scratch)


def mask_rcnn_x101_vd_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """MaskRCNN-ResNeXt101-vd-FPN, 64x4d."""
    backbone = ResNet(101, vd=True, groups=64, width_per_group=4)
    return _pyramid_rcnn(backbone, num_classes, from_scratch=from_scratch)


def cascade_mask_rcnn_r50_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """Cascade-MaskRCNN-ResNet50-FPN."""
    return _pyramid_rcnn(ResNet(50), num_classes, from_scratch=from_scratch, cascade=True)


def cascade_mask_rcnn_r50_vd_ssld_fpn(num_classes: int, *, from_scratch: bool = False) -> MaskRcnn:
    """Cascade-MaskRCNN-ResNet50-vd-SSLDv2-FPN."""
    return _pyramid_rcnn(
        ResNet(50, vd=True),
        num_classes,
        from_scratch=from_scratch,
        lr_factors=DISTILLED_LR_FACTORS,
        cascade=True,
    )
