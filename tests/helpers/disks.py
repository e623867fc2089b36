"""Small and read-only disks. They take root and the right to mount: without, the test is skipped."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of this size at ``path``."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def make_read_only(disk: Path) -> None:
    """From now on nothing can be written to a `small_disk`."""
    _mount("-o", "remount,ro", str(disk))


def fill(disk: Path) -> None:
    """Leave no free byte on a `small_disk`."""
    try:
        with (disk / "other data").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass


def _mount(*options: str) -> None:
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"disks cannot be mounted here ({error})")
