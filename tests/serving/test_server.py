"""When the service listens."""

import socket

import pytest
from proxies import free_port

from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.serving.server import serve
from paddlex_seg.serving.service import ServedModel


class Looked(Exception):
    """The model was to be loaded."""


def test_nobody_is_connected_before_the_model_is_loaded() -> None:
    port = free_port()

    def load(device: str) -> ServedModel:
        with socket.socket() as connection:
            raise Looked(connection.connect_ex(("127.0.0.1", port)) == 0)

    with pytest.raises(Looked) as found:
        serve(load, ["cpu"], ServingConfig(port=port))
    assert found.value.args == (False,), "a proxy would send requests that wait for the model"
