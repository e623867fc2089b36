"""SOLOv2: instance segmentation without boxes: grid cells say what is centred in them, and draw it.

Paper: X. Wang et al., "SOLOv2: Dynamic and Fast Instance Segmentation", https://arxiv.org/abs/2003.10152.
Differs from PaddleDetection: batches of any size, no made-up row when little is found, and boxes around the
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

SMALLEST_AREAS = (8, 8, 16, 32, 32)  # pixels at stride 4 that a mask of each level has more of
# From random weights with AdamW, which moves each weight by about the learning rate. 4608 of them times 256
# channels act on the logit of a pixel: 1e-4 each, in one direction, are 19 (measured masks: all 0 after three
# steps, and without a gradient for ever).
KERNEL_LR_FACTOR = 0.02


class SoloV2(InstanceSegmenter):
    """Backbone, pyramid, head and mask features, and the selection of detections by matrix NMS."""

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
        """The classifier of the cells."""
        layer = self.solov2_head.solo_cate
        return ClassAxis(layer.weight, axis=0), ClassAxis(layer.bias, axis=0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, the sum of ``loss_cate`` and ``loss_ins``; see ``solov2_losses``."""
        features = self.neck(self.backbone(batch.image))
        outputs, mask_features = self.solov2_head(features), self.mask_head(features)
        with paddle.amp.auto_cast(enable=False):
            return solov2_losses(outputs, mask_features, batch.targets, batch.joined)

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections, per image by falling score. Boxes lie around the masks and inside the image.

        Masks are probabilities of the whole padded input at stride 4. A box is empty when its mask lies in
        the padding.
        """
        features = self.neck(self.backbone(image))
        outputs, mask_features = self.solov2_head(features), self.mask_head(features)
        scores, class_ids, masks = self._draw_candidates(outputs, mask_features.flatten(2))
        scores, class_ids, masks = self._suppress(scores, class_ids, masks)
        masks = masks.reshape([0, 0, *mask_features.shape[2:]])
        boxes = boxes_around_masks(masks, im_shape, scale_factor, stride=STRIDE)
        rows = paddle.concat([class_ids.astype("float32").unsqueeze(2), scores.unsqueeze(2), boxes], axis=2)
        keep = scores >= self.score_threshold  # [B, n]
        # Only copies act on what may be no rows at all: oneDNN refuses arithmetic on them.
        position = keep.flatten().nonzero().flatten()
        return Detections(
            bbox=rows.flatten(0, 1).gather(position),
            bbox_num=keep.astype("int32").sum(axis=1, dtype="int32"),
            mask=masks.flatten(0, 1).gather(position),
        )

    def _draw_candidates(self, outputs: GridOutputs, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [B, Q], class indices [B, Q] and masks [B, Q, h * w] of the cells above ``class_threshold``.

        features: [B, C, h * w]. Scores are 0 in rows that an image does not need, and where the mask is too
        small; Q is 1 at least. Of more than ``max_candidates`` the best are drawn (in PaddleDetection, all),
        since each takes the memory of a mask.
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
        # How sure the mask is of its pixels.
        scores = scores * (masks * inside).sum(axis=2) / area.clip(min=1) * is_candidate
        return scores, best % num_classes, masks

    def _suppress(self, scores: Tensor, class_ids: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best ``max_detections`` after matrix NMS among the best ``nms_top_k``, by falling score."""
        scores, class_ids, masks = _take_best(scores, class_ids, masks, self.nms_top_k)
        scores = matrix_nms(is_inside(masks), class_ids, scores)
        return _take_best(scores, class_ids, masks, self.max_detections)


def peaks(scores: Tensor) -> Tensor:
    """Scores [B, K, S, S], 0 where the cell above, to the left or above to the left has a higher one."""
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
    """SOLOv2 with ResNet-50, with fresh weights; ``from_scratch`` prepares it to be trained from them."""
    backbone = ResNet(50)
    if not from_scratch:
        backbone.freeze()
    neck = FeaturePyramid(backbone.out_channels)
    head = SoloV2Head(256, num_classes)
    if from_scratch:
        head.solo_kernel.weight.optimize_attr["learning_rate"] = KERNEL_LR_FACTOR
    return SoloV2(backbone, neck, head, MaskFeatures(256))
