"""The head of SOLOv2: each grid cell predicts the class of an object centred there and its mask kernel.

Names of layers are those of the published weights. Shapes: B images, K classes, C channels, five levels of
S*S grid cells, L cells of all levels, level by level, row by row.
"""

import math
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Normal

from paddlex_seg.models.layers import group_norm

GRID_SIZES = (40, 36, 24, 16, 12)  # S of each level; the first level is for the smallest objects
KERNEL_CHANNELS = 256
NUM_CONVS = 4


class GridOutputs(NamedTuple):
    """Outputs of the head for a batch."""

    class_logits: list[Tensor]  # float32 [B, K, S, S] of each level
    kernels: list[Tensor]  # float32 [B, KERNEL_CHANNELS, S, S] of each level


class SoloV2Head(nn.Layer):
    """Predicts ``GridOutputs`` from the features of stride 4 to 64. All levels share the weights."""

    def __init__(self, in_channels: int, num_classes: int, channels: int = 512) -> None:
        super().__init__()
        for i in range(NUM_CONVS):
            # The kernel branch gets coordinates: similar objects at different positions need different
            # kernels.
            first_kernel, first_class = (in_channels + 2, in_channels) if i == 0 else (channels, channels)
            self.add_sublayer(f"bbox_head.kernel_convs.{i}", ConvGroupNorm(first_kernel, channels, 3))
            self.add_sublayer(f"bbox_head.cate_convs.{i}", ConvGroupNorm(first_class, channels, 3))
        # The published weights contain these two layers under two names each.
        # Std 0.001 gives initial masks of about 0.5. With 0.01, as in PaddleDetection, initial logits reach
        # 20, and a mask that starts as all 0 has no gradient. Published weights overwrite these values.
        self.solo_kernel = self.add_sublayer(
            "bbox_head.solo_kernel", _small_conv(channels, KERNEL_CHANNELS, std=0.001, bias=0.0)
        )
        # Initial scores of 0.01, so that the loss of the many background cells does not dominate.
        rare = -math.log((1 - 0.01) / 0.01)
        self.solo_cate = self.add_sublayer(
            "bbox_head.solo_cate", _small_conv(channels, num_classes, std=0.01, bias=rare)
        )

    def forward(self, features: list[Tensor]) -> GridOutputs:
        """features: [B, C, h, w] of stride 4, 8, 16, 32, 64."""
        class_logits, kernels = [], []
        for level, feature in enumerate(_to_head_strides(features)):
            located = F.interpolate(with_coordinates(feature), size=[GRID_SIZES[level]] * 2, mode="bilinear")
            kernel, category = located, located[:, :-2]
            for i in range(NUM_CONVS):
                kernel = F.relu(getattr(self, f"bbox_head.kernel_convs.{i}")(kernel))
                category = F.relu(getattr(self, f"bbox_head.cate_convs.{i}")(category))
            class_logits.append(self.solo_cate(category))
            kernels.append(self.solo_kernel(kernel))
        return GridOutputs(class_logits, kernels)


class ConvGroupNorm(nn.Layer):
    """Convolution without bias (keeps the size) and group norm without weight decay."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            weight_attr=ParamAttr(initializer=Normal(std=0.01)),
            bias_attr=False,
        )
        self.norm = group_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        return self.norm(self.conv(x))


def with_coordinates(feature: Tensor) -> Tensor:
    """Append the coordinates x and y, from -1 to 1, as channels: [B, C, h, w] to [B, C + 2, h, w]."""
    batch, _, height, width = feature.shape
    y = paddle.linspace(-1, 1, height, dtype="float32").reshape([1, 1, -1, 1])
    x = paddle.linspace(-1, 1, width, dtype="float32").reshape([1, 1, 1, -1])
    shape = [batch, 1, height, width]
    return paddle.concat([feature, x.expand(shape), y.expand(shape)], axis=1)


def cells_to_rows(levels: list[Tensor]) -> Tensor:
    """[B, C, S, S] of each level to [B, L, C]."""
    return paddle.concat([level.flatten(2) for level in levels], axis=2).transpose([0, 2, 1])


def _to_head_strides(features: list[Tensor]) -> list[Tensor]:
    """Features of stride 4, 8, 16, 32, 64 resized to stride 8, 8, 16, 32, 32."""
    finest, *others, coarsest = features
    height, width = others[-1].shape[2:]
    return [
        F.interpolate(finest, scale_factor=0.5, mode="bilinear"),
        *others,
        F.interpolate(coarsest, size=[height, width], mode="bilinear"),
    ]


def _small_conv(in_channels: int, out_channels: int, *, std: float, bias: float) -> nn.Conv2D:
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size=3,
        padding=1,
        weight_attr=ParamAttr(initializer=Normal(std=std)),
        bias_attr=ParamAttr(initializer=Constant(bias)),
    )
