"""Images are fetched from public addresses only, over checked connections, within all limits."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from file_server import CONTENT, Server
from trapped_network import TrappedNetwork, trapped

from paddlex_seg.serving import urls
from paddlex_seg.serving.problems import RequestProblem
from paddlex_seg.serving.urls import UrlRules, fetch_image, is_public

REAL_CHECK = is_public


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrappedNetwork]:
    with trapped(monkeypatch) as network:
        yield network


@pytest.fixture
def web(server: Server, network: TrappedNetwork, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server on this machine whose address passes as a public one, under the name web.test."""
    monkeypatch.setattr(urls, "is_public", lambda address: address == "127.0.0.1" or REAL_CHECK(address))
    network.names["web.test"] = ["127.0.0.1"]
    return server


def rules(port: int, **limits: float) -> UrlRules:
    return UrlRules(**{"ports": (80, 443, port), "seconds": 10.0, **limits})  # type: ignore[arg-type]


def fetched(web: Server, path: str = "/image.png", **limits: float) -> bytes:
    port = web.server_address[1]
    return fetch_image(f"http://web.test:{port}{path}", rules(port, **limits))


def problem(url: str, given: UrlRules) -> RequestProblem:
    with pytest.raises(RequestProblem) as caught:
        fetch_image(url, given)
    assert len(caught.value.message) < 500 and "\n" not in caught.value.message
    return caught.value


def test_an_image_is_fetched_with_one_look_up_and_one_connection(
    web: Server, network: TrappedNetwork
) -> None:
    assert fetched(web) == CONTENT
    assert network.asked == ["web.test"]
    assert network.connected == [("127.0.0.1", web.server_address[1])]
    assert web.requests[0]["Host"] == f"web.test:{web.server_address[1]}"


def test_the_second_address_is_used_if_the_first_does_not_answer(
    web: Server, network: TrappedNetwork
) -> None:
    network.names["web.test"] = ["93.184.215.14", "127.0.0.1"]
    assert fetched(web) == CONTENT
    assert [address for address, _ in network.connected] == ["93.184.215.14", "127.0.0.1"]


def test_proxies_of_the_environment_are_not_used(
    web: Server, network: TrappedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{network.port}")
    assert fetched(web) == CONTENT
    assert network.caught == 0


def test_redirections_are_followed_up_to_the_limit(web: Server, network: TrappedNetwork) -> None:
    there = f"http://web.test:{web.server_address[1]}"
    assert fetched(web, f"/elsewhere?{there}/elsewhere?{there}/x", redirects=2) == CONTENT
    assert network.asked == ["web.test"] * 3
    found = problem(
        f"{there}/elsewhere?{there}/elsewhere?{there}/x", rules(web.server_address[1], redirects=1)
    )
    assert found.status == 422 and "redirects too often" in found.message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://127.0.0.2:{trap}/", "is not public"),
        ("http://[::1]:{trap}/", "is not public"),
        ("http://0x7f000002:{trap}/", "is not public"),
        ("http://10.0.0.1/", "is not public"),
        ("http://169.254.169.254/latest/meta-data/", "is not public"),
        ("http://inner.test/", "is not public"),
        ("http://mixed.test/", "is not public"),
        ("http://unknown.test/", "is not known"),
        ("http://web.test:22/", "its port is 22"),
        ("http://user@web.test:{web}/", "its host is not valid"),
        ("http://web.test:{web}@127.0.0.2:{trap}/", "its host is not valid"),
        ("ftp://web.test/", "not a valid URL"),
        ("file:///etc/passwd", "not http or https"),
        ("gopher://127.0.0.1:{trap}/", "not http or https"),
        ("https://127.0.0.2:{trap}/", "is not public"),
        ("//127.0.0.2:{trap}/", "is not public"),
    ],
)
def test_each_redirection_is_checked(web: Server, network: TrappedNetwork, target: str, words: str) -> None:
    network.names |= {"inner.test": ["192.168.1.1"], "mixed.test": ["93.184.215.14", "10.0.0.1"]}
    port = web.server_address[1]
    url = f"http://web.test:{port}/elsewhere?" + target.format(trap=network.port, web=port)
    found = problem(url, rules(port, ports=(80, 443, port, network.port)))  # type: ignore[arg-type]
    assert found.status == 422 and words in found.message
    assert network.connected == [("127.0.0.1", port)] and network.caught == 0


def test_a_file_that_is_too_large_is_refused(web: Server) -> None:
    for web.send_length in (True, False):
        assert fetched(web, max_bytes=len(CONTENT)) == CONTENT
        with pytest.raises(RequestProblem, match="larger than 999,999 bytes") as caught:
            fetched(web, max_bytes=len(CONTENT) - 1)
        assert caught.value.status == 413


def test_coded_content_is_not_decoded(web: Server) -> None:
    web.version_headers = {"Content-Encoding": "gzip"}
    assert fetched(web) == CONTENT
    assert web.requests[0]["Accept-Encoding"] == "identity"


def test_what_the_server_answers_is_not_passed_on(web: Server) -> None:
    with pytest.raises(RequestProblem, match="status 404") as caught:
        fetched(web, "/missing")
    assert caught.value.status == 422
    web.version_headers = {"Content-Length": "secret"}
    web.send_length = False
    with pytest.raises(RequestProblem, match="cannot be fetched") as caught:
        fetched(web)
    assert "secret" not in caught.value.message


def test_a_server_that_breaks_off_is_a_reason(web: Server) -> None:
    web.cuts = [1000] * 9
    with pytest.raises(RequestProblem, match="broke off") as caught:
        fetched(web)
    assert caught.value.status == 422


def test_nobody_at_the_address_is_a_reason(web: Server, network: TrappedNetwork) -> None:
    network.names["gone.test"] = ["93.184.215.14"]
    found = problem("http://gone.test/x", UrlRules())
    assert found.status == 422 and "cannot be reached" in found.message


