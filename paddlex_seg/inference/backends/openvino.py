"""Loads ``network.onnx`` with OpenVINO, on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.onnx_network import LoadedOnnx, last_line
from paddlex_seg.inference.backends.openvino_convolutions import join_branches, join_upsampling
from paddlex_seg.runtime.environment import writable_home
from paddlex_seg.structures import Precision

# The precision of operators that a file leaves open. Those of a file with 8 bits keep theirs.
_HINTS: Mapping[Precision, str] = {"f32": "f32", "bf16": "bf16", "int8": "f32"}


def load_openvino(file: Path, precision: Precision) -> LoadedOnnx:
    """Load a file. Raises BackendError when it is damaged, or for a precision that this CPU does not have."""
    with writable_home():  # its import fails for a user without a home
        import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError(
            "Predict.precision is bf16, but this CPU has no instructions for it, so that it would be slower "
            "than f32. Use Predict.precision=f32."
        )
    try:
        model = core.read_model(str(file))
        join_branches(model)
        join_upsampling(model)
        model.reshape(_shapes_of_one_image(model))
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],  # else bf16 is used where the CPU has it
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": num_usable_cores(),
            },
        )
    except RuntimeError as error:
        raise BackendError(
            f"{file}: OpenVINO {openvino.__version__.partition('-')[0]} cannot load it ({last_line(error)}). "
            "The file is damaged, or this version is too old for it. Export the model again, or install "
            "openvino>=2025.0."
        ) from error
    request = compiled.create_infer_request()

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> Sequence[NDArray]:
        try:
            request.infer(dict(inputs), share_inputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO could not run {file}: {last_line(error)}") from error
        # Copies, because the next run fills the same buffers.
        return [np.array(request.get_output_tensor(index).data) for index in range(len(compiled.outputs))]

    return LoadedOnnx({one.any_name for one in compiled.inputs}, len(compiled.outputs), run)


def _shapes_of_one_image(model: Any) -> dict[str, Any]:
    """The shapes of the inputs with a batch of 1; OpenVINO rejects PP-YOLOE_seg with a batch of any size."""
    shapes = {}
    for one in model.inputs:
        shape = one.get_partial_shape()
        shape[0] = 1
        shapes[one.any_name] = shape
    return shapes
