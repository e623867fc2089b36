"""Images for embedding in a page."""

import base64
import io
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Embedded:
    """An image for ``<img>``, with the image file embedded as a data URL."""

    source: str  # data:image/jpeg;base64,...
    width: int
    height: int


def encode_jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """The image as JPEG at the best quality that fits into ``max_bytes``.

    A noisy image may be larger than ``max_bytes`` even at the lowest quality.
    """
    for quality in (82, 60, 40, 20):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= max_bytes:
            break
    return buffer.getvalue()


def embed_jpeg(image: Image.Image, max_bytes: int) -> Embedded:
    """The image as a JPEG in a data URL. max_bytes: of the JPEG, see `encode_jpeg`."""
    data = base64.b64encode(encode_jpeg(image, max_bytes)).decode("ascii")
    return Embedded(f"data:image/jpeg;base64,{data}", image.width, image.height)
