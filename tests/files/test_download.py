"""Downloads: cut connections, limits, proxies."""

import base64
import hashlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from file_server import CONTENT, Server

from paddlex_seg.files import download
from paddlex_seg.files.download import DownloadError, LimitError, Limits, Network
from paddlex_seg.files.download import download as get_file


def network(cache_dir: Path, **proxies: str) -> Network:
    return Network(cache_dir=cache_dir, proxies=proxies)


def files_in(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def get(server: Server, folder: Path, **options: str) -> Path:
    get_file(server.url, folder / "net.pdparams", network=network(folder), **options)  # type: ignore[arg-type]
    return folder / "net.pdparams"


# Cut connections


def test_a_cut_transfer_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [headers.get("Range") for headers in server.requests] == [None, "bytes=300000-", "bytes=500000-"]
    assert files_in(tmp_path) == {".pdparams"}


def test_a_later_call_resumes_what_an_earlier_one_could_not_finish(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] * download.ATTEMPTS
    with pytest.raises(DownloadError, match=f"broke off after 300000 of {len(CONTENT)} bytes"):
        get(server, tmp_path)
    assert not list(tmp_path.glob("*.pdparams"))
    assert get(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest()).read_bytes() == CONTENT
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
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.ranges, server.version_headers, server.content = True, {"ETag": '"two"'}, CONTENT[::-1]
    assert get(server, tmp_path).read_bytes() == CONTENT[::-1]
    assert server.requests[-1]["If-Range"] == '"one"'


def test_a_beginning_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.pdparams.part").write_bytes(CONTENT + b"more")
    (tmp_path / "net.pdparams.validator").write_text('"one"')
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net.pdparams"
        with pytest.raises(DownloadError, match="timed out"):
            get_file(url, tmp_path / "net.pdparams", network=network(tmp_path))


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


@pytest.mark.parametrize("headers", [{}, {"ETag": '"one"'}], ids=["whole", "with a version"])
def test_a_file_that_differs_from_the_servers_md5_is_refused(
    server: Server, tmp_path: Path, headers: dict[str, str]
) -> None:
    right, wrong = (base64.b64encode(hashlib.md5(data).digest()).decode() for data in (CONTENT, b"x"))
    server.version_headers = {**headers, "Content-MD5": right}
    assert get(server, tmp_path).read_bytes() == CONTENT
    server.version_headers["Content-MD5"] = wrong
    with pytest.raises(DownloadError, match="the server said"):
        get(server, tmp_path)
    server.version_headers["Content-MD5"] = right
    assert get(server, tmp_path).read_bytes() == CONTENT  # nothing of the wrong file is left


def test_what_the_caller_refuses_gets_no_name(server: Server, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == CONTENT
        raise DownloadError("no weights")

    with pytest.raises(DownloadError, match="no weights"):
        get(server, tmp_path, verify=refuse)  # type: ignore[arg-type]
    assert files_in(tmp_path) <= {".validator"}


def test_weights_have_limits() -> None:
    limits = Limits()
    assert 0 < limits.num_bytes <= 2e10 and 0 < limits.seconds <= 24 * 3600 and limits.redirects <= 20


def test_a_host_name_of_any_language_is_asked_for(server: Server, tmp_path: Path) -> None:
    proxy = f"http://127.0.0.1:{server.server_address[1]}"
    get_file("http://bücher.invalid/x", tmp_path / "x", network=network(tmp_path, http=proxy))
    assert server.requests[-1]["Host"] == "xn--bcher-kva.invalid"


@pytest.mark.parametrize("path", ["/模型 a/größe.png?名=a b&c=%20", "/%E6%A8%A1/a%b.png", "/a#b"])
def test_addresses_are_sent_in_ascii(server: Server, tmp_path: Path, path: str) -> None:
    url = server.url.replace("http", "HTTP").replace("/models/net.pdparams", path)
    get_file(url, tmp_path / "x", network=network(tmp_path))
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_downloading_needs_no_paddle() -> None:
    code = "import sys, paddlex_seg.files.download; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Connections made by the caller


def test_the_caller_may_make_all_connections(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def connect(host_port: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(host_port)
        assert 0 < timeout <= download.TIMEOUT_SECONDS
        return socket.create_connection(server.server_address, timeout)  # type: ignore[arg-type]

    server.cuts = [300_000]
    proxies = {"http": "http://127.0.0.1:9"}  # not used then
    url = "http://one.invalid/elsewhere?http://two.invalid:8080/x"
    get_file(url, tmp_path / "x", network=network(tmp_path, **proxies), connect=connect)
    assert (tmp_path / "x").read_bytes() == CONTENT
    one, two = ("one.invalid", 80), ("two.invalid", 8080)
    assert asked == [one, two, one, two]  # the second time after the cut


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refusal_to_connect_is_passed_on(tmp_path: Path, scheme: str) -> None:
    def refuse(host_port: tuple[str, int], timeout: float) -> socket.socket:
        raise LookupError(f"{host_port} is refused")

    def fail(host_port: tuple[str, int], timeout: float) -> socket.socket:
        raise ConnectionRefusedError("nobody is there")

    url = f"{scheme}://one.invalid/x"
    with pytest.raises(LookupError, match="one.invalid"):
        get_file(url, tmp_path / "x", network=network(tmp_path), connect=refuse)
    with pytest.raises(DownloadError, match="nobody is there"):
        get_file(url, tmp_path / "x", network=network(tmp_path), connect=fail)
