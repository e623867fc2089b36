"""What an installed wheel holds: every module, and the configurations that are shipped."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel is packed from, built without network and without a trace in the repository."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs what the dev extra brings")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def files_below(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def test_the_wheel_holds_every_module_and_no_other_package(built: Path) -> None:
    modules = files_below(ROOT / "paddlex_seg", "*.py")
    assert files_below(built, "*.py") == {f"paddlex_seg/{module}" for module in modules}


def test_the_wheel_holds_every_shipped_configuration(built: Path) -> None:
    configs = files_below(ROOT / "configs", "*.yaml")
    assert configs
    assert files_below(built, "*.yaml") == {f"paddlex_seg/configs/{config}" for config in configs}


def test_a_configuration_is_found_by_name_outside_the_repository(built: Path, tmp_path: Path) -> None:
    code = "from paddlex_seg.config.read import find_config; print(find_config('PP-YOLOE_seg-S.yaml'))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(result.stdout.strip()).is_relative_to(built.resolve() / "paddlex_seg" / "configs")
