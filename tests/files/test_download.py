import hashlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.errors import WeightsError
from paddlex_seg.files import download
from paddlex_seg.files.download import (
    DownloadError,
    LimitError,
    Limits,
    Network,
    cached_name,
    fetch,
    resolve_weights,
)
from paddlex_seg.files.download import (
    download as get_file,
)

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "Train.pretrain_weight_path"


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every path except /missing, in the way that the test sets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.version_headers = {"ETag": '"one"'}
        self.ranges = True
        self.send_length = True
        self.pause_seconds = 0.0  # before every 1,000 bytes
        self.endless_redirection = False
        self.cuts: list[int] = []  # for each of the next responses, the bytes after which it breaks off
        self.requests: list[dict[str, str]] = []  # headers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/models/net.pdparams"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/elsewhere?"))
            self.end_headers()
            with suppress(OSError):
                while server.endless_redirection:
                    self.wfile.write(bytes(1000))
            return
        start = self.first_byte()
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        for name, value in server.version_headers.items():
            self.send_header(name, value)
        body = server.content[start:]
        if server.send_length:
            self.send_header("Content-Length", str(len(body)))
        if start:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        if server.pause_seconds:
            self.drip(body)
            return
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def drip(self, body: bytes) -> None:
        with suppress(OSError):
            for begin in range(0, len(body), 1000):
                time.sleep(self.server.pause_seconds)
                self.wfile.write(body[begin : begin + 1000])

    def first_byte(self) -> int:
        versions = self.server.version_headers.values()
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not (self.server.ranges and wanted and self.headers.get("If-Range") in versions):
            return 0
        return int(wanted.group(1))

    def log_message(self, *arguments: object) -> None:
        pass


def network(cache_dir: Path, **proxies: str) -> Network:
    return Network(cache_dir=cache_dir, proxies=proxies)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files_in(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def get(server: Server, folder: Path, **options: str) -> Path:
    return fetch(server.url, config_key=KEY, network=network(folder), **options)  # type: ignore[arg-type]


# Fetching


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path / "new", sha256=SHA256.upper())
    assert path.read_bytes() == CONTENT
    assert path.name.startswith("net-") and path.suffix == ".pdparams"
    assert get(server, tmp_path / "new", sha256=SHA256) == get(server, tmp_path / "new") == path
    assert len(server.requests) == 1
    assert files_in(path.parent) == {".pdparams", ".lock"}


def test_a_file_without_a_length_is_fetched(server: Server, tmp_path: Path) -> None:
    server.send_length = False
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_two_addresses_never_share_a_file(server: Server, tmp_path: Path) -> None:
    first = fetch(server.url, config_key=KEY, network=network(tmp_path))
    server.content = b"another"
    second = fetch(server.url.replace("models", "others"), config_key=KEY, network=network(tmp_path))
    third = fetch(server.url + "?v=2", config_key=KEY, network=network(tmp_path))
    assert first.read_bytes() == CONTENT
    assert second.read_bytes() == third.read_bytes() == b"another"
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://h/a/ResNet50_cos.pdparams", r"ResNet50_cos-[0-9a-f]{8}\.pdparams"),
        ("https://h/a%2F..%2F..%2Fetc%20x.pdparams?x=/y", r"[\w.-]+-[0-9a-f]{8}\.pdparams"),
        ("https://h/", r"weights-[0-9a-f]{8}"),
        ("https://h/" + "x" * 500, r"x{80}-[0-9a-f]{8}"),
    ],
)
def test_cached_names_are_plain_file_names(url: str, pattern: str) -> None:
    assert re.fullmatch(pattern, cached_name(url))


def test_a_redirection_is_followed_over_http_and_to_nothing_else(server: Server, tmp_path: Path) -> None:
    elsewhere = server.url.replace("models/net.pdparams", "elsewhere?")
    assert fetch(elsewhere + server.url, config_key=KEY, network=network(tmp_path)).read_bytes() == CONTENT
    secret = tmp_path / "secret"
    secret.write_text("x")
    for target in (secret.as_uri(), "ftp://127.0.0.1/x"):
        with pytest.raises(WeightsError, match="could not be downloaded"):
            fetch(elsewhere + target, config_key=KEY, network=network(tmp_path))


# Cut connections


def test_a_cut_transfer_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [headers.get("Range") for headers in server.requests] == [None, "bytes=300000-", "bytes=500000-"]
    assert files_in(tmp_path) == {".pdparams", ".lock"}


