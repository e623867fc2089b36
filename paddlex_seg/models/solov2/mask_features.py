"""The mask features of SOLOv2: one feature map of the whole image, to which all mask kernels are applied.

Names of layers are those of the published weights. Shapes: B images, C channels, [H, W] input size.
"""

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.solov2.head import KERNEL_CHANNELS, ConvGroupNorm, with_coordinates

NUM_LEVELS = 4


class MaskFeatures(nn.Layer):
    """Fuses the features of stride 4 to 32 into non-negative features [B, KERNEL_CHANNELS, H/4, W/4]."""

    def __init__(self, in_channels: int, channels: int = 128) -> None:
        super().__init__()
        for level in range(NUM_LEVELS):
            # The coarsest level gets two more channels, the coordinates.
            first = in_channels + 2 if level == NUM_LEVELS - 1 else in_channels
            convs = [
                (_conv_name(level, i), ConvGroupNorm(first if i == 0 else channels, channels, 3))
                for i in range(max(level, 1))
            ]
            self.add_sublayer(f"conv_pre_feat{level}", nn.Sequential(*convs))
        # The published weights contain this layer under two names.
        self.conv_pred = self.add_sublayer(
            "mask_feat_head.conv_pred.0", ConvGroupNorm(channels, KERNEL_CHANNELS, 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """features: [B, C, H/4, W/4] to [B, C, H/32, W/32]. Coarser levels are ignored."""
        features = [*features[: NUM_LEVELS - 1], with_coordinates(features[NUM_LEVELS - 1])]
        fine, *coarse = (self._at_stride_8_or_less(level, feature) for level, feature in enumerate(features))
        # Upsampling is linear, so the sum of the levels is upsampled once instead of each level.
        mixed = fine + _double(coarse[0] + coarse[1] + coarse[2])
        return F.relu(self.conv_pred(mixed))

    def _at_stride_8_or_less(self, level: int, feature: Tensor) -> Tensor:
        """Upsample to stride 8, with a convolution at each step. Stride 4 has one convolution and stays."""
        for i, conv in enumerate(getattr(self, f"conv_pre_feat{level}")):
            feature = F.relu(conv(feature if i == 0 else _double(feature)))
        return feature


def _conv_name(level: int, position: int) -> str:
    return f"mask_feat_head.convs_all_levels.{level}.conv{position}"


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")
