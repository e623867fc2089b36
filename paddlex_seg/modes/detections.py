"""What is evaluated: detections and the annotations that they are compared with.

This file knows result files, and needs neither Paddle nor images; `model_detections` runs models.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.describe import describe_annotations, describe_data
from paddlex_seg.data.coco.paths import dataset_paths, image_dir_beside
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.results import ResultFile, read_results
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.runtime.environment import require_paddle, writable_home
from paddlex_seg.runtime.stop_signals import held
from paddlex_seg.structures import Category, CocoFile, Id, Instances

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TruthFile:
    """The annotations of an evaluation. ``image_dir`` is None where the images were not found."""

    coco: CocoFile
    image_dir: Path | None
    description: Mapping[str, Any]  # for the result file


@dataclass(frozen=True)
class Detected:
    """The detections of a model or a file. ``categories``: the classes of their class indices."""

    results: Mapping[Id, Instances]
    categories: tuple[Category, ...]
    description: Mapping[str, Any]  # of their source, for the result file
    facts: tuple[tuple[str, str], ...]  # of their source, for people
    has_masks: bool = True
    notes: tuple[str, ...] = ()
    model_dir: Path | None = None  # of an exported model


def prepare_models() -> None:
    """Import `model_detections`, and Paddle with it. Raises ConfigError if Paddle is not installed."""
    require_paddle()
    with held(), writable_home():
        import_module("paddlex_seg.modes.model_detections")


def truth_of(cfg: Config) -> TruthFile:
    """The annotations in ``Evaluate.annotations``, or those of ``Evaluate.split`` of the data set."""
    split = cfg.Evaluate.split
    if cfg.Evaluate.annotations is None:
        paths = dataset_paths(Path(cfg.Global.dataset_dir))
        files = {"train": paths.train_json, "val": paths.val_json, "test": paths.test_json}
        coco = read_coco(files[split])
        return TruthFile(coco, paths.image_dir, describe_data(Path(cfg.Global.dataset_dir), **{split: coco}))
    if split != "val":
        raise ConfigError(
            f"Evaluate.split is {split}, but Evaluate.annotations names a file. Remove one of them: "
            "Evaluate.split chooses a file of Global.dataset_dir."
        )
    path = Path(cfg.Evaluate.annotations)
    coco = read_coco(path)
    description = {"path": str(path), **describe_annotations(annotations=coco)}
    return TruthFile(coco, image_dir_beside(coco), description)


def detections_of_file(path: Path, truth: TruthFile) -> Detected:
    """The detections of a file in COCO's result format."""
    return _detected(read_results(path, truth.coco), truth)


def detections_of_run(folder: Path, truth: TruthFile) -> Detected:
    """The detections in ``segm.json`` of an output folder, with the boxes of ``bbox.json`` if they fit."""
    found, path = read_results(folder / "segm.json", truth.coco), folder / "bbox.json"
    if path.is_file():
        boxes = read_results(path, truth.coco)
        if _are_same(found.instances, boxes.instances):
            joined = {
                id: replace(
                    one,
                    boxes_xyxy=boxes.instances[id].boxes_xyxy,
                    boxes_xywh=boxes.instances[id].boxes_xywh,
                )
                for id, one in found.instances.items()
            }
            found = replace(found, instances=joined)
        else:
            note = f"{path} has other detections than segm.json, so boxes are those around the masks."
            found = replace(found, notes=(*found.notes, note))
    return _detected(found, truth)


def _are_same(first: Mapping[Id, Instances], second: Mapping[Id, Instances]) -> bool:
    """Whether the classes and scores are the same, in the same order."""
    return first.keys() == second.keys() and all(
        np.array_equal(one.class_ids, second[id].class_ids) and np.array_equal(one.scores, second[id].scores)
        for id, one in first.items()
    )


def _detected(found: ResultFile, truth: TruthFile) -> Detected:
    path = found.path
    for note in found.notes:
        LOGGER.warning("%s", note)
    number = sum(map(len, found.instances.values()))
    LOGGER.info("%s: %d detections in %d images.", path, number, len(found.instances))
    return Detected(
        found.instances,
        truth.coco.categories,
        {"predictions": {"path": str(path), "sha256": sha256_of(path), "detections": number}},
        (("Detections of", str(path)),),
        has_masks=found.has_masks,
        notes=found.notes,
    )
