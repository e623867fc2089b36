"""CSPResNet, the backbone of PP-YOLOE: residual stages of two branches, followed by channel attention.

Paper: S. Xu et al., "PP-YOLOE: An evolved version of YOLO", https://arxiv.org/abs/2203.16250.
Names of layers are those of the published weights. Shapes: B images, C channels, [H, W] input size.
"""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.layers import ConvBnAct, TwoBranchConv


class CspResNet(nn.Layer):
    """Features of the last three stages: [B, C, H/8, W/8], [B, C', H/16, W/16], [B, C'', H/32, W/32].
    ``widths`` are the channels after the stem and after each of the four stages, ``depths`` the blocks per
    stage. ``out_channels`` are the channels of the three features returned.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        half = widths[0] // 2
        self.stem = nn.Sequential(
            ("conv1", ConvBnAct(3, half, kernel_size=3, stride=2)),
            ("conv2", ConvBnAct(half, half, kernel_size=3)),
            ("conv3", ConvBnAct(half, widths[0], kernel_size=3)),
        )
        self.stages = nn.Sequential(
            *[CspResStage(widths[i], widths[i + 1], num_blocks) for i, num_blocks in enumerate(depths)]
        )
        self.out_channels = tuple(widths[2:])

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: float32 [B, 3, H, W], height and width multiples of 32."""
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class CspResStage(nn.Layer):
    """Halves the resolution. One branch has residual blocks, the other one bypasses them."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int) -> None:
        super().__init__()
        middle = (in_channels + out_channels) // 2
        self.conv_down = ConvBnAct(in_channels, middle, kernel_size=3, stride=2)
        self.conv1 = ConvBnAct(middle, middle // 2)
        self.conv2 = ConvBnAct(middle, middle // 2)
        self.blocks = nn.Sequential(
            *[ResidualBlock(middle // 2, shortcut=True, with_alpha=True) for _ in range(num_blocks)]
        )
        self.attn = ChannelAttention(middle)
        self.conv3 = ConvBnAct(middle, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/2, w/2]."""
        x = self.conv_down(x)
        x = paddle.concat([self.conv1(x), self.blocks(self.conv2(x))], axis=1)
        return self.conv3(self.attn(x))


class ChannelAttention(nn.Layer):
    """Effective squeeze and excitation: each channel scaled by a gate computed from all channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2D(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same shape."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class ResidualBlock(nn.Layer):
    """A 3x3 convolution and a two-branch one; ``shortcut`` adds the input."""

    def __init__(self, channels: int, shortcut: bool, with_alpha: bool) -> None:
        super().__init__()
        self.conv1 = ConvBnAct(channels, channels, kernel_size=3)
        self.conv2 = TwoBranchConv(channels, with_alpha)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same shape."""
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y
