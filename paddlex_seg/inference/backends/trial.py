"""Loads and runs an exported graph in a process of its own, because Paddle crashes on some damaged graphs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.graph_file import ADVICE

TIMEOUT_SECONDS = 300.0
INPUT_NAMES = ("image", "im_shape", "scale_factor")
# The process finds this package where the caller does, wherever that has its path from.
COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from paddlex_seg.inference.backends.trial import run_once; "
    "run_once(*sys.argv[2:4], json.loads(sys.argv[4]))"
)


def require_no_crash(graph: Path, params: Path, size_hw: tuple[int, int]) -> None:
    """Raise BackendError when Paddle crashes or hangs with a graph on an image of this size, on the CPU.

    An exception of Paddle is no crash: the caller meets it again, and reports it.
    """
    arguments = [json.dumps(sys.path), str(graph), str(params), json.dumps(size_hw)]
    try:
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        problem = f"it ended with code {ended.returncode}" if ended.returncode not in (0, 1) else ""
    except subprocess.TimeoutExpired:
        problem = f"it was not ready after {TIMEOUT_SECONDS:.0f} s"
    if problem:
        raise BackendError(
            f"{graph}: Paddle was tried with this graph in a process of its own, and {problem}. The file is "
            f"damaged, or was written by another version of Paddle. {ADVICE}"
        )


def run_once(graph: str, params: str, size_hw: Sequence[int]) -> None:
    """Load a graph and run it on a gray image. Ends this process with an exception when Paddle raises one."""
    from paddle import inference

    config = inference.Config(graph, params)
    config.disable_gpu()
    config.disable_mkldnn()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    size = np.array([size_hw], np.float32)
    image = np.zeros((1, 3, *size_hw), np.float32)
    for name, array in zip(INPUT_NAMES, (image, size, np.ones_like(size)), strict=True):
        predictor.get_input_handle(name).copy_from_cpu(array)
    predictor.run()
    for name in predictor.get_output_names():
        predictor.get_output_handle(name).copy_to_cpu()
