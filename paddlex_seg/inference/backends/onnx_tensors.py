"""Reads the constants of an ONNX file without the package ``onnx``: the parameters of a converted network.

An ONNX file is a protobuf message. Only the fields that lead to tensors are read: initializers of the graph,
and the values of its nodes ``Constant``, which paddle2onnx writes. See onnx.proto of github.com/onnx/onnx.
"""

from collections.abc import Iterator
from pathlib import Path

from paddlex_seg.errors import BackendError

Field = tuple[int, "memoryview | int"]  # number, and its content: bytes or a number
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR = 5, 5
_TENSOR_FLOATS, _TENSOR_RAW, _TENSOR_DOUBLES = 4, 9, 10


def constant_bytes(path: Path) -> Iterator[memoryview]:
    """The bytes of each tensor of floats in an ONNX file, little-endian; the order of the file.

    Raises BackendError when the file is damaged or no ONNX file.
    """
    try:
        for graph in _messages(memoryview(path.read_bytes()), _MODEL_GRAPH):
            for number, content in _fields(graph):
                if number == _GRAPH_INITIALIZER:
                    yield from _values(content)
                elif number == _GRAPH_NODE:
                    for attribute in _messages(content, _NODE_ATTRIBUTE):
                        for tensor in _messages(attribute, _ATTRIBUTE_TENSOR):
                            yield from _values(tensor)
    except (ValueError, IndexError) as problem:
        raise BackendError(
            f"{path} is damaged, or no ONNX file ({problem}). Convert the model again."
        ) from None


def _values(tensor: "memoryview | int") -> Iterator[memoryview]:
    for number, content in _fields(tensor):
        if number in (_TENSOR_FLOATS, _TENSOR_RAW, _TENSOR_DOUBLES) and isinstance(content, memoryview):
            yield content


def _messages(message: "memoryview | int", wanted: int) -> Iterator[memoryview]:
    for number, content in _fields(message):
        if number == wanted and isinstance(content, memoryview):
            yield content


def _fields(message: "memoryview | int") -> Iterator[Field]:
    """The fields of a protobuf message. Raises ValueError or IndexError when it is none."""
    if isinstance(message, int):
        raise ValueError("a number where a message belongs")
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + length > len(message):
            raise ValueError("it is cut")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
