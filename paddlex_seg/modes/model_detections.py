"""The detections of weights or of an exported model, for the modes that compare them with annotations."""

import logging
from pathlib import Path

import paddle

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import (
    describe_weights,
    find_weights,
    require_categories_of_model,
)
from paddlex_seg.checkpoints.info import describe_model
from paddlex_seg.checkpoints.weights import load_model
from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.errors import DatasetError
from paddlex_seg.evaluation.predict import crowding_notice, predict_dataset
from paddlex_seg.files.run_folder import best_of_run
from paddlex_seg.inference.backends.choice import choose_backend
from paddlex_seg.inference.backends.open import open_backend
from paddlex_seg.inference.export_spec import ExportedSpec
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.modes.detections import Detected, TruthFile
from paddlex_seg.modes.predict import describe_exported
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.structures import Backend, BackendChoice, Category, CocoFile, Id, Instances

LOGGER = logging.getLogger(__name__)


def detections_of_weights(
    cfg: Config, ranks: Ranks, truth: TruthFile, source: str | None, *, key: str
) -> Detected:
    """What weights find in the images of ``truth``. Each rank predicts a share; all ranks get all of it.

    source: the value of the setting ``key``, a path or a URL; None: the best model of ``Global.output``.
    """
    spec, dataset_dir = find_model(cfg.Global.model), Path(cfg.Global.dataset_dir)
    image_dir = _image_dir(truth)
    weight_path = find_weights(source, key=key, output=Path(cfg.Global.output))
    info = describe_weights(
        spec,
        weight_path,
        source=source,
        dataset_dir=dataset_dir,
        image_size=cfg.Train.image_size,
        bands=find_bands(cfg, image_dir.parent),
    )
    require_categories_of_model(weight_path, info, truth.coco)
    model = load_model(spec, weight_path, num_classes=len(info.categories))
    spec.limit_detections(model, cfg.Global.max_detections, info.image_size)
    backend = NetworkBackend(model, info.preprocess)
    results = _predict(cfg, ranks, backend, truth, model.max_detections)
    facts = (("Model", spec.name), ("Weights", str(weight_path)))
    return Detected(results, tuple(info.categories), describe_model(weight_path, info), facts)


def detections_of_export(
    cfg: Config, ranks: Ranks, truth: TruthFile, model_dir: str | None, name: BackendChoice, *, key: str
) -> Detected:
    """What an exported model finds in the images of ``truth``, as `detections_of_weights`."""
    folder = Path(model_dir or best_of_run(Path(cfg.Global.output), "inference", key=key))
    device = paddle.device.get_device()
    if name == "auto":
        name = choose_backend(folder, device=device)
    backend = open_backend(folder, name, device=device if name == "paddle" else "cpu")
    categories = _categories_of(backend.spec, folder, truth.coco)
    results = _predict(cfg, ranks, backend, truth, backend.spec.max_detections)
    facts = (("Model", backend.spec.model_name), ("Exported model", str(folder)), ("Backend", name))
    return Detected(results, categories, describe_exported(folder, name), facts, model_dir=folder)


def _categories_of(spec: ExportedSpec, model_dir: Path, coco: CocoFile) -> tuple[Category, ...]:
    """The classes of an exported model. Raises DatasetError unless ``coco`` lists them in the same order."""
    ids = spec.exported_from.get("category_ids", ())
    if len(ids) != len(spec.labels):  # an export of PaddleX
        ids = [category.id for category in coco.categories]
        ids += range(len(ids), len(spec.labels))
    categories = tuple(map(Category, ids, spec.labels))
    same_categories(CocoFile(model_dir / "inference.yml", (), (), categories), coco)
    return categories


def _predict(
    cfg: Config, ranks: Ranks, backend: Backend, truth: TruthFile, limit: int | None
) -> dict[Id, Instances]:
    if ranks.is_main and limit is not None and (notice := crowding_notice(truth.coco, limit)):
        LOGGER.warning(notice)
    with WorkerPool(cfg.Train.num_workers) as pool:
        return predict_dataset(
            backend,
            truth.coco,
            _image_dir(truth),
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
            ranks=ranks,
        )


def _image_dir(truth: TruthFile) -> Path:
    if truth.image_dir is None:
        raise DatasetError(
            f"{truth.coco.path}: its images are neither in a folder images/ nor beside the file. A model "
            "needs them. Move the file, or evaluate detections with Evaluate.predictions."
        )
    return truth.image_dir
