"""Fetches images from URLs in requests, from public addresses only.

A sender of requests must not reach through the service what only the service can reach. So a URL is http or
https without a user name, its port is one of a few, and every address that its host has is public. The host
is resolved once for each connection, and the connection goes to one of the addresses that were checked. All
of this happens in `_Fetch.connect`, through which every connection goes, whatever a redirection says.
"""

import errno
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from ssl import SSLCertVerificationError, SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from paddlex_seg.files.download import DownloadError, LimitError, Limits, Network, download
from paddlex_seg.serving.problems import RequestProblem

LONGEST_URL = 4_096  # characters


@dataclass(frozen=True)
class UrlRules:
    """What a URL may name, and limits of the transfer: bytes, seconds in all, redirections."""

    ports: tuple[int, ...] = (80, 443)
    max_bytes: int = 30_000_000
    seconds: float = 15.0
    redirects: int = 3


def fetch_image(url: str, rules: UrlRules) -> bytes:
    """The content of a URL. Raises RequestProblem: 413 if it is too large, 422 for everything else."""
    _check_form(url)
    fetch = _Fetch(rules)
    with tempfile.TemporaryDirectory() as folder, fetch.within_time():
        file = Path(folder) / "image"
        limits = Limits(num_bytes=rules.max_bytes, seconds=rules.seconds, redirects=rules.redirects)
        network = Network(cache_dir=Path(folder), proxies={})
        try:
            download(url, file, network=network, limits=limits, quiet=True, connect=fetch.connect)
        except DownloadError as error:
            if fetch.is_late():
                raise fetch.too_slow() from error
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
                raise RequestProblem(503, "there is no space to fetch the image", retry_after=10) from error
            if isinstance(error, LimitError):
                raise RequestProblem(
                    413, f"the file at the URL is larger than {rules.max_bytes:,} bytes. Send a smaller image"
                ) from error
            raise _refusal(_reason(error.__cause__)) from error
        if fetch.is_late():  # the end of the connection may look like the end of the file
            raise fetch.too_slow()
        return file.read_bytes()


def _check_form(url: str) -> None:
    """Raise RequestProblem unless a URL has a form that is read in one way only."""
    if len(url) > LONGEST_URL:
        raise _refusal(f"it has {len(url):,} characters, the limit is {LONGEST_URL:,}")
    if found := re.search(r"[\x00-\x20\\\x7f]|\s", url):
        raise _refusal(f"it contains {found[0]!r}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _refusal(f"it is invalid ({error})") from error
    if parts.scheme not in ("http", "https") or not re.match("https?://", url, re.IGNORECASE):
        raise _refusal("it does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise _refusal("it has a user name")


def _refusal(reason: str) -> RequestProblem:
    return RequestProblem(422, f"the image cannot be fetched from its URL: {reason}")


def _reason(cause: BaseException | None) -> str:
    """What a sender is told about a failed transfer: nothing that the other side wrote."""
    if isinstance(cause, HTTPError):
        if 300 <= cause.code < 400:
            return "it redirects too often, or to something that is not http or https"
        return f"the server answered with status {cause.code}"
    inner = cause.reason if isinstance(cause, URLError) else cause
    if isinstance(inner, SSLCertVerificationError):
        return "the certificate of the server is not valid for this host"
    if isinstance(inner, SSLError):
        return "the server does not speak https as expected"
    if isinstance(inner, TimeoutError):
        return "the server did not answer in time"
    if isinstance(inner, HTTPException | ConnectionResetError):
        return "the server broke off, or does not speak http"
    if isinstance(inner, OSError):
        return "the server cannot be reached, or broke off"
    return "it is not a valid URL"


class _Fetch:
    """The connections of one transfer."""

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules
        self._deadline = time.monotonic() + rules.seconds
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False

    def connect(self, host_port: tuple[str, int], timeout: float) -> socket.socket:
        """A connection to a public address of the host. Raises RequestProblem, and OSError."""
        host, port = host_port
        if port not in self._rules.ports:
            ports = ", ".join(map(str, self._rules.ports))
            raise _refusal(f"its port is {port}; allowed are {ports}")
        if not _HOST.fullmatch(host):
            raise _refusal("its host is not valid")
        addresses = self._resolve(host, port)
        if not addresses or not all(is_public(address) for address in addresses):
            raise _refusal(f"the address of {host} is not public")
        problem: OSError | None = None
        for address in addresses:
            try:
                return self._watched(_connect(address, port, self._seconds_left(timeout)))
            except OSError as error:
                problem = error
        assert problem is not None
        raise problem

    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._deadline

    def too_slow(self) -> RequestProblem:
        """Says that the time is over."""
        return _refusal(f"it did not arrive within {self._rules.seconds:g} seconds")

    @contextmanager
    def within_time(self) -> Iterator[None]:
        """Ends all connections when the time is over: a server that drips bytes would never time out."""
        timer = threading.Timer(self._rules.seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._end()

    def _watched(self, connection: socket.socket) -> socket.socket:
        """The same connection, which `_end` can end even when TLS has taken it over."""
        with self._lock:
            if self._over:
                connection.close()
                raise self.too_slow()
            self._sockets.append(connection.dup())
        return connection

    def _end(self) -> None:
        with self._lock:
            self._over = True
            for connection in self._sockets:
                with suppress(OSError):  # closed by the other side
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            self._sockets.clear()

    def _seconds_left(self, timeout: float) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.too_slow()
        return min(left, timeout)

    def _resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host. The system may wait longer for them than we do."""
        found: list[list[str]] = []

        def ask() -> None:
            with suppress(OSError, UnicodeError):
                found.append(_addresses(host, port))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(self._seconds_left(self._rules.seconds))
        if asking.is_alive():
            raise self.too_slow()
        if not found:
            raise _refusal(f"the host {host} is not known")
        return found[0]


_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")  # a name or IPv4 address; an IPv6 address


def _addresses(host: str, port: int) -> list[str]:
    """All addresses of a host, without duplicates."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def _connect(address: str, port: int, timeout: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


_EMBEDDING = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_UNICAST = IPv6Network("2000::/3")
_REFUSED = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # a service of Azure for its own machines
        "192.0.0.0/24",  # RFC 6890; a service of Oracle's cloud
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",  # documentation, and the last one
        "2002::/16",  # 6to4: embeds an IPv4 address
        "3fff::/20",
    )
)


def is_public(text: str) -> bool:
    """Whether an IP address belongs to a host in the public internet."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _EMBEDDING:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
        elif address not in _UNICAST:
            return False
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
