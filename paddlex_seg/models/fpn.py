"""Feature pyramid network (FPN): coarse features are upsampled and added to fine features.

Paper: T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", https://arxiv.org/abs/1612.03144.
Names of layers are those of the published weights. Shapes: B images, C channels, [H, W] input size.
"""

from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import XavierUniform

from paddlex_seg.models.layers import BiasedConv2D, add_


class FeaturePyramid(nn.Layer):
    """Features of stride 4, 8, 16, 32 and 64 with ``out_channels`` channels, from four backbone stages."""

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.num_levels = len(in_channels)
        for i, channels in enumerate(in_channels):
            self.add_sublayer(
                _lateral_name(i, self.num_levels),
                _conv(channels, out_channels, kernel_size=1, fan_out=channels),
            )
            self.add_sublayer(
                f"fpn_res{i + 2}_sum",
                _conv(out_channels, out_channels, kernel_size=3, fan_out=out_channels * 9),
            )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """features: [B, C, H/4, W/4] to [B, C', H/32, W/32]; H and W are multiples of 32."""
        pyramid = []
        coarse = None
        for i in range(self.num_levels - 1, -1, -1):
            lateral = getattr(self, _lateral_name(i, self.num_levels))(features[i])
            if coarse is not None:
                lateral = add_(lateral, F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
            pyramid.append(getattr(self, f"fpn_res{i + 2}_sum")(lateral))
            coarse = lateral
        pyramid.reverse()
        # The coarsest level takes every second pixel of the level before.
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


def _lateral_name(level: int, num_levels: int) -> str:
    return f"fpn_inner_res{level + 2}_sum" + ("_lateral" if level < num_levels - 1 else "")


def _conv(in_channels: int, out_channels: int, *, kernel_size: int, fan_out: int) -> BiasedConv2D:
    weight = ParamAttr(initializer=XavierUniform(fan_out=fan_out))
    return BiasedConv2D(in_channels, out_channels, kernel_size, padding=kernel_size // 2, weight_attr=weight)
