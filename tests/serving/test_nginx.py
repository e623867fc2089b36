"""configs/serving/nginx.conf, run by Debian's nginx in front of two replicas on loopback."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from proxies import CONFIG, free_port, nginx
from replica import Replica
from served_model import coded_image

from paddlex_seg.config.schema import ServingConfig

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
PATH = "/instance-segmentation"


class Stub(ThreadingHTTPServer):
    """A replica that answers every request with its status, and keeps what it got."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.status = status
        self.requests: list[tuple[str, dict[str, str], bytes]] = []  # path, headers, body


class StubHandler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def stubs(*statuses: int) -> Iterator[list[Stub]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(Stub(status)) for status in statuses]
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
        yield servers


def request(
    port: int, method: str = "POST", path: str = PATH, body: bytes | None = b"an image", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def ports(servers: list[Stub]) -> list[int]:
    return [server.server_address[1] for server in servers]


@pytest.mark.parametrize("status", [503, 429])
def test_a_request_that_one_replica_refuses_goes_to_the_other(status: int, tmp_path: Path) -> None:
    with stubs(status, 200) as (refusing, serving), nginx(ports([refusing, serving]), tmp_path) as port:
        assert [request(port)[0] for _ in range(6)] == [200] * 6
        assert refusing.requests and all(body == b"an image" for _, _, body in serving.requests)
        assert len(serving.requests) == 6


def test_a_request_that_both_refuse_is_tried_twice_and_says_when_to_come_again(tmp_path: Path) -> None:
    with stubs(429, 429) as servers, nginx(ports(servers), tmp_path) as port:
        for count in range(1, 6):  # a refusal does not leave a replica out
            status, headers, _ = request(port)
            assert (status, headers["retry-after"]) == (429, "7")
            assert sum(len(server.requests) for server in servers) == 2 * count


def test_an_error_of_the_service_is_passed_on_and_not_repeated(tmp_path: Path) -> None:
    with stubs(500, 500) as servers, nginx(ports(servers), tmp_path) as port:
        assert request(port)[0] == 500
        assert sum(len(server.requests) for server in servers) == 1


def test_a_replica_that_is_down_costs_no_request(tmp_path: Path) -> None:
    with stubs(200) as (server,), nginx([free_port(), *ports([server])], tmp_path) as port:
        assert [request(port)[0] for _ in range(20)] == [200] * 20


def test_without_a_replica_the_reply_is_in_the_form_of_the_service(tmp_path: Path) -> None:
    with nginx([free_port(), free_port()], tmp_path) as port:
        status, headers, body = request(port, x_request_id="mine-1")
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "5", "application/json")
        assert json.loads(body) == {"logId": "mine-1", "errorCode": 503, "errorMsg": "No replica answers."}


def test_too_large_a_body_is_refused_at_the_limit_of_the_service(tmp_path: Path) -> None:
    limit = ServingConfig().max_body_mb * 10**6
    with stubs(200, 200) as servers, nginx(ports(servers), tmp_path) as port:
        assert request(port, body=bytes(limit))[0] == 200
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("POST", PATH)
        connection.putheader("Content-Length", str(limit + 1))
        connection.endheaders()
        response = connection.getresponse()
        reply = json.loads(response.read())
        connection.close()
    assert (response.status, reply["errorCode"]) == (413, 413)
    assert sum(len(server.requests) for server in servers) == 1


def test_requests_have_names_and_addresses(tmp_path: Path) -> None:
    with stubs(200, 200) as servers, nginx(ports(servers), tmp_path) as port:
        request(port, x_request_id="mine-1", x_forwarded_for="192.0.2.7")
        request(port, x_request_id='a"b')
        request(port)
    first, *others = sorted(
        (headers for server in servers for _, headers, _ in server.requests),
        key=lambda headers: headers["x-request-id"] != "mine-1",
    )
    assert first["x-request-id"] == "mine-1"
    assert first["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"
    assert first["host"] == f"127.0.0.1:{port}"
    names = {headers["x-request-id"] for headers in others}
    assert len(names) == 2 and all(re.fullmatch("[0-9a-f]{32}", name) for name in names)


def test_metrics_and_the_version_of_nginx_are_not_shown(tmp_path: Path) -> None:
    with stubs(200, 200) as servers, nginx(ports(servers), tmp_path) as port:
        status, headers, body = request(port, "GET", "/metrics", None)
        assert (status, json.loads(body)["errorCode"]) == (404, 404)
        assert headers["server"] == "nginx"
        assert not any(server.requests for server in servers)


def test_the_limits_fit_those_of_the_service() -> None:
    text, settings = CONFIG.read_text(encoding="utf-8"), ServingConfig()

    def seconds(name: str) -> int:
        found = re.search(rf"^ *{name} (\d+)s;", text, re.MULTILINE)
        assert found, name
        return int(found[1])

    assert f"client_max_body_size {settings.max_body_mb * 10**6};" in text
    assert seconds("proxy_read_timeout") > settings.deadline + settings.url_seconds
    assert seconds("proxy_next_upstream_timeout") < settings.deadline


class Clients:
    """Threads that send images one after the other until told to stop, and check each reply."""

    def __init__(self, port: int, count: int) -> None:
        self.sent, self.failures = 0, list[str]()
        self._port, self._stop, self._lock = port, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(first,)) for first in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, first: int) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = first
        while not self._stop.is_set():
            number += len(self._threads)
            problem = self._problem(connection, number)
            with self._lock:
                self.sent += 1
                if problem is not None:
                    self.failures.append(problem)
        connection.close()

    def _problem(self, connection: HTTPConnection, number: int) -> str | None:
        """What is wrong with the reply to an image, which tells its number."""
        headers = {"Content-Type": "image/png", "X-Request-Id": f"image-{number}"}
        try:
            connection.request("POST", f"{PATH}?visualize=false", coded_image(number), headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            connection.close()  # the next request opens it again
            return repr(error)
        reply = json.loads(body)
        if response.status != 200 or reply["logId"] != f"image-{number}":
            return f"{response.status}: {body[:200]!r}"
        x, y = reply["result"]["instances"][0]["bbox"][:2]
        return None if (x, y) == (number % 61, number // 61 % 31) else f"the reply of another image: {body!r}"


@pytest.mark.parametrize("requests", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_rolling_restart_fails_no_request(requests: int, tmp_path: Path) -> None:
    replicas = [Replica(free_port(), tmp_path / f"{name}.log") for name in "ab"]
    restarts = 0
    with ExitStack() as stack:
        for replica in replicas:
            stack.callback(replica.stop)
            replica.start()
        port = stack.enter_context(nginx([replica.port for replica in replicas], tmp_path / "nginx"))
        clients = Clients(port, 6)
        stack.callback(clients.stop)
        while clients.sent < requests or restarts < len(replicas):
            for replica in replicas:
                assert replica.stop() == 0
                replica.start()
                restarts += 1
        clients.stop()
        print(f"{clients.sent} requests, {restarts} restarts, {len(clients.failures)} failed")
    assert clients.failures == []
