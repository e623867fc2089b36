"""Predicts the images of requests: a queue, and threads that decode, run the network and write replies.

A thread takes images from the queue, decodes them, and then waits for a model that is free. There are more
threads than models, so that images are decoded and replies written while the network runs, and never more
decoded images in memory than threads.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.results import Result
from paddlex_seg.inference.thresholds import Threshold
from paddlex_seg.runtime.environment import return_freed_memory
from paddlex_seg.serving.images import decode_image
from paddlex_seg.serving.metrics import Metrics
from paddlex_seg.serving.problems import ClientGone, RequestProblem
from paddlex_seg.structures import BackendName, Bands, Precision

LOGGER = logging.getLogger(__name__)
BATCH = 4  # the number of images with which `measured_batch_size` tries a model
IMAGES_PER_TRIM = 64  # after so many images, freed memory is given back to the system
GAIN = 0.9  # a batch is used if an image in it takes at most this part of the time that it takes alone


class ServedModel(Protocol):
    """What the service needs of `pipelines.model.Pipeline`."""

    model_name: str
    backend: BackendName
    precision: Precision
    device: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    max_detections: int | None
    bands: Bands | None

    def predict(
        self,
        input: list[NDArray[np.uint8]],
        threshold: Threshold | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Result]:
        """Yield the result of each image, uint8 [H, W, 3], BGR."""


class Job:
    """One image of a request. ``future`` gets what ``answer`` makes of its result, or the exception.

    data: the content of the image file. threshold: None is that of the model. deadline: as of
    `time.monotonic`. abandoned: why nobody waits for the result any more.
    """

    def __init__(
        self, data: bytes, threshold: Threshold | None, answer: Callable[[Result], bytes], deadline: float
    ) -> None:
        self.data, self.threshold, self.answer, self.deadline = data, threshold, answer, deadline
        self.future: Future[bytes] = Future()
        self.abandoned: str | None = None

    def abandon(self, reason: str) -> None:
        """Free the memory of a job that has not been decoded. It is not predicted then."""
        if not self.future.done():
            self.abandoned, self.data = reason, b""

    def fail(self, error: BaseException) -> None:
        """End the job with an exception, unless it has ended."""
        if isinstance(error, RequestProblem):
            # Its traceback would keep the image, in a circle, until the next garbage collection.
            error.__traceback__ = error.__cause__ = error.__context__ = None
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass

    def succeed(self, reply: bytes) -> None:
        """End the job with its reply, unless it has ended."""
        try:
            self.future.set_result(reply)
        except InvalidStateError:
            pass


class Places:
    """Counts the images that are waiting or being predicted, and refuses what is too much.

    A place is taken before the body of a request is read, so that memory is bounded, too. It is used by one
    thread only, that of the event loop.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.most, self.taken = most, 0
        self.seconds_per_image = 0.1  # how fast places become free, to be told to those who are refused
        self._metrics = metrics

    @contextmanager
    def take(self, images: int = 1) -> Iterator[None]:
        """Have places inside the context. Raises RequestProblem 429 when there are not enough."""
        if images > self.most:
            raise RequestProblem(
                413, f"The request has more images than may wait ({self.most}). Send fewer images at a time."
            )
        if self.taken + images > self.most:
            raise RequestProblem(429, "The queue is full. Try again later.", retry_after=self.wait_seconds)
        self._count(images)
        try:
            yield
        finally:
            self._count(-images)

    @property
    def wait_seconds(self) -> int:
        """About how long it takes until half of the images are done; 1 to 30."""
        return min(30, max(1, math.ceil(self.taken * self.seconds_per_image / 2)))

    def _count(self, images: int) -> None:
        self.taken += images
        self._metrics.waiting.set(self.taken)


