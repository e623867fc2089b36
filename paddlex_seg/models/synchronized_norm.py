"""Synchronized batch norm: mean and variance over the images of all processes.

Shapes: B images, C channels, P processes, [h, w] the size of a feature map.
"""

from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from paddlex_seg.ops.processes import sum_over_processes


def synchronize_batch_norm(model: nn.Layer) -> None:
    """Replace all trainable batch norms of a model by synchronized ones.

    Parameters, running statistics and their names stay the same. Frozen norms are not replaced, so call
    `freeze_norms` before. With one process nothing changes. On GPUs Paddle's own layer is used.
    """
    if paddle.distributed.get_world_size() == 1:
        return
    on_gpu = paddle.device.get_device().startswith("gpu")
    convert = nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else SynchronizedBatchNorm2D
    for parent in model.sublayers(include_self=True):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2D) and not layer._use_global_stats:
                synchronized = convert(layer)
                synchronized.training = layer.training
                parent.add_sublayer(name, synchronized)


class SynchronizedBatchNorm2D(nn.BatchNorm2D):
    """Synchronized version of the batch norm ``norm``; shares its parameters and buffers.

    For devices without a Paddle layer for this. Number and size of images may differ between processes.
    """

    def __init__(self, norm: nn.BatchNorm2D) -> None:
        super().__init__(norm._num_features, norm._momentum, norm._epsilon)
        self.weight, self.bias = norm.weight, norm.bias
        self._mean, self._variance = norm._mean, norm._variance

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same shape."""
        if not self.training:
            return super().forward(x)
        mean, variance, count = joined_statistics(x.detach().astype(self.weight.dtype))
        for running, current in ((self._mean, mean), (self._variance, variance)):
            paddle.assign(running * self._momentum + current * (1 - self._momentum), output=running)
        deviation = (variance + self._epsilon).sqrt()
        return _Normalize.apply(x, self.weight, self.bias, mean, deviation, count)


@paddle.no_grad()
def joined_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and number [] of the pixels of all processes.

    x: [B, C, h, w], the feature map of this process.
    """
    count = paddle.full([1], x.size // x.shape[1], dtype=x.dtype)
    mean = x.mean(axis=[0, 2, 3])
    squares = _per_channel((_rows(x) - _of_rows(mean, x)).square(), x)
    # Each process fills its own row. Squares are relative to the mean of the process, to keep precision.
    table = paddle.zeros([paddle.distributed.get_world_size(), 1 + 2 * x.shape[1]], dtype=x.dtype)
    table[paddle.distributed.get_rank()] = paddle.concat([count, mean, squares])
    counts, means, squares = sum_over_processes(table).split([1, x.shape[1], x.shape[1]], axis=1)  # [P, ...]
    count = counts.sum()
    mean = (counts * means).sum(axis=0) / count
    variance = (squares + counts * (means - mean).square()).sum(axis=0) / count
    return mean, variance, count


class _Normalize(PyLayer):
    """(x - mean) / deviation * weight + bias, where mean and deviation depend on x in all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor, count: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, deviation, count)
        rows = (_rows(x.astype(weight.dtype)) - _of_rows(mean, x)) * _of_rows(weight / deviation, x)
        return (rows + _of_rows(bias, x)).reshape(x.shape).astype(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, deviation, count = ctx.saved_tensor()
        gradients = _rows(gradient.astype(weight.dtype))
        normal = (_rows(x.astype(weight.dtype)) - _of_rows(mean, x)) / _of_rows(deviation, x)
        # Parameters get the gradient of this process only, as in other layers. x affects all processes.
        of_bias, of_weight = _per_channel(gradients, x), _per_channel(gradients * normal, x)
        shift, slope = (sum_over_processes(paddle.stack([of_bias, of_weight])) / count).unbind()
        gradients = gradients - _of_rows(shift, x) - normal * _of_rows(slope, x)
        of_x = (gradients * _of_rows(weight / deviation, x)).reshape(x.shape).astype(x.dtype)
        return of_x, of_weight, of_bias, None, None, None


# Rows, because Paddle is slow on the CPU when it combines [1, C, 1, 1] with maps.


def _rows(x: Tensor) -> Tensor:
    """[B, C, h, w] to [B * C, h * w]."""
    return x.reshape([x.shape[0] * x.shape[1], -1])


def _of_rows(values: Tensor, x: Tensor) -> Tensor:
    """[C] to [B * C, 1], for the rows of x."""
    return values.expand([x.shape[0], -1]).reshape([-1, 1])


def _per_channel(rows: Tensor, x: Tensor) -> Tensor:
    """Sums [C] of the rows [B * C, h * w] of x."""
    return rows.sum(axis=1).reshape([x.shape[0], -1]).sum(axis=0)
