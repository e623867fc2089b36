"""PP-YOLOE_seg: one-stage instance segmentation, PP-YOLOE with mask prototypes.

Papers: S. Xu et al., "PP-YOLOE: An evolved version of YOLO", https://arxiv.org/abs/2203.16250, and, for the
prototypes, D. Bolya et al., "YOLACT", https://arxiv.org/abs/1904.02689. Differs from PaddleDetection:
any batch size, any input size in multiples of 32, no dummy row if nothing is detected.
Shapes: B images, K classes, L grid cells, N detections of the batch, [H, W] input size.
"""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.backbones.csp_resnet import CspResNet
from paddlex_seg.models.base import ClassAxis, InstanceSegmenter
from paddlex_seg.models.pp_yoloe_seg.head import STRIDES, PpYoloeSegHead
from paddlex_seg.models.pp_yoloe_seg.loss import pp_yoloe_seg_losses
from paddlex_seg.models.pp_yoloe_seg.neck import CspPan
from paddlex_seg.ops.boxes import distances_to_boxes
from paddlex_seg.ops.masks import original_sizes
from paddlex_seg.ops.nms import multiclass_nms
from paddlex_seg.structures import Batch, Detections, MaskFrame


class PpYoloeSeg(InstanceSegmenter):
    """Backbone, neck and head, and the selection of detections by class-aware NMS.

    ``from_scratch`` changes the loss for training from random weights; see ``pp_yoloe_seg_losses``.
    """

    mask_frame: MaskFrame = "image"

    def __init__(
        self,
        backbone: nn.Layer,
        neck: nn.Layer,
        yolo_head: PpYoloeSegHead,
        score_threshold: float = 0.01,
        iou_threshold: float = 0.7,
        nms_top_k: int = 1000,
        max_detections: int = 300,
        from_scratch: bool = False,
    ) -> None:
        super().__init__()
        self.from_scratch = from_scratch
        self.backbone, self.neck, self.yolo_head = backbone, neck, yolo_head
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.nms_top_k, self.max_detections = nms_top_k, max_detections

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """Weights and biases of the classifiers of the three levels."""
        layers = self.yolo_head.pred_cls
        return tuple(ClassAxis(tensor, axis=0) for layer in layers for tensor in (layer.weight, layer.bias))

    def most_detections(self, input_hw: tuple[int, int]) -> int:
        """The number of grid cells: each finds one object."""
        height, width = input_hw
        return sum((height // stride) * (width // stride) for stride in STRIDES)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, its terms ``loss_cls``, ``loss_iou``, ``loss_dfl``, ``loss_mask``, and ``loss_l1``.

        ``loss`` weights the terms with 1, 2.5, 0.5, 2.5; they are returned without weights. ``loss_l1`` is
        not part of ``loss``.
        """
        outputs = self.yolo_head(self.neck(self.backbone(batch.image)))
        with paddle.amp.auto_cast(enable=False):
            return pp_yoloe_seg_losses(
                self.yolo_head, outputs, batch.targets, batch.joined, from_scratch=self.from_scratch
            )

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of each image, sorted by class, then descending score. Boxes may exceed the image.

        Masks cover the whole input at stride 4. They are not cropped to the boxes and not thresholded.
        """
        outputs = self.yolo_head(self.neck(self.backbone(image)))
        distances = self.yolo_head.expected_distances(outputs.distance_logits)
        boxes = distances_to_boxes(outputs.centers, distances) * outputs.strides
        # Scale before NMS (same result), because oneDNN fails on tensors with 0 rows after NMS.
        rows, positions, num_rows = multiclass_nms(
            boxes_xyxy=boxes / _scale_xyxy(im_shape, scale_factor),
            scores=F.sigmoid(outputs.class_logits).transpose([0, 2, 1]),
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            nms_top_k=max(self.nms_top_k, self.max_detections),
            keep_top_k=self.max_detections,
        )
        image_of_row = positions // outputs.centers.shape[0]
        coefficients = outputs.coefficients.flatten(0, 1).gather(positions)
        return Detections(
            bbox=rows,
            bbox_num=num_rows,
            mask=_assemble_masks(outputs.prototypes, coefficients, image_of_row, num_rows),
        )


def _scale_xyxy(im_shape: Tensor, scale_factor: Tensor) -> Tensor:
    """Pixels of the input per pixel of the original image, [B, 1, 4] for x, y, x, y."""
    # The formula equals scale_factor without its rounding error. It also keeps im_shape in the exported
    # graph: the export drops unused inputs, but deployment code feeds all three.
    scale = (im_shape / original_sizes(im_shape, scale_factor)).flip(-1)
    return paddle.concat([scale, scale], axis=1).unsqueeze(1)


def _assemble_masks(
    prototypes: Tensor, coefficients: Tensor, image_of_row: Tensor, num_rows: Tensor
) -> Tensor:
    """Probabilities [N, h, w] from prototypes [B, 32, h, w] and the coefficients [N, 32] of all rows.

    Coefficients are padded to one matrix per image, so that one batched product suffices and prototypes are
    not copied for each row. The matrix has at least one row, because some runtimes fail on empty products.
    """
    num_rows = num_rows.astype("int64")
    first_row = num_rows.cumsum() - num_rows
    most = num_rows.max().clip(min=1)  # not amax, which the ONNX converter does not support
    rank = paddle.arange(image_of_row.shape[0]) - first_row.gather(image_of_row)
    slot = image_of_row * most + rank  # [N]
    empty = paddle.zeros([num_rows.shape[0] * most, coefficients.shape[1]])
    padded = paddle.scatter(empty, slot, coefficients).reshape([-1, most, coefficients.shape[1]])
    masks = F.sigmoid(paddle.matmul(padded, prototypes.flatten(2)))  # [B, most, h * w]
    return masks.reshape([-1, prototypes.shape[2], prototypes.shape[3]]).gather(slot)


def pp_yoloe_seg_s(num_classes: int, *, from_scratch: bool = False) -> PpYoloeSeg:
    """PP-YOLOE_seg-S with random weights. Set ``from_scratch`` to train from these weights."""
    backbone = CspResNet(widths=(32, 64, 128, 256, 512), depths=(1, 2, 2, 1))
    neck = CspPan(backbone.out_channels, out_channels=(384, 192, 96))
    head = PpYoloeSegHead(neck.out_channels, num_classes, prototype_channels=128)
    return PpYoloeSeg(backbone, neck, head, from_scratch=from_scratch)
