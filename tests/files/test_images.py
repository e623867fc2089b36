"""Image files are whole, or there is an error."""

from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from PIL import Image

from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.files.images import encode_image


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_an_image_on_a_disk_that_gets_full_is_whole_or_not_there(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8))
    with small_disk(tmp_path / "disk", 300) as disk:
        written = 0
        with pytest.raises(OSError, match=rf"No space left on device: '{disk}/\d+{suffix}'"):
            for number in range(40):
                write_bytes(disk / f"{number}{suffix}", encode_image(image, suffix))
                written += 1
        assert len(list(disk.iterdir())) == written > 0
        for path in disk.iterdir():
            with Image.open(path) as again:
                again.load()