# Servers that take their time


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says to each client what ``talk`` says; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=speak, args=(client,), daemon=True).start()

    def speak(client: socket.socket) -> None:
        with client, suppress(OSError):
            talk(client)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def drip(client: socket.socket, text: bytes = b"x") -> None:
    for _ in range(400):
        client.sendall(text)
        time.sleep(0.02)


def silent(client: socket.socket) -> None:
    client.recv(1)
    client.recv(1_000_000)
    time.sleep(8)


def drips_status(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 2")
    drip(client, b"0")


def drips_headers(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nA: ")
    drip(client)


def continues(client: socket.socket) -> None:
    drip(client, b"HTTP/1.1 100 Continue\r\n\r\n")


def drips_body(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(client)


def drips_chunk_size(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(client, b"0")


def drips_trailer(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ")
    drip(client)


SLOW = (silent, drips_status, drips_headers, continues, drips_body, drips_chunk_size, drips_trailer)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("talk", SLOW, ids=lambda talk: talk.__name__)
def test_a_slow_server_is_left_when_the_time_is_over(
    web: Server, talk: Callable[[socket.socket], None], scheme: str
) -> None:
    with talking(talk) as port:
        start = time.monotonic()
        found = problem(f"{scheme}://web.test:{port}/", rules(port, seconds=0.3))
        assert found.status == 422
        if scheme == "http" or talk is silent:  # the others speak no TLS
            assert "within 0.3 seconds" in found.message
        assert time.monotonic() - start < 4  # they would take 8 seconds


def test_a_slow_look_up_is_left_when_the_time_is_over(web: Server, network: TrappedNetwork) -> None:
    over = threading.Event()
    network.names["slow.test"] = lambda: ["93.184.215.14"] * over.wait(30)
    start = time.monotonic()
    assert "within 0.2 seconds" in problem("http://slow.test/", UrlRules(seconds=0.2)).message
    assert time.monotonic() - start < 10
    over.set()
    assert network.connected == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://me@web.test/", "it has a user name"),
        ("http://me:secret@web.test/", "it has a user name"),
        ("http://web.test/a b", "it contains ' '"),
        ("http://web.test\\x", "it contains"),
        ("http://web.test/\r\nX: y", r"it contains '\r'"),
        ("http:web.test/", "does not begin with http:// or https://"),
        ("data:image/png;base64,aGVsbG8=", "does not begin with http:// or https://"),
        ("http://[::1/", "it is invalid"),
        ("http://web.test/" + "a" * 5_000, "it has 5,016 characters"),
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_refused(network: TrappedNetwork, url: str, words: str) -> None:
    found = problem(url, UrlRules())
    assert found.status == 422 and words in found.message
    assert network.asked == []


def test_no_thread_and_no_descriptor_is_left(web: Server) -> None:
    fetched(web)
    time.sleep(0.2)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        fetched(web)
    time.sleep(0.2)
    assert threading.active_count() <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


# TLS


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate of web.test, which is trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=web.test"]
    command += ["-addext", "subjectAltName=DNS:web.test"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def test_https_needs_a_certificate_of_the_host(
    web: Server, network: TrappedNetwork, secure: ssl.SSLContext
) -> None:
    def talk(client: socket.socket) -> None:
        with secure.wrap_socket(client, server_side=True) as inner:
            inner.recv(10_000)
            inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    network.names["other.test"] = ["127.0.0.1"]
    with talking(talk) as port:
        assert fetch_image(f"https://web.test:{port}/", rules(port)) == b"hello"
        for host in ("other.test", "127.0.0.1"):
            found = problem(f"https://{host}:{port}/", rules(port))
            assert found.status == 422 and "certificate" in found.message


@pytest.mark.parametrize("drips", [drips_headers, drips_body], ids=lambda drips: drips.__name__)
def test_a_slow_server_with_https_is_left_when_the_time_is_over(
    web: Server, secure: ssl.SSLContext, drips: Callable[[socket.socket], None]
) -> None:
    def talk(client: socket.socket) -> None:
        with secure.wrap_socket(client, server_side=True) as inner:
            inner.recv(10_000)
            drips(inner)

    start = time.monotonic()
    with talking(talk) as port:
        found = problem(f"https://web.test:{port}/", rules(port, seconds=0.5))
    assert "within 0.5 seconds" in found.message
    assert time.monotonic() - start < 5  # it would take 8 seconds


# Addresses


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *[(address, True) for address in ("93.184.215.14", "1.1.1.1", "223.255.255.1", "2606:4700::1111")],
        *[(address, True) for address in ("::ffff:1.1.1.1", "64:ff9b::101:101", "2a00:1450:4001::200e")],
        *[(address, False) for address in ("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9")],
        *[(address, False) for address in ("169.254.169.254", "172.31.0.1", "192.0.0.192", "192.0.2.1")],
        *[(address, False) for address in ("192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1")],
        *[(address, False) for address in ("203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1")],
        *[(address, False) for address in ("255.255.255.255", "168.63.129.16", "100.100.100.200")],
        *[(address, False) for address in ("::", "::1", "::127.0.0.1", "::1.1.1.1", "::ffff:127.0.0.1")],
        *[(address, False) for address in ("::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1")],
        *[(address, False) for address in ("64:ff9b:1::101:101", "2001::1", "2001:db8::1", "2002:101:101::")],
        *[(address, False) for address in ("3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0")],
        *[(address, False) for address in ("fec0::1", "ff02::1", "ff0e::1", "2606:4700::1%1", "100::1")],
        *[(address, False) for address in ("", "example.com", "1.1.1", "0x01010101", "01.1.1.1")],
    ],
)
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected
