"""A module imports only from rows below its own, and light entry points stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "paddlex_seg"
ROWS = [
    {"structures", "errors"},
    {"ops", "config"},
    {"models", "data", "metrics", "visualize"},
    {"recipes", "inference"},
    {"catalog"},
    {"engine"},
    {"cli"},
    {"__main__"},
]
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms of this package that a module imports, in whatever place of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("paddlex_seg.")} - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_imports_only_from_rows_below(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in ROW_OF, f"{room} has no row in the layering table"
    for other in imported_rooms(path) - {room}:
        assert ROW_OF[other] < ROW_OF[room], f"{path} imports {other}, which is not below {room}"


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_help_does_not_import_paddle_or_the_engine() -> None:
    loaded = loaded_after("from paddlex_seg.cli import main; main(['--help'])")
    assert not loaded & {"paddle", "cv2", "numpy", "pydantic", "paddlex_seg.engine"}


def test_check_dataset_does_not_import_paddle() -> None:
    assert "paddle" not in loaded_after("import paddlex_seg.engine.check_dataset")


def test_loader_workers_do_not_import_paddle() -> None:
    assert "paddle" not in loaded_after("import paddlex_seg.data.loader")


def test_inference_needs_no_training_code() -> None:
    loaded = loaded_after("import paddlex_seg.inference.predictor")
    assert not any(name.startswith(("paddlex_seg.models", "paddlex_seg.engine")) for name in loaded)
