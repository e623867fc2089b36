"""Mode folds: detections of every train and val image by a model that was not trained on it.

The images are divided into k folds. For each fold, a model is trained on the other ones and finds objects in
this one. A training that ended is not repeated when the mode runs again, and one that was stopped goes on.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.paths import dataset_paths, plain_name
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import coco_to_json
from paddlex_seg.data.preparation.divide import folds_of
from paddlex_seg.data.preparation.layouts import write_folds
from paddlex_seg.data.preparation.merge import in_name_order, merge_coco
from paddlex_seg.data.preparation.settings import SplitSettings
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.json import write_json
from paddlex_seg.files.lock import held
from paddlex_seg.files.written import claimed
from paddlex_seg.modes import evaluate, train
from paddlex_seg.modes.result_file import result_path, write_result
from paddlex_seg.structures import CocoFile

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Train ``Folds.number`` models, each into a folder ``fold_<number>`` of ``Global.output``.

    Writes ``segm_train.json`` and ``segm_val.json``: detections in COCO's result format, with the ids of the
    annotation file of that part.
    """
    if cfg.Train.num_processes > 1 or cfg.Train.nnodes > 1 or cfg.Train.dist_ips is not None:
        raise ConfigError("Global.mode=folds trains in one process. Set Train.num_processes and nnodes to 1.")
    output, paths = Path(cfg.Global.output), dataset_paths(Path(cfg.Global.dataset_dir))
    parts = {
        name: read_coco(path)
        for name, path in (("train", paths.train_json), ("val", paths.val_json))
        if path.is_file()
    }
    whole = in_name_order(merge_coco(list(parts.values())))
    with held(output):
        _write_data(cfg, output / "folds", paths.root, whole)
        folders = [output / f"fold_{number}" for number in range(1, cfg.Folds.number + 1)]
        results = [_run_fold(cfg, folder, output / "folds") for folder in folders]
        for name, coco in parts.items():
            rows = [row for folder in folders for row in _rows_of(folder / "segm.json", whole, coco)]
            with claimed(output, (f"segm_{name}.json",)):
                write_json(output / f"segm_{name}.json", rows, indent=None)
            LOGGER.info("%s: %d detections", output / f"segm_{name}.json", len(rows))
    return {
        "folds": [
            {"output": str(folder), "AP": result["metrics"]["AP"]}
            for folder, result in zip(folders, results, strict=True)
        ],
        "predictions": {name: str(output / f"segm_{name}.json") for name in parts},
    }


def _write_data(cfg: Config, folder: Path, root: Path, whole: CocoFile) -> None:
    """Write the folds, unless they are there. Raises ConfigError if there are others."""
    split = SplitSettings(
        folds=cfg.Folds.number,
        seed=cfg.CheckDataset.split.seed,
        group_by=cfg.CheckDataset.split.group_by,
        bands_of=lambda place: find_bands(cfg, place),
    )
    folds = folds_of(root, whole, split)
    if not folder.exists():
        write_folds(root, folds, folder)
        return
    files = {
        folder / str(number) / "annotations" / f"instance_{name}.json": coco_to_json(coco)
        for number, fold in enumerate(folds, start=1)
        for name, coco in fold.items()
    }
    if not all(path.is_file() and path.read_text(encoding="utf-8") == text for path, text in files.items()):
        raise ConfigError(
            f"{folder} has folds of other labels or with other settings, and models are trained on them. Set "
            "another Global.output for the new ones."
        )


def _run_fold(cfg: Config, output: Path, data: Path) -> Mapping[str, Any]:
    """Train on a fold and evaluate, unless that was done. Returns the result of the evaluation."""
    number = output.name.removeprefix("fold_")
    done = result_path(output, "evaluate")
    if done.is_file() and (output / "segm.json").is_file():
        LOGGER.info("Fold %s was trained before: %s", number, output)
        return dict(json.loads(done.read_text(encoding="utf-8")))
    LOGGER.info("Fold %s of %d: %s", number, cfg.Folds.number, output)
    own = cfg.model_copy(
        update={
            "Global": cfg.Global.model_copy(
                update={"mode": "train", "dataset_dir": str(data / number), "output": str(output)}
            ),
            "Train": cfg.Train.model_copy(update={"resume": "auto", "resume_path": None}),
            "Evaluate": type(cfg.Evaluate)(page=False, batch_size=cfg.Evaluate.batch_size),
        }
    )
    with held(output):
        train.run(own)
    result = evaluate.run(own)
    write_result(output, "evaluate", {"done_flag": True, **result})
    return result


def _rows_of(path: Path, whole: CocoFile, part: CocoFile) -> list[dict[str, Any]]:
    """The detections in images of a part, with its ids."""
    names = {image.id: plain_name(image.file_name) for image in whole.images}
    classes = {category.id: category.name for category in whole.categories}
    images = {plain_name(image.file_name): image.id for image in part.images}
    ids = {category.name: category.id for category in part.categories}
    return [
        {**row, "image_id": images[names[row["image_id"]]], "category_id": ids[classes[row["category_id"]]]}
        for row in json.loads(path.read_text(encoding="utf-8"))
        if names[row["image_id"]] in images and classes[row["category_id"]] in ids
    ]
