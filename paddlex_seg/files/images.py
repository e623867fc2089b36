"""Image files."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from paddlex_seg.files.atomic import write_bytes


def write_image(path: Path, image: Image.Image, **options: Any) -> None:
    """Write an image in the format of its name, all or nothing. options: of Pillow for this format."""
    write_bytes(path, encode_image(image, path.suffix, **options))


def encode_image(image: Image.Image, suffix: str, **options: Any) -> bytes:
    """The content of an image file whose name ends in ``suffix``, such as ``.png``.

    Images are written from memory, because Pillow's own writing overlooks a full disk: it takes a short write
    for a whole one and leaves an image that ends too early.
    """
    content = io.BytesIO()
    image.save(content, format=Image.registered_extensions()[suffix.lower()], **options)
    return content.getvalue()
