"""The guard process between Paddle's launcher and a rank. It records how the rank ended, and kills the rank
when the launcher has ended.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace

from paddlex_seg.errors import BackendError
from paddlex_seg.runtime.environment import Launched, end_with_parent, launched, worker_environment
from paddlex_seg.runtime.rank_notes import Failure, forget_worker, note_failure, note_worker
from paddlex_seg.runtime.stop_signals import STOP_SIGNALS

POLL_SECONDS = 0.25


def main() -> int:
    """Run the command in the arguments as a rank of the launcher's run and return its exit code."""
    place = launched()
    assert place is not None, "runs under Paddle's launcher only"
    launcher = os.getppid()
    # The launcher signals the whole group, including the rank.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    worker = subprocess.Popen(sys.argv[1:], env=worker_environment(), preexec_fn=begin_rank)
    note_worker(place.log_dir, place.rank, worker.pid)
    while True:
        try:
            code = worker.wait(POLL_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if os.getppid() != launcher:  # the launcher was killed, and perhaps the command too
                worker.kill()
    if code != 0 and os.getppid() == launcher:
        note_failure(place.log_dir, place.rank, unexplained_end(place, worker.pid, code))
    forget_worker(place.log_dir, place.rank)  # last: the command then knows that nothing more will be noted
    return code if code >= 0 else 128 - code


def begin_rank() -> None:
    """Set up the process of a rank, just before it begins."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def unexplained_end(place: Launched, pid: int, code: int) -> Failure:
    """The failure of a rank that ended without its own error message. ``code``: subprocess's return code."""
    log = place.log_dir / f"workerlog.{place.local_rank}"
    if code < 0:
        reason = f"was ended by signal {-code}" + (
            " (often: out of memory)" if code == -signal.SIGKILL else ""
        )
    else:
        reason = f"ended with exit code {code} and without an error message"
    text = f"rank {place.rank} (pid {pid}) {reason}. Its log is {log}."
    error = BackendError(text)
    # A stop signal is no cause of its own: somebody asked for the end.
    cause = None if -code in STOP_SIGNALS else pid
    return replace(Failure.of(error, f"Error: {text}", error.exit_code), ended_pid=cause)


if __name__ == "__main__":
    sys.exit(main())
