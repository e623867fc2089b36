"""Writes sample images with drawn annotations, and the class histogram, as image files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.images import image_path, load_image
from paddlex_seg.files.images import encode_image
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.reports.charts import draw_histogram
from paddlex_seg.structures import Annotation, CocoFile, Id
from paddlex_seg.visualize import draw_instances

_SAMPLES_PER_SPLIT = 10


def draw_samples(coco: CocoFile, image_dir: Path, folder: Path) -> list[Path]:
    """Draw the annotations of the first images of a split, and save them in ``folder``. Returns paths.

    A file of the user is not replaced: the drawing then has a number in its name.
    """
    names = [category.name for category in coco.categories]
    records = coco.images[:_SAMPLES_PER_SPLIT]
    annotations: dict[Id, list[Annotation]] = {record.id: [] for record in records}
    for annotation in coco.annotations:
        if annotation.image_id in annotations:
            annotations[annotation.image_id].append(annotation)
    paths, written = [], WrittenFiles()
    for record in records:
        source = image_path(image_dir, record.file_name)
        image = load_image(source, size_hw=(record.height, record.width))
        instances = annotations_to_instances(annotations[record.id], record, coco.categories)
        drawn = draw_instances(image, instances, names, show_scores=False)
        paths.append(_save(drawn, _sample_path(folder, record.file_name), written))
    return paths


def _sample_path(folder: Path, file_name: str) -> Path:
    """The path of a sample: its own file name, with ``.png`` appended if Pillow cannot write that format."""
    path = image_path(folder, file_name)
    can_write = Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE
    return path if can_write else path.with_name(f"{path.name}.png")


def save_histogram(table: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Save a histogram of annotations per class, as `draw_samples` does. Returns the file.

    table: rows with ``name``, counts ``train`` and ``val``.
    """
    names, train, val = ([row[key] for row in table] for key in ("name", "train", "val"))
    return _save(draw_histogram(names, train, val), path, WrittenFiles())


def _save(image: NDArray[np.uint8], path: Path, written: WrittenFiles) -> Path:
    """Write an image file, with a number in its name if the user has a file of that name."""
    free = written.free_name(path)
    written.put(free, encode_image(Image.fromarray(image), path.suffix, quality=92))
    return free
