"""What must be set in the process before Paddle is imported."""

import ctypes
import os
import sys
import warnings
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def prepare_process() -> None:
    """Set what Paddle and its libraries read only once, before the first ``import paddle``."""
    # Said at import, though nothing is compiled, at the first training step, and at every export.
    warnings.filterwarnings("ignore", message="No ccache found")
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    warnings.filterwarnings("ignore", message=r"\w+ do not have 'place' interface")
    # Said at the first use of some functions, to people who come from PyTorch.
    warnings.filterwarnings("ignore", message=r"\s*Non compatible API")
    # Below errors, Paddle's C++ side only says things about itself, such as at every export.
    os.environ.setdefault("GLOG_minloglevel", "2")
    keep_freed_memory()
    code_path = mkl_code_path(CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.is_file() else "")
    if code_path is not None:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", code_path)


def keep_freed_memory() -> None:
    """Let the C library use the memory of freed tensors again, instead of giving it back to the system.

    Paddle asks for fresh memory for every tensor on the CPU. What glibc gives back and gets anew has to be
    mapped page by page, which takes several times as long as, say, a ReLU of it (benchmarks/memory_reuse.py).
    Other C libraries, and systems without one of that kind, are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def mkl_code_path(cpu_info: str) -> str | None:
    """The code path of Intel's MKL to ask for on a CPU that is not Intel's; None to leave the choice to MKL.

    The MKL that Paddle brings (mklml, 2019) takes a slow path on AMD's CPUs whatever they can do: a training
    step of PP-YOLOE_seg-S takes twice as long (benchmarks/mkl_code_path.py). 7 is its path for AVX-512, 5
    for AVX2. cpu_info: the text of /proc/cpuinfo.
    """
    if "AuthenticAMD" not in cpu_info:
        return None
    flags = next((line for line in cpu_info.splitlines() if line.startswith("flags")), "").split()
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= set(flags):
        return "7"
    return "5" if {"avx2", "fma"} <= set(flags) else None
