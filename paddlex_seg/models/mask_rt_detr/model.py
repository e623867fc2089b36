"""Mask-RT-DETR: a real-time detection transformer with masks, without non-maximum suppression.

Papers: Y. Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", https://arxiv.org/abs/2304.08069,
and, for the masks, F. Li et al., "Mask DINO", https://arxiv.org/abs/2206.02777. Differs from PaddleDetection:
any batch size, any input height and width in multiples of 32. Shapes: B images, Q queries,
K classes, [H, W] input size.
"""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.backbones.hgnetv2 import (
    PpHgNetV2,
    pp_hgnetv2_b1,
    pp_hgnetv2_b2,
    pp_hgnetv2_b5,
    pp_hgnetv2_h,
    pp_hgnetv2_l,
)
from paddlex_seg.models.base import ClassAxis, InstanceSegmenter
from paddlex_seg.models.mask_rt_detr.denoising import make_denoising
from paddlex_seg.models.mask_rt_detr.encoder import MaskHybridEncoder
from paddlex_seg.models.mask_rt_detr.loss import mask_rt_detr_losses
from paddlex_seg.models.mask_rt_detr.objects import gather_objects
from paddlex_seg.models.mask_rt_detr.transformer import (
    MaskRtDetrTransformer,
    Predictions,
    mask_logits,
    take_rows,
)
from paddlex_seg.ops.boxes import cxcywh_to_xyxy
from paddlex_seg.ops.masks import original_sizes
from paddlex_seg.ops.processes import in_step
from paddlex_seg.structures import Batch, Detections, MaskFrame


