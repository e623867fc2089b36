"""Loads an exported graph in a process of its own, because Paddle crashes on some damaged graphs."""

import json
import subprocess
import sys
from pathlib import Path

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.graph_file import ADVICE

TIMEOUT_SECONDS = 300.0
# The process finds this package where the caller does, wherever that has its path from.
COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from paddlex_seg.inference.backends.trial import load; load(*sys.argv[2:])"
)


def require_no_crash(graph: Path, params: Path) -> None:
    """Raise BackendError when Paddle crashes or hangs while it loads a graph.

    An exception of Paddle is no crash: the caller meets it again, and reports it.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, json.dumps(sys.path), str(graph), str(params)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"was not ready after {TIMEOUT_SECONDS:.0f} s"
    else:
        if ended.returncode in (0, 1):  # 1: an exception
            return
        problem = f"ended with code {ended.returncode}"
    raise BackendError(
        f"{graph}: a process that loaded this graph as a trial {problem}. The file is damaged, or was "
        f"written by another version of Paddle. {ADVICE}"
    )


def load(graph: str, params: str) -> None:
    """Load a graph on the CPU."""
    from paddle import inference

    config = inference.Config(graph, params)
    config.disable_gpu()
    config.disable_mkldnn()
    config.disable_glog_info()
    inference.create_predictor(config)
