"""Layers shared by several models.

Shapes: B images, C channels, [h, w] the size of a feature map.
"""

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant
from paddle.regularizer import L2Decay


class ConvBn(nn.Layer):
    """Convolution without bias (keeps the size at stride 1) and batch norm without weight decay."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias_attr=False
        )
        self.bn = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride]."""
        return self.bn(self.conv(x))


class ConvBnAct(ConvBn):
    """``ConvBn`` followed by SiLU (Swish)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride]."""
        return F.silu(self.bn(self.conv(x)))


class TwoBranchConv(nn.Layer):
    """RepVGG convolution: sum of a 3x3 and a 1x1 branch. With ``with_alpha``, the 1x1 branch is multiplied by
    a learned scalar.
    """

    def __init__(self, channels: int, with_alpha: bool) -> None:
        super().__init__()
        self.alpha = None
        if with_alpha:
            self.alpha = self.create_parameter(shape=[1], attr=ParamAttr(initializer=Constant(1.0)))
        self.conv1 = ConvBn(channels, channels, kernel_size=3)
        self.conv2 = ConvBn(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same shape."""
        one_by_one = self.conv2(x)
        if self.alpha is not None:
            one_by_one = self.alpha * one_by_one
        return F.silu(self.conv1(x) + one_by_one)


class BiasedConv2D(nn.Conv2D):
    """A convolution with a faster bias addition on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, C', h', w']."""
        return _add_bias(F.conv2d(x, self.weight, stride=self._stride, padding=self._padding), self.bias)


class BiasedConv2DTranspose(nn.Conv2DTranspose):
    """A transposed convolution with a faster bias addition on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, C', h', w']."""
        x = F.conv2d_transpose(x, self.weight, stride=self._stride, padding=self._padding)
        return _add_bias(x, self.bias)


def _add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x: [N, C, h, w], is overwritten; bias: [C]."""
    if not paddle.in_dynamic_mode():  # runtimes fuse this pattern into one operation
        return x + bias.reshape([1, -1, 1, 1])
    # In Paddle 3.2, adding [N * C, 1] to rows is ten times faster than adding [1, C, 1, 1] to maps.
    rows = bias.expand([x.shape[0], len(bias)]).reshape([-1, 1])
    return add_(x.reshape([len(rows), -1]), rows).reshape(x.shape)


# In-place operations save memory traffic, about a tenth of the forward time of a ResNet on the CPU. Use them
# only after a convolution, a norm or an addition, whose gradients do not need the overwritten output.
# Exported graphs do not have in-place operations.


def relu_(x: Tensor) -> Tensor:
    """ReLU, in place if possible."""
    return F.relu_(x) if paddle.in_dynamic_mode() else F.relu(x)


def add_(x: Tensor, y: Tensor) -> Tensor:
    """x + y, in place of x if possible."""
    # With mixed precision, one of them may have 16 bits; the sum then has 32 bits.
    return x.add_(y) if paddle.in_dynamic_mode() and x.dtype == y.dtype else x + y


def batch_norm(channels: int) -> nn.BatchNorm2D:
    """A batch norm without weight decay."""
    return nn.BatchNorm2D(channels, weight_attr=_without_decay(), bias_attr=_without_decay())


def group_norm(channels: int, num_groups: int = 32) -> nn.GroupNorm:
    """A group norm without weight decay."""
    return nn.GroupNorm(num_groups, channels, weight_attr=_without_decay(), bias_attr=_without_decay())


def layer_norm(channels: int) -> nn.LayerNorm:
    """A layer norm without weight decay."""
    return nn.LayerNorm(channels, weight_attr=_without_decay(), bias_attr=_without_decay())


def freeze_norms(network: nn.Layer) -> None:
    """Freeze the weights and running statistics of all batch norms of a network."""
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._use_global_stats = True
            layer.weight.stop_gradient = layer.bias.stop_gradient = True


def _without_decay() -> ParamAttr:
    return ParamAttr(regularizer=L2Decay(0.0))