class MaskRtDetr(InstanceSegmenter):
    """Backbone, encoder and decoder. Detections are the best pairs of query and class by score."""

    mask_frame: MaskFrame = "image_logits"

    def __init__(
        self,
        backbone: nn.Layer,
        neck: nn.Layer,
        transformer: MaskRtDetrTransformer,
        num_classes: int,
        *,
        max_detections: int = 100,
        denoising_queries: int = 100,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.max_detections, self.denoising_queries = max_detections, denoising_queries
        self.backbone, self.transformer, self.neck = backbone, transformer, neck

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """The classifier, shared by encoder and decoder, and the class embedding of the denoising queries."""
        head = self.transformer.score_head
        return (
            ClassAxis(head.weight, axis=1),
            ClassAxis(head.bias, axis=0),
            ClassAxis(self.transformer.denoising_class_embed.weight, axis=0),
        )

    def most_detections(self, input_hw: tuple[int, int]) -> int:
        """The number of queries: each finds one object."""
        return self.transformer.num_queries

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and its weighted terms; see ``mask_rt_detr_losses``."""
        objects = gather_objects(batch.targets, batch.image.shape[2:])
        denoising = make_denoising(objects, self.num_classes, self.denoising_queries, batch.joined)
        levels, mask_features = self.neck(self.backbone(batch.image))
        *levels, mask_features = in_step([*levels, mask_features])
        selection, layers = self.transformer(levels, mask_features, denoising)
        noisy = 0 if denoising is None else denoising.num_queries
        selected, layers = selection.predictions.in_float32(), [one.in_float32() for one in layers]
        with paddle.amp.auto_cast(enable=False):
            losses = mask_rt_detr_losses(
                matching=[selected, *(predictions.after(noisy) for predictions in layers)],
                restored=[predictions.first(noisy) for predictions in layers],
                mask_features=mask_features.astype("float32"),
                objects=objects,
                denoising=denoising,
                joined=batch.joined,
            )
        # Without objects there is no denoising, but the class embedding still needs a gradient.
        losses["loss"] = losses["loss"] + 0.0 * self.transformer.denoising_class_embed.weight.sum()
        return losses

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of each image in descending score. Boxes may exceed the image.

        Masks are logits for the whole input at stride 4.
        """
        levels, mask_features = self.neck(self.backbone(image))
        _, layers = self.transformer(levels, mask_features)
        return self._best_detections(layers[-1], mask_features, im_shape, scale_factor)

    def _best_detections(
        self, predictions: Predictions, mask_features: Tensor, im_shape: Tensor, scale_factor: Tensor
    ) -> Detections:
        scores = F.sigmoid(predictions.class_logits).flatten(1)  # [B, Q * K]
        count = min(self.max_detections, scores.shape[1])
        scores, best = paddle.topk(scores, count, axis=1)  # [B, n]
        query, class_id = best // self.num_classes, best % self.num_classes
        size_wh = original_sizes(im_shape, scale_factor).flip(-1)
        boxes = cxcywh_to_xyxy(take_rows(predictions.boxes, query))
        boxes = boxes * paddle.concat([size_wh, size_wh], axis=1).unsqueeze(1)
        rows = paddle.concat([class_id.astype("float32").unsqueeze(-1), scores.unsqueeze(-1), boxes], axis=-1)
        masks = mask_logits(take_rows(predictions.mask_embeddings, query), mask_features)
        return Detections(
            bbox=rows.flatten(0, 1),
            bbox_num=paddle.full([rows.shape[0]], count, dtype="int32"),
            mask=masks.flatten(0, 1),
        )


def _build(
    backbone: PpHgNetV2, neck: MaskHybridEncoder, num_classes: int, lr_factor: float, *, from_scratch: bool
) -> MaskRtDetr:
    """``lr_factor``: learning rate factor of the backbone. Its stem and norms are frozen.

    ``from_scratch``: nothing is frozen and ``lr_factor`` is ignored.
    """
    if not from_scratch:
        backbone.freeze(lr_factor)
    transformer = MaskRtDetrTransformer(neck.channels, num_classes, neck.num_prototypes)
    return MaskRtDetr(backbone, neck, transformer, num_classes)


def mask_rt_detr_s(num_classes: int, *, from_scratch: bool = False) -> MaskRtDetr:
    """Mask-RT-DETR-S with random weights. Set ``from_scratch`` to train from these weights."""
    backbone = pp_hgnetv2_b1()
    neck = MaskHybridEncoder(
        backbone.out_channels,
        attended_level=1,
        csp_expansion=0.5,
        mask_channels=(64, 32),
        num_prototypes=128,
    )
    return _build(backbone, neck, num_classes, lr_factor=0.1, from_scratch=from_scratch)


def mask_rt_detr_m(num_classes: int, *, from_scratch: bool = False) -> MaskRtDetr:
    """Mask-RT-DETR-M with random weights. Set ``from_scratch`` to train from these weights."""
    backbone = pp_hgnetv2_b2()
    neck = MaskHybridEncoder(backbone.out_channels, attended_level=1, csp_expansion=0.5, num_prototypes=128)
    return _build(backbone, neck, num_classes, lr_factor=0.1, from_scratch=from_scratch)


def mask_rt_detr_l(num_classes: int, *, from_scratch: bool = False) -> MaskRtDetr:
    """Mask-RT-DETR-L with random weights. Set ``from_scratch`` to train from these weights."""
    backbone = pp_hgnetv2_l()
    neck = MaskHybridEncoder(backbone.out_channels)
    return _build(backbone, neck, num_classes, lr_factor=0.05, from_scratch=from_scratch)


def mask_rt_detr_x(num_classes: int, *, from_scratch: bool = False) -> MaskRtDetr:
    """Mask-RT-DETR-X with random weights. Set ``from_scratch`` to train from these weights."""
    backbone = pp_hgnetv2_b5()
    neck = MaskHybridEncoder(
        backbone.out_channels,
        channels=384,
        feedforward_channels=2048,
        mask_channels=(128, 128),
        num_prototypes=128,
    )
    return _build(backbone, neck, num_classes, lr_factor=0.01, from_scratch=from_scratch)


def mask_rt_detr_h(num_classes: int, *, from_scratch: bool = False) -> MaskRtDetr:
    """Mask-RT-DETR-H with random weights. Set ``from_scratch`` to train from these weights."""
    backbone = pp_hgnetv2_h()
    neck = MaskHybridEncoder(
        backbone.out_channels,
        channels=512,
        num_attention_layers=2,
        feedforward_channels=2048,
        mask_channels=(256, 128),
        num_prototypes=128,
    )
    return _build(backbone, neck, num_classes, lr_factor=0.01, from_scratch=from_scratch)
