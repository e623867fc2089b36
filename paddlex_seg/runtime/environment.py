"""What must be set in a process before Paddle is imported, and what its environment says."""

import ctypes
import os
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
# What Paddle's launcher would take from the environment rather than from its arguments.
LAUNCHER_VARIABLES = {
    "PADDLE_DEVICES",
    "PADDLE_LOG_DIR",
    "PADDLE_MASTER",
    "PADDLE_MAX_RESTART",
    "PADDLE_NNODES",
    "PADDLE_NPROC_PER_NODE",
}
PROXY_VARIABLES = ("http_proxy", "https_proxy")
KEPT = "PADDLEX_SEG_KEPT_"  # prefix of variables that the launcher would drop


@dataclass(frozen=True)
class Launched:
    """What Paddle's launcher told this process of a distributed run."""

    rank: int
    world_size: int
    local_rank: int  # among the processes of this machine
    local_size: int
    log_dir: Path


def launched() -> Launched | None:
    """The place of this process in a distributed run; None when it runs alone."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", 1)) < 2 or "PADDLE_LOG_DIR" not in os.environ:
        return None
    return Launched(
        rank=int(os.environ["PADDLE_TRAINER_ID"]),
        world_size=int(os.environ["PADDLE_TRAINERS_NUM"]),
        local_rank=int(os.environ["PADDLE_LOCAL_RANK"]),
        local_size=int(os.environ["PADDLE_LOCAL_SIZE"]),
        log_dir=Path(os.environ["PADDLE_LOG_DIR"]),
    )


def launcher_environment(kind: str, num_processes: int) -> dict[str, str]:
    """The environment for Paddle's launcher and what it starts. ``kind``: of device, as in Global.device."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    # The launcher drops the proxies, for it talks to other machines of the run; ranks download weights.
    environment |= {KEPT + name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ}
    if kind == "cpu":
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        # The launcher of a Paddle for GPUs deals out the GPUs that it sees, and fails when they are too few.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(num_processes)))
    elif kind not in ("gpu", "xpu"):
        environment["PADDLE_XCCL_BACKEND"] = kind
    return environment


def worker_environment() -> dict[str, str]:
    """The environment for a process of a distributed run, in what the launcher started for it."""
    kept = {name.removeprefix(KEPT): value for name, value in os.environ.items() if name.startswith(KEPT)}
    return {**os.environ, **kept}


def visible_devices(kind: str) -> list[str] | None:
    """The labels of the devices that the environment lets Paddle see, in order; None for all of them."""
    name = "CUDA_VISIBLE_DEVICES" if kind == "gpu" else f"{kind.upper()}_VISIBLE_DEVICES"
    labels = os.environ.get(name, "all")
    return None if labels == "all" else [label.strip() for label in labels.split(",") if label.strip()]


def end_with_parent() -> None:
    """Let the system end this process when the one that started it has ended, however that came about.

    Does nothing where the system is not Linux.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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
