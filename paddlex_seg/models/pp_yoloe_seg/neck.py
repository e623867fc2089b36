"""The neck of PP-YOLOE: fuses features of three strides, first top-down (FPN), then bottom-up (PAN)."""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.backbones.csp_resnet import ResidualBlock
from paddlex_seg.models.layers import ConvBnAct


class CspPan(nn.Layer):
    """Fuses the backbone features of stride 8, 16, 32; returns stride 32, 16, 8 with ``out_channels``.

    ``out_channels`` are for stride 32, 16, 8; each is half of the previous one.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        coarse, medium, fine = out_channels
        in_fine, in_medium, in_coarse = in_channels
        # The inner Sequential is needed for the layer names of the published weights.
        self.fpn_stages = nn.LayerList(
            [
                nn.Sequential(CspStage(in_coarse, coarse, with_spp=True)),
                nn.Sequential(CspStage(in_medium + coarse // 2, medium)),
                nn.Sequential(CspStage(in_fine + medium // 2, fine)),
            ]
        )
        self.fpn_routes = nn.LayerList([ConvBnAct(coarse, coarse // 2), ConvBnAct(medium, medium // 2)])
        self.pan_stages = nn.LayerList(
            [
                nn.Sequential(CspStage(coarse + medium, coarse)),
                nn.Sequential(CspStage(medium + fine, medium)),
            ]
        )
        self.pan_routes = nn.LayerList(
            [
                ConvBnAct(medium, medium, kernel_size=3, stride=2),
                ConvBnAct(fine, fine, kernel_size=3, stride=2),
            ]
        )
        self.out_channels = tuple(out_channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """features: stride 8, 16, 32. Returns stride 32, 16, 8."""
        fine, medium, coarse = features
        coarse = self.fpn_stages[0](coarse)
        medium = self.fpn_stages[1](paddle.concat([_double(self.fpn_routes[0](coarse)), medium], axis=1))
        fine = self.fpn_stages[2](paddle.concat([_double(self.fpn_routes[1](medium)), fine], axis=1))
        medium = self.pan_stages[1](paddle.concat([self.pan_routes[1](fine), medium], axis=1))
        coarse = self.pan_stages[0](paddle.concat([self.pan_routes[0](medium), coarse], axis=1))
        return [coarse, medium, fine]


class CspStage(nn.Layer):
    """Two branches with half the channels, one with a residual block, concatenated. ``with_spp`` adds pooling
    at three sizes.
    """

    def __init__(self, in_channels: int, out_channels: int, with_spp: bool = False) -> None:
        super().__init__()
        middle = out_channels // 2
        self.conv1 = ConvBnAct(in_channels, middle)
        self.conv2 = ConvBnAct(in_channels, middle)
        self.convs = nn.Sequential(("0", ResidualBlock(middle, shortcut=False, with_alpha=False)))
        if with_spp:
            self.convs.add_sublayer("spp", SpatialPyramidPooling(middle))
        self.conv3 = ConvBnAct(2 * middle, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        return self.conv3(paddle.concat([self.conv1(x), self.convs(self.conv2(x))], axis=1))


class SpatialPyramidPooling(nn.Layer):
    """Concatenates the input with its 5x5, 9x9 and 13x13 max pooling and reduces to the input channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvBnAct(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same shape."""
        pooled = [F.max_pool2d(x, kernel_size=size, stride=1, padding=size // 2) for size in (5, 9, 13)]
        return self.conv(paddle.concat([x, *pooled], axis=1))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)  # nearest
