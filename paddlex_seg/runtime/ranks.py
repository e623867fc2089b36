"""The processes of a distributed run, seen from one of them: which it is, and what all of them agree on."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TypeVar

import paddle
import paddle.distributed as dist

from paddlex_seg.runtime.device import use_device
from paddlex_seg.runtime.environment import launched

T = TypeVar("T")
MEETING_KEY = "paddlex_seg/arrivals"
MEETING_SECONDS = 3600.0  # as long as the slowest thing may take that one rank does while the others wait
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5  # seconds between two looks at who has arrived


class Meeting:
    """Lets ranks wait for each other for long.

    A collective of gloo fails when a rank comes 30 seconds after another, and Paddle has no setting for it.
    Before one that long work of a single rank may precede, the ranks therefore count themselves in Paddle's
    store.
    """

    def __init__(self, world_size: int) -> None:
        self._store = paddle.base.core.create_or_get_global_tcp_store()  # the one of init_parallel_env
        self._world_size, self._number = world_size, 0

    def wait(self) -> None:
        """Return when all ranks have called this as often as this one has."""
        self._number += 1
        # No rank can be counted for the next time before all were for this one, so the sum is enough.
        expected = self._number * self._world_size
        arrived, pause, start = self._store.add(MEETING_KEY, 1), FIRST_PAUSE, time.monotonic()
        while arrived < expected:
            if time.monotonic() - start > MEETING_SECONDS:
                raise TimeoutError(f"{expected - arrived} other ranks did not come within an hour")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            arrived = self._store.add(MEETING_KEY, 0)


@dataclass(frozen=True)
class Ranks:
    """One process of a run and how many there are. All ranks must make the same calls in the same order."""

    rank: int = 0
    world_size: int = 1
    meeting: Meeting | None = None  # None where there is one process

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes results and log lines."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in the order of ranks; each rank gets all. They are pickled.

        Waits for the others, up to an hour.
        """
        if self.meeting is None:
            return [value]
        self.meeting.wait()
        values: list[T] = []
        dist.all_gather_object(values, value)
        return values

    def any_of(self, flag: bool) -> bool:
        """Whether the flag is set on any rank.

        For every step: takes less than a millisecond. On the CPU, ranks must come within 30 seconds; after
        work that only some of them do, call ``barrier`` first.
        """
        if self.meeting is None:
            return flag
        total = paddle.to_tensor([int(flag)], dtype="int32")
        dist.all_reduce(total, dist.ReduceOp.MAX)
        return bool(total.item())

    def barrier(self) -> None:
        """Wait until all ranks are here, up to an hour."""
        if self.meeting is not None:
            self.meeting.wait()


ONE_RANK = Ranks()


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Use the device of this process and, in a distributed run, meet the other ranks until the context ends.

    A process that was not started as one of several is rank 0 of 1. An error inside the context leaves it
    without waiting for others, and soon after that they are ended: ranks that stop by agreement meet in
    ``barrier`` first. Raises BackendError when the device cannot be used.
    """
    place = launched()
    use_device(device, place)
    if place is None:
        yield ONE_RANK
        return
    with redirect_stderr(io.StringIO()):  # a list of flags that Paddle has set by itself
        dist.init_parallel_env()
    ranks = Ranks(place.rank, place.world_size, Meeting(place.world_size))
    yield ranks
    ranks.barrier()  # the store of all ends with rank 0
    ranks.any_of(False)  # after which nobody looks into the store again
    dist.destroy_process_group()
