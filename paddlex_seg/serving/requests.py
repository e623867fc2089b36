"""Reads requests: the body within its limit, and what it asks for, in each of the accepted forms."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args
from uuid import uuid4

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.errors import ConfigError
from paddlex_seg.inference.thresholds import Threshold, threshold_of_classes
from paddlex_seg.serving.answers import MaskFormat
from paddlex_seg.serving.images import decode_base64
from paddlex_seg.serving.json_body import parse_json
from paddlex_seg.serving.problems import ClientGone, RequestProblem

FILE_PARTS = ("image", "images", "file")  # names of the parts of a form that are images
MOST_FIELDS = 20  # parts of a form that are no images
MOST_FIELD_BYTES = 65_536
RAW_TYPES = ("application/octet-stream", "binary/octet-stream")
_URL = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
_LOG_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class ImageUrl:
    """The address of an image."""

    url: str


@dataclass(frozen=True)
class Options:
    """What a request asks for."""

    threshold: Threshold | None = None  # None: that of the model
    visualize: bool | None = None  # None: that of the settings
    mask_format: MaskFormat = "rle"
    labelme: bool = False


@dataclass(frozen=True)
class Asked:
    """A request: its images, each the content of a file, an address, or what is wrong with it; and options.

    is_list: whether the reply is a list, even for one image.
    """

    images: Sequence[bytes | ImageUrl | RequestProblem]
    is_list: bool = False
    options: Options = field(default_factory=Options)


def name_request(scope: Scope, wanted: Any) -> None:
    """Give a request the id that it names."""
    if wanted is not None:
        scope["state"]["log_id"] = new_log_id(wanted)


def new_log_id(wanted: Any = None) -> str:
    """The id of a request: the one that it names, if it can be used in a log, or a new one."""
    return wanted if isinstance(wanted, str) and _LOG_ID.fullmatch(wanted) else str(uuid4())


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises RequestProblem 413 as soon as it is larger than ``most`` bytes, and ClientGone.
    """
    if _stated_length(request) > most:
        raise too_large(most)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large(most)
            parts.append(part)
    except ClientDisconnect:
        raise ClientGone from None
    return b"".join(parts)


async def discard_body(request: Request, most: int, seconds: float) -> bool:
    """Read the rest of a body, so that a client that is still sending gets the reply. Returns whether all was
    read; if not, the connection must be closed.
    """
    if "100-continue" in request.headers.get("expect", "").lower() or _stated_length(request) > most:
        return False
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    return False
    except (TimeoutError, ClientDisconnect):
        return False
    except RuntimeError:  # all of it was read before
        return True
    return True


def _stated_length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def too_large(most: int) -> RequestProblem:
    """The problem of a body with more than ``most`` bytes."""
    return RequestProblem(
        413,
        f"The request is larger than {most / 1e6:g} MB. Send a smaller image, or raise Serving.max_body_mb.",
    )


