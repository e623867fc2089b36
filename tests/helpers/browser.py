"""Debian's Chromium without a window, driven by Playwright. Tests skip where one of the two is absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing is asked of the network
    "--use-fake-device-for-media-stream",  # a camera that shows a clock
    "--use-fake-ui-for-media-stream",  # and the user allows it
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A `playwright.sync_api.Browser`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright, to drive a browser")
    path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium found on the PATH; on Debian: apt install chromium")
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_OPTIONS, *as_root])
        yield browser
        browser.close()


class Visit:
    """An open page, and what it did: ``requests`` as (method, URL), and ``problems`` that nobody expects.

    Problems are what the console calls an error, which includes what the Content-Security-Policy forbids,
    exceptions of scripts, and requests to other servers. Replies with an error status are no problem of the
    page; they are in ``refusals``.
    """

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.url = url
        self.requests: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        self.page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on(
            "filechooser", lambda chooser: None
        )  # else a test may be too late to intercept the first
        self.page.set_default_timeout(15_000)

    def open(self, path: str = "/") -> Any:
        """Load the page, and return it."""
        self.page.goto(self.url + path)
        return self.page

    @property
    def predictions(self) -> list[str]:
        """The addresses of the requests for predictions so far."""
        return [url for method, url in self.requests if method == "POST"]

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            is_reply = message.text.startswith("Failed to load resource")
            (self.refusals if is_reply else self.problems).append(message.text)

    def _on_request(self, request: Any) -> None:
        self.requests.append((request.method, request.url))
        if not request.url.startswith((f"{self.url}/", "blob:", "data:")):
            self.problems.append(f"a request to {request.url}")
