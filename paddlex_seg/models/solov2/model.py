"""SOLOv2: instance segmentation without boxes. Each grid cell predicts the class and mask of an object.

Paper: X. Wang et al., "SOLOv2: Dynamic and Fast Instance Segmentation", https://arxiv.org/abs/2003.10152.
Differs from PaddleDetection: any batch size, no dummy row if nothing is detected, and boxes around the
masks. Shapes: B images, K classes, L grid cells, Q candidates per image, N detections of the batch, [H, W]
input size, [h, w] = [H/4, W/4].
"""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.backbones.resnet import ResNet
from paddlex_seg.models.base import ClassAxis, InstanceSegmenter
from paddlex_seg.models.fpn import FeaturePyramid
from paddlex_seg.models.solov2.head import GRID_SIZES, GridOutputs, SoloV2Head, cells_to_rows
from paddlex_seg.models.solov2.loss import solov2_losses
from paddlex_seg.models.solov2.mask_features import MaskFeatures
from paddlex_seg.models.solov2.targets import STRIDE
from paddlex_seg.ops.masks import boxes_around_masks, is_inside
from paddlex_seg.ops.nms import matrix_nms
from paddlex_seg.structures import Batch, Detections, MaskFrame

SMALLEST_AREAS = (8, 8, 16, 32, 32)  # per level: masks must have more pixels than this at stride 4
# For training from random weights with AdamW, which changes each weight by about the learning rate per step.
# 4608 x 256 channels contribute to the logit of a pixel, so steps of 1e-4 in the same direction change it by
# up to 19. In a test, all masks were 0 after three steps and never got a gradient again.
KERNEL_LR_FACTOR = 0.02


