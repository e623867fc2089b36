"""A replica of the service as a process of its own, with a model of 20 ms: ``python replica.py PORT``.

It runs what ``paddlex_seg --serve`` runs, without a model on the disk, so that it starts in a second.
"""

import os
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

START_SECONDS = 60


class Replica:
    """A service on a port, to be stopped and started again."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self._log = port, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it accepts requests."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self.port)], stdout=log, stderr=log, env=environment
            )
        wait_until_ready(self._process, self.port, self._log)

    def stop(self) -> int:
        """Ask it to end with SIGTERM, and wait for it; its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code, self._process = self._process.wait(timeout=START_SECONDS), None
        return code


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the service on this port accepts requests. Fails with its log if it ends before."""
    end = time.monotonic() + START_SECONDS
    while not _is_ready(port):
        text = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None and time.monotonic() < end, text
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    from served_model import TwentyMsModel

    from paddlex_seg.config.schema import ServingConfig
    from paddlex_seg.serving.server import serve

    serve(lambda device: TwentyMsModel(), ["cpu"], ServingConfig(port=int(sys.argv[1]), batch_size=1))
