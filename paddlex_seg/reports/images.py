"""Pictures for embedding in a page."""

import io

from PIL import Image


def encode_jpeg(picture: Image.Image, max_bytes: int) -> bytes:
    """At the best quality that fits; noise may need more than ``max_bytes`` even at the worst."""
    for quality in (82, 60, 40, 20):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= max_bytes:
            break
    return buffer.getvalue()
