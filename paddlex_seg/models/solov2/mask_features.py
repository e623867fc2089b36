"""The mask features of SOLOv2: one map of the whole image that the kernels of all objects act on.

Names of layers are those of the published weights. Shapes: B images, C channels, [H, W] input size.
"""

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.solov2.head import KERNEL_CHANNELS, ConvGroupNorm, with_coordinates

NUM_LEVELS = 4


class MaskFeatures(nn.Layer):
    """Mixes the features of stride 4 to 32 into [B, KERNEL_CHANNELS, H/4, W/4], none of them negative."""

    def __init__(self, in_channels: int, channels: int = 128) -> None:
        super().__init__()
        for level in range(NUM_LEVELS):
            # The coarsest level sees whole objects, and where they are.
            first = in_channels + 2 if level == NUM_LEVELS - 1 else in_channels
            convs = [
                (_conv_name(level, i), ConvGroupNorm(first if i == 0 else channels, channels, 3))
                for i in range(max(level, 1))
            ]
            self.add_sublayer(f"conv_pre_feat{level}", nn.Sequential(*convs))
        # In the published weights it stands under two names.
        self.conv_pred = self.add_sublayer(
            "mask_feat_head.conv_pred.0", ConvGroupNorm(channels, KERNEL_CHANNELS, 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """features: [B, C, H/4, W/4] to [B, C, H/32, W/32], and any coarser ones, which are not used."""
        features = [*features[: NUM_LEVELS - 1], with_coordinates(features[NUM_LEVELS - 1])]
        fine, *coarse = (self._at_stride_8_or_less(level, feature) for level, feature in enumerate(features))
        # Enlarging is linear: once for the sum of the levels instead of once for each.
        mixed = fine + _double(coarse[0] + coarse[1] + coarse[2])
        return F.relu(self.conv_pred(mixed))

    def _at_stride_8_or_less(self, level: int, feature: Tensor) -> Tensor:
        """A convolution for each halving of the stride, down to 8; one for a stride of 4, which stays."""
        for i, conv in enumerate(getattr(self, f"conv_pre_feat{level}")):
            feature = F.relu(conv(feature if i == 0 else _double(feature)))
        return feature


def _conv_name(level: int, position: int) -> str:
    return f"mask_feat_head.convs_all_levels.{level}.conv{position}"


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")
