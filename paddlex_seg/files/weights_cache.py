"""The local file of weights that a setting names: a path, or an address. Downloaded weights are cached.

`files.download` transfers a file; ``is_sound``, ``download_recorded`` and ``one_process_at_a_time`` keep it.
"""

import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from paddlex_seg.errors import PaddlexSegError, WeightsError
from paddlex_seg.files.addresses import (
    SUPPORTED,
    AddressError,
    expected_sha256,
    file_name,
    local_path,
    scheme_of,
    to_ascii,
    unsupported,
)
from paddlex_seg.files.atomic import write_text
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.download import DownloadError, Network, download

LOGGER = logging.getLogger(__name__)

Verify = Callable[[Path], object]


def resolve_weights(value: str, config_key: str, *, network: Network, verify: Verify) -> Path:
    """The local file that a configuration value names: a path, or a URL as for ``fetch``.

    Raises WeightsError, which names ``config_key``, when there is no such file.
    """
    if scheme_of(value) is not None:
        return fetch(value, config_key=config_key, network=network, verify=verify)
    path = Path(value)
    if os.path.isfile(path):  # False for a path that no file can have; Path.is_file() raises
        return path
    raise WeightsError(
        f"{config_key}: {value!r} {_state(path)} (absolute path: {path.absolute()}). Set the path of a "
        f".pdparams or .safetensors file, or its URL ({SUPPORTED}).{_hint(value, path)}"
    )


def fetch(url: str, *, config_key: str, network: Network, verify: Verify) -> Path:
    """The local file of an http, https or file URL. Files that are not in the cache are downloaded.

    A file enters the cache only if ``verify`` accepts it (it raises WeightsError otherwise), and if it has
    the checksum that the URL may name: ``#sha256=<hex>``. A cached file that has changed is downloaded anew.
    If several processes need the same file, one downloads it and the others wait. Raises WeightsError, which
    names the URL and ``config_key``, on any failure.
    """
    scheme = scheme_of(url)
    try:
        sha256 = expected_sha256(url)
        if scheme == "file":
            return _checked_local_file(url, local_path(url), sha256, config_key)
        if scheme not in ("http", "https"):
            raise AddressError(unsupported(str(scheme)))
        target = network.cache_dir / cached_name(url)
    except AddressError as problem:
        raise WeightsError(f"{config_key}: {url!r}: {problem}") from problem
    if is_sound(target, sha256, verify):
        return target
    try:
        with one_process_at_a_time(target.with_name(target.name + ".lock"), target.name):
            if not is_sound(target, sha256, verify):  # another process may have downloaded it meanwhile
                download_recorded(url, target, network=network, sha256=sha256, verify=verify)
    except (DownloadError, WeightsError, OSError) as problem:
        raise WeightsError(
            f"{url} could not be downloaded: {str(problem).rstrip('.')}. Download it manually, "
            f"for example on another machine, and set {config_key} to the path of that file."
        ) from problem
    return target


def cached_name(url: str) -> str:
    """A readable file name that is different for different URLs. Raises AddressError for an invalid URL."""
    address = to_ascii(url)
    name = PurePosixPath(re.sub(r"[^\w.-]", "_", file_name(address)) or "weights")
    digest = hashlib.sha256(address.encode()).hexdigest()[:8]
    return f"{_cut(name.stem, 80)}-{digest}{_cut(name.suffix, 20)}"


def _cut(text: str, num_bytes: int) -> str:
    return text.encode()[:num_bytes].decode(errors="ignore")


def _state(path: Path) -> str:
    return "is a folder" if os.path.isdir(path) else "does not exist"


def _hint(value: str, path: Path) -> str:
    if re.match(r"[A-Za-z]:[\\/]", value) and sys.platform != "win32":
        return " Paths with a drive letter exist on Windows only."
    if not os.path.isdir(path):
        return ""
    if (path / "inference.yml").is_file():
        return (
            " The folder is an exported model, for mode predict (Predict.model_dir). Set the .pdparams file "
            "of the checkpoint from which it was exported."
        )
    found = sorted(file for suffix in ("pdparams", "safetensors") for file in path.glob(f"*.{suffix}"))
    return f" The folder contains {found[0]}." if found else ""


def _checked_local_file(url: str, path: Path, sha256: str | None, config_key: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{config_key}: {url!r} {_state(path)} (path: {path}).")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise WeightsError(f"{config_key}: {path} has SHA-256 {found}, expected {sha256}.")
    return path


def download_recorded(
    url: str, target: Path, *, network: Network, sha256: str | None, verify: Verify
) -> None:
    """Download a file as `download` does, and write its SHA-256 beside it. The folder must exist."""
    if target.exists():
        LOGGER.warning("%s is damaged or out of date. It is downloaded again.", target)
    download(url, target, network=network, sha256=sha256, verify=verify)
    write_text(record_of(target), sha256_of(target))


def record_of(target: Path) -> Path:
    """The file with the SHA-256 of a downloaded file."""
    return target.with_name(target.name + ".sha256")


def is_sound(target: Path, sha256: str | None, verify: Verify) -> bool:
    """Whether a cached file is as it was downloaded, and has the given checksum.

    For a file without a checksum, from an earlier version or put there by hand, ``verify`` decides.
    """
    if not target.is_file():
        return False
    expected = {one for one in (sha256, _read_record(record_of(target))) if one is not None}
    if expected:
        return expected == {sha256_of(target)}
    try:
        verify(target)
    except PaddlexSegError:
        return False
    return True


def _read_record(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


@contextmanager
def one_process_at_a_time(lock: Path, name: str) -> Iterator[None]:
    """Hold a file lock, which the system releases even if this process is killed. The empty file stays.

    Its folder is created if missing. name: what other processes are told to wait for.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "wb") as file:
        if not _try_to_lock(file):
            LOGGER.info("Another process is downloading %s; waiting for it.", name)
            while not _try_to_lock(file):
                time.sleep(0.2)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_to_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
