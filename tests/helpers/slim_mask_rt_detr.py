"""Mask-RT-DETR with few channels, for runs that take seconds."""

from paddlex_seg.models.backbones.hgnetv2 import HgStageConfig, PpHgNetV2
from paddlex_seg.models.mask_rt_detr.encoder import MaskHybridEncoder
from paddlex_seg.models.mask_rt_detr.model import MaskRtDetr
from paddlex_seg.models.mask_rt_detr.transformer import MaskRtDetrTransformer


def slim_model(num_classes: int, *, from_scratch: bool = False) -> MaskRtDetr:
    stages = (
        HgStageConfig(8, 8, num_blocks=1, num_layers=1),
        HgStageConfig(8, 16, num_blocks=1, num_layers=1),
        HgStageConfig(8, 16, num_blocks=1, num_layers=1, light=True, kernel_size=5),
        HgStageConfig(8, 16, num_blocks=1, num_layers=1, light=True, kernel_size=5),
    )
    backbone = PpHgNetV2((8, 8), stages)
    if not from_scratch:
        backbone.freeze(lr_factor=0.1)
    neck = MaskHybridEncoder(
        backbone.out_channels, channels=32, feedforward_channels=32, mask_channels=(8, 8), num_prototypes=8
    )
    transformer = MaskRtDetrTransformer(
        32, num_classes, num_prototypes=8, channels=32, num_queries=20, num_layers=2, feedforward_channels=32
    )
    return MaskRtDetr(backbone, neck, transformer, num_classes, max_detections=15, denoising_queries=5)
