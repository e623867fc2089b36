"""Counts what an ONNX file computes for one input, by running it once in ONNX Runtime.

The shapes come from the run, because some depend on what the network finds.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.errors import BackendError
from paddlex_seg.runtime.environment import stop_telemetry

_ERRORS_ONLY = 3  # of ONNX Runtime's levels of log messages


def count_operations(file: Path, inputs: Mapping[str, NDArray[np.float32]]) -> int:
    """Multiplications and additions of the convolutions and matrix products, for these inputs.

    Raises BackendError when ONNX Runtime cannot run the file.
    """
    stop_telemetry()
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        options.log_severity_level = _ERRORS_ONLY
        # As in the file: joined operators would not tell all shapes.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            names = {one.name for one in session.get_inputs()}
            session.run(None, {name: array for name, array in inputs.items() if name in names})
        except Exception as error:  # of many types, which have only Exception in common
            raise BackendError(f"{file}: ONNX Runtime cannot run it ({error}).") from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return sum(_operations(event["args"]) for event in events if "op_name" in event.get("args", {}))


def _operations(event: Mapping[str, Any]) -> int:
    ins, outs = (
        [shape for one in event.get(key, ()) for shape in one.values()]
        for key in ("input_type_shape", "output_type_shape")
    )
    if not outs or len(ins) < 2:
        return 0
    kind, result = event["op_name"], math.prod(outs[0])
    if kind in ("Conv", "FusedConv"):
        return 2 * result * math.prod(ins[1][1:])
    if kind == "ConvTranspose":
        return 2 * math.prod(ins[0]) * math.prod(ins[1][1:])
    if kind == "MatMul":
        return 2 * result * ins[0][-1]
    if kind == "Gemm":
        return 2 * result * math.prod(ins[0]) // max(1, outs[0][0])
    return 0
