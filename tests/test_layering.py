"""Rooms import only from lower layers, imports have no cycles, and entry points load few modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "paddlex_seg"
# Layers from the bottom up. A room is a sub-package or module of paddlex_seg. Rooms of one row do not import
# each other.
ROWS = [
    {"structures", "errors", "cores", "streams", "options"},
    {"ops", "masks", "files", "config", "fonts"},
    {"models", "data", "visualize", "runtime"},
    {"metrics"},
    {"recipes", "inference", "reports"},
    {"catalog"},
    {"checkpoints"},
    {"evaluation", "export", "pipelines"},
    {"training", "serving"},
    {"modes"},
    {"cli", "benchmark"},
    {"__main__", "compare"},
]
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_name(path: Path) -> str:
    """``paddlex_seg.room.file``; for an ``__init__.py`` the name of its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path) for path in MODULES}


def imports(path: Path) -> set[str]:
    """The modules of this package that a module imports, including imports inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in NAMES else str(node.module))
    return {name for name in found if name.startswith("paddlex_seg.")}


IMPORTS = {module_name(path): imports(path) for path in MODULES}


def room_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_module_imports_only_from_rows_below(module: str) -> None:
    room = room_of(module)
    assert room in ROW_OF, f"{room} has no row in the layering table"
    for other in IMPORTS[module]:
        if room_of(other) != room:
            assert ROW_OF[room_of(other)] < ROW_OF[room], (
                f"{module} imports {other}, which is not below {room}"
            )


def test_imports_have_no_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(IMPORTS.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(IMPORTS):
        visit(module, ())


# Only these may use the configuration; all other code takes plain values.
READS_CONFIG = {
    *("cli", "modes", "pipelines", "runtime", "serving"),
    *("training.setup", "training.run", "training.same_run"),
}


def test_few_rooms_know_the_configuration() -> None:
    importers = {
        module.removeprefix("paddlex_seg.")
        for module, others in IMPORTS.items()
        if room_of(module) != "config" and any(room_of(other) == "config" for other in others)
    }
    assert {module for module in importers if not {module, module.split(".")[0]} & READS_CONFIG} == set()


def test_reports_take_plain_records() -> None:
    for module, others in IMPORTS.items():
        if room_of(module) == "reports":
            assert not {room_of(other) for other in others} & {"models", "ops", "runtime", "config"}, module


def test_only_one_file_calls_pycocotools() -> None:
    importers = {
        module_name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and str(node.module).startswith("pycocotools"))
        or (isinstance(node, ast.Import) and any(one.name.startswith("pycocotools") for one in node.names))
    }
    assert importers == {"paddlex_seg.masks.rle"}


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_help_does_not_import_paddle_or_any_mode() -> None:
    loaded = loaded_after("from paddlex_seg.cli import main; main(['--help'])")
    assert not loaded & {"paddle", "cv2", "numpy", "pydantic", "paddlex_seg.modes", "paddlex_seg.runtime"}


def test_check_dataset_does_not_import_paddle() -> None:
    assert "paddle" not in loaded_after("import paddlex_seg.modes.check_dataset")


def test_loader_workers_do_not_import_paddle() -> None:
    assert "paddle" not in loaded_after("import paddlex_seg.data.samples.loader")


KNOWS_NETWORKS = ("paddlex_seg.models", "paddlex_seg.training", "paddlex_seg.checkpoints")


def test_inference_needs_no_training_code() -> None:
    loaded = loaded_after("import paddlex_seg.inference.predictor")
    assert not any(name.startswith(KNOWS_NETWORKS) for name in loaded)


def test_pipelines_need_neither_training_code_nor_paddle_before_their_use() -> None:
    loaded = loaded_after("import paddlex_seg.pipelines.create")
    unwanted = ("paddle.", "paddlex_seg.catalog", "paddlex_seg.recipes", *KNOWS_NETWORKS)
    assert not [name for name in loaded if f"{name}.".startswith(unwanted)]


def test_the_service_needs_neither_training_code_nor_a_backend_before_its_use() -> None:
    loaded = loaded_after("import paddlex_seg.serving.server")
    unwanted = ("paddle.", "onnxruntime.", "openvino.", "paddlex_seg.catalog", *KNOWS_NETWORKS)
    assert not [name for name in loaded if f"{name}.".startswith(unwanted)]


@pytest.mark.parametrize("module", ["evaluation.predict", "inference.backends.paddle"])
def test_evaluation_and_backends_know_no_network(module: str) -> None:
    assert not any(name.startswith(KNOWS_NETWORKS) for name in loaded_after(f"import paddlex_seg.{module}"))


def test_prediction_does_not_load_the_metrics() -> None:
    assert not any(
        name.startswith("paddlex_seg.metrics") for name in loaded_after("import paddlex_seg.pipelines.create")
    )
