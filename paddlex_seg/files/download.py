"""Download files: with resume, checksums and limits. Weights are cached."""

import hashlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import (  # type: ignore[attr-defined]  # typeshed lacks proxy_bypass_environment
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
    proxy_bypass_environment,
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
from paddlex_seg.files.atomic import put_in_place
from paddlex_seg.files.checksum import sha256_of

LOGGER = logging.getLogger(__name__)
TIMEOUT_SECONDS = 30.0  # longest time without an answer or new data
ATTEMPTS = 3  # number of attempts for a transfer that breaks off
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Network:
    """Download settings of this machine; `runtime.network` reads them from the environment."""

    cache_dir: Path  # cache folder of weights
    proxies: Mapping[str, str]  # URL by scheme; "no" lists the hosts that are accessed without a proxy


@dataclass(frozen=True)
class Limits:
    """Limits of a download, beyond which it is aborted."""

    num_bytes: int | None = None
    seconds: float | None = None  # for the whole download; TIMEOUT_SECONDS without data applies in any case
    redirects: int = 10


NO_LIMITS = Limits()


class DownloadError(Exception):
    """A failed download. The message gives the reason without the URL."""


class LimitError(DownloadError):
    """The download exceeds a limit."""


def resolve_weights(value: str, config_key: str, *, network: Network, sha256: str | None = None) -> Path:
    """The local file that a configuration value names: a path, or a URL that ``fetch`` downloads.

    Raises WeightsError, which names ``config_key``, when there is no such file.
    """
    if "://" in value:
        return fetch(value, sha256=sha256, config_key=config_key, network=network)
    path = Path(value)
    if path.is_file():
        return path
    state = "is a folder" if path.is_dir() else "does not exist"
    raise WeightsError(
        f"{config_key}: {value!r} {state} (absolute path: {path.absolute()}). Set the path of a .pdparams or "
        f".safetensors file, or its URL (http, https or file)."
    )


def fetch(url: str, *, sha256: str | None = None, config_key: str, network: Network) -> Path:
    """The local file of an http, https or file URL. Files that are not in the cache are downloaded.

    If several processes need the same file, one downloads it and the others wait. ``sha256`` is the expected
    checksum in hexadecimal. Raises WeightsError, which names the URL and ``config_key``, on any failure.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _checked_local_file(url, Path(url2pathname(parts.path)), sha256, config_key)
    if parts.scheme not in ("http", "https"):
        raise WeightsError(f"{config_key}: the URL {url!r} is not supported. Use http, https or file.")
    target = network.cache_dir / cached_name(url)
    if _is_good(target, sha256):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(target.with_name(target.name + ".lock"), target.name):
            if not _is_good(target, sha256):  # another process may have downloaded it meanwhile
                download(url, target, network=network, sha256=sha256)
    except (DownloadError, OSError) as problem:
        raise WeightsError(
            f"{url} could not be downloaded: {problem}. Download it manually, "
            f"for example on another machine, and set {config_key} to the path of that file."
        ) from problem
    return target


def download(
    url: str,
    target: Path,
    *,
    network: Network,
    limits: Limits = NO_LIMITS,
    sha256: str | None = None,
    quiet: bool = False,
) -> None:
    """Download an http or https URL to the file ``target``, all or nothing.

    The folder must exist. Data of an interrupted transfer stays beside the target as ``.part``. The next call
    continues from it if the server still has the same version. ``quiet``: no log line and no progress bar.
    Raises DownloadError on any failure, and its subclass LimitError when a limit is exceeded.
    """
    transfer = _Transfer(url, target, network, limits, quiet)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                transfer.receive()
                break
            except _CutError as problem:
                if attempt == ATTEMPTS:
                    raise
                LOGGER.info("%s: %s; trying again.", url, problem)
        if sha256 is not None and (found := sha256_of(transfer.part)) != sha256.lower():
            transfer.part.unlink()
            raise DownloadError(f"the downloaded file has SHA-256 {found}, expected {sha256}")
        put_in_place(transfer.part, target)
        transfer.validator.unlink(missing_ok=True)
    except (OSError, HTTPException, ValueError) as problem:  # ValueError: an invalid URL
        raise DownloadError(str(problem) or type(problem).__name__) from problem


def cached_name(url: str) -> str:
    """A readable file name that is different for different URLs."""
    name = PurePosixPath(
        re.sub(r"[^\w.-]", "_", unquote(PurePosixPath(urlsplit(url).path).name)) or "weights"
    )
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return f"{name.stem[:80]}-{digest}{name.suffix[:20]}"


class _CutError(OSError):
    """A transfer broke off. The received data is kept."""


def _checked_local_file(url: str, path: Path, sha256: str | None, config_key: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{config_key}: {url!r} does not exist (path: {path}).")
    if not _is_good(path, sha256):
        raise WeightsError(f"{config_key}: {path} has SHA-256 {sha256_of(path)}, expected {sha256}.")
    return path


def _is_good(path: Path, sha256: str | None) -> bool:
    return path.is_file() and (sha256 is None or sha256_of(path) == sha256.lower())


class _Transfer:
    """The transfer of one file. ``part`` holds the received data, ``validator`` the version of the file."""

    def __init__(self, url: str, target: Path, network: Network, limits: Limits, quiet: bool) -> None:
        self.part = target.with_name(target.name + ".part")
        self.validator = target.with_name(target.name + ".validator")  # the server's ETag or date
        self._url, self._limits, self._quiet = url, limits, quiet
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._opener = _opener(network.proxies, _Redirection(limits.redirects, self._timeout))

    def receive(self) -> None:
        """Complete ``part``. Its data is reused if the server still has the same version of the file."""
        request = Request(self._url, headers={"User-Agent": "paddlex_seg", "Accept-Encoding": "identity"})
        start = self.part.stat().st_size if self.part.is_file() and self.validator.is_file() else 0
        if start > 0:
            request.add_header("Range", f"bytes={start}-")
            request.add_header("If-Range", self.validator.read_text(encoding="latin1"))
        try:
            response = self._opener.open(request, timeout=self._timeout())
        except HTTPError as problem:
            if problem.code != 416 or start == 0:
                raise
            self.part.unlink()  # part is complete, or longer than the file on the server: start again
            return self.receive()
        with response:
            if response.status != 206:
                _remember_version(response.headers, self.validator)
                start = 0
            self._copy(response, start=start, total=_total_bytes(response.headers, start))

    def _copy(self, response: Any, *, start: int, total: int | None) -> None:
        self._check_limits(total or 0)
        bar = _no_progress() if self._quiet else _progress(self.part, start, total)
        with open(self.part, "ab" if start else "wb") as file, bar as advance:
            try:
                while chunk := response.read1(CHUNK_BYTES):  # read() would wait for a full chunk
                    file.write(chunk)
                    advance(len(chunk))
                    self._check_limits(file.tell())
            except (ConnectionError, TimeoutError, HTTPException) as problem:
                raise _CutError(f"the transfer broke off after {file.tell()} bytes ({problem})") from problem
            if total is not None and file.tell() != total:
                raise _CutError(f"the transfer broke off after {file.tell()} of {total} bytes")

    def _timeout(self) -> float:
        self._check_limits(0)
        if self._deadline is None:
            return TIMEOUT_SECONDS
        return min(TIMEOUT_SECONDS, max(0.001, self._deadline - time.monotonic()))

    def _check_limits(self, num_bytes: int) -> None:
        limits = self._limits
        if limits.num_bytes is not None and num_bytes > limits.num_bytes:
            raise LimitError(f"larger than {limits.num_bytes // 10**6} MB")
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise LimitError(f"not complete after {limits.seconds:.0f} s")


class _GivenProxies(ProxyHandler):
    """Uses the given proxies, except for the hosts listed under "no"."""

    def __init__(self, proxies: Mapping[str, str]) -> None:
        super().__init__(dict(proxies))
        self._given = dict(proxies)

    def proxy_open(self, req: Request, proxy: str, type: str) -> Any:
        if proxy_bypass_environment(req.host, self._given):
            return None
        return super().proxy_open(req, proxy, type)


class _Redirection(HTTPRedirectHandler):
    """Follows up to ``most`` redirections, within the time left."""

    def __init__(self, most: int, timeout: Callable[[], float]) -> None:
        self.max_redirections = most  # type: ignore[misc]
        self._timeout = timeout

    def redirect_request(self, req: Request, fp: IO[bytes], *answer: Any) -> Request | None:
        fp.close()  # otherwise urllib reads the full body of the redirection, however long it is
        req.timeout = self._timeout()
        return super().redirect_request(req, fp, *answer)


def _opener(proxies: Mapping[str, str], redirection: _Redirection) -> OpenerDirector:
    """An opener for http and https only, so that a redirection cannot lead to another protocol."""
    opener = OpenerDirector()
    for handler in (
        _GivenProxies(proxies),
        UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        redirection,
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
        validator.unlink(missing_ok=True)  # without a version, the next attempt starts from the beginning


def _total_bytes(headers: Any, start: int) -> int | None:
    length = headers.get("Content-Length")
    return None if length is None else start + int(length)


@contextmanager
def _no_progress() -> Iterator[Callable[[int], None]]:
    yield lambda num_bytes: None


@contextmanager
def _progress(part: Path, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar that the yielded function advances by bytes. Without a terminal: one log line."""
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
    """Hold a file lock, which the system releases even if this process is killed. The empty file stays."""
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
