"""How worker processes start and end."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import BaseContext

import cv2

from paddlex_seg.data.images import limit_pixels


def start_context() -> BaseContext:
    """Start workers as fresh processes: after a fork, Paddle's threads and GPU state would be broken."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def prepare_worker(max_pixels: int) -> None:
    """Set up a worker: it uses one core and ends with the main process.

    max_pixels: the limit of the main process, see `images.limit_pixels`.
    """
    limit_pixels(max_pixels)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process ends the workers
    cv2.setNumThreads(1)  # parallelism comes from the number of workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this worker when the main process ends. A killed main process cannot end its workers itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in workers only"
    parent.join()
    os._exit(1)
