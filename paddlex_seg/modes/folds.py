"""Mode folds: models that were each trained without a part of the images, and what they find in that part.

A model agrees with labels it was trained on, also with wrong ones. Out-of-fold predictions do not have this
fault, so they show wrong labels of train images, too.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.describe import describe_data
from paddlex_seg.data.coco.paths import dataset_paths, plain_name
from paddlex_seg.data.coco.read import load_document, read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.preparation.divide import divide_into_folds
from paddlex_seg.data.preparation.layouts import SPLITS, existing_annotations, share_images
from paddlex_seg.data.preparation.merge import in_name_order, merge_coco
from paddlex_seg.data.preparation.settings import SplitSettings
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import new_folder, write_bytes
from paddlex_seg.files.json import write_json
from paddlex_seg.files.lock import held
from paddlex_seg.files.written import claimed
from paddlex_seg.modes import train
from paddlex_seg.modes.detections import TruthFile
from paddlex_seg.modes.evaluate import write_predictions
from paddlex_seg.modes.model_detections import detections_of_weights
from paddlex_seg.runtime.ranks import join_ranks
from paddlex_seg.structures import BANDS_FILE, CocoFile, Id

LOGGER = logging.getLogger(__name__)
SETTINGS = "folds.json"
# Settings of the training that may change between two runs.
_OF_NO_MATTER = {"resume", "resume_path", "num_workers", "log_interval", "tensorboard", "visualdl"}


def run(cfg: Config) -> dict[str, Any]:
    """Train ``Folds.num`` models on the joined ``Folds.splits``, and write what each finds in its own fold.

    Writes into ``Global.output``: `segm.json` with the detections in all images, the joined annotations
    `dataset/annotations/instance_all.json`, and for each part `segm_<part>.json` with the ids of its file.
    A fold with predictions is not trained again, and one that was interrupted is resumed.
    """
    _require_one_process(cfg)
    output = Path(cfg.Global.output)
    with held(output):
        parts = _parts(cfg)
        whole, root = _prepare(cfg, parts), output / "dataset"
        try:
            rows = [row for k in range(1, cfg.Folds.num + 1) for row in _rows_of_fold(cfg, root / "folds", k)]
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted. To continue, run the same command again") from None
        names = ["segm.json", *(f"segm_{part}.json" for part in parts)]
        with claimed(output, names):
            write_json(output / "segm.json", rows, indent=None)
            for part, coco in parts.items():
                write_json(output / f"segm_{part}.json", _with_own_ids(rows, whole, coco), indent=None)
    return {
        "folds": cfg.Folds.num,
        "annotations": str(whole.path),
        "predictions": [str(output / name) for name in names],
        "detections": len(rows),
        "data": describe_data(Path(cfg.Global.dataset_dir), **parts),
    }


def _require_one_process(cfg: Config) -> None:
    if cfg.Train.num_processes > 1 or cfg.Train.nnodes > 1 or cfg.Train.dist_ips or "," in cfg.Global.device:
        raise ConfigError(
            "Global.mode is folds, which trains in one process. Set Train.num_processes and Train.nnodes to "
            "1, Train.dist_ips to null, and Global.device to one device."
        )


def _parts(cfg: Config) -> dict[str, CocoFile]:
    """The parts of the data set to join."""
    paths = dataset_paths(Path(cfg.Global.dataset_dir))
    there = existing_annotations(paths.root)
    missing = [part for part in cfg.Folds.splits if part not in there]
    if missing or not cfg.Folds.splits:
        raise ConfigError(
            f"Folds.splits is {', '.join(cfg.Folds.splits) or 'empty'}. Expected one or more of "
            f"{', '.join(part for part in SPLITS if part in there)}, which {paths.root} has."
        )
    return {part: read_coco(there[part]) for part in dict.fromkeys(cfg.Folds.splits)}


def _prepare(cfg: Config, parts: Mapping[str, CocoFile]) -> CocoFile:
    """The joined annotations. Writes them, and the data sets of the folds, unless an earlier run has."""
    output, paths = Path(cfg.Global.output), dataset_paths(Path(cfg.Global.dataset_dir))
    root = output / "dataset"
    settings = {
        "model": cfg.Global.model,
        "num": cfg.Folds.num,
        "split": cfg.CheckDataset.split.model_dump(mode="json", include={"seed", "group_by"}),
        "train": cfg.Train.model_dump(mode="json", exclude=_OF_NO_MATTER),
        "data": describe_data(paths.root.resolve(), **parts),
    }
    path = root / SETTINGS
    if path.is_file():
        earlier = load_document(path)
        changed = [key for key, value in settings.items() if earlier.get(key) != value]
        if changed:
            raise ConfigError(
                f"{output} holds folds with other settings ({', '.join(changed)}). Set another "
                "Global.output, or the settings of these folds to go on with them."
            )
        return read_coco(root / "annotations" / "instance_all.json")
    whole = in_name_order(merge_coco(list(parts.values())))
    if len(whole.images) < cfg.Folds.num:
        raise ConfigError(f"Folds.num is {cfg.Folds.num}, but there are only {len(whole.images)} images.")
    with new_folder(root) as new:
        share_images(paths.image_dir, new / "images", up=str(paths.image_dir.resolve()))
        write_coco(whole, new / "annotations" / "instance_all.json")
        if (paths.root / BANDS_FILE).is_file():
            write_bytes(new / BANDS_FILE, (paths.root / BANDS_FILE).read_bytes())
        group_by, seed = cfg.CheckDataset.split.group_by, cfg.CheckDataset.split.seed
        split = SplitSettings(
            folds=cfg.Folds.num, seed=seed, group_by=group_by, bands_of=lambda place: find_bands(cfg, place)
        )
        divide_into_folds(new, whole, split)
        write_json(new / SETTINGS, settings)
    return read_coco(root / "annotations" / "instance_all.json")


def _rows_of_fold(cfg: Config, folds: Path, number: int) -> list[dict[str, Any]]:
    """What the model of a fold finds in its val images, in COCO's result format."""
    output = Path(cfg.Global.output) / f"fold_{number}"
    place = output / "segm.json"
    if place.is_file():
        LOGGER.info("Fold %d of %d is there: %s", number, cfg.Folds.num, place)
    else:
        LOGGER.info("Fold %d of %d: training in %s", number, cfg.Folds.num, output)
        own = cfg.Global.model_copy(
            update={"mode": "train", "dataset_dir": str(folds / str(number)), "output": str(output)}
        )
        update: dict[str, Any] = {"resume": "auto", "resume_path": None}
        if number > 1:  # the first fold has shown that it works
            update["self_check"] = False
        of_fold = cfg.model_copy(update={"Global": own, "Train": cfg.Train.model_copy(update=update)})
        with held(output):
            train.run(of_fold)
        with join_ranks(cfg.Global.device) as ranks:
            val = read_coco(dataset_paths(folds / str(number)).val_json)
            truth = TruthFile(val, folds / str(number) / "images", {})
            found = detections_of_weights(of_fold, ranks, truth, None, key="Evaluate.weight_path")
            write_predictions(output, found.results, found.categories)
    rows: list[dict[str, Any]] = json.loads(place.read_text(encoding="utf-8"))
    return rows


def _with_own_ids(rows: list[dict[str, Any]], whole: CocoFile, part: CocoFile) -> list[dict[str, Any]]:
    """The detections in the images of a part, with the ids of its file: joining may have changed ids."""
    own_image = {plain_name(record.file_name): record.id for record in part.images}
    own_class = {category.name: category.id for category in part.categories}
    image_of: dict[Id, Id] = {
        record.id: own_image[name]
        for record in whole.images
        if (name := plain_name(record.file_name)) in own_image
    }
    class_of: dict[Id, Id] = {
        category.id: own_class[category.name] for category in whole.categories if category.name in own_class
    }
    return [
        {**row, "image_id": image_of[row["image_id"]], "category_id": class_of[row["category_id"]]}
        for row in rows
        if row["image_id"] in image_of and row["category_id"] in class_of
    ]
