"""Ctrl-C and SIGTERM while a model trains: the run stops where its state is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopSignals:
    """Catches the first SIGINT or SIGTERM while the context lasts; the second one acts as ever.

    The first one only sets ``requested``, which the loop looks at between two steps, except within
    ``interruptible``, where it raises KeyboardInterrupt at once. With ``at_once`` false it never does:
    processes that work together must stop at the same step. Outside of the main thread nothing is caught.
    """

    def __init__(self, *, at_once: bool = True) -> None:
        self.requested = False
        self._at_once = at_once
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        self._give_back()

    def check(self) -> None:
        """Raise KeyboardInterrupt when a signal has come."""
        if self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that may end anywhere: it changes nothing, or nothing that the caller does not put back."""
        self._interruptible = self._at_once
        try:
            if self._at_once:
                self.check()
            yield
        finally:
            self._interruptible = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._give_back()
        if self._interruptible:
            raise KeyboardInterrupt

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
