"""What the loss of a batch knows of the joined batch: all images of a step, over all processes and parts.

A step may be spread over processes, and a process may compute its batch in parts, one after the other. The
gradients that the optimizer uses are the means over both. If a loss divided by a number of its own images,
objects or samples, they would depend on how these are spread. So a loss asks the `JoinedBatch` of its batch
what to divide by, and the means are those of the joined batch.

All methods are calls that every process and part must make, in the same order, also one without objects.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import paddle
from paddle import Tensor
from paddle.distributed import ReduceOp

from paddlex_seg.ops.processes import sum_over_processes

T = TypeVar("T")


class JoinedBatch:
    """For a batch that its process computes as a whole. A new one for each call of a loss.

    ``num_calls``: how often it was asked. A loss that never asks divides by numbers of its own part.
    """

    def __init__(self) -> None:
        self.num_calls = 0
        self.share = 1.0  # of the images of this process

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor without gradient over the joined batch."""
        return sum_over_processes(self._over_parts(value, paddle.add_n))

    def maximum(self, value: int) -> int:
        """The largest value in the joined batch."""
        value = self._over_parts(value, max)
        if paddle.distributed.get_world_size() > 1:
            most = paddle.to_tensor([value])
            paddle.distributed.all_reduce(most, op=ReduceOp.MAX)
            value = int(most)
        return value

    def own_part(self, total: Tensor) -> Tensor:
        """What a sum over this batch is divided by, where the sum over the joined batch is by ``total``."""
        if self.share != 1.0:
            total = total * self.share
        num_processes = paddle.distributed.get_world_size()
        return total / num_processes if num_processes > 1 else total

    def normalizer(self, value: Tensor) -> Tensor:
        """What a sum is divided by, where the joined batch divides by its total of ``value``, at least 1.

        value: what this batch adds to that total, of any shape and without gradient. The result is less than
        1 where the joined total is less than the number of processes or parts.
        """
        return self.own_part(self.total(value).clip(min=1.0))

    def share_of_mean(self, count: int) -> Tensor:
        """What a mean over ``count`` items is multiplied by, where the joined batch has the mean over all.

        A number in a tensor: 1 where all processes and parts have as many items, 0 for one without any.
        """
        own = paddle.to_tensor(float(count))
        return own / self.normalizer(own)

    def _over_parts(self, value: T, combine: Callable[[list[T]], T]) -> T:
        """The value of all parts of this process together."""
        self.num_calls += 1
        return value


class CountedPart(JoinedBatch):
    """For the first of two passes over the parts: notes the values of a part. Its loss is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []  # of each call

    def _over_parts(self, value: T, combine: Callable[[list[T]], T]) -> T:
        self.values.append(value)
        return super()._over_parts(value, combine)


class PartOfBatch(JoinedBatch):
    """For the second pass: answers with the values of all parts.

    counted: the parts after the first pass; share: of this part among the images of the batch.
    """

    def __init__(self, counted: Sequence[CountedPart], share: float) -> None:
        super().__init__()
        self._counted, self.share = counted, share

    def _over_parts(self, value: T, combine: Callable[[list[T]], T]) -> T:
        values = [part.values[self.num_calls] for part in self._counted]
        self.num_calls += 1
        return combine(values)
