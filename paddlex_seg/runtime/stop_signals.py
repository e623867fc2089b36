"""Signals that ask a run to stop: Ctrl-C, SIGTERM, SIGHUP (the terminal was closed), SIGUSR1 (from Slurm)."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SYSTEM_SIGNALS = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *SYSTEM_SIGNALS)
# Shells, terminals and `timeout` send a signal twice: to a process, and to its group.
REPEATED_SECONDS = 1.0


class StopSignals:
    """Catches stop signals inside the context. A second Ctrl-C or SIGTERM raises KeyboardInterrupt.

    The first signal only sets ``requested``, which the training loop checks between two steps. Inside
    ``interruptible`` it raises KeyboardInterrupt at once, unless ``at_once`` is false: ranks of one run must
    all stop at the same step. ``go_on`` is the end of the message: what to do next. Outside of the main
    thread no signal is caught.
    """

    def __init__(self, *, at_once: bool = True, go_on: str = "To start again, run the same command") -> None:
        self.requested = False
        self._go_on = go_on
        self._at_once = at_once
        self._interruptible = False
        self._before: dict[int, Any] = {}
        self._name = ""  # of the first signal

    def __enter__(self) -> "StopSignals":
        self._before = catch(self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        give_back(self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt when a signal was received."""
        if self.requested:
            raise KeyboardInterrupt(f"stopped by {self._name}. {self._go_on}")

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """For work that may be interrupted anywhere: it changes no state, or the caller restores it.

        The caller also gets the KeyboardInterrupt where a call has made another error of it. Python 3.11 does
        so in a text codec, with another message, and while it creates a class, with another type.
        """
        self._interruptible = self._at_once
        try:
            if self._at_once:
                self.check()
            yield
        except (KeyboardInterrupt, Exception) as error:
            interrupt = _interrupt_behind(error)
            if interrupt is None or interrupt is error:
                raise
            raise interrupt from None
        finally:
            self._interruptible = False

    def _receive(self, number: int) -> None:
        name = signal.Signals(number).name
        if self.requested:
            raise KeyboardInterrupt(f"ended at once by a second signal, {name}. {self._go_on}")
        self.requested, self._name = True, name
        if self._interruptible:
            self.check()


def catch(receive: Callable[[int], None]) -> dict[int, Any]:
    """Call ``receive`` with the first stop signal, and again when somebody presses for an end.

    SIGHUP and SIGUSR1 are sent by systems, so they never press, and neither does the SIGTERM that may follow
    them. They stay ignored if they are when this is called, as with ``nohup``. Returns the handlers from
    before, for `give_back`; none outside of the main thread, where Python cannot catch signals.
    """
    is_first, pressed = True, math.inf

    def handle(number: int, frame: object) -> None:
        nonlocal is_first, pressed
        now = time.monotonic()
        is_new = is_first or (number not in SYSTEM_SIGNALS and now - pressed >= REPEATED_SECONDS)
        is_first = False
        if number not in SYSTEM_SIGNALS:
            pressed = min(pressed, now)
        if is_new:
            receive(number)

    if not _is_main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in SYSTEM_SIGNALS:
        if before[number] == signal.SIG_IGN:
            del before[number]
    for number in before:
        signal.signal(number, handle)
    return before


def give_back(before: dict[int, Any]) -> None:
    """Set the handlers that `catch` has returned."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def held() -> Iterator[None]:
    """Let stop signals wait until the end of the context.

    For the first import of Paddle: it sets a handler of its own for SIGTERM, which prints a C++ trace. Also,
    an interrupted import may hide the KeyboardInterrupt. Has no effect on Windows.
    """
    if not _is_main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)  # Python's handler again instead of Paddle's
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def postponed() -> Iterator[None]:
    """Let stop signals wait until the end of the context, for files that belong together.

    A mask as in `held` would not do: another thread would take the signal, and Python would call
    its handler in the main thread.
    """
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS} if _is_main_thread() else {}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: arrived.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in arrived:
            signal.raise_signal(number)


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The KeyboardInterrupt that an exception goes back to, which may be itself."""
    found: KeyboardInterrupt | None = None
    cause: BaseException | None = error
    while cause is not None:
        found = cause if isinstance(cause, KeyboardInterrupt) else found
        cause = cause.__cause__
    return found


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
