"""A pickle reader that runs nothing: it knows only containers, numbers, text and NumPy arrays of numbers.

A pickle can call any function it names. Here no class or function of another module is ever reachable from a
file, not even NumPy's own, whose ``dtype`` can be made to treat bytes as addresses: the reader builds the
arrays itself.
"""

import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray


def read_pickle(file: IO[bytes]) -> Any:
    """The content of a pickle of Python 2 or 3; arrays come as `PickledArray`.

    Raises RefusedError when the file asks for anything but data. Bytes that are no pickle raise errors of
    many classes.
    """
    return _DataUnpickler(file, encoding="latin1").load()  # old files are of Python 2


class RefusedError(Exception):
    """A pickle wants something that no weight file needs."""


class PickledArray:
    """Stands for numpy.ndarray while a file is read; ``array`` is None until its values have come."""

    __slots__ = ("array",)

    def __init__(self, *_arguments: Any) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, raw = state[-4:]  # a version number may stand in front
        self.array = _decode(raw, dtype, shape, "F" if is_fortran else "C")


class _DataUnpickler(pickle.Unpickler):
    """Unpickles data, and refuses every name that is not in DATA_FUNCTIONS."""

    def find_class(self, module: str, name: str) -> Any:
        function = DATA_FUNCTIONS.get((module, name))
        if function is None:
            raise RefusedError(f"asks for {module}.{name}")
        return function


class _DataFunction:
    """What a pickle gets for a name: it can call it, but neither look into it nor change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("tries to change a function")


class _Dtype:
    """Stands for numpy.dtype while a file is read: a type of numbers, and nothing of dtype's other powers."""

    __slots__ = ("numpy",)

    def __init__(self, code: str, *_flags: Any) -> None:
        self.numpy = np.dtype(code)
        if self.numpy.kind not in "biufc":
            raise RefusedError(f"holds an array of type {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(">" if state[1] == ">" else "<")


def _decode(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
    """The array over the bytes themselves, without a copy where the byte order is this machine's."""
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
    """How pickle writes bytes for Python 2."""
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