class SoloV2(InstanceSegmenter):
    """Backbone, FPN, head, mask features, and selection of detections by Matrix NMS."""

    mask_frame: MaskFrame = "image_uncut"

    def __init__(
        self,
        backbone: nn.Layer,
        neck: nn.Layer,
        solov2_head: SoloV2Head,
        mask_head: MaskFeatures,
        *,
        class_threshold: float = 0.1,
        score_threshold: float = 0.05,
        max_candidates: int = 2000,
        nms_top_k: int = 500,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.solov2_head, self.mask_head = solov2_head, mask_head
        self.class_threshold, self.score_threshold = class_threshold, score_threshold
        self.max_candidates, self.nms_top_k, self.max_detections = max_candidates, nms_top_k, max_detections

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """Weight and bias of the cell classifier."""
        layer = self.solov2_head.solo_cate
        return ClassAxis(layer.weight, axis=0), ClassAxis(layer.bias, axis=0)

    def most_detections(self, input_hw: tuple[int, int]) -> int:
        """The number of masks that are computed."""
        return self.max_candidates

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and its terms ``loss_cate`` and ``loss_ins``; see ``solov2_losses``."""
        features = self.neck(self.backbone(batch.image))
        outputs, mask_features = self.solov2_head(features), self.mask_head(features)
        with paddle.amp.auto_cast(enable=False):
            return solov2_losses(outputs, mask_features, batch.targets, batch.joined)

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of each image in descending score. Boxes enclose the masks and lie inside the image.

        Masks are probabilities for the whole padded input at stride 4. If a mask lies in the padding, its box
        is empty.
        """
        features = self.neck(self.backbone(image))
        outputs, mask_features = self.solov2_head(features), self.mask_head(features)
        scores, class_ids, masks = self._draw_candidates(outputs, mask_features.flatten(2))
        scores, class_ids, masks = self._suppress(scores, class_ids, masks)
        masks = masks.reshape([0, 0, *mask_features.shape[2:]])
        boxes = boxes_around_masks(masks, im_shape, scale_factor, stride=STRIDE)
        rows = paddle.concat([class_ids.astype("float32").unsqueeze(2), scores.unsqueeze(2), boxes], axis=2)
        keep = scores >= self.score_threshold  # [B, n]
        # Only gather below this line: there may be 0 rows, and oneDNN arithmetic fails on them.
        position = keep.flatten().nonzero().flatten()
        return Detections(
            bbox=rows.flatten(0, 1).gather(position),
            bbox_num=keep.astype("int32").sum(axis=1, dtype="int32"),
            mask=masks.flatten(0, 1).gather(position),
        )

    def _draw_candidates(self, outputs: GridOutputs, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [B, Q], class indices [B, Q] and masks [B, Q, h * w] of the cells above ``class_threshold``.

        features: [B, C, h * w]. Unused rows, and rows whose mask is too small, have score 0. Q is at least 1.
        To limit memory, only the best ``max_candidates`` masks are computed (in PaddleDetection, all).
        """
        scores = cells_to_rows([peaks(F.sigmoid(logits)) for logits in outputs.class_logits])  # [B, L, K]
        num_cells, num_classes = scores.shape[1:]
        scores = scores.flatten(1)
        most = (scores > self.class_threshold).astype("int64").sum(axis=1).max()
        most = most.clip(1, self.max_candidates)
        scores, best = paddle.topk(scores, most, axis=1)  # [B, Q]
        cell = best // num_classes
        row = cell + num_cells * paddle.arange(cell.shape[0]).unsqueeze(1)
        kernels = cells_to_rows(outputs.kernels)
        kernels = (
            kernels.flatten(0, 1).gather(row.flatten()).reshape([features.shape[0], -1, features.shape[1]])
        )
        masks = F.sigmoid(paddle.matmul(kernels, features))  # [B, Q, h * w]
        inside = is_inside(masks)
        area = inside.sum(axis=2)
        smallest = paddle.to_tensor(np.repeat(SMALLEST_AREAS, np.square(GRID_SIZES)).astype("float32"))  # [L]
        is_large = area > smallest.gather(cell.flatten()).reshape([features.shape[0], -1])
        is_candidate = ((scores > self.class_threshold) & is_large).astype("float32")
        # Mean probability of the pixels of the mask.
        scores = scores * (masks * inside).sum(axis=2) / area.clip(min=1) * is_candidate
        return scores, best % num_classes, masks

    def _suppress(self, scores: Tensor, class_ids: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Matrix NMS on the best ``nms_top_k``. Returns the best ``max_detections`` in descending score."""
        most = max(self.nms_top_k, self.max_detections)
        scores, class_ids, masks = _take_best(scores, class_ids, masks, most)
        scores = matrix_nms(is_inside(masks), class_ids, scores)
        return _take_best(scores, class_ids, masks, self.max_detections)


def peaks(scores: Tensor) -> Tensor:
    """Scores [B, K, S, S], set to 0 where the upper, left or upper left neighbour has a higher score."""
    highest = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (highest == scores).astype("float32")


def _take_best(scores: Tensor, class_ids: Tensor, masks: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    best = paddle.argsort(scores, axis=1, descending=True, stable=True)[:, :count]  # [B, n]
    row = (best + scores.shape[1] * paddle.arange(best.shape[0]).unsqueeze(1)).flatten()
    masks = masks.flatten(0, 1).gather(row).reshape([best.shape[0], -1, masks.shape[2]])
    return (
        paddle.take_along_axis(scores, best, axis=1),
        paddle.take_along_axis(class_ids, best, axis=1),
        masks,
    )


def solov2(num_classes: int, *, from_scratch: bool = False) -> SoloV2:
    """SOLOv2 with ResNet-50 and random weights. Set ``from_scratch`` to train from these weights."""
    backbone = ResNet(50)
    if not from_scratch:
        backbone.freeze()
    neck = FeaturePyramid(backbone.out_channels)
    head = SoloV2Head(256, num_classes)
    if from_scratch:
        head.solo_kernel.weight.optimize_attr["learning_rate"] = KERNEL_LR_FACTOR
    return SoloV2(backbone, neck, head, MaskFeatures(256))
