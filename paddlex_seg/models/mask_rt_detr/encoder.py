"""The hybrid encoder of Mask-RT-DETR: attention within one level, convolutions across levels, mask features.

Shapes: B images, C channels, [H, W] input size.
"""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddlex_seg.models.layers import ConvBnAct, TwoBranchConv, batch_norm
from paddlex_seg.models.mask_rt_detr.attention import MultiHeadAttention, linear

NUM_LEVELS = 3  # of stride 8, 16, 32
TEMPERATURE = 10000.0


class MaskHybridEncoder(nn.Layer):
    """Fuses the backbone features of stride 8, 16 and 32, and computes mask features of stride 4.

    ``in_channels``: channels of stride 4, 8, 16, 32. ``attended_level``: the level with self-attention, 0, 1
    or 2 for stride 8, 16 or 32. ``csp_expansion``: width of the convolution blocks / ``channels``.
    ``mask_channels``: channels of the mask branch before and after adding stride 4. ``num_prototypes``:
    channels of the mask features.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        attended_level: int = 2,
        num_attention_layers: int = 1,
        feedforward_channels: int = 1024,
        csp_expansion: float = 1.0,
        mask_channels: tuple[int, int] = (64, 64),
        num_prototypes: int = 32,
    ) -> None:
        super().__init__()
        self.attended_level = attended_level
        self.channels, self.num_prototypes = channels, num_prototypes
        self.input_proj = nn.LayerList([_projection(width, channels) for width in in_channels[1:]])
        # The outer list is needed for the layer names of the published weights.
        self.encoder = nn.LayerList([SelfAttention(channels, feedforward_channels, num_attention_layers)])
        middle = int(channels * csp_expansion)
        steps = range(NUM_LEVELS - 1)
        self.lateral_convs = nn.LayerList([ConvBnAct(channels, channels) for _ in steps])
        self.fpn_blocks = nn.LayerList([CspRepBlock(2 * channels, middle, channels) for _ in steps])
        self.downsample_convs = nn.LayerList(
            [ConvBnAct(channels, channels, kernel_size=3, stride=2) for _ in steps]
        )
        self.pan_blocks = nn.LayerList([CspRepBlock(2 * channels, middle, channels) for _ in steps])
        mask_middle, mask_out = mask_channels
        self.mask_feat_head = MaskBranch(channels, mask_middle, mask_out)
        self.enc_mask_lateral = ConvBnAct(in_channels[0], mask_out, kernel_size=3)
        self.enc_mask_output = nn.Sequential(
            ConvBnAct(mask_out, mask_out, kernel_size=3), nn.Conv2D(mask_out, num_prototypes, kernel_size=1)
        )

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """features: stride 4, 8, 16, 32. Returns levels of stride 8, 16, 32, each [B, C, h, w], and mask
        features [B, num_prototypes, H/4, W/4].
        """
        levels = [project(x) for project, x in zip(self.input_proj, features[1:])]  # noqa: B905
        levels[self.attended_level] = self.encoder[0](levels[self.attended_level])
        fine, medium, coarse = levels
        coarse = self.lateral_convs[0](coarse)
        medium = self.lateral_convs[1](self.fpn_blocks[0](paddle.concat([_double(coarse), medium], axis=1)))
        fine = self.fpn_blocks[1](paddle.concat([_double(medium), fine], axis=1))
        medium = self.pan_blocks[0](paddle.concat([self.downsample_convs[0](fine), medium], axis=1))
        coarse = self.pan_blocks[1](paddle.concat([self.downsample_convs[1](medium), coarse], axis=1))
        mask_features = _double_smoothly(self.mask_feat_head([fine, medium, coarse]))
        mask_features = self.enc_mask_output(mask_features + self.enc_mask_lateral(features[0]))
        return [fine, medium, coarse], mask_features


class SelfAttention(nn.Layer):
    """Attention among all cells of a level."""

    def __init__(self, channels: int, feedforward_channels: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.LayerList(
            [SelfAttentionLayer(channels, feedforward_channels) for _ in range(num_layers)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same shape."""
        channels, height, width = x.shape[1:]
        positions = position_embedding(height, width, channels)
        cells = x.flatten(2).transpose([0, 2, 1])
        for layer in self.layers:
            cells = layer(cells, positions)
        return cells.transpose([0, 2, 1]).reshape([-1, channels, height, width])


class SelfAttentionLayer(nn.Layer):
    """A transformer encoder layer with layer norm after attention and after the feed-forward network."""

    def __init__(self, channels: int, feedforward_channels: int, num_heads: int = 8) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(channels, num_heads)
        self.linear1 = linear(channels, feedforward_channels)
        self.linear2 = linear(feedforward_channels, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: [B, h * w, C]; positions: [1, h * w, C]. Returns the shape of x."""
        located = x + positions
        x = self.norm1(x + self.self_attn(located, located, x))
        return self.norm2(x + self.linear2(F.gelu(self.linear1(x))))


class CspRepBlock(nn.Layer):
    """Sum of two branches, one of them with three RepVGG convolutions, followed by a 1x1 convolution."""

    def __init__(self, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBnAct(in_channels, middle)
        self.conv2 = ConvBnAct(in_channels, middle)
        self.bottlenecks = nn.Sequential(*[TwoBranchConv(middle, with_alpha=False) for _ in range(3)])
        self.conv3 = nn.Identity() if middle == out_channels else ConvBnAct(middle, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))


class MaskBranch(nn.Layer):
    """Upsamples all levels to stride 8 with convolutions, adds them and applies a convolution to the sum."""

    def __init__(self, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__()
        self.scale_heads = nn.LayerList(
            [_scale_head(in_channels, middle, num_doublings) for num_doublings in range(NUM_LEVELS)]
        )
        self.output_conv = ConvBnAct(middle, out_channels, kernel_size=3)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: stride 8, 16, 32. Returns [B, C', H/8, W/8]."""
        fine, medium, coarse = (head(level) for head, level in zip(self.scale_heads, levels))  # noqa: B905
        return self.output_conv(fine + medium + coarse)


def _scale_head(in_channels: int, channels: int, num_doublings: int) -> nn.Sequential:
    # The inner Sequential is needed for the layer names of the published weights.
    layers: list[nn.Layer] = [nn.Sequential(ConvBnAct(in_channels, channels, kernel_size=3))]
    for number in range(num_doublings):
        if number > 0:
            layers.append(nn.Sequential(ConvBnAct(channels, channels, kernel_size=3)))
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers)


def position_embedding(height: int, width: int, channels: int) -> Tensor:
    """Sine and cosine embedding of row, then column, of each cell: float32 [1, height * width, channels].

    PaddleDetection mixes up rows and columns. For height = width the result is the same.
    """
    frequency = TEMPERATURE ** -(paddle.arange(channels // 4, dtype="float32") / (channels // 4))
    rows = (paddle.arange(height, dtype="float32").unsqueeze(1) * frequency).unsqueeze(1)  # [h, 1, C / 4]
    columns = (paddle.arange(width, dtype="float32").unsqueeze(1) * frequency).unsqueeze(0)  # [1, w, C / 4]
    parts = [rows.sin(), rows.cos(), columns.sin(), columns.cos()]
    parts = [part.expand([height, width, channels // 4]) for part in parts]
    return paddle.concat(parts, axis=-1).reshape([1, height * width, channels])


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    convolution = nn.Conv2D(in_channels, channels, kernel_size=1, bias_attr=False)
    return nn.Sequential(convolution, batch_norm(channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _double_smoothly(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")
