"""The ranks of a distributed run: which rank this process is, and collective calls of all ranks."""

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
MEETING_SECONDS = 3600.0  # how long ranks wait for the slowest rank
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5  # seconds between two checks of how many ranks have arrived


class Meeting:
    """A barrier with a long timeout.

    A gloo collective fails when one rank is 30 seconds later than another, and Paddle has no setting for
    this. When one rank may have worked for longer, the ranks first wait here, by counting arrivals in
    Paddle's store.
    """

    def __init__(self, world_size: int) -> None:
        self._store = paddle.base.core.create_or_get_global_tcp_store()  # the one of init_parallel_env
        self._world_size, self._number = world_size, 0

    def wait(self) -> None:
        """Return when all ranks have called this method as often as this rank."""
        self._number += 1
        # No rank can arrive at the next barrier before all have arrived at this one, so one sum is enough.
        expected = self._number * self._world_size
        arrived, pause, start = self._store.add(MEETING_KEY, 1), FIRST_PAUSE, time.monotonic()
        while arrived < expected:
            if time.monotonic() - start > MEETING_SECONDS:
                raise TimeoutError(f"{expected - arrived} other rank(s) did not arrive within an hour")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            arrived = self._store.add(MEETING_KEY, 0)


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks. All ranks must make the same calls in one order."""

    rank: int = 0
    world_size: int = 1
    meeting: Meeting | None = None  # None where there is one process

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes results and log lines."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in rank order, returned on every rank. Values are pickled.

        Waits for the other ranks, up to an hour.
        """
        if self.meeting is None:
            return [value]
        self.meeting.wait()
        values: list[T] = []
        dist.all_gather_object(values, value)
        return values

    def any_of(self, flag: bool) -> bool:
        """Whether the flag is set on any rank.

        Fast enough for every step: less than a millisecond. On the CPU, all ranks must call it within 30
        seconds; after work that only some ranks do, call ``barrier`` first.
        """
        if self.meeting is None:
            return flag
        total = paddle.to_tensor([int(flag)], dtype="int32")
        dist.all_reduce(total, dist.ReduceOp.MAX)
        return bool(total.item())

    def barrier(self) -> None:
        """Wait until all ranks have called this, up to an hour."""
        if self.meeting is not None:
            self.meeting.wait()


ONE_RANK = Ranks()


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Use the device of this process and, in a distributed run, connect to the other ranks.

    A process outside a distributed run is rank 0 of 1. An error leaves the context without waiting for the
    other ranks, which are ended soon afterwards. Ranks that all stop on purpose must therefore call
    ``barrier`` before they raise. Raises BackendError when the device cannot be used.
    """
    place = launched()
    use_device(device, place)
    if place is None:
        yield ONE_RANK
        return
    with redirect_stderr(io.StringIO()):  # hides Paddle's list of its own flags
        dist.init_parallel_env()
    ranks = Ranks(place.rank, place.world_size, Meeting(place.world_size))
    yield ranks
    ranks.barrier()  # rank 0 holds the store, so no rank may still need it when rank 0 ends
    ranks.any_of(False)  # after this call no rank reads the store
    dist.destroy_process_group()
