"""The HTTP service: paths, and the way of a request from its body to its reply."""

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddlex_seg import __version__
from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.serving.answers import failure, success, to_json, writer
from paddlex_seg.serving.inference_protocol import (
    LENGTH_HEADER,
    VERSION,
    metadata,
    read_infer,
    write_infer,
    write_objects,
)
from paddlex_seg.serving.metrics import Metrics
from paddlex_seg.serving.openapi import describe
from paddlex_seg.serving.problems import ClientGone, RequestProblem
from paddlex_seg.serving.requests import (
    Asked,
    ImageUrl,
    discard_body,
    new_log_id,
    read_body,
    read_request,
    read_threshold,
)
from paddlex_seg.serving.service import Job, ServedModel, Service, too_late
from paddlex_seg.serving.urls import UrlRules, fetch_image

LOGGER = logging.getLogger(__name__)
PREDICT_PATH = "/instance-segmentation"
# Paths that need no key: they say that the service lives, or are the page, which asks for the key.
OPEN_PATHS = ("/", "/docs", "/health", "/ready", "/v2", "/v2/health/live", "/v2/health/ready")
DOWNLOADS = 8  # of images at the same time
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


def create_app(models: Sequence[ServedModel], settings: ServingConfig, api_key: str | None = None) -> FastAPI:
    """The service as an ASGI application. ``app.state.service`` is its `Service`.

    models: the same model, once for each worker. settings: a ``batch_size`` of None is 1. api_key: what
    requests need, None for nothing.
    """
    metrics = Metrics()
    service = Service(
        models,
        batch_size=settings.batch_size or 1,
        queue_size=settings.queue_size,
        max_image_pixels=settings.max_image_pixels,
        metrics=metrics,
    )
    api = _Api(service, settings)
    static = Path(str(files("paddlex_seg.serving") / "static"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title=f"{service.model.model_name}: instance segmentation",
        version=__version__,
        docs_url=None,  # it would load scripts from other servers
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    routes: list[tuple[str, str, Callable[..., Awaitable[Response]]]] = [
        ("POST", PREDICT_PATH, api.predict),
        ("GET", "/health", api.health),
        ("GET", "/ready", api.ready),
        ("GET", "/metrics", api.metrics),
        ("GET", "/info", api.info),
        ("GET", "/v2", api.server_metadata),
        ("GET", "/v2/health/live", api.live),
        ("GET", "/v2/health/ready", api.v2_ready),
        ("GET", "/v2/models/{name}", api.model_metadata),
        ("GET", "/v2/models/{name}/ready", api.model_ready),
        ("POST", "/v2/models/{name}/infer", api.infer),
        ("GET", "/v2/models/{name}/versions/{version}", api.model_metadata),
        ("GET", "/v2/models/{name}/versions/{version}/ready", api.model_ready),
        ("POST", "/v2/models/{name}/versions/{version}/infer", api.infer),
    ]
    for method, path, function in routes:
        app.add_api_route(path, function, methods=[method], **describe(method, path))
    app.add_api_route("/docs", partial(_file, static / "docs.html"), include_in_schema=False)
    if settings.page:
        app.add_api_route("/", partial(_file, static / "index.html"), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=static))
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(_Outermost, api=api, api_key=api_key)
    return app


async def _file(path: Path) -> Response:
    return FileResponse(path)


async def _http_problem(request: Request, error: Exception) -> Response:
    """An unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    return _failed(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _failed(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """The reply of a request that failed, in the form of its protocol."""
    message = _sentence(message)
    if request.url.path.startswith("/v2"):
        return JSONResponse({"error": message}, status, headers)
    return JSONResponse(failure(_log_id(request), status, message), status, headers)


def _sentence(message: str) -> str:
    """With a capital letter, unless it begins with the name of a field, and a full stop."""
    begins_with_field = re.match(r"[\w.\[\]]*:", message)
    first = message[:1] if begins_with_field else message[:1].upper()
    return f"{first}{message[1:].rstrip('.')}."


def _log_id(request: Request) -> str:
    return request.scope["state"]["log_id"]


class _Outermost:
    """Around everything: the API key, security headers, the log line, and errors that are our bugs."""

    def __init__(self, app: ASGIApp, api: "_Api", api_key: str | None) -> None:
        self._app, self._api = app, api
        self._key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        log_id = new_log_id(request.headers.get("x-request-id"))
        scope.setdefault("state", {})["log_id"] = log_id
        status, start = 0, time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = {**HEADERS, "x-request-id": _log_id(request)}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        try:
            if self._is_allowed(request):
                await self._app(scope, receive, send_with_headers)
            else:
                reply = _failed(
                    request,
                    401,
                    "The API key is missing or wrong. Send it in the header X-API-Key, or as Authorization: "
                    "Bearer.",
                    {"www-authenticate": "Bearer"},
                )
                await reply(scope, receive, send_with_headers)
        except Exception:  # the client is told that it is our bug, and the log has the rest
            LOGGER.exception("%s %r failed, request %s", request.method, request.url.path, log_id)
            if status:
                raise
            reply = _failed(request, 500, f"Internal error. The log of the service has more about {log_id}.")
            await reply(scope, receive, send_with_headers)
        finally:
            self._api.count(request, status, time.perf_counter() - start)

    def _is_allowed(self, request: Request) -> bool:
        path = request.url.path
        if self._key is None or path in OPEN_PATHS or path.startswith("/static/"):
            return True
        given = request.headers.get("x-api-key")
        if given is None:
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            given = value.strip() if scheme.lower() == "bearer" else ""
        return hmac.compare_digest(given.encode("latin-1", "replace"), self._key)


class _Api:
    """The functions of the paths."""

    def __init__(self, service: Service, settings: ServingConfig) -> None:
        self._service, self._settings = service, settings
        self._most_bytes = settings.max_body_mb * 10**6
        self._url_rules = UrlRules(
            ports=settings.url_ports,
            max_bytes=self._most_bytes,
            seconds=settings.url_seconds,
            redirects=settings.url_redirects,
        )
        self._downloads = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="download")

    def count(self, request: Request, status: int, seconds: float) -> None:
        """Count a request, and write its log line."""
        route = request.scope.get("route")
        path = getattr(route, "path", "other")  # unknown paths would be numbers without end
        self._service.metrics.requests.labels(path, str(status or 499)).inc()
        if request.method == "POST":
            self._service.metrics.request_seconds.observe(seconds)
            LOGGER.info("%s %s, request %s, %.3f s", path, status or "client gone", _log_id(request), seconds)

    async def predict(self, request: Request) -> Response:
        """Find the objects of one or several images."""
        return await self._answer(request, self._predicted)

    async def infer(self, request: Request) -> Response:
        """Find the objects of images; see the Open Inference Protocol."""
        return await self._answer(request, self._inferred)

    async def _answer(
        self, request: Request, predict: Callable[[Request, bytes, float], Awaitable[Response]]
    ) -> Response:
        """Read the body and predict within the deadline and the places of the queue."""
        deadline = time.monotonic() + self._settings.deadline
        try:
            if not self._service.is_ready:
                raise RequestProblem(503, "The service is stopping. Send the request again.", retry_after=1)
            with self._service.places.take():
                try:
                    async with asyncio.timeout(self._settings.deadline):
                        body = await read_body(request, self._most_bytes)
                except TimeoutError:
                    raise RequestProblem(
                        408, f"The request had not arrived after {self._settings.deadline:g} s."
                    ) from None
                return await predict(request, body, deadline)
        except RequestProblem as problem:
            return await self._refuse(request, problem)
        except ClientGone:
            return Response(status_code=499)  # nobody reads it

    async def _refuse(self, request: Request, problem: RequestProblem) -> Response:
        headers = {} if problem.retry_after is None else {"retry-after": f"{problem.retry_after:.0f}"}
        if not await discard_body(request, self._most_bytes, self._settings.deadline):
            headers["connection"] = "close"
        return _failed(request, problem.status, problem.message, headers)

    async def _predicted(self, request: Request, body: bytes, deadline: float) -> Response:
        asked = await read_request(request, body, self._settings, self._service.model.labels)
        wanted = asked.options.visualize
        write = writer(
            asked.options.mask_format,
            visualize=self._settings.visualize if wanted is None else wanted,
            labelme=asked.options.labelme,
        )
        outcomes = await self._run(request, asked, write, deadline)
        if not asked.is_list:
            if isinstance(outcomes[0], RequestProblem):
                return await self._refuse(request, outcomes[0])
            return _json(success(_log_id(request), outcomes[0]))
        parts = [
            to_json({"errorCode": one.status, "errorMsg": _sentence(one.message)})
            if isinstance(one, RequestProblem)
            else one
            for one in outcomes
        ]
        return _json(success(_log_id(request), b'{"results":[%s]}' % b",".join(parts)))

    async def _inferred(self, request: Request, body: bytes, deadline: float) -> Response:
        self._require_model(request)
        length = request.headers.get(LENGTH_HEADER)
        asked = await asyncio.to_thread(read_infer, body, length, self._settings.max_json_depth)
        threshold = read_threshold(asked.parameters.get("threshold"), self._service.model.labels)
        if not 1 <= len(asked.images) <= self._settings.max_images:
            raise RequestProblem(
                413, f"Found {len(asked.images)} images; expected 1 to {self._settings.max_images}."
            )
        jobs = [Job(image, threshold, write_objects, deadline) for image in asked.images]
        images = []
        for outcome in await self._outcomes(request, jobs):
            if isinstance(outcome, RequestProblem):
                return await self._refuse(request, outcome)
            images.append(json.loads(outcome))
        return JSONResponse(write_infer(asked, self._service.model.model_name, images))

    async def _run(
        self, request: Request, asked: Asked, write: Callable[[Any], bytes], deadline: float
    ) -> list[bytes | RequestProblem]:
        """What each image of a request gives."""
        urls = sum(isinstance(image, ImageUrl) for image in asked.images)
        rules = replace(self._url_rules, max_bytes=self._most_bytes // max(1, urls))  # as if in one body
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                contents = await asyncio.gather(*(self._content(image, rules) for image in asked.images))
        except TimeoutError:
            raise too_late() from None
        jobs = {
            index: Job(content, asked.options.threshold, write, deadline)
            for index, content in enumerate(contents)
            if isinstance(content, bytes)
        }
        found = dict(zip(jobs, await self._outcomes(request, list(jobs.values())), strict=True))
        return [
            content if isinstance(content, RequestProblem) else found[index]
            for index, content in enumerate(contents)
        ]

    async def _content(
        self, image: bytes | ImageUrl | RequestProblem, rules: UrlRules
    ) -> bytes | RequestProblem:
        """The content of the file of an image, downloaded if it is an address."""
        if not isinstance(image, ImageUrl):
            return image
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._downloads, fetch_image, image.url, rules)
        except RequestProblem as problem:
            return problem

    async def _outcomes(self, request: Request, jobs: Sequence[Job]) -> list[bytes | RequestProblem]:
        """Let jobs run, and wait for them. The first has a place. Raises ClientGone when the client goes."""
        if not jobs:
            return []
        with self._service.places.take(len(jobs) - 1):
            for job in jobs:
                self._service.put(job)
            gone = asyncio.create_task(_disconnected(request))
            done = asyncio.create_task(_ended([job.future for job in jobs]))
            try:
                left = max(0.0, jobs[0].deadline - time.monotonic())
                await asyncio.wait({gone, done}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() and not done.done():
                    raise ClientGone
            finally:
                reason = "client_gone" if gone.done() else "deadline"
                gone.cancel()
                done.cancel()
                for job in jobs:
                    job.abandon(reason)
        return [_outcome(job.future) for job in jobs]

    def _require_model(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if name != self._service.model.model_name or version != VERSION:
            raise RequestProblem(
                404,
                f"There is no model {name[:100]!r} of version {version[:20]!r}; there is "
                f"{self._service.model.model_name!r} of version {VERSION!r}.",
            )

    async def health(self, request: Request) -> Response:
        """Whether the process lives."""
        return JSONResponse({"logId": _log_id(request), "errorCode": 0, "errorMsg": "Healthy"})

    async def ready(self, request: Request) -> Response:
        """Whether requests are accepted."""
        if self._service.is_ready:
            return JSONResponse({"logId": _log_id(request), "errorCode": 0, "errorMsg": "Ready"})
        return _failed(request, 503, "The service is stopping.", {"retry-after": "1"})

    async def metrics(self, request: Request) -> Response:
        """Numbers for Prometheus."""
        return Response(self._service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def info(self, request: Request) -> Response:
        """What is served, and its limits."""
        model = self._service.model
        same = len(set(model.thresholds)) == 1
        threshold = model.thresholds[0] if same else dict(zip(model.labels, model.thresholds, strict=True))
        return JSONResponse(
            {
                "model": model.model_name,
                "labels": list(model.labels),
                "threshold": threshold,
                "backend": model.backend,
                "precision": model.precision,
                "device": model.device,
                "maxDetections": model.max_detections,
                "version": __version__,
                "limits": {
                    "bodyBytes": self._most_bytes,
                    "imagePixels": self._settings.max_image_pixels,
                    "images": self._settings.max_images,
                },
            }
        )

    async def server_metadata(self, request: Request) -> Response:
        """Metadata of the server; see the Open Inference Protocol."""
        return JSONResponse(
            {"name": "paddlex_seg", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    async def live(self, request: Request) -> Response:
        """Whether the process lives."""
        return JSONResponse({"live": True})

    async def v2_ready(self, request: Request) -> Response:
        """Whether requests are accepted."""
        return JSONResponse({"ready": self._service.is_ready}, 200 if self._service.is_ready else 503)

    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs of the model."""
        try:
            self._require_model(request)
        except RequestProblem as problem:
            return _failed(request, problem.status, problem.message)
        return JSONResponse(metadata(self._service.model.model_name, self._service.model.backend))

    async def model_ready(self, request: Request) -> Response:
        """Whether requests to the model are accepted."""
        try:
            self._require_model(request)
        except RequestProblem as problem:
            return _failed(request, problem.status, problem.message)
        is_ready = self._service.is_ready
        return JSONResponse(
            {"name": self._service.model.model_name, "ready": is_ready}, 200 if is_ready else 503
        )


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


async def _disconnected(request: Request) -> None:
    """Wait until the client closes the connection. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _ended(futures: Sequence[Future[bytes]]) -> None:
    """Wait for the end of jobs, however they end."""
    loop = asyncio.get_running_loop()
    for future in futures:
        end = asyncio.Event()
        future.add_done_callback(partial(_tell, loop, end))
        await end.wait()


def _tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event, _: Future[bytes]) -> None:
    loop.call_soon_threadsafe(event.set)


def _outcome(future: Future[bytes]) -> bytes | RequestProblem:
    """The reply part of a job, or why there is none. Raises what is a bug."""
    if not future.done():
        return too_late()
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RequestProblem):
        return error
    raise error
