"""Pickles: data is read, and no code in a pickle is run."""

import contextlib
import functools
import os
import pickle
import struct
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.errors import WeightsError


class Call:
    """An object that is pickled as a function call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def armed_files(canary: str) -> dict[str, bytes]:
    """Pickles that create the file ``canary`` when an ordinary unpickler reads them."""
    touch, python = f"touch {canary}", f"open({canary!r}, 'w').close()"
    array = np.ones(3, np.float32)
    system = Call(os.system, touch)
    mapped = b"cbuiltins\nmap\n(cos\nsystem\n]" + text(touch) + b"atR"
    files: dict[str, object] = {
        "system": system,
        "subprocess": Call(subprocess.call, ["touch", canary]),
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "open": Call(open, canary, "w"),
        "partial": Call(functools.partial(os.system, touch)),
        "numpy.save": Call(np.save, canary, array),
        "ndarray.tofile": Call(np.ndarray.tofile, array, canary),
        "pickle in a pickle": Call(pickle.loads, pickle.dumps(system)),
        "among arrays": {"w": array, "deep": [{"x": (1, system)}], "v": array},
        "name of a tensor": {"w": (system, array)},
        "key": {system: array},
        "object array": {"w": np.array([system, 1], dtype=object)},
        "tensor of early versions": {"w": Call(eval, "data", {"data": system})},
    }
    opcodes = {
        "getattr chain": call(
            "builtins", "getattr", call("importlib", "import_module", text("os")), text("system")
        )
        + b"("
        + text(touch)
        + b"tR.",
        "methodcaller": call("operator", "methodcaller", text("system"), text(touch))
        + b"("
        + call("builtins", "__import__", text("os"))
        + b"tR.",
        "numpy.f2py": call("numpy.f2py.crackfortran", "myeval", text(python)) + b".",
        "INST": b"(" + text(touch) + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text(touch) + b"o.",
        "NEWOBJ": b"\x80\x02cbuiltins\nlist\ncbuiltins\nmap\ncos\nsystem\n]"
        + text(touch)
        + b"a\x86\x81\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text(touch) + b"\x85R.",
        "STACK_GLOBAL with dots": b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93"
        + text(python)
        + b"\x85R.",
        "BUILD with __setstate__": b"cfunctools\npartial\n(cbuiltins\nprint\ntR(cos\nsystem\n("
        + text(touch)
        + b"t}Ntb)R.",
        "copyreg": call("copyreg", "_reconstructor", b"cbuiltins\nlist\n", b"cbuiltins\nlist\n", mapped)
        + b".",
        "allowed function of a map": call("builtins", "tuple", mapped) + b".",
    }
    dumped = {
        f"{name}, protocol {p}": pickle.dumps(value, p) for name, value in files.items() for p in (0, 2, 4)
    }
    return {**dumped, **opcodes}


@pytest.mark.parametrize("name", armed_files(""))
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary.npy"
    content = armed_files(str(canary))[name]
    path = tmp_path / "w.pdparams"
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"(asks for [\w.]+|type 'O8'), which no weight file needs.*can run code"
    ):
        read_weights(path)
    assert not canary.exists()
    # An ordinary unpickler does run the code, so the assertion above can fail.
    with contextlib.suppress(Exception):
        pickle.loads(content)
    assert canary.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"cnumpy\ncore.sys.modules\n.", "core.sys.modules"),
        (b"\x80\x04" + text("numpy") + text("ndarray.__class__") + b"\x93)R.", "numpy.ndarray.__class__"),
        (b"cpaddlex_seg.checkpoints.weights\nos\n.", "paddlex_seg.checkpoints.weights.os"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "torch._utils._rebuild_tensor_v2"),
        (b"\x80\x02\x82\x01.", "extension code"),
        (b"Vsomewhere\nP.", "persistent"),
        (b"cnumpy\ndtype\n}Vnumpy\nVother\nsb.", "change a function"),
        (b"cbuiltins\ntuple\n(N}V_function\nVother\nstb.", "change a function"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "not a type|NEWOBJ"),
    ],
    ids=[
        "sys",
        "dots",
        "own module",
        "torch",
        "extension",
        "persistent id",
        "BUILD",
        "BUILD slots",
        "NEWOBJ",
    ],
)
def test_other_ways_out_of_the_reader_are_closed(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        read_weights(path)
    path.write_bytes(pickle.dumps({"w": np.ones(2, np.float32)}))
    assert read_weights(path)["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "array",
    [np.array([1, "a"], dtype=object), np.zeros(2, [("a", "f4")]), np.array(["a"]), np.array([1], "M8[s]")],
    ids=["object", "struct", "text", "date"],
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": array}))
    with pytest.raises(WeightsError, match="holds an array of type.*not loaded"):
        read_weights(path)


def python_2_pickle(dtype: str, dtype_flags: bytes, raw: bytes) -> bytes:
    """A dict with one array "w" of two values, as Python 2 wrote it."""
    size = bytes([len(raw)])
    return (
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02" + dtype.encode() + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK" + dtype_flags + b"tb\x89U" + size + raw + b"tbs."
    )


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"], ids=["binary", "text"])
def test_a_number_of_an_object_reserves_no_memory(tmp_path: Path, put: bytes) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"\x80\x02}" + put + b".")
    tracemalloc.start()
    with pytest.raises(WeightsError, match="object 3 has the number 2147483647"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_file_that_contains_itself_is_read(tmp_path: Path) -> None:
    content: dict = {"w": np.zeros(2, np.float32)}
    content["model"] = content
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(content))
    assert list(read_weights(tmp_path / "w.pdparams")) == ["w"]


def test_files_written_by_python_2_are_read(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0], dtype=np.float32)
    path = tmp_path / "w.pdparams"
    path.write_bytes(python_2_pickle("f4", b"\x00", values.tobytes()))
    np.testing.assert_array_equal(read_weights(path)["w"], values)


@pytest.mark.parametrize("flags", [b"\x00", b"\x3f"], ids=["none", "all"])
def test_bytes_never_become_addresses(tmp_path: Path, flags: bytes) -> None:
    """NumPy trusts the dtype flags in a file, which can declare raw bytes to be Python objects."""
    path = tmp_path / "w.pdparams"
    path.write_bytes(python_2_pickle("O8", flags, b"A" * 16))
    with pytest.raises(WeightsError, match="holds an array of type 'O8'"):
        read_weights(path)
    path.write_bytes(python_2_pickle("i8", flags, b"A" * 16))
    found = read_weights(path)["w"]
    assert (found.dtype, found.dtype.flags, found.tobytes()) == (
        np.int64,
        np.dtype(np.int64).flags,
        b"A" * 16,
    )
