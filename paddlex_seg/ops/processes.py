"""What the processes of a distributed run exchange, so that they train one model together.

All functions are calls that every process must make, in the same order, also a process without objects. With
one process they change nothing. What a loss needs to know of the other processes is in `joined_batch`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.distributed import ReduceOp

BUFFER_BYTES = 32 * 2**20  # of gradients that are sent at once


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor without gradient over all processes."""
    if paddle.distributed.get_world_size() > 1:
        value = value.clone()
        paddle.distributed.all_reduce(value)
    return value


@paddle.no_grad()
def take_from_first_process(tensors: Iterable[Tensor]) -> None:
    """Give tensors, in place, the values that they have in process 0."""
    if paddle.distributed.get_world_size() > 1:
        for tensor in tensors:
            paddle.distributed.broadcast(tensor, src=0)


@paddle.no_grad()
def mean_losses(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The named losses, each of one element, of the joined batch: their means over the processes.

    One that is not finite in any process is not finite in all of them, so that all of them stop.
    """
    names = sorted(losses)  # their order may depend on what a process has in its batch
    own = paddle.stack([losses[name].detach().astype("float32").reshape([]) for name in names])
    means = (sum_over_processes(own) / paddle.distributed.get_world_size()).tolist()
    mean_of_name = dict(zip(names, means, strict=True))
    return {name: mean_of_name[name] for name in losses}


@paddle.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradient of each trainable parameter by its mean over the processes.

    To be called after the last ``backward`` of a step, before gradients are unscaled or clipped. A missing
    gradient counts as zeros where another process has one, so that replicas never drift; one that is missing
    in all processes stays missing, so that optimizers leave the parameter alone as they do in one process.

    Instead of ``paddle.DataParallel``, which reduces the gradients of its own ``forward`` alone, at the first
    ``backward`` after it: a network that is trained by another method, and steps of several ``backward``,
    need nothing special here.
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
    """The parameters in groups of one type, each of at least ``BUFFER_BYTES`` but for the last of a type."""
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
    """The same tensors, whose gradients go on together once all of them are known.

    Layers before this that talk to other processes in ``backward`` (`models.synchronized_norm`) then do so in
    the same order everywhere: Paddle walks a graph breadth first, so that the order of parallel branches
    depends on the operations that follow, and those of a loss depend on the objects of a process.
    """
    if paddle.distributed.get_world_size() == 1:
        return list(tensors)
    return list(_InStep.apply(*tensors))


class _InStep(PyLayer):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in tensors)  # not themselves, which would be "in place"

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients  # zeros for a tensor that was not used
