"""How much device memory this process can use, and how much of it Paddle has allocated."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import paddle
from paddle.base import core

from paddlex_seg.cores import CGROUPS, OWN_GROUPS, control_groups, read_setting
from paddlex_seg.errors import ConfigError
from paddlex_seg.runtime.environment import launched


def reset_peak() -> None:
    """Reset the peak of allocated memory."""
    if _is_cpu():
        core.host_memory_stat_reset_peak_value("Allocated", 0)
    else:
        paddle.device.cuda.reset_max_memory_allocated()


def peak_bytes() -> int:
    """Peak bytes of all tensors since ``reset_peak``, including tensors that existed before."""
    if _is_cpu():
        return core.host_memory_stat_peak_value("Allocated", 0)
    return paddle.device.cuda.max_memory_allocated()


def allocated_bytes() -> int:
    """Bytes of all tensors now."""
    if _is_cpu():
        return core.host_memory_stat_current_value("Allocated", 0)
    return paddle.device.cuda.memory_allocated()


def room_bytes() -> int:
    """Bytes that this process can use: its own tensors and free memory.

    On the CPU, the processes of a run on this machine share the free memory. Raises ConfigError when the free
    memory is not known.
    """
    device = paddle.get_device()
    if device == "cpu":
        place = launched()
        return _free_host_bytes() // (place.local_size if place else 1) + allocated_bytes()
    if not device.startswith("gpu"):
        raise ConfigError(
            f"Train.batch_size: found auto, but the free memory of {device} cannot be measured. Expected a "
            "number."
        )
    free = _free_gpu_bytes()
    if free is None:
        return paddle.device.cuda.get_device_properties().total_memory
    return free + paddle.device.cuda.memory_reserved()


def _is_cpu() -> bool:
    return paddle.get_device() == "cpu"


def _free_gpu_bytes() -> int | None:
    """Free bytes of the current GPU, from the driver since Paddle has no call for it; None if unknown."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    return None if failed else free.value


def _free_host_bytes() -> int:
    """Free bytes of the machine, or of the cgroups of this process if they have less."""
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (available,) = (line.split()[1] for line in meminfo if line.startswith("MemAvailable:"))
        groups = OWN_GROUPS.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            "Train.batch_size: found auto, but /proc of this system does not show the free memory. Expected "
            "a number."
        ) from error
    return min([int(available) * 1024, *cgroup_bytes(groups, CGROUPS)])


def cgroup_bytes(groups: str, root: Path) -> Iterator[int]:
    """Bytes left of each memory limit. groups: the text of ``/proc/self/cgroup``, version 1 or 2.

    Inactive file pages count as free, because the kernel drops them first.
    """
    for version, folder in control_groups("memory", groups, root):
        names = ("memory.max", "memory.current")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, usage = (read_setting(folder / name) for name in names)
        if limit.isdecimal():  # the root cgroup has no limit
            statistics = dict(row.split() for row in read_setting(folder / "memory.stat").splitlines())
            droppable = statistics.get("total_inactive_file", statistics.get("inactive_file", "0"))
            yield int(limit) - int(usage) + int(droppable)
