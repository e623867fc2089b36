"""Fetching weight files once: resumed after a cut, checked, and kept in a cache folder."""

import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
    url2pathname,
)

import rich
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from paddlex_seg.errors import WeightsError

LOGGER = logging.getLogger(__name__)
TIMEOUT_SECONDS = 30.0  # without an answer or a byte
ATTEMPTS = 3  # how often a transfer that was cut is taken up again before the user is asked
CHUNK_BYTES = 1 << 18


def resolve_weights(
    value: str, config_key: str, *, sha256: str | None = None, cache_dir: Path | None = None
) -> Path:
    """The local file that a configuration value names: a path, or an address that ``fetch`` then gets.

    Raises WeightsError, which names ``config_key``, when there is no such file.
    """
    if "://" in value:
        return fetch(value, sha256=sha256, config_key=config_key, cache_dir=cache_dir)
    path = Path(value).expanduser()
    if path.is_file():
        return path
    state = "is a folder" if path.is_dir() else "does not exist"
    raise WeightsError(
        f"{config_key}: {value!r} {state} (looked at {path.absolute()}). Give the path of a .pdparams or "
        f".safetensors file, or its address (http, https or file)."
    )


def fetch(url: str, *, sha256: str | None = None, config_key: str, cache_dir: Path | None = None) -> Path:
    """The file at an http, https or file address; the first two are downloaded unless the cache has them.

    The cache is ``$XDG_CACHE_HOME/paddlex_seg/weights`` (XDG_CACHE_HOME being ~/.cache unless set) or
    ``cache_dir``. Processes that want the same file at the same time wait for the one that downloads it.
    ``sha256`` is the expected checksum in hexadecimal. Raises WeightsError, which names the address and
    ``config_key``, whatever goes wrong.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _checked_local_file(url, Path(url2pathname(parts.path)), sha256, config_key)
    if parts.scheme not in ("http", "https"):
        raise WeightsError(
            f"{config_key}: {url!r} is no address of a kind that can be fetched (http, https, file)."
        )
    target = (cache_dir or default_cache_dir()) / cached_name(url)
    if _is_good(target, sha256):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(target.with_name(target.name + ".lock"), target.name):
            if not _is_good(target, sha256):  # another process may have got it meanwhile
                _download(url, target, sha256)
    except (OSError, HTTPException) as problem:
        raise WeightsError(
            f"{url} could not be downloaded: {problem or type(problem).__name__}. Fetch it by hand, "
            f"for example on another machine, and set {config_key} to the path of that file."
        ) from problem
    return target


def default_cache_dir() -> Path:
    """Where weights are kept unless a caller says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddlex_seg" / "weights"


def cached_name(url: str) -> str:
    """A file name that tells what it is, and is different for different addresses."""
    name = PurePosixPath(
        re.sub(r"[^\w.-]", "_", unquote(PurePosixPath(urlsplit(url).path).name)) or "weights"
    )
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return f"{name.stem[:80]}-{digest}{name.suffix[:20]}"


class _WrongFileError(OSError):
    """What arrived is not the file that was expected."""


class _CutError(OSError):
    """A transfer ended too early; what arrived is kept."""


def _checked_local_file(url: str, path: Path, sha256: str | None, config_key: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{config_key}: {url!r} does not exist (looked at {path}).")
    if not _is_good(path, sha256):
        raise WeightsError(f"{config_key}: {path} has SHA-256 {_sha256_of(path)}, expected {sha256}.")
    return path


def _is_good(path: Path, sha256: str | None) -> bool:
    return path.is_file() and (sha256 is None or _sha256_of(path) == sha256.lower())


def _sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, target: Path, sha256: str | None) -> None:
    part = target.with_name(target.name + ".part")
    validator = target.with_name(target.name + ".validator")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(url, part, validator)
            break
        except _CutError as problem:
            if attempt == ATTEMPTS:
                raise
            LOGGER.info("%s: %s; trying again.", url, problem)
    if sha256 is not None and (found := _sha256_of(part)) != sha256.lower():
        part.unlink()
        raise _WrongFileError(f"what arrived has SHA-256 {found}, expected {sha256}")
    os.replace(part, target)
    validator.unlink(missing_ok=True)


def _receive(url: str, part: Path, validator: Path) -> None:
    """Make ``part`` the whole file, keeping what it holds if the server still has the same version.

    ``validator`` is a file beside it with the ETag or the date that the server gave for that beginning.
    """
    request = Request(url, headers={"User-Agent": "paddlex_seg", "Accept-Encoding": "identity"})
    start = part.stat().st_size if part.is_file() and validator.is_file() else 0
    if start > 0:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator.read_text(encoding="latin1"))
    try:
        response = _opener().open(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as problem:
        if problem.code != 416 or start == 0:
            raise
        part.unlink()  # longer than the file on the server, or complete: not worth telling apart
        return _receive(url, part, validator)
    with response:
        if response.status != 206:
            _remember_version(response.headers, validator)
            start = 0
        _copy(response, part, start=start, total=_total_bytes(response.headers, start))


def _opener() -> OpenerDirector:
    """Speaks http and https only, so that a redirection cannot lead to any other protocol."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _remember_version(headers: Any, validator: Path) -> None:
    etag = headers.get("ETag", "")
    version = (
        headers.get("Last-Modified", "")
        if etag.startswith("W/")
        else etag or headers.get("Last-Modified", "")
    )
    if version:
        validator.write_text(version, encoding="latin1")
    else:
        validator.unlink(missing_ok=True)  # without it a later try starts from the beginning


def _total_bytes(headers: Any, start: int) -> int | None:
    length = headers.get("Content-Length")
    return None if length is None else start + int(length)


def _copy(response: IO[bytes], part: Path, *, start: int, total: int | None) -> None:
    with open(part, "ab" if start else "wb") as file, _progress(part, start, total) as advance:
        try:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))
        except (ConnectionError, TimeoutError, HTTPException) as problem:
            raise _CutError(f"the transfer broke off after {file.tell()} bytes ({problem})") from problem
        file.flush()
        os.fsync(file.fileno())
        if total is not None and file.tell() != total:
            raise _CutError(f"the transfer broke off after {file.tell()} of {total} bytes")


@contextmanager
def _progress(part: Path, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar that the yielded function moves by bytes; one line in the log where nobody watches."""
    name = part.name.removesuffix(".part")
    if not rich.get_console().is_terminal:
        size = "" if total is None else f" ({total / 1e6:.1f} MB)"
        LOGGER.info("Downloading %s%s to %s", name, size, part.parent)
        yield lambda num_bytes: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=total, completed=start)
        yield lambda num_bytes: bar.update(task, advance=num_bytes)


@contextmanager
def _one_process_at_a_time(lock: Path, name: str) -> Iterator[None]:
    """Hold a lock that the system takes back even if this process is killed. The empty file stays."""
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
