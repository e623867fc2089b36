"""Makes the network for small devices: one image of one size, few kinds of operators.

Phones and browsers compile a graph once, for fixed shapes. The suppression of boxes stays in the graph:
``NonMaxSuppression`` is an operator of ONNX that ONNX Runtime has on every platform, so no other code has to
select detections. See docs/edge.md.
"""

import logging
from pathlib import Path
from typing import Any

from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.files.atomic import new_files
from paddlex_seg.files.written import claimed
from paddlex_seg.inference import certificate
from paddlex_seg.inference.backends.exported_files import ONNX
from paddlex_seg.inference.backends.open import load_onnx
from paddlex_seg.inference.certificate import Entry, add_entries, read_certificate
from paddlex_seg.inference.certify import DESCRIPTION, certify, require_passed
from paddlex_seg.inference.conversion import convert_network
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.onnx_proof import reference_of
from paddlex_seg.runtime.environment import stop_telemetry

LOGGER = logging.getLogger(__name__)
EDGE = "network_edge.onnx"
OPSET = 13  # the newest of the small packages of ONNX Runtime for phones
EDGE_MODELS = ("PP-YOLOE_seg-S",)
PACKAGES = ("onnxruntime", "onnx")


def require_offered(model_name: str) -> None:
    """Raise ConfigError unless this toolkit offers a network for small devices of a model."""
    if model_name not in EDGE_MODELS:
        raise ConfigError(
            f"Export.edge is set, and Global.model is {model_name}. Networks for small devices are offered "
            f"for {' and '.join(EDGE_MODELS)} only, the smallest of the models. Set Export.edge=False."
        )


def publish_edge(model_dir: Path) -> Entry:
    """Write `EDGE` and its certificate into an exported folder, all or nothing.

    Returns its entry, of ONNX Runtime. Raises CertificateError when it gives something else than the model.
    """
    spec = read_inference_yml(model_dir / DESCRIPTION)
    expected, inputs = reference_of(model_dir)
    with claimed(model_dir, (EDGE, certificate.FILE)), new_files(model_dir) as temporary:
        convert_network(model_dir, temporary / ONNX, OPSET)
        write_edge_network(temporary / ONNX, temporary / EDGE)
        (temporary / ONNX).unlink()
        backend = load_onnx(temporary / EDGE, spec, "onnxruntime")
        files = [temporary / EDGE, model_dir / DESCRIPTION]
        entry = certify(backend, spec, expected, inputs, name="onnxruntime", files=files)
        require_passed([entry], model_dir)
        add_entries(temporary, [entry], earlier=read_certificate(model_dir))
    LOGGER.info("Certificate: %s with onnxruntime %s, %.1f s.", EDGE, entry.verdict, entry.seconds)
    return entry


def write_edge_network(source: Path, target: Path) -> None:
    """Write the network of an ONNX file for one image, with constants computed and batch norms merged.

    source: a converted network with a fixed height and width; target: has only operators of ONNX itself.
    Raises BackendError when a side of the image is not fixed, or ONNX Runtime cannot run the network.
    """
    stop_telemetry()
    import onnx
    import onnxruntime

    model = onnx.load(str(source))
    for one in model.graph.input:
        sides = one.type.tensor_type.shape.dim
        sides[0].dim_value = 1
        if not all(side.dim_value for side in sides):
            raise BackendError(
                f"{source}: the input {one.name} has no fixed size; an edge network needs one."
            )
    _replace_hard_sigmoid(model.graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    # Basic: what gives standard operators. More would give those that only this machine's processor has.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many types, which have only Exception in common
        raise BackendError(f"{source}: ONNX Runtime cannot write an edge network of it ({error}).") from error
    written = onnx.load(str(target))
    domains = {node.domain for node in written.graph.node}
    if foreign := domains - {"", "ai.onnx"}:
        raise BackendError(
            f"{source}: ONNX Runtime {onnxruntime.__version__} wrote operators of its own "
            f"({', '.join(sorted(foreign))}) into the edge network, which other runtimes do not have. "
            "Install another version of onnxruntime."
        )
    used = [one for one in written.opset_import if one.domain in ("", "ai.onnx")]
    del written.opset_import[:]
    written.opset_import.extend(used)  # ONNX Runtime lists all domains that it knows
    # ONNX Runtime's quantizer asks for this graph preparation, and looks for this mark.
    written.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    target.write_bytes(written.SerializeToString(deterministic=True))


def _replace_hard_sigmoid(graph: Any) -> None:
    """Put clip(alpha * x + beta, 0, 1) in place of each HardSigmoid, which small packages do not have."""
    from onnx import TensorProto
    from onnx.helper import make_node, make_tensor

    for number, node in enumerate([node for node in graph.node if node.op_type == "HardSigmoid"]):
        factors = {"alpha": 0.2, "beta": 0.5} | {one.name: one.f for one in node.attribute}
        name = f"hard_sigmoid.{number}"
        for key, value in (*factors.items(), ("low", 0.0), ("high", 1.0)):
            graph.initializer.append(make_tensor(f"{name}.{key}", TensorProto.FLOAT, [], [value]))
        new = [
            make_node("Mul", [node.input[0], f"{name}.alpha"], [f"{name}.scaled"], f"{name}.mul"),
            make_node("Add", [f"{name}.scaled", f"{name}.beta"], [f"{name}.moved"], f"{name}.add"),
            make_node("Clip", [f"{name}.moved", f"{name}.low", f"{name}.high"], node.output, f"{name}.clip"),
        ]
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, one in enumerate(new):
            graph.node.insert(place + offset, one)
