import ast
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import paddlex_seg
from paddlex_seg.runtime.environment import mkl_code_path, spare_home, use_writable_folders, writable_home

PACKAGE = Path(paddlex_seg.__file__).parent
PAGE_FAULTS = """
import resource, sys
from paddlex_seg.runtime.environment import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
import numpy as np
np.ones(20_000_000, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(20_000_000, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

AVX512 = "avx2 fma avx512f avx512dq avx512bw avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "path"),
    [
        ("GenuineIntel", AVX512, None),
        ("AuthenticAMD", AVX512, "7"),
        ("AuthenticAMD", "sse4_2 avx avx2 fma", "5"),
        ("AuthenticAMD", "sse4_2 avx", None),
    ],
    ids=["intel", "amd avx512", "amd avx2", "old amd"],
)
def test_mkl_is_asked_only_for_what_an_amd_cpu_can_do(vendor: str, flags: str, path: str | None) -> None:
    assert mkl_code_path(f"processor : 0\nvendor_id : {vendor}\nflags\t\t: fpu {flags} sha_ni\n") == path


def test_unknown_cpu_is_left_alone() -> None:
    assert mkl_code_path("") is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of the C library of Linux")
def test_freed_memory_is_used_again() -> None:
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("plain", "keep")
    )
    assert kept < plain / 10


READERS = {"environ", "environb", "getenv", "putenv", "expanduser", "expandvars", "home", "getproxies"}


def test_only_the_runtime_and_the_command_line_read_the_environment() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: set[str] = set()
            if isinstance(node, ast.Attribute):
                names = {node.attr}
            elif isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
            if names & READERS:
                found.add(path.relative_to(PACKAGE).parts[0])
    assert found <= {"runtime", "cli.py", "config"}  # config only expands ~
    assert "runtime" in found


def test_without_a_folder_for_temporary_files_they_go_into_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/dev/null")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [os.environ["TMPDIR"]])
    use_writable_folders(tmp_path)
    with tempfile.TemporaryDirectory() as folder:
        assert tmp_path in Path(folder).parents
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_home_folder_that_can_be_written_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    spare_home.cache_clear()
    with writable_home():
        assert Path.home() == tmp_path
    spare_home.cache_clear()


def test_another_home_folder_is_used_only_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spare_home.cache_clear()
    with writable_home():
        assert tmp_path in Path.home().parents
    assert str(Path.home()) == "/dev/null"
    spare_home.cache_clear()


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_onnx_runtime_leaves_nothing_in_the_home_or_the_temporary_folder(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    code = (
        "from paddlex_seg.runtime.environment import stop_telemetry; stop_telemetry(); "
        "import onnxruntime; onnxruntime.get_available_providers()"
    )
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(PACKAGE.parent),
    }
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert set(tmp_path.rglob("*")) == {home, temporary}
