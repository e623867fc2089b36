"""A model of 20 ms whose result tells which image it was given, and a service for it on loopback."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.inference.results import Result
from paddlex_seg.inference.thresholds import Threshold, class_thresholds
from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.serving.app import create_app
from paddlex_seg.serving.server import http_server
from paddlex_seg.structures import Bands, Instances

SECONDS = 0.02
CODE_BITS = 24


def coded_image(number: int, width: int = 96, height: int = 64) -> bytes:
    """A PNG whose top row has ``number`` in black and white, for `TwentyMsModel`."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    for bit in range(CODE_BITS):
        pixels[:4, 4 * bit : 4 * bit + 4] = 255 if number >> bit & 1 else 0
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


class TwentyMsModel:
    """Finds one object, whose box tells the number of a `coded_image`, and whose score is 0.9."""

    model_name, backend, precision, device = "toy", "paddle", "f32", "cpu"
    labels = ("bolt", "nut")
    thresholds = (0.5, 0.5)
    max_detections = 100
    bands: Bands | None = None

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds, self.predicted, self.batches = seconds, 0, list[int]()
        self._turn = threading.Lock()

    def predict(
        self,
        input: list[NDArray[np.uint8]],
        threshold: Threshold | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Result]:
        assert self._turn.acquire(blocking=False), "two threads use one model"
        try:
            time.sleep(self.seconds)
            self.predicted += len(input)
            self.batches.append(len(input))
            limits = class_thresholds((threshold, 0.5), self.labels)
            results = [self._result(image, limits) for image in input]
        finally:
            self._turn.release()
        return iter(results)

    def _result(self, image: NDArray[np.uint8], limits: NDArray[np.float32]) -> Result:
        height, width = image.shape[:2]
        number = sum(1 << bit for bit in range(CODE_BITS) if image[0, min(4 * bit + 1, width - 1), 0] > 127)
        x, y = number % 61, number // 61 % 31
        mask = np.zeros((height, width), np.uint8)
        mask[y : y + 9, x : x + 7] = 1
        found = Instances(
            size_hw=(height, width),
            class_ids=np.array([number % 2]),
            scores=np.array([0.9], np.float32),
            boxes_xyxy=np.array([[x, y, x + 7 + number / 2**26, y + 9]], np.float32),
            masks=(mask_to_rle(mask),),
        ).take(np.flatnonzero(limits[number % 2] < 0.9)[:1])
        return Result(
            input_path=None,
            page_index=None,
            save_name="image",
            image=image[..., ::-1],
            instances=found,
            labels=self.labels,
        )


class RunningService:
    """``port``, ``url``, ``app`` and ``models`` of a service that runs in a thread."""

    def __init__(self, models: Sequence[TwentyMsModel], settings: ServingConfig, api_key: str | None) -> None:
        self.models = list(models)
        self.app = create_app(self.models, settings, api_key)
        self.service = self.app.state.service
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(1024)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = http_server(self.app, settings.drain)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve(sockets=[self._socket])), daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._socket.close()

    @property
    def predicted(self) -> int:
        return sum(model.predicted for model in self.models)


@contextmanager
def serving(
    *models: TwentyMsModel, api_key: str | None = None, **settings: object
) -> Iterator[RunningService]:
    """A service with these settings of `ServingConfig`; without models, for one `TwentyMsModel`."""
    running = RunningService(models or [TwentyMsModel()], ServingConfig(**settings), api_key)
    running.start()
    try:
        yield running
    finally:
        running.stop()
