"""Normalization of losses over the joined batch: all images of a step, in all processes and parts.

Several processes may share a step, and a process may split its batch into parts that it computes one after
the other (gradient accumulation). The optimizer uses the mean gradient over processes and parts. If a loss
divided by its own number of images, objects or samples, this mean would depend on how the images are
distributed. So a loss asks the `JoinedBatch` of its batch for the divisor, and the mean is that of the joined
batch.

Every process and part must call the same methods in the same order, even if it has no objects.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import paddle
from paddle import Tensor
from paddle.distributed import ReduceOp

from paddlex_seg.ops.processes import sum_over_processes

T = TypeVar("T")


class JoinedBatch:
    """For a batch that its process computes as a whole. Each call of a loss needs a new object.

    ``num_calls``: number of calls by the loss. 0 means that the loss divides by numbers of its own part.
    """

    def __init__(self) -> None:
        self.num_calls = 0
        self.share = 1.0  # of this batch among the images of this process

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
        """The divisor for a sum over this batch, if the sum over the joined batch is divided by ``total``."""
        if self.share != 1.0:
            total = total * self.share
        num_processes = paddle.distributed.get_world_size()
        return total / num_processes if num_processes > 1 else total

    def normalizer(self, value: Tensor) -> Tensor:
        """The divisor for a sum over this batch, if the joined batch divides by max(total of ``value``, 1).

        value: contribution of this batch to the total, of any shape and without gradient. The result is less
        than 1 if the joined total is less than the number of processes or parts.
        """
        return self.own_part(self.total(value).clip(min=1.0))

    def share_of_mean(self, count: int) -> Tensor:
        """The factor that turns a mean over ``count`` items of this batch into its share of the joined mean.

        A scalar tensor: 1 if all processes and parts have the same number of items, 0 if this batch has none.
        """
        own = paddle.to_tensor(float(count))
        return own / self.normalizer(own)

    def _over_parts(self, value: T, combine: Callable[[list[T]], T]) -> T:
        """``combine`` applied to the values of all parts of this process."""
        self.num_calls += 1
        return value


class CountedPart(JoinedBatch):
    """For the first of two passes over the parts: records the values of a part. Its loss is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []  # one per call

    def _over_parts(self, value: T, combine: Callable[[list[T]], T]) -> T:
        self.values.append(value)
        return super()._over_parts(value, combine)


class PartOfBatch(JoinedBatch):
    """For the second of two passes over the parts: combines the values recorded for all parts.

    counted: the parts after the first pass; share: fraction of the images of the batch in this part.
    """

    def __init__(self, counted: Sequence[CountedPart], share: float) -> None:
        super().__init__()
        self._counted, self.share = counted, share

    def _over_parts(self, value: T, combine: Callable[[list[T]], T]) -> T:
        values = [part.values[self.num_calls] for part in self._counted]
        self.num_calls += 1
        return combine(values)
