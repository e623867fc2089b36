"""How many CPU cores this process may use. In a container these can be far fewer than the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def num_usable_cores() -> int:
    """The number of cores that this process may run on; at least 1. A limit of CPU time by a cgroup counts.

    A limit of 1.5 cores counts as 2, because one thread cannot use 1.5 cores.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    groups = OWN_GROUPS.read_text(encoding="utf-8") if OWN_GROUPS.is_file() else ""
    return max(1, min([cores, *(math.ceil(quota) for quota in cpu_quotas(groups, CGROUPS))]))


def cpu_quotas(groups: str, root: Path) -> Iterator[float]:
    """Each limit of CPU time, in cores. ``groups``: the text of ``/proc/self/cgroup``, version 1 or 2."""
    for version, folder in control_groups("cpu", groups, root):
        if version == 2:
            quota, _, period = read_setting(folder / "cpu.max").partition(" ")
        else:
            quota = read_setting(folder / "cpu.cfs_quota_us")
            period = read_setting(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and int(period) > 0:  # else "max", "-1", or no file
            yield int(quota) / int(period)


def control_groups(controller: str, groups: str, root: Path) -> Iterator[tuple[int, Path]]:
    """Version and folder of each cgroup whose limits apply to this process, the innermost first.

    ``groups``: the text of ``/proc/self/cgroup``. In a container, the folders of parent cgroups may be
    missing, and its own cgroup may be the root.
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            version, base = 2, root
        elif controller in controllers.split(","):
            version, base = 1, root / controller
        else:
            continue
        own = base / path.lstrip("/")
        yield from ((version, folder) for folder in (own, *own.parents) if folder.is_relative_to(base))


def read_setting(path: Path) -> str:
    """The text of a cgroup's file; empty when the file does not exist."""
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""
