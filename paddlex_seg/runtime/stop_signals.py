"""Ctrl-C and SIGTERM during training: the run stops where its state is consistent."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopSignals:
    """Catches the first SIGINT or SIGTERM inside the context. A second signal has its usual effect.

    The first signal only sets ``requested``, which the training loop checks between two steps. Inside
    ``interruptible`` it raises KeyboardInterrupt at once, unless ``at_once`` is false: ranks of one run must
    all stop at the same step. Outside of the main thread no signal is caught.
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
        """Raise KeyboardInterrupt when a signal was received."""
        if self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """For work that may be interrupted anywhere: it changes no state, or the caller restores it."""
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
