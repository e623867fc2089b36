"""Files are written by `files/` only. Every other place that writes is listed here with its reason."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import paddlex_seg

PACKAGE = Path(paddlex_seg.__file__).parent
INTO_TEMPORARY = "a native writer into a file or folder that files/ gave, or that goes with its folder"
APPENDED = "a log, which grows line by line"
MEMORY = "writes into memory"

# For each module: the calls that write, how often each occurs, and why it is allowed.
ALLOWED: dict[str, dict[str, tuple[int, str]]] = {
    "checkpoints/files.py": {"write_text": (1, INTO_TEMPORARY)},
    "checkpoints/weights.py": {"open": (1, INTO_TEMPORARY), ".save": (1, MEMORY)},
    "data/demo.py": {
        "write_text": (3, INTO_TEMPORARY),
        "write_bytes": (1, INTO_TEMPORARY),
        ".save": (2, MEMORY),
    },
    "data/formats/labelme/write.py": {"write_text": (1, INTO_TEMPORARY)},
    "data/formats/mask_png.py": {"write_text": (1, INTO_TEMPORARY), "write_bytes": (1, INTO_TEMPORARY)},
    "data/formats/target_files.py": {"write_text": (1, INTO_TEMPORARY)},
    "data/formats/yolo/write.py": {"write_text": (2, INTO_TEMPORARY)},
    "data/preparation/layouts.py": {
        "write_text": (1, INTO_TEMPORARY),
        "shutil.copytree": (1, INTO_TEMPORARY),
    },
    "export/graphs.py": {"jit.save": (1, INTO_TEMPORARY)},
    "inference/conversion.py": {"write_bytes": (1, INTO_TEMPORARY)},
    "inference/backends/onnx_operations.py": {
        "tempfile": (1, "a record of ONNX Runtime that is read once and goes with its folder")
    },
    "inference/edge.py": {"write_bytes": (1, INTO_TEMPORARY)},
    "inference/onnx_proof.py": {"shutil.copyfile": (1, INTO_TEMPORARY)},
    "inference/sources.py": {"tempfile": (1, "a download that is read once and goes with its folder")},
    "reports/chart_svg.py": {"savefig": (1, MEMORY)},
    "reports/images.py": {".save": (1, MEMORY)},
    "reports/training.py": {".save": (1, MEMORY)},
    "runtime/environment.py": {"tempfile": (2, "a home folder for Paddle's files, which goes at exit")},
    "runtime/log.py": {"FileIO": (1, APPENDED)},
    "runtime/supervisor.py": {"open": (1, "the standard error of a process")},
    "serving/images.py": {
        "write_bytes": (1, INTO_TEMPORARY),
        "tempfile": (1, "an image of a request that is read once and goes with its folder"),
    },
    "serving/urls.py": {"tempfile": (1, "a download that is read once and goes with its folder")},
    "streams.py": {"FileIO": (1, "standard output that was closed, now the null device")},
    "training/metrics_log.py": {"open": (2, APPENDED)},
    "training/output.py": {"os.replace": (2, "a folder of an earlier run gets another name")},
    "training/self_check.py": {"tempfile": (1, "an export that nobody reads and that goes with its folder")},
}
METHODS = {"write_text", "write_bytes", "imwrite", "savefig", "tofile", "rename", "save", "touch"}
FUNCTIONS = {
    *("os.replace", "os.rename", "os.link", "jit.save", "np.save", "np.savez", "np.savetxt", "paddle.save"),
    *("shutil.move", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree"),
}


def way_of_writing(call: ast.Call) -> str | None:
    """The way in which a call writes, such as ``os.replace``; None when it does not write."""
    function = call.func
    if isinstance(function, ast.Name):
        return "open" if function.id == "open" and opens_to_write(call, position=1) else None
    if not isinstance(function, ast.Attribute):
        return None
    owner = ast.unparse(function.value)
    whole = f"{owner.rpartition('.')[2]}.{function.attr}"
    if whole in FUNCTIONS:
        return whole
    if owner == "tempfile":
        return "tempfile"
    if function.attr in ("FileHandler", "FileIO"):
        return function.attr
    if function.attr in ("open", "fdopen"):
        position = 1 if owner in ("os", "io", "gzip") else 0
        return "open" if opens_to_write(call, position) else None
    if function.attr in METHODS:
        return f".{function.attr}" if function.attr in ("save", "rename") else function.attr
    return None


def opens_to_write(call: ast.Call, position: int) -> bool:
    """Whether a possible mode of the call is for writing."""
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[position:][:1]
    texts = [part.value for mode in modes for part in ast.walk(mode) if isinstance(part, ast.Constant)]
    return any(isinstance(text, str) and re.fullmatch("[rbt]*[wax+][rbtwax+]*", text) for text in texts)


def ways_in(source: str) -> Counter[str]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return Counter(way for way in map(way_of_writing, calls) if way is not None)


def test_each_place_that_writes_is_listed_with_its_reason() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        ways = ways_in(path.read_text(encoding="utf-8"))
        if ways and not name.startswith("files/"):
            found[name] = dict(ways)
    assert found == {name: {way: count for way, (count, _) in ways.items()} for name, ways in ALLOWED.items()}


@pytest.mark.parametrize(
    ("line", "way"),
    [
        ("open(p, 'w')", "open"),
        ("open(p, mode='ab')", "open"),
        ("open(p, 'ab' if start else 'wb')", "open"),
        ("path.open('x')", "open"),
        ("os.fdopen(handle, 'wb')", "open"),
        ("path.write_text(t)", "write_text"),
        ("cv2.imwrite(p, x)", "imwrite"),
        ("figure.savefig(p)", "savefig"),
        ("image.save(p)", ".save"),
        ("paddle.jit.save(layer, p)", "jit.save"),
        ("path.rename(p)", ".rename"),
        ("os.replace(a, b)", "os.replace"),
        ("shutil.copy2(a, b)", "shutil.copy2"),
        ("tempfile.mkstemp()", "tempfile"),
        ("open(p)", None),
        ("path.open('rb')", None),
        ("Image.open(path)", None),
        ("Image.open(shape.get('mask'))", None),
        ("text.replace('a', 'b')", None),
    ],
)
def test_ways_of_writing_are_recognised(line: str, way: str | None) -> None:
    assert list(ways_in(line)) == ([] if way is None else [way])