def test_a_later_call_resumes_what_an_earlier_one_could_not_finish(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] * download.ATTEMPTS
    with pytest.raises(WeightsError, match=f"broke off after 300000 of {len(CONTENT)} bytes") as error:
        get(server, tmp_path)
    assert server.url in str(error.value) and f"set {KEY}" in str(error.value)
    assert not list(tmp_path.glob("*.pdparams"))
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=300000-"


def test_without_ranges_a_cut_transfer_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [300_000]
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({"ETag": '"one"'}, '"one"'),
        (
            {"ETag": 'W/"weak"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
            "Mon, 01 Jan 2024 00:00:00 GMT",
        ),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
    ids=["etag", "weak etag and date", "date", "weak etag", "nothing"],
)
def test_resuming_is_bound_to_the_version_or_not_tried(
    server: Server, tmp_path: Path, headers: dict[str, str], condition: str | None
) -> None:
    server.version_headers = headers
    server.cuts = [300_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1].get("If-Range") == condition
    assert ("Range" in server.requests[1]) == (condition is not None)


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_beginning(
    server: Server, tmp_path: Path
) -> None:
    server.cuts = [300_000] * download.ATTEMPTS
    server.ranges = False
    with pytest.raises(WeightsError):
        get(server, tmp_path)
    server.ranges, server.version_headers, server.content = True, {"ETag": '"two"'}, CONTENT[::-1]
    assert get(server, tmp_path).read_bytes() == CONTENT[::-1]
    assert server.requests[-1]["If-Range"] == '"one"'


def test_a_beginning_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    name = cached_name(server.url)
    (tmp_path / f"{name}.part").write_bytes(CONTENT + b"more")
    (tmp_path / f"{name}.validator").write_text('"one"')
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net.pdparams"
        with pytest.raises(WeightsError, match="timed out"):
            fetch(url, config_key=KEY, network=network(tmp_path))


# Errors


def test_a_wrong_checksum_is_an_error_and_leaves_nothing_to_be_used(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"has SHA-256 {SHA256}, expected {'0' * 64}"):
        get(server, tmp_path, sha256="0" * 64)
    assert files_in(tmp_path) <= {".lock", ".validator"}


def test_a_cached_file_with_another_checksum_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / cached_name(server.url)).write_bytes(b"damaged")
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_a_missing_file_names_the_address_and_the_key_to_set(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("models", "missing")
    with pytest.raises(WeightsError, match="404") as error:
        fetch(url, config_key=KEY, network=network(tmp_path))
    assert url in str(error.value) and f"set {KEY} to the path of that file" in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/net.pdparams", "https://no-such-host.invalid/net.pdparams"]
)
def test_without_a_network_the_error_tells_what_to_do(tmp_path: Path, url: str) -> None:
    with pytest.raises(WeightsError, match="Download it manually") as error:
        fetch(url, config_key=KEY, network=network(tmp_path))
    assert url in str(error.value) and KEY in str(error.value)


def test_a_cache_that_cannot_be_made_is_an_error_with_advice(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError, match="Download it manually"):
        get(server, tmp_path / "file" / "cache")


@pytest.mark.parametrize("url", ["ftp://h/net.pdparams", "data://x", "ppdet://models/net.pdparams"])
def test_other_kinds_of_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"{KEY}: the URL '{url}' is not supported"):
        fetch(url, config_key=KEY, network=network(tmp_path))


# Limits and proxies


def limited(server: Server, folder: Path, url: str | None = None, **limits: float) -> Path:
    target = folder / "image.png"
    get_file(url or server.url, target, network=network(folder), limits=Limits(**limits), quiet=True)  # type: ignore[arg-type]
    return target


@pytest.mark.parametrize("send_length", [True, False])
def test_what_is_larger_than_the_limit_is_refused(server: Server, tmp_path: Path, send_length: bool) -> None:
    server.send_length = send_length
    assert limited(server, tmp_path, num_bytes=len(CONTENT)).read_bytes() == CONTENT
    (tmp_path / "image.png").unlink()
    with pytest.raises(LimitError, match="larger than 0 MB"):
        limited(server, tmp_path, num_bytes=len(CONTENT) - 1)
    assert not (tmp_path / "image.png").exists()


def test_a_stated_size_beyond_the_limit_is_refused_before_it_arrives(server: Server, tmp_path: Path) -> None:
    with pytest.raises(LimitError):
        limited(server, tmp_path, num_bytes=10)
    assert not (tmp_path / "image.png.part").exists()


