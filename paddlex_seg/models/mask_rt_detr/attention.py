"""Attention layers of Mask-RT-DETR. Shapes: B images, Q queries, C channels, L cells of all levels."""

import math
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Assign, Constant, Uniform, XavierUniform

from paddlex_seg.ops.point_sampling import bilinear_taps


class MultiHeadAttention(nn.Layer):
    """Multi-head attention. One weight contains the projections of query, key and value."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = self.create_parameter(
            [channels, 3 * channels], ParamAttr(initializer=XavierUniform())
        )
        self.in_proj_bias = self.create_parameter([3 * channels], is_bias=True)
        self.out_proj = linear(channels, channels, weight=XavierUniform(), bias=Constant(0.0))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """query: [B, Q, C]; key, value: [B, K, C]; mask: [Q, K], added to the scores. Returns [B, Q, C]."""
        weights, biases = self.in_proj_weight.chunk(3, axis=1), self.in_proj_bias.chunk(3)
        q, k, v = (
            self._split_heads(F.linear(x, weights[i], biases[i])) for i, x in enumerate((query, key, value))
        )
        scores = paddle.matmul(q, k, transpose_y=True) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores + mask
        mixed = paddle.matmul(F.softmax(scores), v)  # [B, heads, Q, C / heads]
        return self.out_proj(mixed.transpose([0, 2, 1, 3]).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape([0, 0, self.num_heads, x.shape[2] // self.num_heads]).transpose([0, 2, 1, 3])


class DeformableAttention(nn.Layer):
    """Attention to a few points of each level, at positions relative to the box of the query.

    Source: X. Zhu et al., "Deformable DETR", https://arxiv.org/abs/2010.04159, section 4.1 and appendix A.4.
    """

    def __init__(self, channels: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        num_samples = num_heads * num_levels * num_points
        self.sampling_offsets = linear(
            channels,
            2 * num_samples,
            weight=Constant(0.0),
            bias=Assign(_initial_offsets(num_heads, num_levels, num_points)),
        )
        self.attention_weights = linear(channels, num_samples, weight=Constant(0.0), bias=Constant(0.0))
        self.value_proj = linear(channels, channels, weight=XavierUniform(), bias=Constant(0.0))
        self.output_proj = linear(channels, channels, weight=XavierUniform(), bias=Constant(0.0))

    def forward(
        self, query: Tensor, boxes: Tensor, memory: Tensor, sizes_hw: Sequence[tuple[int, int]]
    ) -> Tensor:
        """query: [B, Q, C]; boxes: cxcywh [B, Q, 4], 0..1; memory: [B, L, C], level by level; returns
        [B, Q, C].
        """
        num_queries, channels = query.shape[1:]
        shape = [0, num_queries, self.num_heads, self.num_levels, self.num_points]
        weights = F.softmax(self.attention_weights(query).reshape([*shape[:3], -1]))  # over levels and points
        offsets = self.sampling_offsets(query).reshape([*shape, 2])
        centers, sizes = boxes.reshape([0, num_queries, 1, 1, 1, 4]).chunk(2, axis=-1)
        points = centers + offsets * sizes * (0.5 / self.num_points)

        sizes_wh = paddle.to_tensor([[width, height] for height, width in sizes_hw], dtype="float32")
        index, tap_weights = bilinear_taps(points, sizes_wh.reshape([1, 1, 1, self.num_levels, 1, 2]))
        first_cells = np.cumsum([0, *(height * width for height, width in sizes_hw[:-1])])
        index = index + paddle.to_tensor(first_cells, dtype="int64").reshape([-1, 1, 1])
        # Each row of the values is one head of one cell.
        value = self.value_proj(memory)  # [B, L, C]
        index = index + paddle.arange(value.shape[0]).reshape([-1, 1, 1, 1, 1, 1]) * value.shape[1]
        index = index * self.num_heads + paddle.arange(self.num_heads).reshape([-1, 1, 1, 1])
        taps = value.reshape([-1, channels // self.num_heads]).gather(index.flatten())

        tap_weights = tap_weights * weights.reshape(shape).unsqueeze(-1)
        num_taps = 4 * self.num_levels * self.num_points
        mixed = paddle.matmul(
            tap_weights.reshape([-1, 1, num_taps]), taps.reshape([-1, num_taps, channels // self.num_heads])
        )
        return self.output_proj(mixed.reshape([-1, num_queries, channels]))


def linear(
    in_channels: int,
    out_channels: int,
    *,
    weight: nn.initializer.Initializer | None = None,
    bias: nn.initializer.Initializer | None = None,
) -> nn.Linear:
    """A linear layer. The default initialization is uniform in +-1 / sqrt(in_channels)."""
    bound = 1 / math.sqrt(in_channels)
    return nn.Linear(
        in_channels,
        out_channels,
        weight_attr=ParamAttr(initializer=weight or Uniform(-bound, bound)),
        bias_attr=ParamAttr(initializer=bias or Uniform(-bound, bound)),
    )


def _initial_offsets(num_heads: int, num_levels: int, num_points: int) -> np.ndarray:
    """Initial offsets [heads * levels * points * 2]: one direction per head, point i at distance i + 1."""
    angle = np.arange(num_heads, dtype=np.float32) * (2 * math.pi / num_heads)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    direction /= np.abs(direction).max(axis=1, keepdims=True)
    steps = np.arange(1, num_points + 1, dtype=np.float32).reshape(1, 1, -1, 1)
    offsets = np.tile(direction.reshape(num_heads, 1, 1, 2), (1, num_levels, 1, 1)) * steps
    return offsets.astype(np.float32).ravel()
