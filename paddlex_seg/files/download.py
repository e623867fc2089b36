"""Download files: with resume, checksums and limits."""

import base64
import hashlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
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

from paddlex_seg.files.addresses import AddressError, scheme_of, to_ascii, unsupported
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
    model_source: str | None = None  # address of a folder with exported models; None: the official one

    @property
    def models_dir(self) -> Path:
        """The cache folder of exported models."""
        return self.cache_dir.with_name("models")


@dataclass(frozen=True)
class Limits:
    """Limits of a download, beyond which it is aborted. By default, those of weights."""

    num_bytes: int = 10_000_000_000
    seconds: float = 6 * 3600.0  # for the whole download; TIMEOUT_SECONDS without data applies in any case
    redirects: int = 10


WEIGHT_LIMITS = Limits()

Connect = Callable[[tuple[str, int], float], socket.socket]
"""Connects to (host, port) within so many seconds. What it raises, except for OSError, is not changed."""


class DownloadError(Exception):
    """A failed download. The message gives the reason without the URL."""


class LimitError(DownloadError):
    """The download exceeds a limit."""


def download(
    url: str,
    target: Path,
    *,
    network: Network,
    limits: Limits = WEIGHT_LIMITS,
    sha256: str | None = None,
    verify: Callable[[Path], object] | None = None,
    quiet: bool = False,
    connect: Connect | None = None,
) -> None:
    """Download an http or https URL to the file ``target``, all or nothing.

    The folder must exist. Data of an interrupted transfer stays beside the target as ``.part``. The next call
    continues from it if the server still has the same version. The URL may have characters outside of ASCII.

    sha256: expected checksum in hexadecimal. verify: called with the complete file before it gets its name;
    what it raises ends the download, and the data is dropped. quiet: no log line and no progress bar.
    connect: makes all connections, also for https and after a redirection; proxies are not used then. Raises
    DownloadError on any failure, and its subclass LimitError when a limit is exceeded.
    """
    if (scheme := scheme_of(url)) not in ("http", "https"):
        raise DownloadError(unsupported(str(scheme)))
    try:
        transfer = _Transfer(to_ascii(url), target, network, limits, quiet, connect)
    except AddressError as problem:
        raise DownloadError(str(problem)) from problem
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                transfer.receive()
                break
            except _CutError as problem:
                if attempt == ATTEMPTS:
                    raise
                LOGGER.info("%s: %s; trying again.", url, problem)
        transfer.check(sha256, verify)
        put_in_place(transfer.part, target)
        transfer.validator.unlink(missing_ok=True)
    except (OSError, HTTPException, ValueError) as problem:  # ValueError: an invalid URL
        raise DownloadError(str(problem) or type(problem).__name__) from problem


class _CutError(OSError):
    """A transfer broke off. The received data is kept."""


class _Transfer:
    """The transfer of one file. ``part`` holds the received data, ``validator`` the version of the file."""

    def __init__(
        self,
        url: str,
        target: Path,
        network: Network,
        limits: Limits,
        quiet: bool,
        connect: Connect | None,
    ) -> None:
        self.part = target.with_name(target.name + ".part")
        self.validator = target.with_name(target.name + ".validator")  # the server's ETag or date
        self._url, self._limits, self._quiet = url, limits, quiet
        self._deadline = time.monotonic() + limits.seconds
        self._md5: str | None = None  # of the whole file, in base64, if the server says it
        self._opener = _opener(network.proxies, _Redirection(limits.redirects, self._timeout), connect)

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
            self._md5 = response.headers.get("Content-MD5") if response.status == 200 else None
            if response.status != 206:
                _remember_version(response.headers, self.validator)
                start = 0
            self._copy(response, start=start, total=_total_bytes(response.headers, start))

    def check(self, sha256: str | None, verify: Callable[[Path], object] | None) -> None:
        """Raise DownloadError, or what ``verify`` raises, and drop the data, unless it is as expected."""
        try:
            if sha256 is not None and (found := sha256_of(self.part)) != sha256.lower():
                raise DownloadError(f"the downloaded file has SHA-256 {found}, expected {sha256}")
            if self._md5 is not None and (found := _md5_of(self.part)) != self._md5.strip():
                raise DownloadError(
                    f"the downloaded file has MD5 {found} (base64), the server said {self._md5}"
                )
            if verify is not None:
                verify(self.part)
        except Exception:
            self.part.unlink(missing_ok=True)
            raise

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
        return min(TIMEOUT_SECONDS, max(0.001, self._deadline - time.monotonic()))

    def _check_limits(self, num_bytes: int) -> None:
        limits = self._limits
        if num_bytes > limits.num_bytes:
            raise LimitError(f"larger than {limits.num_bytes // 10**6} MB")
        if time.monotonic() > self._deadline:
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


class _Plain(HTTPConnection):
    """An http connection over the socket that ``make_socket`` gives."""

    def __init__(self, host: str, *, make_socket: Connect, **options: Any) -> None:
        super().__init__(host, **options)
        self._make_socket = make_socket

    def connect(self) -> None:
        self.sock = self._make_socket((self.host, self.port), self.timeout or TIMEOUT_SECONDS)


class _Secure(HTTPSConnection):
    """The same for https. The certificate must be of the host in the URL."""

    def __init__(self, host: str, *, make_socket: Connect, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(host, context=context, **options)
        self._make_socket, self._tls = make_socket, context

    def connect(self) -> None:
        plain = self._make_socket((self.host, self.port), self.timeout or TIMEOUT_SECONDS)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class _ConnectedHandler(HTTPHandler, HTTPSHandler):
    """Opens http and https over given sockets."""

    def __init__(self, connect: Connect) -> None:
        self._connect, self._tls = connect, ssl.create_default_context()
        super().__init__(context=self._tls)

    def http_open(self, req: Request) -> Any:
        return self.do_open(partial(_Plain, make_socket=self._connect), req)

    def https_open(self, req: Request) -> Any:
        return self.do_open(partial(_Secure, make_socket=self._connect, context=self._tls), req)


def _opener(proxies: Mapping[str, str], redirection: _Redirection, connect: Connect | None) -> OpenerDirector:
    """An opener for http and https only, so that a redirection cannot lead to another protocol."""
    opener = OpenerDirector()
    own = (_GivenProxies(proxies), HTTPHandler(), HTTPSHandler())
    for handler in (
        *(own if connect is None else (_ConnectedHandler(connect),)),
        UnknownHandler(),
        HTTPDefaultErrorHandler(),
        redirection,
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _md5_of(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
    return base64.b64encode(digest).decode("ascii")


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
