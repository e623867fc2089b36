"""Settings that a process needs before Paddle is imported, and the environment of distributed runs."""

import atexit
import ctypes
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from paddlex_seg import __version__
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import require_writable, temporary_path

CPU_INFO = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8  # of malloc.h
MAPPED_BYTES = 1 << 23
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
# Paddle's launcher would prefer these variables to its arguments.
LAUNCHER_VARIABLES = {
    "PADDLE_DEVICES",
    "PADDLE_LOG_DIR",
    "PADDLE_MASTER",
    "PADDLE_MAX_RESTART",
    "PADDLE_NNODES",
    "PADDLE_NPROC_PER_NODE",
}
PROXY_VARIABLES = ("http_proxy", "https_proxy")
NO_PADDLE = (
    "PaddlePaddle is not installed. For the CPU: pip install paddlepaddle==3.2.2 (or install this package "
    "with its [cpu] extra). For a GPU see the installation section of README.md."
)
KEPT = "PADDLEX_SEG_KEPT_"  # prefix of variables that the launcher would drop


@dataclass(frozen=True)
class Launched:
    """The place of this process in a distributed run, as set by Paddle's launcher."""

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
    """The environment for Paddle's launcher and its processes. ``kind``: of device, as in Global.device."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    # The launcher drops proxy variables to reach other machines directly, but ranks need them for downloads.
    environment |= {KEPT + name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ}
    if kind == "cpu":
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        # The launcher of a GPU build assigns a visible GPU to each process, and fails when there are too few.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(num_processes)))
    elif kind not in ("gpu", "xpu"):
        environment["PADDLE_XCCL_BACKEND"] = kind
    return environment


def worker_environment() -> dict[str, str]:
    """The environment for a rank: this process's environment plus the proxies that the launcher dropped."""
    kept = {name.removeprefix(KEPT): value for name, value in os.environ.items() if name.startswith(KEPT)}
    return {**os.environ, **kept}


def visible_devices(kind: str) -> list[str] | None:
    """The labels of the devices that the environment lets Paddle see, in order; None for all of them."""
    name = "CUDA_VISIBLE_DEVICES" if kind == "gpu" else f"{kind.upper()}_VISIBLE_DEVICES"
    labels = os.environ.get(name, "all")
    return None if labels == "all" else [label.strip() for label in labels.split(",") if label.strip()]


def versions() -> dict[str, str]:
    """The versions that make a result: of the toolkit and, if it is loaded, of PaddlePaddle."""
    paddle = getattr(sys.modules.get("paddle"), "__version__", None)  # none within an interrupted import
    return {"paddlex_seg": __version__} | ({} if paddle is None else {"paddle": paddle})


def end_with_parent() -> None:
    """Let the system kill this process when its parent process ends for any reason.

    Does nothing on systems other than Linux.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def use_writable_folders(output: Path) -> None:
    """Let this process and those that it starts find folders for what they keep outside ``output``.

    A container may have no home, or no other place to write to than ``output``. Then temporary files go into
    a folder in ``output``, caches of Matplotlib and of downloads into a temporary folder. Both folders are
    removed at exit.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ["TMPDIR"] = str(_until_exit(temporary_path(output / "temporary")))
    spare = spare_home()
    if spare is not None:
        os.environ.setdefault("XDG_CACHE_HOME", str(spare / ".cache"))
        os.environ.setdefault("MPLCONFIGDIR", str(spare / "matplotlib"))


@lru_cache(maxsize=1)
def spare_home() -> Path | None:
    """A temporary home folder, if that of the user is missing or cannot be written; else None."""
    home = Path(os.path.expanduser("~"))  # stays ~ for a user without a home
    try:
        if home.is_absolute():
            require_writable(home / ".cache")
            return None
    except OSError:
        pass
    return _until_exit(Path(tempfile.mkdtemp(prefix="paddlex_seg_home.")))


@contextmanager
def writable_home() -> Iterator[None]:
    """Inside, Paddle finds a home folder that can be written: it makes folders there when it is imported and
    when it exports. Outside, ``~`` is what the user means by it.
    """
    spare, home = spare_home(), os.environ.get("HOME")
    if spare is None:
        yield
        return
    os.environ["HOME"] = str(spare)
    try:
        yield
    finally:
        del os.environ["HOME"]
        if home is not None:
            os.environ["HOME"] = home


def _until_exit(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def require_paddle() -> None:
    """Prepare this process for the import of Paddle. Raises ConfigError if Paddle is not installed.

    Nothing is changed where Paddle is imported already, as in a program of a user.
    """
    if "paddle" not in sys.modules:
        prepare_process()
    if importlib.util.find_spec("paddle") is None:
        raise ConfigError(NO_PADDLE)


def prepare_process() -> None:
    """Set variables that Paddle and its libraries read only once, before the first ``import paddle``."""
    # Warnings at import (though nothing is compiled), at the first training step, and at every export.
    warnings.filterwarnings("ignore", message="No ccache found")
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    warnings.filterwarnings("ignore", message=r"\w+ do not have 'place' interface")
    # A warning for users of PyTorch, at the first use of some functions.
    warnings.filterwarnings("ignore", message=r"\s*Non compatible API")
    # Log messages of Paddle's C++ code below error level are of no use to users.
    os.environ.setdefault("GLOG_minloglevel", "2")
    keep_freed_memory()
    code_path = mkl_code_path(CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.is_file() else "")
    if code_path is not None:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", code_path)


def stop_telemetry() -> None:
    """Keep ONNX Runtime from collecting data about its use. Call it before ``import onnxruntime``.

    Since 1.32 the import starts that, also on Linux: it makes files in the home and in the temporary folder.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of freed tensors instead of returning it to the system.

    Paddle allocates memory for every tensor on the CPU. When glibc returns memory and gets it back, the
    system maps it page by page. This takes several times as long as, for example, a ReLU on the tensor
    (benchmarks/memory_reuse.py). With other C libraries, nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def share_one_heap() -> None:
    """Let all threads allocate from one heap. For a service: each thread would fill one of its own.

    With C libraries other than glibc, nothing is changed.
    """
    if sys.platform.startswith("linux") and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)  # else glibc raises it to 32 MB when such a block is freed


def return_freed_memory() -> None:
    """Give the free pages of the heap back to the system; takes milliseconds.

    For a process that runs for weeks and gets images of all sizes, which leave gaps in the heap
    (benchmarks/serving_soak.py). With C libraries other than glibc, nothing happens.
    """
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def mkl_code_path(cpu_info: str) -> str | None:
    """The code path of Intel's MKL to request on an AMD CPU; None lets MKL choose.

    Paddle's MKL (mklml, 2019) always chooses a slow code path on AMD CPUs: a training step of PP-YOLOE_seg-S
    takes twice as long (benchmarks/mkl_code_path.py). 7 is the code path for AVX-512, 5 for AVX2. cpu_info:
    the text of /proc/cpuinfo.
    """
    if "AuthenticAMD" not in cpu_info:
        return None
    flags = next((line for line in cpu_info.splitlines() if line.startswith("flags")), "").split()
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= set(flags):
        return "7"
    return "5" if {"avx2", "fma"} <= set(flags) else None
