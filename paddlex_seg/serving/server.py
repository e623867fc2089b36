"""Runs the HTTP service until it is told to stop."""

import asyncio
import errno
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI

from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.data.images import limit_pixels
from paddlex_seg.errors import ConfigError
from paddlex_seg.runtime.environment import share_one_heap
from paddlex_seg.runtime.stop_signals import catch, give_back
from paddlex_seg.serving.app import PREDICT_PATH, create_app
from paddlex_seg.serving.connections import Connection
from paddlex_seg.serving.service import ServedModel, Service, measured_batch_size

LOGGER = logging.getLogger(__name__)
BATCHING_BACKENDS = ("paddle",)  # the other backends run the images of a batch one by one
WARM_UP_HW = (480, 640)  # of the image with which a model is tried before the service starts
REFUSAL_SECONDS = 0.5  # before the end of the drain, for replies to requests that are still waiting
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def serve(open_model: Callable[[str], ServedModel], devices: Sequence[str], settings: ServingConfig) -> None:
    """Serve a model until SIGTERM, Ctrl-C or the end of the terminal; then end what was asked for.

    open_model: loads the model on a device. Raises ConfigError when the address or the file of the API key
    cannot be used, before the model is loaded, and what ``open_model`` raises.
    """
    api_key = None if settings.api_key_file is None else read_api_key(Path(settings.api_key_file))
    limit_pixels(settings.max_image_pixels)
    share_one_heap()
    with listening(settings.host, settings.port):
        pass  # an address that cannot be used is told before the model is loaded
    models = [open_model(device) for _ in range(settings.workers or 1) for device in devices]
    settings = settings.model_copy(update={"batch_size": _batch_size(models, settings)})
    # Only now: a proxy that is refused goes to another replica, and one that is connected would wait.
    with listening(settings.host, settings.port) as listener:
        app = create_app(models, settings, api_key)
        address = _address(settings.host, listener.getsockname()[1])
        LOGGER.info(
            "Serving %s (%s, %s) at %s%s. Stop with Ctrl-C.",
            *(
                models[0].model_name,
                models[0].backend,
                ", ".join(one.device for one in models),
                address,
                PREDICT_PATH,
            ),
        )
        if settings.page:
            LOGGER.info("Try it in a browser: %s/", address)
        if api_key is None and settings.host not in LOCAL_HOSTS:
            LOGGER.warning("Everyone who reaches %s may use the service. Set Serving.api_key_file.", address)
        asyncio.run(http_server(app, settings.drain).serve(sockets=[listener]))
    LOGGER.info("Stopped.")


def http_server(app: FastAPI, drain: float) -> uvicorn.Server:
    """What speaks HTTP for the application. drain: seconds for requests to end after a signal."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, math.ceil(drain)),
        http=Connection,
        timeout_keep_alive=round(Connection.silent_seconds),
        lifespan="on",
    )
    return _Server(config, app.state.service, drain)


class _Server(uvicorn.Server):
    """Stops in three steps: no new connections, replies to what is waiting, the end."""

    def __init__(self, config: uvicorn.Config, service: Service, drain: float) -> None:
        super().__init__(config)
        self._service, self._drain = service, drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, and at once at the second."""
        loop = asyncio.get_running_loop()

        def receive(number: int) -> None:
            if self.should_exit:
                self.force_exit = True
                return
            LOGGER.info("%s: stopping after the requests that are waiting.", signal.Signals(number).name)
            self.should_exit = True
            self._service.is_draining = True
            loop.call_soon_threadsafe(
                loop.call_later, max(0.0, self._drain - REFUSAL_SECONDS), self._service.refuse_waiting
            )

        before = catch(receive)
        try:
            yield
        finally:
            give_back(before)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises ConfigError when the address cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"Serving.host: {host} is no address of this machine ({error}).") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ConfigError(_bind_problem(host, port, error)) from None
        listener.listen(1024)
        yield listener


def _bind_problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Serving.port: {port} on {host} is used by another program. Set another port."
    if error.errno == errno.EACCES:
        return f"Serving.port: {port} may be opened by the administrator only. Set a port of 1024 or more."
    return f"Serving.host: {host} is no address of this machine ({error.strerror})."


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def read_api_key(path: Path) -> str:
    """The key in the first line of a file. Raises ConfigError when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"Serving.api_key_file: {path} cannot be read ({error}).") from None
    key = lines[0].strip() if lines else ""
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"Serving.api_key_file: expected a key of ASCII characters in the first line of {path}."
        )
    return key


def _batch_size(models: Sequence[ServedModel], settings: ServingConfig) -> int:
    """Images per call of the network. Each model is run once, so that the first request does not wait."""
    image = np.full((*WARM_UP_HW, 3), 114, np.uint8)
    for model in models:
        list(model.predict([image]))
    if settings.batch_size is not None:
        return settings.batch_size
    return measured_batch_size(models[0], image) if models[0].backend in BATCHING_BACKENDS else 1
