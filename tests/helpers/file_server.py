"""A web server on this machine that sends one file, in the way that a test sets."""

import re
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every path except /missing, in the way that the test sets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.version_headers = {"ETag": '"one"'}
        self.ranges = True
        self.send_length = True
        self.send_size: int | None = None  # a false size instead of the true one
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
            self.send_header("Content-Length", str(server.send_size or len(body)))
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
