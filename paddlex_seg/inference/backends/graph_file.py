"""What the file of an exported graph says, read without Paddle's native code.

``inference.json`` and ``network.json`` are Paddle 3's format, ``inference.pdmodel`` is a protobuf message of
earlier versions.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlex_seg.errors import BackendError

ADVICE = "Copy all files of one exported folder, or export the model into another folder."
Shape = tuple[int, ...]  # -1 where the size is not fixed


@dataclass(frozen=True)
class Operator:
    """An operator of a graph: its name without dialect, and the shapes of its inputs and outputs."""

    name: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)  # only of files of Paddle 3


@dataclass(frozen=True)
class GraphFile:
    """The content of a graph file, as far as it must agree with the other files of an exported folder."""

    parameters: tuple[tuple[str, Shape], ...]  # name and shape, in the order of the parameter file
    inputs: Mapping[str, Shape]
    operators: tuple[Operator, ...]


def read_graph(path: Path) -> GraphFile:
    """Read an ``inference.json``, ``network.json`` or ``inference.pdmodel``.

    Raises BackendError when the file is none, cut or damaged.
    """
    read = _read_json if path.suffix == ".json" else _read_protobuf
    try:
        graph = read(path.read_bytes())
    except OSError as error:
        raise BackendError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # whatever other bytes cause: no JSON, no protobuf, wrong types, missing keys
        raise BackendError(
            f"{path} ({path.stat().st_size} bytes) is no graph of Paddle, or it is damaged "
            f"({type(error).__name__}: {str(error)[:200]}). {ADVICE}"
        ) from error
    if not graph.operators:
        raise BackendError(f"{path}: the graph has no operators. {ADVICE}")
    return graph


def class_counts(graph: GraphFile, arch: str) -> set[int]:
    """The numbers of classes that a graph can have. Empty when its operators do not tell.

    arch: as in ``inference.yml``.
    """
    if arch == "RCNN":  # class scores and background [N, classes + 1]
        return {shape[1] - 1 for shape in _outputs(graph, "softmax", 2) if shape[1] > 1}
    if arch == "PPYOLOE":  # the scores that NMS receives are [B, classes, N]
        nms = [one for one in graph.operators if re.match(r"multiclass_nms\d?$", one.name)]
        return {one.inputs[1][1] for one in nms if len(one.inputs) > 1 and len(one.inputs[1]) == 3} - {-1}
    if arch == "SOLOv2":  # class scores [B, classes, grid, grid]
        return {shape[1] for shape in _outputs(graph, "sigmoid", 4) if shape[1] > 0 and shape[2] == shape[3]}
    if arch == "DETR":  # class scores [B, queries, classes], but also boxes [B, queries, 4]
        last = {shape[2] for shape in _outputs(graph, "sigmoid", 3) if shape[1] > 0 and shape[2] > 0}
        return last - {4} or last
    return set()


def _outputs(graph: GraphFile, name: str, num_axes: int) -> Iterator[Shape]:
    for operator in graph.operators:
        if operator.name == name:
            yield from (shape for shape in operator.outputs if len(shape) == num_axes)


def _read_json(content: bytes) -> GraphFile:
    document = json.loads(content)
    if document["base_code"]["magic"] != "pir":
        raise ValueError("it was not written by Paddle 3")
    records = [
        one for region in document["program"]["regions"] for block in region["blocks"] for one in block["ops"]
    ]
    shapes: dict[int, Shape] = {}
    parameters, inputs, operators = [], {}, []
    for record in records:
        made = record.get("O", [])
        outputs = [_remember(shapes, one) for one in (made if isinstance(made, list) else [made])]
        if record["#"] == "p":
            parameters.append((str(record["A"][3]), outputs[0]))
            continue
        name = str(record["#"]).partition(".")[2]
        attributes = {one["N"]: one["AT"].get("D") for one in record["A"]}
        if name == "data":
            inputs[str(attributes["name"])] = outputs[0]
        used = tuple(shapes.get(one["%"], ()) for one in record.get("I", []))
        operators.append(Operator(name, used, tuple(outputs), attributes))
        operators += [Operator(inner, (), ()) for inner in _inner_operators(record)]
    return GraphFile(tuple(sorted(parameters)), inputs, tuple(operators))


def _inner_operators(record: Mapping[str, Any]) -> Iterator[str]:
    """The names of the operators in the branches and loops of an operator."""
    waiting = [record]
    while waiting:
        for region in waiting.pop().get("regions", []):
            for block in region["blocks"]:
                for one in block["ops"]:
                    yield str(one["#"]).partition(".")[2]
                    waiting.append(one)


def _remember(shapes: dict[int, Shape], value: Mapping[str, Any]) -> Shape:
    kind = value["TT"]
    shape = kind["D"][1] if str(kind["#"]).endswith("t_dtensor") else ()
    shapes[value["%"]] = tuple(map(int, shape))
    return shapes[value["%"]]


def _read_protobuf(content: bytes) -> GraphFile:
    from paddle.base.proto import framework_pb2

    program = framework_pb2.ProgramDesc()
    program.ParseFromString(content)
    variables = [one for block in program.blocks for one in block.vars]
    shapes = {one.name: tuple(one.type.dense_tensor.tensor.dims) for one in variables}
    loaded = {one.name for one in variables if one.persistable and one.name not in ("feed", "fetch")}
    operators = [
        Operator(
            one.type,
            tuple(shapes.get(name, ()) for slot in one.inputs for name in slot.arguments),
            tuple(shapes.get(name, ()) for slot in one.outputs for name in slot.arguments),
        )
        for block in program.blocks
        for one in block.ops
    ]
    fed = [
        name
        for block in program.blocks
        for one in block.ops
        if one.type == "feed"
        for slot in one.outputs
        for name in slot.arguments
    ]
    return GraphFile(
        tuple((name, shapes[name]) for name in sorted(loaded)),
        {name: shapes[name] for name in fed},
        tuple(operators),
    )