def test_a_server_that_drips_is_given_up_at_the_deadline(server: Server, tmp_path: Path) -> None:
    server.pause_seconds = 0.05
    start = time.monotonic()
    with pytest.raises(LimitError, match="not complete after 0 s"):
        limited(server, tmp_path, seconds=0.3)
    assert time.monotonic() - start < 3


def test_a_silent_server_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net.pdparams"
        start = time.monotonic()
        with pytest.raises(DownloadError, match="timed out"):
            get_file(url, tmp_path / "x", network=network(tmp_path), limits=Limits(seconds=0.2))
        assert time.monotonic() - start < 3


def test_redirections_are_followed_up_to_the_limit(server: Server, tmp_path: Path) -> None:
    elsewhere = server.url.replace("models/net.pdparams", "elsewhere?")
    url = 3 * elsewhere + server.url
    assert limited(server, tmp_path, url, redirects=3).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="302"):
        limited(server, tmp_path, url, redirects=2)


def test_what_a_redirection_brings_along_is_not_read(server: Server, tmp_path: Path) -> None:
    server.endless_redirection = True
    elsewhere = server.url.replace("models/net.pdparams", "elsewhere?")
    assert limited(server, tmp_path, elsewhere + server.url, seconds=10).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://[::1/x", "http://127.0.0.1:port/x", "http://", "ftp://127.0.0.1/x"])
def test_an_address_that_is_none_is_an_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        get_file(url, tmp_path / "x", network=network(tmp_path))


def test_a_server_that_lies_about_the_length_is_an_error(server: Server, tmp_path: Path) -> None:
    server.version_headers = {"Content-Length": "many"}
    server.send_length = False
    with pytest.raises(DownloadError, match="many"):
        limited(server, tmp_path)


def test_the_given_proxy_is_asked_but_for_the_hosts_without_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # downloads must not read it
    monkeypatch.setenv("no_proxy", "")
    proxy = f"http://127.0.0.1:{server.server_address[1]}"
    url = "http://no-such-host.invalid/net.pdparams"
    get_file(url, tmp_path / "x", network=network(tmp_path, http=proxy))
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.requests[-1]["Host"] == "no-such-host.invalid"
    with pytest.raises(DownloadError):
        get_file(url, tmp_path / "y", network=network(tmp_path, http=proxy, no=".invalid"))
    get_file(server.url, tmp_path / "z", network=network(tmp_path))


# Several at once


def test_processes_that_want_the_same_file_download_it_once(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from paddlex_seg.files.download import Network, fetch;"
        "print(fetch(sys.argv[1], config_key='k', network=Network(Path(sys.argv[2]), {})))"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(server.requests) == 1
    assert [Path(path).read_bytes() == CONTENT for path in paths] == [True]


def test_a_second_download_waits_until_the_first_is_done(tmp_path: Path) -> None:
    order = []
    lock = tmp_path / "x.lock"

    def second() -> None:
        with download._one_process_at_a_time(lock, "x"):
            order.append("second")

    with download._one_process_at_a_time(lock, "x"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# Values of the configuration


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.pdparams"
    path.write_bytes(b"x")
    assert resolve_weights(str(path), KEY, network=network(tmp_path)) == path


def test_an_address_is_fetched(server: Server, tmp_path: Path) -> None:
    path = resolve_weights(server.url, KEY, sha256=SHA256, network=network(tmp_path))
    assert path.read_bytes() == CONTENT


def test_a_file_address_is_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "a b.pdparams"
    path.write_bytes(CONTENT)
    assert resolve_weights(path.as_uri(), KEY, sha256=SHA256, network=network(tmp_path)) == path
    with pytest.raises(WeightsError, match=f"{KEY}: .* has SHA-256 {SHA256}, expected 00"):
        resolve_weights(path.as_uri(), KEY, sha256="00", network=network(tmp_path))
    with pytest.raises(WeightsError, match=f"{KEY}: .* does not exist"):
        resolve_weights(path.as_uri() + "x", KEY, network=network(tmp_path))


@pytest.mark.parametrize(("name", "words"), [("none.pdparams", "does not exist"), (".", "is a folder")])
def test_a_path_that_is_no_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=f"{KEY}: '{name}' {words}") as error:
        resolve_weights(name, KEY, network=network(tmp_path))
    assert str(tmp_path) in str(error.value)


def test_downloading_needs_no_paddle() -> None:
    code = "import sys, paddlex_seg.files.download; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
