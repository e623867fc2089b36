"""PP-HGNetV2, the backbone of RT-DETR: stages that concatenate the outputs of all their layers.

Source: PaddleClas, PP-HGNet series; used by Y. Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection",
https://arxiv.org/abs/2304.08069. Names of layers are those of the published weights. Shapes: B images,
C channels, [H, W] input size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import KaimingNormal

from paddlex_seg.models.layers import batch_norm, freeze_norms


@dataclass(frozen=True)
class HgStageConfig:
    """Settings of one stage. ``light`` layers are a 1x1 and a depthwise convolution."""

    mid_channels: int
    out_channels: int
    num_blocks: int
    num_layers: int  # per block
    light: bool = False
    kernel_size: int = 3


class PpHgNetV2(nn.Layer):
    """Features of all four stages: [B, C, H/4, W/4] to [B, C', H/32, W/32].

    ``stem_channels`` are the channels inside and after the stem. ``out_channels`` are the channels of
    the features.
    """

    def __init__(self, stem_channels: tuple[int, int], stages: Sequence[HgStageConfig]) -> None:
        super().__init__()
        self.stem = Stem(*stem_channels)
        in_channels = (stem_channels[1], *(stage.out_channels for stage in stages))
        self.stages = nn.LayerList(
            [HgStage(in_channels[i], stage, downsample=i > 0) for i, stage in enumerate(stages)]
        )
        self.out_channels = in_channels[1:]

    def freeze(self, lr_factor: float) -> None:
        """Freeze the stem, and the weights and running statistics of all norms.

        The learning rate of the other weights is multiplied by ``lr_factor``. The published models were
        trained this way, from an ImageNet backbone.
        """
        for parameter in self.stem.parameters():
            parameter.stop_gradient = True
        freeze_norms(self)
        for layer in self.sublayers():
            if isinstance(layer, nn.Conv2D):
                layer.weight.optimize_attr["learning_rate"] = lr_factor

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: float32 [B, 3, H, W], height and width multiples of 32."""
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Stem(nn.Layer):
    """Divides the resolution by 4. A pooling and a convolution branch in between are concatenated."""

    def __init__(self, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        half = mid_channels // 2
        self.stem1 = HgConv(3, mid_channels, kernel_size=3, stride=2)
        self.stem2a = HgConv(mid_channels, half, kernel_size=2)
        self.stem2b = HgConv(half, mid_channels, kernel_size=2)
        self.stem3 = HgConv(2 * mid_channels, mid_channels, kernel_size=3, stride=2)
        self.stem4 = HgConv(mid_channels, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, C, H/4, W/4]."""
        x = self.stem1(image)
        convolved = self.stem2b(self.stem2a(x))
        # Zero padding does not change the maximum, because x is not negative.
        pooled = F.max_pool2d(_pad_one(x), kernel_size=2, stride=1)
        return self.stem4(self.stem3(paddle.concat([pooled, convolved], axis=1)))


class HgStage(nn.Layer):
    """Blocks, after a depthwise convolution that halves the resolution (not in the first stage)."""

    def __init__(self, in_channels: int, config: HgStageConfig, *, downsample: bool) -> None:
        super().__init__()
        self.downsample = (
            HgConv(in_channels, in_channels, kernel_size=3, stride=2, groups=in_channels, activate=False)
            if downsample
            else None
        )
        self.blocks = nn.Sequential(
            *[
                HgBlock(in_channels if i == 0 else config.out_channels, config, residual=i > 0)
                for i in range(config.num_blocks)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/2, w/2], or [B, C', h, w] in the first stage."""
        return self.blocks(x if self.downsample is None else self.downsample(x))


class HgBlock(nn.Layer):
    """Sequential layers. The input and all outputs are concatenated and mixed by 1x1 convolutions."""

    def __init__(self, in_channels: int, config: HgStageConfig, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        middle, out = config.mid_channels, config.out_channels
        make_layer = LightHgConv if config.light else HgConv
        self.layers = nn.LayerList(
            [
                make_layer(in_channels if i == 0 else middle, middle, kernel_size=config.kernel_size)
                for i in range(config.num_layers)
            ]
        )
        concatenated = in_channels + config.num_layers * middle
        self.aggregation_squeeze_conv = HgConv(concatenated, out // 2)
        self.aggregation_excitation_conv = HgConv(out // 2, out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        y = self.aggregation_excitation_conv(self.aggregation_squeeze_conv(paddle.concat(outputs, axis=1)))
        return x + y if self.residual else y


class LightHgConv(nn.Layer):
    """A 1x1 convolution and a depthwise one."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int) -> None:
        super().__init__()
        self.conv1 = HgConv(in_channels, out_channels, activate=False)
        self.conv2 = HgConv(out_channels, out_channels, kernel_size=kernel_size, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        return self.conv2(self.conv1(x))


class HgConv(nn.Layer):
    """Convolution without bias, batch norm, and ReLU unless ``activate`` is False.

    Padding keeps the size at stride 1. A kernel of size 2 covers the pixel and its right and lower
    neighbours.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.activate = activate
        self.pad_right_below = kernel_size == 2
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=(kernel_size - 1) // 2,
            groups=groups,
            weight_attr=ParamAttr(initializer=KaimingNormal()),
            bias_attr=False,
        )
        self.bn = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride]."""
        y = self.bn(self.conv(_pad_one(x) if self.pad_right_below else x))
        return F.relu(y) if self.activate else y


def _pad_one(x: Tensor) -> Tensor:
    """Pad one column of zeros at the right and one row of zeros at the bottom."""
    return F.pad(x, [0, 1, 0, 1])


def pp_hgnetv2_b1() -> PpHgNetV2:
    """PP-HGNetV2-B1."""
    stages = (
        HgStageConfig(32, 64, num_blocks=1, num_layers=3),
        HgStageConfig(48, 256, num_blocks=1, num_layers=3),
        HgStageConfig(96, 512, num_blocks=2, num_layers=3, light=True, kernel_size=5),
        HgStageConfig(192, 1024, num_blocks=1, num_layers=3, light=True, kernel_size=5),
    )
    return PpHgNetV2((24, 32), stages)


def pp_hgnetv2_b2() -> PpHgNetV2:
    """PP-HGNetV2-B2."""
    stages = (
        HgStageConfig(32, 96, num_blocks=1, num_layers=4),
        HgStageConfig(64, 384, num_blocks=1, num_layers=4),
        HgStageConfig(128, 768, num_blocks=3, num_layers=4, light=True, kernel_size=5),
        HgStageConfig(256, 1536, num_blocks=1, num_layers=4, light=True, kernel_size=5),
    )
    return PpHgNetV2((24, 32), stages)


def pp_hgnetv2_l() -> PpHgNetV2:
    """PP-HGNetV2-L."""
    stages = (
        HgStageConfig(48, 128, num_blocks=1, num_layers=6),
        HgStageConfig(96, 512, num_blocks=1, num_layers=6),
        HgStageConfig(192, 1024, num_blocks=3, num_layers=6, light=True, kernel_size=5),
        HgStageConfig(384, 2048, num_blocks=1, num_layers=6, light=True, kernel_size=5),
    )
    return PpHgNetV2((32, 48), stages)


def pp_hgnetv2_b5() -> PpHgNetV2:
    """PP-HGNetV2-B5, also known as X."""
    stages = (
        HgStageConfig(64, 128, num_blocks=1, num_layers=6),
        HgStageConfig(128, 512, num_blocks=2, num_layers=6),
        HgStageConfig(256, 1024, num_blocks=5, num_layers=6, light=True, kernel_size=5),
        HgStageConfig(512, 2048, num_blocks=2, num_layers=6, light=True, kernel_size=5),
    )
    return PpHgNetV2((32, 64), stages)


def pp_hgnetv2_h() -> PpHgNetV2:
    """PP-HGNetV2-H."""
    stages = (
        HgStageConfig(96, 192, num_blocks=2, num_layers=6),
        HgStageConfig(192, 512, num_blocks=3, num_layers=6),
        HgStageConfig(384, 1024, num_blocks=6, num_layers=6, light=True, kernel_size=5),
        HgStageConfig(768, 2048, num_blocks=3, num_layers=6, light=True, kernel_size=5),
    )
    return PpHgNetV2((48, 96), stages)