class Service:
    """The models with their queue."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        batch_size: int,
        queue_size: int,
        max_image_pixels: int,
        metrics: Metrics,
    ) -> None:
        """Start the threads. All models are the same model, each for one thread at a time."""
        self.model = models[0]
        self.metrics = metrics
        self.places = Places(queue_size + len(models) * batch_size, metrics)
        self.is_draining = False
        self._batch_size, self._max_pixels = batch_size, max_image_pixels
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._open: dict[int, Job] = {}
        self._until_trim = IMAGES_PER_TRIM  # not exact: threads may count at the same time
        self._models: queue.SimpleQueue[ServedModel] = queue.SimpleQueue()
        for model in models:
            self._models.put(model)
        # One more decodes the next image, and one more writes the last reply.
        self._threads = [
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True)
            for number in range(len(models) + 2)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether requests are predicted."""
        return not self.is_draining and all(thread.is_alive() for thread in self._threads)

    def put(self, job: Job) -> None:
        """Let a job wait for its turn. The caller has a place for it."""
        number = id(job)  # a callback with the job itself would be a circle that keeps the image
        self._open[number] = job
        job.future.add_done_callback(lambda _: self._open.pop(number))
        self._jobs.put(job)

    def refuse_waiting(self) -> None:
        """End all jobs that are not done."""
        for job in tuple(self._open.values()):
            job.fail(RequestProblem(503, "The service is stopping. Send the request again.", retry_after=1))

    def close(self) -> None:
        """End the threads after the jobs that wait."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._next_jobs():
            try:
                self._predict(jobs)
            except Exception as error:  # a bug: its request is told, and the others go on
                for job in jobs:
                    job.fail(error)
            self._until_trim -= len(jobs)
            if self._until_trim <= 0:
                self._until_trim = IMAGES_PER_TRIM
                return_freed_memory()

    def _next_jobs(self) -> list[Job]:
        """Wait for a job, and take others that wait, up to the batch size. Empty at the end."""
        first = self._jobs.get()
        jobs = [] if first is None else [first]
        while jobs and len(jobs) < self._batch_size:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _predict(self, jobs: Sequence[Job]) -> None:
        decoded = [(job, image) for job in jobs if (image := self._decoded(job)) is not None]
        if not decoded:
            return
        model = self._models.get()
        try:
            # Again, because the model may have been busy for a while.
            wanted = [(job, image) for job, image in decoded if self._is_wanted(job)]
            pairs = list(zip((job for job, _ in wanted), self._results(model, wanted), strict=True))
        finally:
            self._models.put(model)
        for job, result in pairs:
            try:
                if result.error is not None:
                    raise BackendError(result.error)  # not a mistake of the request
                job.succeed(job.answer(result))
            except Exception as error:
                job.fail(error)

    def _results(self, model: ServedModel, wanted: list[tuple[Job, NDArray[np.uint8]]]) -> Iterator[Result]:
        """The results of decoded images, in order. Images with the same threshold run as one batch."""
        results: dict[int, Result] = {}
        start = time.perf_counter()
        for same in _by_threshold([job for job, _ in wanted]):
            images = [wanted[index][1][..., ::-1] for index in same]
            found = model.predict(images, threshold=wanted[same[0]][0].threshold, batch_size=self._batch_size)
            results.update(zip(same, found, strict=True))
            self.metrics.batch_images.observe(len(same))
        if wanted:
            seconds = (time.perf_counter() - start) / len(wanted)
            self.places.seconds_per_image += 0.1 * (seconds - self.places.seconds_per_image)
            self.metrics.predict_seconds.observe(seconds)
        return (results[index] for index in range(len(wanted)))

    def _decoded(self, job: Job) -> NDArray[np.uint8] | None:
        """The image, RGB; None if nobody waits for its result, or it cannot be decoded."""
        data, job.data = job.data, b""
        if not self._is_wanted(job):
            return None
        try:
            return decode_image(data, max_pixels=self._max_pixels, bands=self.model.bands)
        except Exception as error:  # also a bug in decoding concerns this job only
            job.fail(error)
            return None

    def _is_wanted(self, job: Job) -> bool:
        """Whether somebody waits for the result in time."""
        if job.abandoned is None and time.monotonic() > job.deadline:
            job.abandoned = "deadline"
        if job.abandoned is not None and not job.future.done():
            self.metrics.dropped.labels(job.abandoned).inc()
            job.fail(too_late() if job.abandoned == "deadline" else ClientGone())
        return not job.future.done()


def too_late() -> RequestProblem:
    """The problem of a request that could not be answered before its deadline."""
    return RequestProblem(503, "The request was not answered before its deadline.", retry_after=1)


def _by_threshold(jobs: Sequence[Job]) -> list[list[int]]:
    """The indices of jobs with equal thresholds."""
    groups: list[list[int]] = []
    for index, job in enumerate(jobs):
        same = next((group for group in groups if jobs[group[0]].threshold == job.threshold), None)
        if same is None:
            groups.append([index])
        else:
            same.append(index)
    return groups


def measured_batch_size(model: ServedModel, image: NDArray[np.uint8]) -> int:
    """`BATCH` if the model is faster with so many images at once, else 1.

    image: uint8 [H, W, 3]. The model runs with it 1 + 2 x 2 times, after it has run once.
    """
    alone = _fastest(model, [image])
    together = _fastest(model, [image] * BATCH) / BATCH
    LOGGER.info(
        "An image takes %.0f ms alone, and %.0f ms in a batch of %d.", alone * 1e3, together * 1e3, BATCH
    )
    return BATCH if together < GAIN * alone else 1


def _fastest(model: ServedModel, images: list[NDArray[np.uint8]]) -> float:
    """Seconds of the faster of two runs."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        list(model.predict(images, batch_size=len(images)))
        seconds.append(time.perf_counter() - start)
    return min(seconds)
