"""Loads ``network.onnx`` with ONNX Runtime, on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.onnx_network import LoadedOnnx, last_line
from paddlex_seg.runtime.environment import stop_telemetry
from paddlex_seg.structures import Precision

_ERRORS_ONLY = 3  # of ONNX Runtime's levels of log messages


def load_onnxruntime(file: Path, precision: Precision) -> LoadedOnnx:
    """Load a file. Raises BackendError when it is damaged, or for a precision that is not offered."""
    stop_telemetry()
    import onnxruntime

    if precision == "bf16":
        raise BackendError(
            "Predict.precision is bf16, which ONNX Runtime does not offer on a CPU. Use "
            "Predict.backend=openvino, or Predict.precision=f32."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many types, which have only Exception in common
        raise BackendError(
            f"{file}: ONNX Runtime {onnxruntime.__version__} cannot load it ({last_line(error)}). The file "
            "is damaged, or this version is too old for it. Export the model again, or install "
            "onnxruntime>=1.20."
        ) from error

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> Sequence[NDArray]:
        try:
            return session.run(None, dict(inputs))
        except Exception as error:
            raise BackendError(f"ONNX Runtime could not run {file}: {last_line(error)}") from error

    return LoadedOnnx({one.name for one in session.get_inputs()}, len(session.get_outputs()), run)
