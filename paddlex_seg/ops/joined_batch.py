"""What the processes of a distributed run agree on, so that together they are one process with all pictures.

Each process has a part of the joined batch. The gradients that the optimizer uses, and the losses that are
reported, are the means over the processes; `shared_normalizer` and `share_of_mean` make the loss of a process
such that these means are those of the joined batch, however objects and pictures are spread over the
processes. All functions are calls that every process has to make, in the same order, also a process without
objects. With one process they change nothing.

The same functions serve a process that computes its batch in parts, one after the other: `BatchInParts`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.distributed import ReduceOp

T = TypeVar("T")
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


class BatchInParts:
    """Lets the losses of the parts of a batch, weighted by their pictures, add up to those of the whole.

    Each part goes through the loss twice: first in ``counting``, which notes what it contributes to totals,
    then in ``part``, which knows those of the whole. Like processes, all parts make the same calls.
    """

    def __init__(self) -> None:
        self._noted: list[list[Any]] = []  # for each call, the values of all parts
        self._num_calls = 0
        self._is_counting = False
        self._share = 1.0

    def counting(self) -> AbstractContextManager[None]:
        """The context of a loss that is thrown away."""
        self._is_counting = True
        return self._active()

    def part(self, share: float) -> AbstractContextManager[None]:
        """The context of the loss of a part with this share of the pictures."""
        self._is_counting, self._share = False, share
        return self._active()

    @contextmanager
    def _active(self) -> Iterator[None]:
        global _in_parts
        self._num_calls, _in_parts = 0, self
        try:
            yield
        finally:
            _in_parts = None

    def of_whole(self, value: T, combine: Callable[[list[T]], T]) -> T:
        """What the values of all parts make together; while they are counted, that of this part."""
        call = self._num_calls
        self._num_calls += 1
        if not self._is_counting:
            return combine(self._noted[call])
        if call == len(self._noted):
            self._noted.append([])
        self._noted[call].append(value)
        return value

    @property
    def share(self) -> float:
        """Of this part among the pictures."""
        return 1.0 if self._is_counting else self._share


_in_parts: BatchInParts | None = None


def joined_total(value: Tensor) -> Tensor:
    """The sum of a tensor without gradient over the joined batch."""
    if _in_parts is not None:
        value = _in_parts.of_whole(value, paddle.add_n)
    return sum_over_processes(value)


def own_share(total: Tensor) -> Tensor:
    """What a sum over this part of the joined batch is divided by, where that over all is by ``total``."""
    if _in_parts is not None:
        total = total * _in_parts.share
    num_processes = paddle.distributed.get_world_size()
    return total / num_processes if num_processes > 1 else total


def joined_maximum(value: int) -> int:
    """The largest value in the joined batch."""
    if _in_parts is not None:
        value = _in_parts.of_whole(value, max)
    if paddle.distributed.get_world_size() > 1:
        most = paddle.to_tensor([value])
        paddle.distributed.all_reduce(most, op=ReduceOp.MAX)
        value = int(most)
    return value


def shared_normalizer(total: Tensor) -> Tensor:
    """What the sum of a loss is divided by, where the joined batch divides by a total of at least 1.

    total: what this process contributes to that total, of any shape and without gradient. The result is less
    than 1 where the joined total is less than the number of processes or parts.
    """
    return own_share(joined_total(total).clip(min=1.0))


def share_of_mean(count: int) -> Tensor:
    """What a mean over ``count`` items is multiplied by, where the joined batch has the mean over all items.

    A number in a tensor: 1 where all processes have as many items, and 0 for a process without any.
    """
    own = paddle.to_tensor(float(count))
    return own / shared_normalizer(own)


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
