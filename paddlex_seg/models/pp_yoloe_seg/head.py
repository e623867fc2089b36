"""The head of PP-YOLOE_seg. Per grid cell: class scores, distances to the box sides, mask coefficients.

The mask of an object is the sum of 32 prototypes of the whole image, weighted by its coefficients.
Shapes: B images, K classes, L grid cells ("anchors") of all strides, stride 32 first, row by row.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Assign, Constant, Normal, Uniform

from paddlex_seg.models.layers import ConvBnAct

STRIDES = (32, 16, 8)
NUM_PROTOTYPES = 32
NUM_BINS = 17  # a distance is the mean of a distribution over 0, 1, ..., 16 strides


class HeadOutputs(NamedTuple):
    """Raw outputs of the head for a batch."""

    class_logits: Tensor  # float32 [B, L, K]
    distance_logits: Tensor  # float32 [B, L, 4 * NUM_BINS]: left, top, right, bottom
    coefficients: Tensor  # float32 [B, L, 32]
    prototypes: Tensor  # float32 [B, 32, H/4, W/4]
    centers: Tensor  # float32 [L, 2], x and y of the cells, in units of their stride
    strides: Tensor  # float32 [L, 1], pixels


class PpYoloeSegHead(nn.Layer):
    """Predicts ``HeadOutputs`` from the features of stride 32, 16 and 8."""

    def __init__(self, in_channels: Sequence[int], num_classes: int, prototype_channels: int) -> None:
        super().__init__()
        self.stem_cls = nn.LayerList([GatedConv(channels) for channels in in_channels])
        self.stem_reg = nn.LayerList([GatedConv(channels) for channels in in_channels])
        self.stem_ins = nn.LayerList([GatedConv(channels) for channels in in_channels])
        # Initial scores of 0.01, so that the loss of the many background cells does not dominate.
        rare = np.full(num_classes, -math.log((1 - 0.01) / 0.01))
        # Initial distances of 3 strides, typical for the objects of each level. PaddleDetection starts with
        # 8, which gives boxes with very low IoU on a small input; it never trains from random weights.
        short = np.tile(np.arange(NUM_BINS) * math.log(3 / 4), 4)
        self.pred_cls = nn.LayerList([_constant_conv(c, bias=rare) for c in in_channels])
        self.pred_reg = nn.LayerList([_constant_conv(c, bias=short) for c in in_channels])
        # With Paddle's default initialization, as in PaddleDetection, the first mask logits are in the
        # hundreds and training from scratch diverges. Published weights overwrite these values.
        self.pred_ins = nn.LayerList([_small_conv(c, NUM_PROTOTYPES) for c in in_channels])
        # Constant 0, 1, ..., 16, not trained. It is a parameter because the published weights contain it.
        bins = paddle.arange(NUM_BINS, dtype="float32").reshape([1, NUM_BINS, 1, 1]).numpy()
        self.proj_conv = nn.Conv2D(
            NUM_BINS,
            1,
            kernel_size=1,
            weight_attr=ParamAttr(initializer=Assign(bins), trainable=False),
            bias_attr=False,
        )
        self.proto = PrototypeNet(in_channels[-1], prototype_channels)

    def forward(self, features: list[Tensor]) -> HeadOutputs:
        """features: [B, C, h, w] of stride 32, 16, 8."""
        classes, distances, coefficients = [], [], []
        for i, feature in enumerate(features):
            mean = F.adaptive_avg_pool2d(feature, 1)
            classes.append(_to_rows(self.pred_cls[i](self.stem_cls[i](feature, mean) + feature)))
            distances.append(_to_rows(self.pred_reg[i](self.stem_reg[i](feature, mean))))
            coefficients.append(_to_rows(self.pred_ins[i](self.stem_ins[i](feature, mean) + feature)))
        centers, strides = grid_cells(features)
        return HeadOutputs(
            class_logits=paddle.concat(classes, axis=1),
            distance_logits=paddle.concat(distances, axis=1),
            coefficients=paddle.concat(coefficients, axis=1),
            prototypes=self.proto(features[-1]),
            centers=centers,
            strides=strides,
        )

    def expected_distances(self, distance_logits: Tensor) -> Tensor:
        """Distances to the left, top, right and bottom in strides: [..., 4 * NUM_BINS] to [..., 4]."""
        bins = F.softmax(distance_logits.reshape([*distance_logits.shape[:-1], 4, NUM_BINS]))
        return paddle.matmul(bins, self.proj_conv.weight.flatten())


class GatedConv(nn.Layer):
    """Scales the channels by a gate computed from their means, then applies a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2D(
            channels, channels, kernel_size=1, weight_attr=ParamAttr(initializer=Normal(std=0.001))
        )
        self.conv = ConvBnAct(channels, channels)

    def forward(self, feature: Tensor, mean: Tensor) -> Tensor:
        """feature: [B, C, h, w]; mean: [B, C, 1, 1]. Returns [B, C, h, w]."""
        return self.conv(feature * F.sigmoid(self.fc(mean)))


class PrototypeNet(nn.Layer):
    """Mask prototypes at stride 4 from the feature of stride 8."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = _uniform_conv(in_channels, channels, kernel_size=3)
        self.upsample = nn.Conv2DTranspose(channels, channels, kernel_size=2, stride=2)
        self.conv2 = _uniform_conv(channels, channels, kernel_size=3)
        self.conv3 = _uniform_conv(channels, NUM_PROTOTYPES, kernel_size=1)

    def forward(self, feature: Tensor) -> Tensor:
        """[B, C, H/8, W/8] to [B, 32, H/4, W/4]."""
        return self.conv3(self.conv2(self.upsample(self.conv1(feature))))


def grid_cells(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Centres [L, 2] (x, y, in strides) and strides [L, 1] (pixels) of the cells of all features."""
    centers, strides = [], []
    for i, feature in enumerate(features):  # Paddle's graph compiler does not support zip(strict=True)
        height, width = feature.shape[2], feature.shape[3]
        y, x = paddle.meshgrid(
            paddle.arange(height, dtype="float32") + 0.5, paddle.arange(width, dtype="float32") + 0.5
        )
        level = paddle.stack([x.flatten(), y.flatten()], axis=1)
        centers.append(level)
        strides.append(paddle.full_like(level[:, :1], STRIDES[i]))
    return paddle.concat(centers), paddle.concat(strides)


def _to_rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose([0, 2, 1])  # [B, h * w, C]


def _constant_conv(in_channels: int, bias: NDArray[np.float64]) -> nn.Conv2D:
    """A convolution with zero weights, whose initial output is ``bias``, one value per output channel."""
    return nn.Conv2D(
        in_channels,
        len(bias),
        kernel_size=3,
        padding=1,
        weight_attr=ParamAttr(initializer=Constant(0.0)),
        bias_attr=ParamAttr(initializer=Assign(bias.astype(np.float32))),
    )


def _small_conv(in_channels: int, out_channels: int) -> nn.Conv2D:
    weights = ParamAttr(initializer=Normal(std=0.01))
    return nn.Conv2D(in_channels, out_channels, kernel_size=3, padding=1, weight_attr=weights)


def _uniform_conv(in_channels: int, out_channels: int, kernel_size: int) -> ConvBnAct:
    layer = ConvBnAct(in_channels, out_channels, kernel_size)
    bound = 1 / math.sqrt(in_channels * kernel_size**2)
    Uniform(-bound, bound)(layer.conv.weight)
    return layer
