"""The result of one image as a LabelMe file, to be corrected by hand and converted to a data set."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.formats.labelme.write import labelme_text, polygon_shapes
from paddlex_seg.data.image_facts import inspect_image
from paddlex_seg.data.images import load_image
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.images import encode_image
from paddlex_seg.inference.outputs.coco import with_pixels
from paddlex_seg.masks.polygons import rle_to_polygons
from paddlex_seg.structures import Instances

# LabelMe reads the files of other formats, too. But some kinds of them, such as TIFFs of LAB colours, are
# refused by some of its versions.
_SHOWN_BY_LABELME = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm")


def result_to_labelme(
    instances: Instances,
    labels: Sequence[str],
    *,
    image: NDArray[np.uint8],
    input_path: str | None,
    page_index: int | None,
    save_name: str,
    folder: Path,
) -> str:
    """The text of a LabelMe file for the folder ``folder``.

    image: as the model saw it, uint8 [H, W, 3], RGB. Objects are polygons, see `rle_to_polygons`; the parts
    of an object share a ``group_id``. The score stands in the description, and under the key ``score``.
    Objects whose mask has no pixel are left out. The file names the image, if there is one. The image is also
    embedded where LabelMe would find no file, or show other pixels: arrays, URLs, pages, other formats,
    transparency, and more than 8 bits or three bands.
    """
    shapes = labelme_shapes(instances, labels, input_path or save_name)
    is_file = input_path is not None and "://" not in input_path and page_index is None
    file = Path(input_path) if input_path is not None and is_file else None
    shown = file is not None and is_shown(file, image)
    return labelme_text(
        shapes,
        image_path=f"{PurePosixPath(save_name).name}.png" if file is None else _path_from(folder, file),
        size_hw=instances.size_hw,
        embedded=None if shown else encode_image(Image.fromarray(image), ".png", compress_level=1),
    )


def labelme_shapes(instances: Instances, labels: Sequence[str], name: str) -> list[dict[str, Any]]:
    """The shapes of a LabelMe file; see `result_to_labelme`. name: of the image, for log lines."""
    seen = with_pixels(instances, name)
    shapes: list[dict[str, Any]] = []
    for group, (class_id, score, mask) in enumerate(
        zip(seen.class_ids, seen.scores, seen.masks, strict=True), start=1
    ):
        polygons = rle_to_polygons(mask)
        shapes += polygon_shapes(
            labels[class_id],
            polygons,
            group if len(polygons) > 1 else None,
            description=f"score {score:.3f}",
            score=round(float(score), 4),
        )
    return shapes


def is_shown(file: Path, image: NDArray[np.uint8]) -> bool:
    """Whether LabelMe shows these pixels when it opens the file. It turns images upright by their EXIF data.

    An image that another program converts in another way has a trait: alpha, CMYK, 16 bits, more bands.
    """
    if file.suffix.lower() not in _SHOWN_BY_LABELME:
        return False
    facts = inspect_image(file, "header")
    if facts.problem is not None or facts.traits or facts.shown_hw != image.shape[:2]:
        return False
    try:
        return np.array_equal(load_image(file), image)
    except DatasetError:
        return False


def _path_from(folder: Path, file: Path) -> str:
    try:
        return os.path.relpath(file, folder).replace(os.sep, "/")
    except ValueError:  # on another drive of Windows
        return str(file.resolve()).replace(os.sep, "/")
