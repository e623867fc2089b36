"""Reads ``inference.pdiparams`` without Paddle's native code: the parameters of an exported graph.

The file is a sequence of tensors without names, sorted by the names that the graph gives them. A tensor is a
version (uint32, 0), a count of levels (uint64, 0), a version (uint32, 0), the length of a description
(int32), the description as protobuf (data type and shape), and the values.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.graph_file import ADVICE, GraphFile, Shape

HEAD = struct.Struct("<IQIi")
# Paddle's number of a data type -> NumPy's type. 22 is bfloat16, which NumPy does not have.
TYPES = {0: "?", 1: "i2", 2: "i4", 3: "i8", 4: "f2", 5: "f4", 6: "f8", 20: "u1", 21: "i1", 22: "u2"}
TYPES |= {23: "c8", 24: "c16"}
BFLOAT16 = 22


def read_parameters(path: Path, graph: GraphFile) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values of each parameter of a file that `check_parameters` accepts or whose SHA-256 fits.

    bfloat16 is uint16.
    """
    for (name, _), (shape, kind, raw) in zip(graph.parameters, _tensors(path), strict=True):
        yield name, np.frombuffer(raw, _type(kind)).reshape(shape)


def check_parameters(path: Path, graph: GraphFile, graph_name: str) -> None:
    """Raise BackendError unless a file has exactly the parameters of ``graph``, without NaN.

    Infinity is allowed: official graphs of Mask-RT-DETR have it in their anchors.
    """
    expected = graph.parameters
    found: list[Shape] = []
    try:
        for (name, _), (shape, kind, raw) in zip(_padded(expected), _tensors(path), strict=False):
            found.append(shape)
            if num_bad := _count_nan(raw, kind):
                raise BackendError(
                    f"{path}: {num_bad} of {math.prod(shape)} values of the parameter {name} are NaN. "
                    "Export other weights."
                )
    except (ValueError, struct.error) as problem:
        raise BackendError(
            f"{path} ({path.stat().st_size} bytes) is cut, damaged or no parameter file of Paddle: "
            f"{problem}. {ADVICE}"
        ) from problem
    except OSError as error:
        raise BackendError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if difference := _difference(found, expected):
        raise BackendError(
            f"{path} does not belong to {graph_name}: {difference}. The files are from different exports. "
            f"{ADVICE}"
        )


def _padded(parameters: tuple[tuple[str, Shape], ...]) -> Iterator[tuple[str, Shape]]:
    yield from parameters
    while True:
        yield "without name", ()


def _difference(found: list[Shape], expected: tuple[tuple[str, Shape], ...]) -> str:
    if len(found) != len(expected):
        return f"it has {len(found)} tensors, and the graph needs {len(expected)}"
    for shape, (name, needed) in zip(found, expected, strict=True):
        if shape != needed:
            return f"it has {list(shape)} for the parameter {name}, and the graph needs {list(needed)}"
    return ""


def _tensors(path: Path) -> Iterator[tuple[Shape, int, NDArray[np.uint8]]]:
    """Shape, data type and bytes of each tensor. The bytes are read where they are used."""
    size = path.stat().st_size
    content: NDArray[Any] = np.memmap(path, np.uint8, mode="r") if size else np.empty(0, np.uint8)
    start = 0
    while start < size:
        version, levels, tensor_version, length = HEAD.unpack(content[start : start + HEAD.size].tobytes())
        if (version, levels, tensor_version) != (0, 0, 0) or not 0 < length <= 1024:
            raise ValueError(f"no tensor begins at byte {start}")
        start += HEAD.size
        kind, shape = _describe(content[start : start + length].tobytes())
        start += length
        num_bytes = _type(kind).itemsize * math.prod(shape)
        if start + num_bytes > size:
            raise ValueError(f"the tensor of shape {list(shape)} at byte {start} needs {num_bytes} bytes")
        yield shape, kind, content[start : start + num_bytes]
        start += num_bytes


def _type(kind: int) -> np.dtype[Any]:
    return np.dtype(TYPES[kind])


def _describe(description: bytes) -> tuple[int, Shape]:
    """Data type and shape of a tensor, from the protobuf message ``TensorDesc`` of two fields of numbers."""
    kind, shape = -1, []
    numbers = _varints(description)
    for tag in numbers:
        if tag == 1 << 3:
            kind = next(numbers, -1)
        elif tag == 2 << 3:
            shape.append(next(numbers, -1))
        else:
            raise ValueError(f"a tensor has a description that starts with {description[:8].hex()}")
    if kind not in TYPES or not all(0 <= side < 2**31 for side in shape):
        raise ValueError(f"a tensor has data type {kind} and shape {shape}")
    return kind, tuple(shape)


def _varints(data: bytes) -> Iterator[int]:
    value, shift = 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value, shift = 0, 0
    if shift:
        raise ValueError("the description of a tensor is cut")


def _count_nan(raw: NDArray[np.uint8], kind: int) -> int:
    values = np.frombuffer(raw, TYPES[kind])
    if kind == BFLOAT16:
        return int((values & 0x7FFF > 0x7F80).sum())  # all bits of the exponent, and others
    if values.dtype.kind not in "fc":
        return 0
    return int(np.isnan(values).sum())