async def read_request(
    request: Request, body: bytes, settings: ServingConfig, labels: Sequence[str]
) -> Asked:
    """What a request asks for. labels: the classes of the model. Raises RequestProblem."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise RequestProblem(
            415, f"The Content-Encoding {coding[:100]!r} is not accepted. Send the body without."
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images, fields = await _read_form(request.headers, body, settings)
        return _asked(images, _text_options(fields, labels), settings, is_list=len(images) > 1)
    if kind.startswith("image/") or kind in RAW_TYPES:
        return _asked([body], _text_options(request.query_params, labels), settings, is_list=False)
    if kind not in ("", "application/json", "text/json", "text/plain") and not kind.endswith("+json"):
        raise RequestProblem(
            415,
            f"The Content-Type {kind[:100]!r} is not known. Send application/json, multipart/form-data, or "
            "an image file with image/jpeg, image/png or application/octet-stream.",
        )
    # Large bodies are read in a thread, so that others are not kept waiting.
    if len(body) < 100_000:
        return _read_json(request.scope, body, settings, labels)
    return await asyncio.to_thread(_read_json, request.scope, body, settings, labels)


def _read_json(scope: Scope, body: bytes, settings: ServingConfig, labels: Sequence[str]) -> Asked:
    data = parse_json(body, settings.max_json_depth)
    if not isinstance(data, Mapping):
        raise RequestProblem(422, f'body: expected an object such as {{"image": ...}}, found {_kind(data)}.')
    name_request(scope, data.get("logId"))
    image, images = data.get("image"), data.get("images")
    if image is None and images is None:
        raise RequestProblem(422, "body.image: the field is missing. Send the image file in base64.")
    if image is not None and images is not None:
        raise RequestProblem(422, "body: found image and images. Send one of them.")
    if images is not None and not isinstance(images, list):
        raise RequestProblem(422, f"body.images: expected a list of texts, found {_kind(images)}.")
    options = Options(
        threshold=read_threshold(data.get("threshold"), labels),
        visualize=_bool(data.get("visualize"), "visualize"),
        mask_format=_mask_format(data.get("maskFormat")),
        labelme=_bool(data.get("labelme"), "labelme") or False,
    )
    if images is None:
        return _asked([_content(image, "body.image", settings)], options, settings, is_list=False)
    _require_number(len(images), settings)
    contents: list[bytes | ImageUrl | RequestProblem] = []
    for index, one in enumerate(images):
        try:
            contents.append(_content(one, f"body.images[{index}]", settings))
        except RequestProblem as problem:
            contents.append(problem)
    return _asked(contents, options, settings, is_list=True)


def _content(value: Any, place: str, settings: ServingConfig) -> bytes | ImageUrl:
    """An image of a JSON body. Raises RequestProblem."""
    if not isinstance(value, str):
        raise RequestProblem(422, f"{place}: expected the image in base64 as a text, found {_kind(value)}.")
    if not _URL.match(value[:100]):
        return decode_base64(value)
    if not settings.allow_urls:
        raise RequestProblem(
            422,
            f"{place}: found an address, but this service does not accept addresses of images. Send the "
            "image file in base64. (Serving.allow_urls allows them.)",
        )
    return ImageUrl(value.strip())


async def _read_form(
    headers: Headers, body: bytes, settings: ServingConfig
) -> tuple[list[bytes | ImageUrl | RequestProblem], dict[str, str]]:
    """The images and the other fields of multipart/form-data."""

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]
            await asyncio.sleep(0)  # others take their turn

    try:
        parser = _InMemory(
            headers,
            stream(),  # type: ignore[arg-type]  # it asks for a generator and only iterates
            max_files=settings.max_images,
            max_fields=MOST_FIELDS,
            max_part_size=MOST_FIELD_BYTES,
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", None) or "it is not valid multipart/form-data"
        raise RequestProblem(400, f"The form cannot be read: {str(reason).rstrip('.')}.") from None
    images: list[bytes | ImageUrl | RequestProblem] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in FILE_PARTS:
                raise RequestProblem(
                    422, f"form: found a file named {name[:100]!r}; expected the name image."
                )
            images.append(await value.read())
        elif name in FILE_PARTS:
            images.append(_content(value, f"form.{name}", settings))
        else:
            fields[name] = value
    if not images:
        raise RequestProblem(
            422, "form.image: the file is missing. Add the image file as a part named image."
        )
    return images, fields


class _InMemory(MultiPartParser):
    """Keeps files in memory: the body was read with a limit, and there may be no disk to write to."""

    spool_max_size = 1 << 40


def _asked(
    images: Sequence[bytes | ImageUrl | RequestProblem],
    options: Options,
    settings: ServingConfig,
    *,
    is_list: bool,
) -> Asked:
    _require_number(len(images), settings)
    return Asked(images, is_list, options)


def _require_number(images: int, settings: ServingConfig) -> None:
    if not 1 <= images <= settings.max_images:
        raise RequestProblem(
            422 if images == 0 else 413,
            f"The request has {images} images; expected 1 to {settings.max_images} (Serving.max_images).",
        )


def _text_options(fields: Mapping[str, str], labels: Sequence[str]) -> Options:
    """The options of a form or a query, which are texts."""
    threshold: Any = fields.get("threshold") or None
    if threshold is not None:
        try:
            threshold = json.loads(threshold)
        except (ValueError, RecursionError):
            raise RequestProblem(
                422, f"threshold: found {threshold[:100]!r}; expected a number from 0 to 1."
            ) from None
    return Options(
        threshold=read_threshold(threshold, labels),
        visualize=_switch(fields.get("visualize"), "visualize"),
        mask_format=_mask_format(fields.get("maskFormat") or None),
        labelme=_switch(fields.get("labelme"), "labelme") or False,
    )


def read_threshold(value: Any, labels: Sequence[str]) -> Threshold | None:
    """A threshold of a request. Raises RequestProblem 422 if it does not fit the model."""
    try:
        threshold_of_classes(value, labels)
    except ConfigError as error:
        raise RequestProblem(422, str(error)) from None
    return value


def _bool(value: Any, name: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise RequestProblem(422, f"body.{name}: expected true or false, found {_kind(value)}.")


def _switch(value: str | None, name: str) -> bool | None:
    text = (value or "").strip().lower()
    if text not in ("", "true", "1", "false", "0"):
        raise RequestProblem(422, f"{name}: found {text[:100]!r}; expected true or false.")
    return text in ("true", "1") if text else None


def _mask_format(value: Any) -> MaskFormat:
    if value is None:
        return "rle"
    for known in get_args(MaskFormat):
        if value == known:
            return known
    found = repr(value[:100]) if isinstance(value, str) else _kind(value)
    raise RequestProblem(
        422, f"maskFormat: found {found}; expected one of {', '.join(get_args(MaskFormat))}."
    )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
