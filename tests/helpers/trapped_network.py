"""A network without a way out: names have the addresses of a table, and only this machine can be reached."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

Answer = list[str]


class TrappedNetwork:
    """``asked``: names that were looked up. ``connected``: (address, port) of each attempt to connect.

    A listener on ``port`` of this machine, IPv4 and IPv6, counts who comes: ``caught``.
    """

    def __init__(self) -> None:
        self.names: dict[str, Answer | Callable[[], Answer]] = {}
        self.asked: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self._traps = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._traps[0].getsockname()[1]
        try:
            self._traps.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        except OSError:
            pass  # a machine without IPv6

    @property
    def caught(self) -> int:
        """How many connections the trap has got."""
        number = 0
        for trap in self._traps:
            trap.setblocking(False)
            try:
                while True:
                    trap.accept()[0].close()
                    number += 1
            except BlockingIOError:
                pass
        return number

    def close(self) -> None:
        for trap in self._traps:
            trap.close()


@contextmanager
def trapped(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrappedNetwork]:
    """Replaces the resolution of names and the connecting of sockets."""
    network = TrappedNetwork()
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def answer(host: str, port: int, *arguments: object, **options: int) -> list:
        network.asked.append(host)
        try:
            return look_up(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except OSError:
            known = network.names.get(host.rstrip(".").lower())
        if known is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown in this test")
        return [
            found
            for address in (known() if callable(known) else known)
            for found in look_up(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        ]

    def record(self: socket.socket, address: tuple) -> None:
        network.connected.append((address[0], address[1]))
        if address[0] not in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError("no packet leaves this machine")
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setattr(socket.socket, "connect", record)
    try:
        yield network
    finally:
        network.close()
