"""The constants of an ONNX file, read without the package onnx. The file is made by hand."""

import struct
from pathlib import Path

import pytest

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.onnx_tensors import constant_bytes

VALUES = struct.pack("<3f", 1.5, -2.0, 300.0)
OTHERS = struct.pack("<2f", 7.0, 8.0)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def onnx_file() -> bytes:
    initializer = number(1, 3) + number(2, 1) + message(9, VALUES) + message(8, b"a name")
    value = number(1, 2) + number(2, 1) + message(4, OTHERS)
    constant = message(4, b"Constant") + message(5, message(1, b"value") + message(5, value) + number(20, 4))
    unread = varint(9 << 3 | 5) + b"1234" + varint(10 << 3 | 1) + b"12345678"
    graph = message(1, constant) + message(1, message(4, b"Relu" * 80)) + message(5, initializer) + unread
    return number(1, 8) + message(2, b"made by hand") + message(7, graph)


def test_initializers_and_constants_are_read(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_file())
    assert [bytes(one) for one in constant_bytes(path)] == [OTHERS, VALUES]


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "network.onnx", onnx_file()
    path.write_bytes(content[:-5])
    with pytest.raises(BackendError, match="is damaged, or no ONNX file"):
        list(constant_bytes(path))
