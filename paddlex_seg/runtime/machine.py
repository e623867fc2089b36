"""What a figure or a certificate says about the machine and the libraries that it was made with."""

import importlib.metadata
import platform
import re
from collections.abc import Iterable
from typing import Any

from paddlex_seg import __version__
from paddlex_seg.cores import num_usable_cores
from paddlex_seg.runtime.environment import CPU_INFO

# Instructions that decide which kernels and precisions a library takes.
FLAGS = (
    *("fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8"),
    *("asimd", "sve", "bf16", "i8mm"),  # of ARM
)
PACKAGES = ("numpy", "opencv-python-headless")


def describe_machine(cpu_info: str | None = None) -> dict[str, Any]:
    """The system, the processor, the cores that this process may use, and its instructions for networks.

    cpu_info: the text of ``/proc/cpuinfo``; that of this machine unless given.
    """
    if cpu_info is None:
        cpu_info = CPU_INFO.read_text(encoding="utf-8", errors="replace") if CPU_INFO.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": name[1].strip() if name else platform.processor() or platform.machine(),
        "cores": num_usable_cores(),
        "flags": [flag for flag in FLAGS if flag in present],
    }


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of Python, of the toolkit, and of installed packages: `PACKAGES` and those named."""
    versions = {"python": platform.python_version(), "paddlex_seg": __version__}
    for name in (*names, *PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
