"""The content of image files, to be written like any other bytes."""

import io
from typing import Any

from PIL import Image


def encode_image(image: Image.Image, suffix: str, **options: Any) -> bytes:
    """The content of an image file whose name ends in ``suffix``, such as ``.png``.

    Images are written from memory, because Pillow's own writing overlooks a full disk: it takes a short write
    for a whole one and leaves an image that ends too early.
    """
    content = io.BytesIO()
    image.save(content, format=Image.registered_extensions()[suffix.lower()], **options)
    return content.getvalue()
