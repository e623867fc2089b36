"""Communication between the processes of a distributed run.

Every process must call these functions in the same order, even if its batch has no objects. With one process
they change nothing. `joined_batch` contains the communication of losses.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.distributed import ReduceOp

BUFFER_BYTES = 32 * 2**20  # size of the groups in which gradients are sent


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor without gradient over all processes."""
    if paddle.distributed.get_world_size() > 1:
        value = value.clone()
        paddle.distributed.all_reduce(value)
    return value


@paddle.no_grad()
def take_from_first_process(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors in place with their values in process 0."""
    if paddle.distributed.get_world_size() > 1:
        for tensor in tensors:
            paddle.distributed.broadcast(tensor, src=0)


@paddle.no_grad()
def mean_losses(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses of the joined batch: the mean over processes of each named loss of one element.

    If a loss is not finite in one process, the mean is not finite, so that all processes stop.
    """
    names = sorted(losses)  # the order may depend on the batch of the process
    own = paddle.stack([losses[name].detach().astype("float32").reshape([]) for name in names])
    means = (sum_over_processes(own) / paddle.distributed.get_world_size()).tolist()
    mean_of_name = dict(zip(names, means, strict=True))
    return {name: mean_of_name[name] for name in losses}


@paddle.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradient of each trainable parameter by its mean over the processes.

    Call it after the last ``backward`` of a step, before gradients are unscaled or clipped. If only some
    processes have a gradient, the others count as zeros, so that the weights stay the same everywhere. If no
    process has a gradient, it stays None, and the optimizer skips the parameter as with one process.

    This replaces ``paddle.DataParallel``, which only handles its own ``forward`` and reduces gradients at the
    first ``backward`` after it. Our networks train with ``loss``, and a step may have several ``backward``.
    """
    num_processes = paddle.distributed.get_world_size()
    if num_processes == 1:
        return
    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    exists = paddle.to_tensor([parameter.grad is not None for parameter in trained], dtype="int32")
    paddle.distributed.all_reduce(exists, op=ReduceOp.MAX)
    used = [parameter for parameter, does in zip(trained, exists.tolist(), strict=True) if does]
    for some in _buckets(used):
        flat = paddle.concat([_flat_gradient(parameter) for parameter in some])
        paddle.distributed.all_reduce(flat)
        means = (flat / num_processes).split([parameter.size for parameter in some])
        for parameter, mean in zip(some, means, strict=True):
            parameter.grad = mean.reshape(parameter.shape)


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of parameters of one dtype. Each has at least ``BUFFER_BYTES``, except the last of a dtype."""
    for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
        bucket: list[Tensor] = []
        num_bytes = 0
        for parameter in parameters:
            if parameter.dtype == dtype:
                bucket.append(parameter)
                num_bytes += parameter.size * parameter.element_size()
                if num_bytes >= BUFFER_BYTES:
                    yield bucket
                    bucket, num_bytes = [], 0
        if bucket:
            yield bucket


def _flat_gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        return paddle.zeros([parameter.size], dtype=parameter.dtype)
    return parameter.grad.flatten()


def in_step(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors; in ``backward``, no gradient passes until the gradients of all tensors are known.

    Some earlier layers communicate in ``backward`` (`models.synchronized_norm`) and need the same order in
    all processes. Paddle runs ``backward`` breadth first, so the order of parallel branches depends on the
    later operations, and the operations of a loss depend on the objects of the process.
    """
    if paddle.distributed.get_world_size() == 1:
        return list(tensors)
    return list(_InStep.apply(*tensors))


class _InStep(PyLayer):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in tensors)  # returning the inputs would count as in-place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients  # zeros for an unused tensor
