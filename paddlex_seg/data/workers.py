"""How worker processes start and end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

import cv2

from paddlex_seg.data.images import limit_pixels

# Sent to all processes of a run when a terminal is closed, by `timeout`, by Slurm and by systemd.
GROUP_SIGNALS = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGTERM") if hasattr(signal, name)]
LAST_SECONDS = 3.0  # in which a worker that got SIGTERM still works


def start_context() -> BaseContext:
    """Start workers as fresh processes: after a fork, Paddle's threads and GPU state would be broken."""
    methods = multiprocessing.get_all_start_methods()
    if "forkserver" not in methods:
        return multiprocessing.get_context("spawn")
    for start in (resource_tracker.ensure_running, forkserver.ensure_running):
        _start_without_signals(start)
    return multiprocessing.get_context("forkserver")


def prepare_worker(max_pixels: int) -> None:
    """Set up a worker: it uses one core and ends with the main process.

    max_pixels: the limit of the main process, see `images.limit_pixels`. Only the main process decides what a
    stop signal ends. SIGTERM must still end a worker, because a broken pool ends its workers by it. It does
    so late, so that a run whose processes all got it can first stop.
    """
    limit_pixels(max_pixels)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process ends the workers
    signal.signal(signal.SIGTERM, lambda *_: threading.Timer(LAST_SECONDS, os._exit, (1,)).start())
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    cv2.setNumThreads(1)  # parallelism comes from the number of workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _start_without_signals(start: Callable[[], None]) -> None:
    """Start a process of multiprocessing that no group signal ends. Its child processes inherit this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_with_parent() -> None:
    """End this worker when the main process ends. A killed main process cannot end its workers itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in workers only"
    parent.join()
    os._exit(1)
