"""Many requests at once: each gets its own reply, too many are refused at once, nothing is left behind."""

import asyncio
import base64
import socket
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from served_model import RunningService, TwentyMsModel, coded_image, serving

from paddlex_seg.serving.connections import Connection

PATH = "/instance-segmentation"
LIMITS = httpx.Limits(max_connections=1000)


def fields(number: int, **more: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(coded_image(number)).decode(), "visualize": False, **more}


async def post_all(url: str, requests: list[dict[str, Any]]) -> list[httpx.Response]:
    """The replies to requests that are sent at the same time."""
    async with httpx.AsyncClient(base_url=url, limits=LIMITS, timeout=60, trust_env=False) as client:
        return list(await asyncio.gather(*(client.post(PATH, json=one) for one in requests)))


@pytest.mark.parametrize(
    ("models", "settings"), [(1, {"batch_size": 1}), (1, {"batch_size": 4}), (2, {"batch_size": 1})]
)
def test_each_reply_belongs_to_its_request(models: int, settings: dict[str, Any]) -> None:
    numbers = [1000 + 7 * index for index in range(64)]
    with serving(*(TwentyMsModel() for _ in range(models)), **settings) as running:
        serial = {
            number: httpx.post(running.url + PATH, json=fields(number)).json()["result"] for number in numbers
        }
        assert len({str(result) for result in serial.values()}) == 64
        for turn in range(5):
            asked = numbers[turn:] + numbers[:turn]
            replies = asyncio.run(post_all(running.url, [fields(one, logId=str(one)) for one in asked]))
            for number, reply in zip(asked, replies, strict=True):
                assert reply.json()["logId"] == str(number)
                assert reply.json()["result"] == serial[number]
        batches = [size for model in running.models for size in model.batches]
        assert max(batches) == settings["batch_size"]
        assert all(model.predicted > 64 for model in running.models)


def test_images_of_a_batch_keep_their_own_threshold() -> None:
    with serving(TwentyMsModel(0.1), batch_size=8) as running:
        requests = [fields(7, threshold=0.95 if index % 2 else 0.3) for index in range(12)]
        replies = asyncio.run(post_all(running.url, requests))
        counts = [len(reply.json()["result"]["instances"]) for reply in replies]
        assert counts == [1, 0] * 6
        assert max(running.models[0].batches) > 1


def test_ten_times_the_queue_is_refused_at_once_and_the_service_recovers() -> None:
    with serving(queue_size=16) as running:
        start = time.monotonic()
        replies = asyncio.run(post_all(running.url, [fields(index) for index in range(160)]))
        statuses = Counter(reply.status_code for reply in replies)
        assert set(statuses) <= {200, 429, 503} and statuses[200] >= 16 and statuses[429] > 0
        refused = [reply for reply in replies if reply.status_code != 200]
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert all(reply.json()["errorCode"] == reply.status_code for reply in refused)
        assert httpx.post(running.url + PATH, json=fields(1)).status_code == 200
        assert time.monotonic() - start < 30
        assert running.service.places.taken == 0


def test_a_list_needs_a_place_for_each_image() -> None:
    with serving(TwentyMsModel(0.3), queue_size=4, max_images=8) as running:
        images = [fields(index)["image"] for index in range(8)]
        reply = httpx.post(running.url + PATH, json={"images": images})
        assert (reply.status_code, running.predicted) == (413, 0)
        first = send_and_go(running, 1)
        wait_until(lambda: running.service.places.taken == 1)
        reply = httpx.post(running.url + PATH, json={"images": images[:5]})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        reply = httpx.post(running.url + PATH, json={"images": images[:4]})
        assert (reply.status_code, len(reply.json()["result"]["results"])) == (200, 4)
        first.close()
        wait_until(lambda: running.service.places.taken == 0)
        assert running.predicted == 5


def send_and_go(running: RunningService, number: int) -> socket.socket:
    """A connection whose request has been sent. Its owner closes it."""
    body = httpx.Request("POST", running.url + PATH, json=fields(number)).read()
    connection = socket.create_connection(("127.0.0.1", running.port))
    connection.sendall(head("application/json", len(body)) + body)
    return connection


def head(kind: str, length: int) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def dropped(running: RunningService, reason: str) -> float:
    return running.service.metrics.dropped.labels(reason)._value.get()


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


