"""Image files of all formats that the toolkit finds by their endings."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def write_image(path: Path) -> None:
    """A white image of 24 x 16 pixels in the format of the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix in (".ras", ".sr"):  # Pillow reads Sun rasters and does not write them
        _, content = cv2.imencode(".ras", np.full((16, 24, 3), 255, np.uint8))
        path.write_bytes(content.tobytes())
        return
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    image = Image.new("RGB", (24, 16), "white").convert(mode)
    image.save(path, format=Image.registered_extensions()[suffix])
