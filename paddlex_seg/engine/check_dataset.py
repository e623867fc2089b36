"""Mode check_dataset: is the data set fit to train on, and what does it hold?"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.config import Config
from paddlex_seg.data.checks import CheckReport, check
from paddlex_seg.data.coco import annotations_to_instances, image_path, load_image
from paddlex_seg.errors import ConfigError
from paddlex_seg.structures import Annotation, CocoFile
from paddlex_seg.visualize import draw_histogram, draw_instances

_LOGGER = logging.getLogger(__name__)
_SAMPLES_PER_SPLIT = 10


def run(cfg: Config) -> dict[str, Any]:
    """The result of a data set that passes, for ``check_dataset_result.json``.

    Draws samples and a histogram into ``<output>/check_dataset``; the paths in the result are relative to the
    output folder. Samples are counted in pictures. Raises DatasetError listing what is wrong.
    """
    _refuse_what_is_not_there_yet(cfg)
    return check_and_draw(Path(cfg.Global.dataset_dir), Path(cfg.Global.output))


def check_and_draw(dataset_dir: Path, output_dir: Path) -> dict[str, Any]:
    """The work of `run`: check, draw, count."""
    report = check(dataset_dir)
    report.raise_for_errors()
    train_samples, val_samples = (
        _draw_samples(coco, report, output_dir) for coco in (report.train, report.val)
    )
    table = _class_table(report)
    histogram = _draw_histogram(table, output_dir)
    for finding in report.findings:
        _LOGGER.warning(str(finding))
    _LOGGER.info("Check dataset passed !")
    return {
        "check_pass": True,
        "attributes": {
            "num_classes": len(report.train.categories),
            "train_samples": len(report.train.images),
            "train_sample_paths": train_samples,
            "val_samples": len(report.val.images),
            "val_sample_paths": val_samples,
            "train_annotations": len(report.train.annotations),
            "val_annotations": len(report.val.annotations),
            "class_counts": table,
        },
        "analysis": {"histogram": histogram},
        "dataset_path": report.paths.root.resolve().name,
        "show_type": "image",
        "dataset_type": "COCOInstSegDataset",
        "findings": [asdict(finding) for finding in report.findings],
    }


def _refuse_what_is_not_there_yet(cfg: Config) -> None:
    for key in ("convert", "split"):
        if getattr(cfg.CheckDataset, key).enable:
            raise ConfigError(
                f"CheckDataset.{key}.enable is true, but this version can only check data sets in COCO "
                f"format that are split already. Set it to False."
            )


def _class_table(report: CheckReport) -> list[dict[str, Any]]:
    """Annotations per class, in the order of the class indices."""
    train, val = (
        Counter(annotation.category_id for annotation in coco.annotations)
        for coco in (report.train, report.val)
    )
    return [
        {"id": category.id, "name": category.name, "train": train[category.id], "val": val[category.id]}
        for category in report.train.categories
    ]


def _draw_samples(coco: CocoFile, report: CheckReport, output_dir: Path) -> list[str]:
    """Draw the first pictures of a split; gives back their paths relative to ``output_dir``."""
    names = [category.name for category in coco.categories]
    records = coco.images[:_SAMPLES_PER_SPLIT]
    annotations: dict[int, list[Annotation]] = {record.id: [] for record in records}
    for annotation in coco.annotations:
        if annotation.image_id in annotations:
            annotations[annotation.image_id].append(annotation)
    paths = []
    for record in records:
        source = image_path(report.paths.image_dir, record.file_name)
        image = load_image(source, size_hw=(record.height, record.width))
        instances = annotations_to_instances(annotations[record.id], record, coco.categories)
        drawn = draw_instances(image, instances, names, show_scores=False)
        path = _sample_path(output_dir / "check_dataset" / "demo_img", record.file_name)
        _save(drawn, path)
        paths.append(path.relative_to(output_dir).as_posix())
    return paths


def _sample_path(folder: Path, file_name: str) -> Path:
    """Where a sample is saved: under its own name, or as PNG if Pillow cannot write files of that kind."""
    path = image_path(folder, file_name)
    can_write = Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE
    return path if can_write else path.with_name(f"{path.name}.png")


def _draw_histogram(table: Sequence[dict[str, Any]], output_dir: Path) -> str:
    names, train, val = ([row[key] for row in table] for key in ("name", "train", "val"))
    path = output_dir / "check_dataset" / "histogram.png"
    _save(draw_histogram(names, train, val), path)
    return path.relative_to(output_dir).as_posix()


def _save(image: NDArray[np.uint8], path: Path) -> None:
    """Write a picture, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    Image.fromarray(image).save(temporary, quality=92)
    os.replace(temporary, path)
