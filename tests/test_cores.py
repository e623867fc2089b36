"""Cores that may be used: by affinity, and by the limits of control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddlex_seg import cores
from paddlex_seg.cores import cpu_quotas, num_usable_cores

VERSION_1 = "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n"
VERSION_2 = "0::/user.slice/job.scope\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (VERSION_2, {"user.slice/job.scope/cpu.max": "150000 100000"}, [1.5]),
        (VERSION_2, {"user.slice/job.scope/cpu.max": "max 100000"}, []),
        (
            VERSION_2,
            {"user.slice/job.scope/cpu.max": "400000 100000", "user.slice/cpu.max": "20000 10000"},
            [4, 2],
        ),
        ("0::/\n", {"cpu.max": "50000 100000"}, [0.5]),
        ("0::/../other\n", {"cpu.max": "300000 100000"}, [3]),
        (
            VERSION_1,
            {"cpu/docker/abc/cpu.cfs_quota_us": "250000", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
            [2.5],
        ),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, [3]),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        (VERSION_1, {}, []),
        ("", {"cpu.max": "100000 100000"}, []),
    ],
    ids=[
        *("v2", "v2 without limit", "v2 of a group above", "v2 in a container", "v2 of another name space"),
        *("v1", "v1 in a container", "v1 without limit", "v1 without files", "no groups"),
    ],
)
def test_limits_of_control_groups_are_read(
    tmp_path: Path, groups: str, files: dict[str, str], expected: list[float]
) -> None:
    assert list(cpu_quotas(groups, write(tmp_path, files))) == expected


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(8, "max 100000", 8), (8, "250000 100000", 3), (2, "400000 100000", 2), (8, "10000 100000", 1)],
)
def test_the_tightest_limit_counts_rounded_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affinity: int, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", write(tmp_path, {"cpu.max": quota}))
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "cgroup")
    write(tmp_path, {"cgroup": "0::/"})
    assert num_usable_cores() == expected


def test_without_affinity_and_control_groups_all_cores_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "missing")
    assert num_usable_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_usable_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are given to a process on Linux only")
def test_a_process_on_one_core_counts_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code += "; from paddlex_seg.cores import num_usable_cores; print(num_usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"


def test_nothing_else_counts_cores() -> None:
    package = Path(cores.__file__).parent
    words = ("cpu_count", "sched_getaffinity")
    found = {path for path in package.rglob("*.py") if any(w in path.read_text("utf-8") for w in words)}
    assert found == {Path(cores.__file__)}
