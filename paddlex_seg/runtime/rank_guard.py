"""The guard process between Paddle's launcher and a rank. It records how the rank ended, and kills the rank
when the launcher has ended.
"""

import os
import signal
import subprocess
import sys
import time

from paddlex_seg.runtime.environment import Launched, end_with_parent, launched, worker_environment
from paddlex_seg.runtime.rank_notes import (
    NOTED_LATE_SECONDS,
    Failure,
    forget_worker,
    note_failure,
    note_worker,
)

POLL_SECONDS = 0.25


def main() -> int:
    """Run the command in the arguments as a rank of the launcher's run and return its exit code."""
    place = launched()
    assert place is not None, "runs under Paddle's launcher only"
    launcher = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the launcher signals the whole group, including the rank
    worker = subprocess.Popen(sys.argv[1:], env=worker_environment(), preexec_fn=end_with_parent)
    note_worker(place.log_dir, place.rank, worker.pid)
    while True:
        try:
            code = worker.wait(POLL_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if os.getppid() != launcher:  # the launcher was killed, and perhaps the command too
                worker.kill()
    forget_worker(place.log_dir, place.rank)
    if code != 0 and os.getppid() == launcher:
        note_failure(place.log_dir, place.rank, unexplained_end(place, worker.pid, code))
    return code if code >= 0 else 128 - code


def unexplained_end(place: Launched, pid: int, code: int) -> Failure:
    """The failure of a rank that ended without its own error message. ``code``: subprocess's return code."""
    log = place.log_dir / f"workerlog.{place.local_rank}"
    stopped = code in (-signal.SIGTERM, -signal.SIGINT)
    if code < 0:
        reason = f"was ended by signal {-code}" + (
            " (often: out of memory)" if code == -signal.SIGKILL else ""
        )
    else:
        reason = f"ended with exit code {code} and without an error message"
    text = f"rank {place.rank} (pid {pid}) {reason}. Its log is {log}."
    ended = time.time() - (0.0 if stopped else NOTED_LATE_SECONDS)
    return Failure(f"Error: {text}", "<class 'paddlex_seg.errors.BackendError'>", text, 1, ended)


if __name__ == "__main__":
    sys.exit(main())
