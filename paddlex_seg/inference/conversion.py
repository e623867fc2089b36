"""Converts ``network.json`` to ``network.onnx``, with the package paddle2onnx.

The converter runs in a process of its own: on a graph that it does not know it aborts, which would end a
training or a service, and it needs an older ``onnx`` than others may have loaded. Official graphs
(``inference.json``) are such graphs.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddlex_seg.errors import BackendError
from paddlex_seg.files.atomic import new_file
from paddlex_seg.inference.backends.exported_files import OURS
from paddlex_seg.inference.backends.graph_file import Operator, read_graph

OPSET = 16
LOWEST_OPSET = 13  # the lowest one that has all operators of the networks
_COORDINATES = "coordinate_transformation_mode"  # of RoiAlign
_FIRST_WITH_COORDINATES = 16  # opset
_NEVER = -1e30  # a score below each threshold; not infinite, as in ops/nms.py
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
    # The converter takes a higher opset where it must.
    if max(one.version for one in model.opset_import) >= _FIRST_WITH_COORDINATES:
        _mend_roi_align(model.graph)
    suppressions = [one for one in read_graph(Path(graph)).operators if re.match("multiclass_nms", one.name)]
    _mend_suppression(model.graph, suppressions)
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


def _mend_suppression(graph: Any, originals: Sequence[Operator]) -> None:
    """Give each NonMaxSuppression of an ONNX graph the two limits of the operator of Paddle that it was.

    Paddle looks at the best ``nms_top_k`` boxes of each class. The converter keeps as many after the
    suppression, which finds more where many boxes overlap, and takes ONNX Runtime ten times as long when all
    classes fire. Of each class, no more boxes are needed than ``keep_top_k`` of the image.
    """
    from onnx import TensorProto
    from onnx.helper import make_node, make_tensor

    nodes = [node for node in graph.node if node.op_type == "NonMaxSuppression"]
    for number, (node, original) in enumerate(zip(nodes, originals, strict=True)):
        name, scores = f"suppression.{number}", node.input[1]
        num_boxes = original.inputs[1][2]  # -1 where the boxes are those of an image, as in the R-CNNs
        looked_at, kept = original.attributes["nms_top_k"], original.attributes["keep_top_k"]
        if kept > 0:
            most = make_tensor(f"{name}.kept", TensorProto.INT64, [1], [min(looked_at, kept)])
            graph.initializer.append(most)
            node.input[2] = most.name
        if not 0 < looked_at < num_boxes:
            continue
        graph.initializer.append(make_tensor(f"{name}.looked_at", TensorProto.INT64, [1], [looked_at]))
        graph.initializer.append(make_tensor(f"{name}.last", TensorProto.INT64, [1], [looked_at - 1]))
        graph.initializer.append(make_tensor(f"{name}.never", TensorProto.FLOAT, [], [_NEVER]))
        node.input[1] = f"{name}.scores"
        place = list(graph.node).index(node)
        new = [
            make_node("TopK", [scores, f"{name}.looked_at"], [f"{name}.best", f"{name}.where"], axis=2),
            make_node("Gather", [f"{name}.best", f"{name}.last"], [f"{name}.least"], axis=2),
            make_node("GreaterOrEqual", [scores, f"{name}.least"], [f"{name}.is_best"]),
            make_node("Where", [f"{name}.is_best", scores, f"{name}.never"], [f"{name}.scores"]),
        ]
        for offset, one in enumerate(new):
            graph.node.insert(place + offset, one)
