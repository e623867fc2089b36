"""Images in requests: bytes in base64, and the pixels in them.

The pixels are those that `data.images.load_image` gives for the same file. Before any decoder runs, the kind
is known from the content, and the header is within the limits.
"""

import binascii
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from paddlex_seg.data.bands import BandFile, UnsupportedPixels, require_bounded_parts
from paddlex_seg.data.foreign_files import foreign_content
from paddlex_seg.data.images import (
    DECODER_ERRORS,
    is_animated,
    load_image,
    open_image,
    pillow_to_rgb,
    pixel_limit,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.serving.image_parts import check_exif, check_parts, count_pages
from paddlex_seg.serving.problems import RequestProblem
from paddlex_seg.structures import Bands

SUPPORTED = "JPEG, PNG, WebP, BMP and TIFF"
LONGEST_SIDE = 30_000  # pixels
_PIXEL_BYTES = 16  # of a pixel in memory: four bands of float32, or eight of 16 bits
_LONGEST_REASON = 300  # characters
_IN_MEMORY = "The PIL image"  # how `pillow_to_rgb` calls an image without a file
_KINDS = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "TIFF"),
)


def decode_image(data: bytes, *, max_pixels: int, bands: Bands | None) -> NDArray[np.uint8]:
    """The image in the bytes of a file: uint8 [H, W, 3], RGB, as `data.images.load_image` gives it.

    max_pixels: of the image, height x width. bands: those of the model. Raises RequestProblem: 400 for a
    damaged file; 413 for one with too many pixels; 415 for what is no image of a supported kind, or has
    several frames or pages (with ``bands``, the pages of a TIFF are bands); 422 for pixels that the model
    cannot use.
    """
    kind = _kind_of(data)
    check_parts(kind, data, max_pixels)
    if kind != "TIFF":
        with _answering(kind, _IN_MEMORY, max_pixels), _open(kind, data) as image:
            _check_size(image.height, image.width, max_pixels)
            check_exif(image.info.get("exif") or b"")
            if is_animated(image):
                raise RequestProblem(415, "the file is an animation. Send one of its frames as an image")
            if bands is None:
                return pillow_to_rgb(image)
    elif bands is None and (pages := count_pages(data)) > 1:
        raise RequestProblem(415, f"the TIFF has {pages} pages. Send each page as an image of its own")
    with tempfile.TemporaryDirectory() as folder:  # readers of TIFFs and of bands take files
        path = Path(folder) / "image"
        _write(path, data)
        with _answering(kind, str(path), max_pixels):
            _check_file(path, max_pixels, bands)
            return load_image(path, bands=bands)


@contextmanager
def _answering(kind: str, name: str, max_pixels: int) -> Iterator[None]:
    """Turns what readers raise into a RequestProblem. ``name``: of the image in their messages."""
    try:
        yield
    except UnsupportedPixels as error:
        raise RequestProblem(422, f"the image cannot be used: {_without(name, error)}") from error
    except (DatasetError, *DECODER_ERRORS, MemoryError, Image.DecompressionBombError) as error:
        cause = error.__cause__ if isinstance(error, DatasetError) and error.__cause__ is not None else error
        if isinstance(cause, Image.DecompressionBombError):
            found = re.search(r"\d+", str(cause))  # of pixels, beyond Pillow's limit or that of bands
            number = f"{int(found[0]):,}" if found else "too many"
            limit = min(max_pixels, pixel_limit())
            raise _too_large(f"it has {number} pixels; the limit is {limit:,}") from error
        unknown = isinstance(cause, UnidentifiedImageError)
        reason = "its header cannot be read" if unknown else _without(name, cause) or type(cause).__name__
        raise RequestProblem(
            400, f"the {kind} image is damaged or cut off ({reason}). Send the file again"
        ) from error


def _without(name: str, error: BaseException) -> str:
    return str(error).replace(f"{name}: ", "").replace(name, "the file")[:_LONGEST_REASON].rstrip(". ")


def _kind_of(data: bytes) -> str:
    """The kind of an image file, by its first bytes."""
    for beginning, kind in _KINDS:
        if beginning.match(data):
            return kind
    if not data:
        what = "empty (0 bytes)"
    elif data[:6] in (b"GIF87a", b"GIF89a"):
        what = "a GIF image"
    elif foreign := foreign_content(data[:1024]):
        what = foreign.what
    else:
        what = f"of an unknown kind, it begins with {data[:12]!r}"
    raise RequestProblem(415, f"the file is {what}. Expected an image: {SUPPORTED}")


def _open(kind: str, data: bytes) -> Image.Image:
    return Image.open(BytesIO(data), formats=(kind,))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RequestProblem(503, "there is no space to read the image", retry_after=10) from error


def _check_file(path: Path, max_pixels: int, bands: Bands | None) -> None:
    """The size of the image in a file, and of what its reader holds in memory."""
    opened = open_image(path, bands)
    if not isinstance(opened, BandFile):
        with opened as image:
            _check_size(image.height, image.width, max_pixels)
        return
    height, width = opened.stored_hw
    _check_size(height, width, max_pixels)
    num_bytes = height * width * opened.num_bands * opened.dtype.itemsize
    if num_bytes > _PIXEL_BYTES * max_pixels:
        raise RequestProblem(
            413,
            f"the image has {width:,} x {height:,} pixels and {opened.num_bands} bands of {opened.dtype}, "
            f"{num_bytes:,} bytes; the limit is {_PIXEL_BYTES * max_pixels:,}. Send a part of it",
        )
    require_bounded_parts(path)


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise _too_large(
            f"it has {height * width:,} pixels, {width:,} x {height:,}; the limit is {max_pixels:,}"
        )
    if max(height, width) > LONGEST_SIDE:
        raise _too_large(f"it is {width:,} x {height:,} pixels; the limit of a side is {LONGEST_SIDE:,}")


def _too_large(reason: str) -> RequestProblem:
    return RequestProblem(413, f"the image is too large: {reason}. Make it smaller, or cut it into parts")


_DATA_URL = re.compile(r"\s*data:([^,]{0,200}),", re.IGNORECASE)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/_=\s-]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def decode_base64(text: str) -> bytes:
    """The bytes of a text in base64 (RFC 4648), or of a URL ``data:...;base64,...``.

    White space and the alphabet for URLs are accepted. Raises RequestProblem 400 for anything else.
    """
    start = 0
    if prefix := _DATA_URL.match(text):
        if not prefix[1].lower().endswith(";base64"):
            raise RequestProblem(400, "the data: URL is not in base64. Expected data:image/...;base64,...")
        start = prefix.end()
    try:
        coded = text[start:].encode("ascii")
        try:
            return _decoded(coded)
        except binascii.Error:
            return _decoded(coded.translate(_URL_SAFE, b" \t\r\n\f\v"))
    except ValueError as error:  # binascii.Error and UnicodeError are
        raise RequestProblem(
            400, f"the image is not valid base64: {_what_is_wrong(text, start, error)}"
        ) from error


def _decoded(coded: bytes) -> bytes:
    if not coded:
        raise binascii.Error("it is empty")
    if len(coded) % 4 or coded.endswith(b"==="):  # what binascii overlooks
        raise binascii.Error("its padding with = to a multiple of 4 characters is wrong")
    return binascii.a2b_base64(coded, strict_mode=True)


def _what_is_wrong(text: str, start: int, error: ValueError) -> str:
    found = _NOT_BASE64.search(text, start)
    if found is None:
        return str(error)[:1].lower() + str(error)[1:]
    return f"character {found.start() + 1} is {found[0]!r}"
