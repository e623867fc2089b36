"""The command ``--serve`` as a process on loopback."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
STARTER = ("-m", "paddlex_seg")


class ServeCommand:
    """A service that runs. ``url``: its address. ``lines``: what it has printed so far."""

    def __init__(
        self, argv: Sequence[str], cwd: Path | None = None, starter: Sequence[str] = STARTER
    ) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *starter, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=cwd,
        )
        self.lines: list[str] = []
        self.url = ""
        self._found = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._found.wait(120) and self.url, "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"Serving .* at (http://[^/]+)/", line):
                self.url = found[1]
                self._found.set()
        self._found.set()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@contextmanager
def serve_command(
    *argv: str, cwd: Path | None = None, starter: Sequence[str] = STARTER
) -> Iterator[ServeCommand]:
    """A running ``--serve`` or mode serve, killed at the end if it was not stopped. starter: what is run."""
    running = ServeCommand(argv, cwd, starter)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
