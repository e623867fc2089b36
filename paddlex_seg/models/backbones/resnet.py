"""ResNet and ResNeXt, plain or "vd" (deep stem, and average pooling before the projection of a shortcut).

Papers: K. He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385; S. Xie
et al., "Aggregated Residual Transformations", https://arxiv.org/abs/1611.05431; T. He et al., "Bag of
Tricks", https://arxiv.org/abs/1812.01187, for vd (its ResNet-D). Strides are on the 3x3 convolutions. Names
of layers are those of the published weights. Shapes: B images, C channels, [H, W] input size.
"""

from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.layers import add_, batch_norm, freeze_norms, relu_

NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4  # output channels of a block / channels of its 3x3 convolution


class ResNet(nn.Layer):
    """Features of the first ``num_stages`` of four stages: [B, 256, H/4, W/4] to [B, 2048, H/32, W/32].

    ``vd`` chooses the deep stem and the pooled shortcuts. ResNeXt has ``groups`` groups of
    ``width_per_group`` channels in the first stage. ``out_channels`` are the channels of the features.
    """

    def __init__(
        self,
        depth: int,
        *,
        vd: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        num_stages: int = 4,
    ) -> None:
        super().__init__()
        self.conv1 = _deep_stem() if vd else nn.Sequential(("conv1", ConvNorm(3, 64, 7, stride=2)))
        self.out_channels = tuple(64 * EXPANSION * 2**i for i in range(num_stages))
        self.num_stages = num_stages
        for i, out_channels in enumerate(self.out_channels):
            stage = resnet_stage(
                64 if i == 0 else self.out_channels[i - 1],
                out_channels,
                block_names(f"res{i + 2}", NUM_BLOCKS[depth][i]),
                stride=1 if i == 0 else 2,
                vd=vd,
                groups=groups,
                width_per_group=width_per_group,
            )
            self.add_sublayer(f"res{i + 2}", stage)

    def freeze(self, lr_factors: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        """Freeze the stem, the first stage, and all norms including their running statistics.

        The learning rate of the other weights of stage i is multiplied by ``lr_factors[i]``. The published
        models were trained this way, from an ImageNet backbone.
        """
        freeze_norms(self)
        for parameter in (*self.conv1.parameters(), *self.res2.parameters()):
            parameter.stop_gradient = True
        for stage, factor in zip(self._stages(), lr_factors[: self.num_stages], strict=True):
            for layer in stage.sublayers():
                if isinstance(layer, nn.Conv2D):
                    layer.weight.optimize_attr["learning_rate"] = factor

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: float32 [B, 3, H, W]."""
        x = F.max_pool2d(relu_(self.conv1(image)), kernel_size=3, stride=2, padding=1)
        features = []
        for stage in self._stages():
            x = stage(x)
            features.append(x)
        return features

    def _stages(self) -> list[nn.Layer]:
        return [getattr(self, f"res{i + 2}") for i in range(self.num_stages)]


class Bottleneck(nn.Layer):
    """1x1, 3x3 and 1x1 convolutions plus a shortcut. The default shortcut is the identity."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: int,
        groups: int,
        shortcut: nn.Layer | None,
    ) -> None:
        super().__init__()
        self.branch2a = ConvNorm(in_channels, width)
        self.branch2b = ConvNorm(width, width, 3, stride=stride, groups=groups)
        self.branch2c = ConvNorm(width, out_channels)
        self.short = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride]."""
        y = relu_(self.branch2a(x))
        y = self.branch2c(relu_(self.branch2b(y)))
        return relu_(add_(y, x if self.short is None else self.short(x)))


class ConvNorm(nn.Layer):
    """Convolution without bias (keeps the size at stride 1) and batch norm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias_attr=False,
        )
        self.norm = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride]."""
        return self.norm(self.conv(x))


def resnet_stage(
    in_channels: int,
    out_channels: int,
    names: Sequence[str],
    *,
    stride: int,
    vd: bool = False,
    groups: int = 1,
    width_per_group: int = 64,
) -> nn.Sequential:
    """Sequential blocks. The first one changes the channels and, with ``stride`` 2, halves the size."""
    width = out_channels // EXPANSION * width_per_group // 64 * groups
    blocks = []
    for i, name in enumerate(names):
        block = Bottleneck(
            in_channels if i == 0 else out_channels,
            width,
            out_channels,
            stride=stride if i == 0 else 1,
            groups=groups,
            shortcut=_projection(in_channels, out_channels, stride, vd=vd) if i == 0 else None,
        )
        blocks.append((name, block))
    return nn.Sequential(*blocks)


def block_names(stage: str, count: int) -> list[str]:
    """Names of the blocks in the published weights: res4a, res4b, ...; for many blocks res4a, res4b1, ..."""
    if count > 10:
        return [f"{stage}a", *(f"{stage}b{i}" for i in range(1, count))]
    return [f"{stage}{chr(ord('a') + i)}" for i in range(count)]


def _deep_stem() -> nn.Sequential:
    return nn.Sequential(
        ("conv1_1", ConvNorm(3, 32, 3, stride=2)),
        ("relu1", nn.ReLU()),
        ("conv1_2", ConvNorm(32, 32, 3)),
        ("relu2", nn.ReLU()),
        ("conv1_3", ConvNorm(32, 64, 3)),
    )


def _projection(in_channels: int, out_channels: int, stride: int, *, vd: bool) -> nn.Layer:
    if vd and stride == 2:
        pool = nn.AvgPool2D(kernel_size=2, stride=2, ceil_mode=True)
        return nn.Sequential(("pool", pool), ("conv", ConvNorm(in_channels, out_channels)))
    return ConvNorm(in_channels, out_channels, stride=stride)
