"""Addresses (URLs) as users write them: which kind they are, and the form in which they are sent."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

SUPPORTED = "http, https and file"
# "C:\\x" is a path. A name with a colon, such as "12:30.jpg", is one, too.
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+)://|\s*(https?|file|data|ftp):", re.IGNORECASE)
_KEPT = "!$&'()*+,;=:@/~"  # beside letters, digits and "_.-"


class AddressError(ValueError):
    """An address that cannot be used. The message says why, without the address."""


def scheme_of(text: str) -> str | None:
    """The scheme of an address, in lowercase: "http", "file", "s3" ...; None for a path."""
    found = _ADDRESS.match(text)
    return (found[1] or found[2]).lower() if found else None


def unsupported(scheme: str) -> str:
    """The end of a sentence about an address with an unknown scheme."""
    return f"{scheme}: addresses are not supported. Supported are {SUPPORTED} addresses, and paths."


def local_path(url: str) -> Path:
    """The file that a ``file:`` address means. Characters outside of ASCII may be escaped or not.

    Raises AddressError when it is on another machine.
    """
    parts = urlsplit(url.strip())
    if parts.netloc not in ("", "localhost"):
        raise AddressError(
            f"it names the host {parts.netloc}. The address of a file on this machine begins with file:///"
        )
    return Path(url2pathname(parts.path))


def file_name(url: str) -> str:
    """The last part of the path of an address, without escapes; empty if there is none."""
    path = re.sub(r"^\s*[^:/]+:(//[^/?#]*)?", "", url)
    return PurePosixPath(unquote(re.sub(r"[?#].*", "", path, flags=re.DOTALL))).name


def to_ascii(url: str) -> str:
    """An http or https address in the form that is sent: in ASCII, without fragment.

    Escapes are kept. Everything else that needs one is escaped as UTF-8; a host name is written in IDNA.
    Raises AddressError for an address without host, or with an invalid host or port.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    except ValueError as error:  # UnicodeError is one
        raise AddressError(f"the address is invalid: {error}") from error
    if not host:
        raise AddressError("the address has no host")
    if ":" in ascii_host:  # IPv6
        ascii_host = f"[{ascii_host}]"
    user = f"{_escaped(parts.netloc.rpartition('@')[0])}@" if "@" in parts.netloc else ""
    netloc = f"{user}{ascii_host}" + ("" if port is None else f":{port}")
    path, query = _escaped(parts.path), _escaped(parts.query, also="?")
    return urlunsplit((parts.scheme.lower(), netloc, path, query, ""))


def expected_sha256(url: str) -> str | None:
    """The checksum that an address names as its fragment, ``#sha256=<64 hexadecimal digits>``.

    Raises AddressError when the fragment begins so, but is none.
    """
    name, _, value = urlsplit(url.strip()).fragment.partition("=")
    if name.lower() != "sha256":
        return None
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise AddressError(f"#sha256={value} is no SHA-256, which has 64 hexadecimal digits")
    return value.lower()


def _escaped(text: str, also: str = "") -> str:
    """Percent signs that begin no escape are escaped, too."""
    lone = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)
    return quote(lone, safe=_KEPT + "%" + also)
