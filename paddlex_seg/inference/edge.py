"""Makes the network for small devices: one image of one size, without operators that compute shapes.

Phones and browsers compile a graph once, for fixed shapes. The suppression of boxes stays in the graph:
`NonMaxSuppression` is an operator of ONNX that ONNX Runtime has on every platform, so no other code has to
select detections. See docs/edge.md.
"""

from pathlib import Path

from paddlex_seg.errors import BackendError, ConfigError

EDGE_MODELS = ("PP-YOLOE_seg-S",)
PACKAGES = ("onnxruntime", "onnx")


def require_offered(model_name: str) -> None:
    """Raise ConfigError unless this toolkit offers a network for small devices of a model."""
    if model_name not in EDGE_MODELS:
        raise ConfigError(
            f"Export.edge is set, and Global.model is {model_name}. Networks for small devices are offered "
            f"for {' and '.join(EDGE_MODELS)} only, the smallest of the models. Set Export.edge=False."
        )


def write_edge_network(source: Path, target: Path) -> None:
    """Write the network of an ONNX file for one image, with constants computed and batch norms merged.

    source: ``network.onnx`` with a fixed height and width; target: has only operators of ONNX itself. Raises
    BackendError when a side of the image is not fixed, or ONNX Runtime cannot run the network.
    """
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
