"""Layers that families of models share.

Shapes: B images, C channels, [h, w] the size of a feature map.
"""

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant
from paddle.regularizer import L2Decay


class ConvBn(nn.Layer):
    """Convolution without bias, padded to keep the size at stride 1, and a batch norm exempt from weight
    decay.
    """

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
    """RepVGG convolution: a 3x3 and a 1x1 branch added, the latter times a learned ``alpha`` where there
    is one.
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
    """A convolution whose bias costs little on the CPU, however many maps it is for."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, C', h', w']."""
        return _add_bias(F.conv2d(x, self.weight, stride=self._stride, padding=self._padding), self.bias)


class BiasedConv2DTranspose(nn.Conv2DTranspose):
    """A transposed convolution whose bias costs little on the CPU, however many maps it is for."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N, C', h', w']."""
        x = F.conv2d_transpose(x, self.weight, stride=self._stride, padding=self._padding)
        return _add_bias(x, self.bias)


def _add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x: [N, C, h, w], which is lost; bias: [C]."""
    if not paddle.in_dynamic_mode():  # what runtimes look for, to make one operation of it
        return x + bias.reshape([1, -1, 1, 1])
    # Paddle 3.2 adds [N * C, 1] to rows ten times faster than [1, C, 1, 1] to maps.
    rows = bias.expand([x.shape[0], len(bias)]).reshape([-1, 1])
    return add_(x.reshape([len(rows), -1]), rows).reshape(x.shape)


# In place: passes over memory are a tenth of the forward of a ResNet on the CPU. No gradient needs what is
# lost where the operation before was a convolution, a norm or an addition. Graphs have no such operations.


def relu_(x: Tensor) -> Tensor:
    """ReLU, in the memory of its argument where that is possible."""
    return F.relu_(x) if paddle.in_dynamic_mode() else F.relu(x)


def add_(x: Tensor, y: Tensor) -> Tensor:
    """x + y, in the memory of x where that is possible."""
    # Under mixed precision one may be of 16 bits, and the sum then is of 32.
    return x.add_(y) if paddle.in_dynamic_mode() and x.dtype == y.dtype else x + y


def batch_norm(channels: int) -> nn.BatchNorm2D:
    """A batch norm exempt from weight decay."""
    return nn.BatchNorm2D(channels, weight_attr=_without_decay(), bias_attr=_without_decay())


def group_norm(channels: int, num_groups: int = 32) -> nn.GroupNorm:
    """A group norm exempt from weight decay."""
    return nn.GroupNorm(num_groups, channels, weight_attr=_without_decay(), bias_attr=_without_decay())


def layer_norm(channels: int) -> nn.LayerNorm:
    """A layer norm exempt from weight decay."""
    return nn.LayerNorm(channels, weight_attr=_without_decay(), bias_attr=_without_decay())


def freeze_norms(network: nn.Layer) -> None:
    """Keep weights and running statistics of all batch norms in a network as they are, in training too."""
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._use_global_stats = True
            layer.weight.stop_gradient = layer.bias.stop_gradient = True


def _without_decay() -> ParamAttr:
    return ParamAttr(regularizer=L2Decay(0.0))
