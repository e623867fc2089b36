"""A pickle reader that runs no code: it reads only containers, numbers, text and NumPy arrays of numbers.

A pickle can name any function and have it called. This reader gives a file no access to classes or functions
of other modules. It builds arrays itself and does not use NumPy's functions either, because a file can make
NumPy's ``dtype`` treat bytes as memory addresses.
"""

import os
import pickle
import pickletools
from collections.abc import Callable
from types import MappingProxyType
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

OPERATIONS = MappingProxyType(
    {operation.code.encode("latin1"): operation for operation in pickletools.opcodes}
)
# Number of bytes of the length that comes before data.
LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


def read_pickle(file: IO[bytes]) -> Any:
    """The content of a pickle of Python 2 or 3. Arrays are returned as `PickledArray`.

    Raises RefusedError when the file requires anything but data. Bytes that are no pickle can raise many
    other exceptions.
    """
    _require_small_memo(file)
    file.seek(0)
    return _DataUnpickler(file, encoding="latin1").load()  # for old files, written by Python 2


def _require_small_memo(file: IO[bytes]) -> None:
    """Raise ValueError when a pickle numbers an object higher than it has objects.

    The unpickler reserves memory up to that number, 16 GB for one changed bit.
    """
    num_read = 0
    while code := file.read(1):
        num_read += 1
        operation = OPERATIONS[code]
        argument = _read_argument(file, operation.arg.n if operation.arg else 0)
        if operation.name == "PUT":
            number = int(argument)
        elif operation.name in ("BINPUT", "LONG_BINPUT"):
            number = int.from_bytes(argument, "little")
        else:
            number = 0
            if operation.name in ("GLOBAL", "INST"):  # module and name are two lines
                file.readline()
        if number > num_read:
            raise ValueError(f"object {num_read} has the number {number}")
        if operation.name == "STOP":
            return


def _read_argument(file: IO[bytes], size: int) -> bytes:
    """The argument of an operation of ``size`` bytes, or one of the special sizes; empty for data."""
    if size >= 0:
        return file.read(size)
    if size == pickletools.UP_TO_NEWLINE:
        return file.readline()
    length = int.from_bytes(file.read(LENGTH_BYTES[size]), "little")
    file.seek(length, os.SEEK_CUR)
    return b""


class RefusedError(Exception):
    """A pickle requires something that no weight file needs."""


class PickledArray:
    """Replaces numpy.ndarray while a file is read. ``array`` is None until its values are read."""

    __slots__ = ("array",)

    def __init__(self, *_arguments: Any) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, raw = state[-4:]  # a version number may come first
        self.array = _decode(raw, dtype, shape, "F" if is_fortran else "C")


class _DataUnpickler(pickle.Unpickler):
    """Unpickles data, and refuses every name that is not in DATA_FUNCTIONS."""

    def find_class(self, module: str, name: str) -> Any:
        function = DATA_FUNCTIONS.get((module, name))
        if function is None:
            raise RefusedError(f"asks for {module}.{name}")
        return function


class _DataFunction:
    """A wrapper of a function that a pickle can call, but neither inspect nor change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("tries to change a function")


class _Dtype:
    """Replaces numpy.dtype while a file is read. Only plain number types are allowed."""

    __slots__ = ("numpy",)

    def __init__(self, code: str, *_flags: Any) -> None:
        self.numpy = np.dtype(code)
        if self.numpy.kind not in "biufc":
            raise RefusedError(f"holds an array of type {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(">" if state[1] == ">" else "<")


def _decode(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
    """The array over the given bytes, without a copy if the byte order is that of this machine."""
    data = raw.encode("latin1") if isinstance(raw, str) else raw  # text: written by Python 2
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise RefusedError("holds an array whose values are not plain numbers")
    array = np.frombuffer(data, dtype=dtype.numpy) if data else np.empty(0, dtype.numpy)
    array = array.reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _decode_buffer(
    buffer: Any, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]
) -> PickledArray:
    array = PickledArray()
    array.array = _decode(buffer, dtype, shape, order)
    return array


def _decode_number(dtype: _Dtype, raw: Any) -> Any:
    return _decode(raw, dtype, (), "C").item()


def _latin1_bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """Decode bytes as pickle writes them for Python 2."""
    if encoding != "latin1":
        raise RefusedError(f"holds bytes written as {encoding!r}")
    return text.encode("latin1")


def _data_functions() -> dict[tuple[str, str], _DataFunction]:
    functions: dict[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): dict,
        ("_codecs", "encode"): _latin1_bytes,
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): PickledArray,
    }
    for builtins in ("builtins", "__builtin__"):  # Python 3 and Python 2, which pickle's protocol 2 imitates
        for container in (tuple, list, dict, set):
            functions[builtins, container.__name__] = container
        functions[builtins, "bytes"] = _latin1_bytes
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
        functions[f"{core}.multiarray", "_reconstruct"] = PickledArray
        functions[f"{core}.multiarray", "scalar"] = _decode_number
        functions[f"{core}.numeric", "_frombuffer"] = _decode_buffer
    return {name: _DataFunction(function) for name, function in functions.items()}


DATA_FUNCTIONS = MappingProxyType(_data_functions())