def test_a_client_that_has_gone_before_its_turn_costs_no_inference() -> None:
    with serving(TwentyMsModel(0.4)) as running:
        first = send_and_go(running, 1)
        wait_until(lambda: running.service.places.taken == 1)
        leaving = [send_and_go(running, 2 + index) for index in range(10)]
        wait_until(lambda: running.service.places.taken == 11)
        for connection in leaving:
            connection.close()
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        first.close()
        wait_until(lambda: running.service.places.taken == 0)
        assert httpx.post(running.url + PATH, json=fields(99)).status_code == 200
        # Two threads may have been waiting for the model with a decoded image.
        assert running.predicted == 2
        assert dropped(running, "client_gone") == 10


def test_a_request_that_waits_too_long_is_refused_and_not_predicted() -> None:
    with serving(TwentyMsModel(0.5), deadline=0.7) as running:
        replies = asyncio.run(post_all(running.url, [fields(index) for index in range(6)]))
        statuses = Counter(reply.status_code for reply in replies)
        assert statuses[503] >= 4 and statuses[200] >= 1
        assert all(reply.headers["retry-after"] for reply in replies if reply.status_code == 503)
        wait_until(lambda: running.predicted + dropped(running, "deadline") == 6)
        assert running.predicted <= 3


def test_a_request_that_does_not_arrive_is_ended() -> None:
    with serving(deadline=0.5) as running, socket.create_connection(("127.0.0.1", running.port)) as slow:
        slow.sendall(head("image/png", 99) + b"ab")
        slow.settimeout(20)
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert running.service.places.taken == 0


def test_a_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "silent_seconds", 0.4)
    with serving(TwentyMsModel(1.5)) as running:
        busy = send_and_go(running, 1)
        silent, slow, late = (socket.create_connection(("127.0.0.1", running.port)) for _ in range(3))
        slow.sendall(b"GET /health HTTP/1.1\r\nHost:")
        late.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert late.recv(1000).startswith(b"HTTP/1.1 200")
        late.sendall(b"GET /health HTTP/1.1\r\nHo")
        refused = socket.create_connection(("127.0.0.1", running.port))
        refused.sendall(head("image/png", 99).replace(PATH.encode(), b"/nothing") + b"a")
        assert refused.recv(1000).startswith(b"HTTP/1.1 404")
        for connection in (silent, slow, late, refused):
            connection.settimeout(20)
            while connection.recv(1000):
                pass  # until it is closed
            connection.close()
        assert busy.recv(100).startswith(b"HTTP/1.1 200")
        busy.close()


def test_a_stop_answers_what_waits_and_refuses_what_comes() -> None:
    with serving(TwentyMsModel(0.2)) as running:
        waiting = [send_and_go(running, index) for index in range(5)]
        wait_until(lambda: running.service.places.taken == 5)
        running.stop()
        for number, connection in enumerate(waiting):
            connection.settimeout(20)
            reply = b"".join(iter(lambda: connection.recv(65536), b""))  # noqa: B023  # used at once
            assert reply.startswith(b"HTTP/1.1 200"), (number, reply[:100])
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", running.port), 1)
        assert running.predicted == 5


def test_the_end_of_the_drain_refuses_what_still_waits() -> None:
    with serving(TwentyMsModel(0.3)) as running:
        waiting = [send_and_go(running, index) for index in range(8)]
        wait_until(lambda: running.service.places.taken == 8)
        running.service.is_draining = True
        assert httpx.get(running.url + "/ready").status_code == 503
        assert httpx.post(running.url + PATH, json=fields(1)).status_code == 503
        running.service.refuse_waiting()
        statuses = Counter()
        for connection in waiting:
            connection.settimeout(20)
            statuses[connection.recv(100).split()[1]] += 1
        assert set(statuses) <= {b"200", b"503"} and statuses[b"503"] >= 5


def test_freed_memory_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("paddlex_seg.serving.service.return_freed_memory", lambda: calls.append(1))
    monkeypatch.setattr("paddlex_seg.serving.service.IMAGES_PER_TRIM", 3)
    with serving() as running:
        for number in range(7):
            assert httpx.post(running.url + PATH, json=fields(number)).status_code == 200
    assert len(calls) == 2
