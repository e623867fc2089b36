"""How worker processes start and end."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import BaseContext

import cv2


def start_context() -> BaseContext:
    """Fresh processes: a fork would copy Paddle's threads and GPU state half-alive."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def prepare_worker() -> None:
    """What a worker does first, so that it uses one core and ends with the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process gets Ctrl-C, too, and ends the workers
    cv2.setNumThreads(1)  # the workers share the cores already
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A killed main process cannot end its workers, and they would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in workers only"
    parent.join()
    os._exit(1)
