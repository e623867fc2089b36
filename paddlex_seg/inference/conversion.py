"""Converts ``network.json`` to ``network.onnx``, with the package paddle2onnx.

The converter runs in a process of its own: on a graph that it does not know it aborts, which would end a
training or a service, and it needs an older ``onnx`` than others may have loaded. Official graphs
(``inference.json``) are such graphs.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from paddlex_seg.errors import BackendError
from paddlex_seg.files.atomic import new_file
from paddlex_seg.inference.backends.exported_files import OURS

OPSET = 16
_COORDINATES = "coordinate_transformation_mode"  # of RoiAlign
_FIRST_WITH_COORDINATES = 16  # opset
TIMEOUT_SECONDS = 600.0
PACKAGE = "paddle2onnx"
NOT_INSTALLED = (
    "The converter is not installed: pip install paddle2onnx==2.1.0 (or install this package with its "
    "[convert] extra)."
)
# The process finds this package where the caller does, wherever that has its path from.
COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from paddlex_seg.inference.conversion import convert; convert(*sys.argv[2:])"
)


def can_convert() -> bool:
    """Whether the converter is installed. Does not load it."""
    return importlib.util.find_spec(PACKAGE) is not None


def convert_network(model_dir: Path, target: Path, opset: int = OPSET) -> None:
    """Write the network of an exported folder of this toolkit as ONNX file ``target``, whole or not at all.

    Raises BackendError when the converter is missing, refuses the network, crashes or does not end.
    """
    if not can_convert():
        raise BackendError(f"{target}: cannot be written. {NOT_INSTALLED}")
    graph = model_dir / OURS
    with new_file(target) as temporary:
        _run_converter(graph, model_dir / "inference.pdiparams", temporary, opset)


def _run_converter(graph: Path, params: Path, target: Path, opset: int) -> None:
    try:
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, json.dumps(sys.path)]
            + [str(graph), str(params), str(target), str(opset)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"{graph}: the conversion to ONNX took over {TIMEOUT_SECONDS:.0f} s. Nothing was written."
        ) from None
    if ended.returncode == 0 and target.is_file():
        return
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    how = f"was ended by signal {-ended.returncode}" if ended.returncode < 0 else "failed"
    raise BackendError(
        f"{graph}: the conversion to ONNX {how} ({lines[-1] if lines else 'without a message'}). "
        "Nothing was written. paddle2onnx 2.1.0 converts networks that Paddle 3.2.2 exported; the exported "
        "folder runs with Predict.backend=paddle as it is."
    )


def convert(graph: str, params: str, target: str, opset: str) -> None:
    """Convert, in the process of the converter."""
    import onnx
    import paddle2onnx

    content = paddle2onnx.export(graph, params, opset_version=int(opset), optimize_tool="none")
    model = onnx.load_from_string(content)
    if int(opset) >= _FIRST_WITH_COORDINATES:
        _mend_roi_align(model.graph)
    onnx.checker.check_model(model)
    Path(target).write_bytes(model.SerializeToString(deterministic=True))


def _mend_roi_align(graph: Any) -> None:
    """Say in each RoiAlign of an ONNX graph where the centre of a pixel is.

    The converter leaves the attribute out. Before opset 16 that means what Paddle computes with
    ``aligned=False``; from opset 16 on it means a shift by half a pixel, with wrong boxes and masks.
    """
    from onnx import helper

    for node in graph.node:
        if node.op_type == "RoiAlign" and all(one.name != _COORDINATES for one in node.attribute):
            node.attribute.append(helper.make_attribute(_COORDINATES, "output_half_pixel"))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _mend_roi_align(attribute.g)
