"""Mode evaluate: run a checkpoint or an exported model on the val images and compute the COCO metrics."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from paddlex_seg.data.coco.describe import describe_data
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.errors import ConfigError
from paddlex_seg.evaluation.predict import crowding_notice, predict_dataset
from paddlex_seg.files.json import write_json
from paddlex_seg.files.run_folder import best_of_run
from paddlex_seg.files.written import claimed
from paddlex_seg.inference.backends.choice import choose_backend
from paddlex_seg.inference.backends.open import open_backend
from paddlex_seg.inference.export_spec import ExportedSpec
from paddlex_seg.metrics.coco_ap import evaluate_coco, results_to_coco_json
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.modes.predict import describe_exported
from paddlex_seg.runtime.ranks import Ranks, join_ranks
from paddlex_seg.structures import Backend, Category, CocoFile, Id, Instances

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Evaluate ``Evaluate.weight_path``, or with ``Evaluate.backend`` the exported model in
    ``Evaluate.model_dir``, on the val images of ``Global.dataset_dir``.

    Writes ``bbox.json`` and ``segm.json`` (the predictions in COCO's result format) into ``Global.output``.
    """
    if cfg.Evaluate.model_dir is not None and cfg.Evaluate.backend is None:
        raise ConfigError(
            f"Evaluate.model_dir is {cfg.Evaluate.model_dir}, and Evaluate.backend is null, which evaluates "
            "weights. Set Evaluate.backend to paddle, onnxruntime, openvino or auto, or remove "
            "Evaluate.model_dir."
        )
    with join_ranks(cfg.Global.device) as ranks:
        return (
            evaluate_checkpoint(cfg, ranks) if cfg.Evaluate.backend is None else evaluate_export(cfg, ranks)
        )


def evaluate_checkpoint(cfg: Config, ranks: Ranks) -> dict[str, Any]:
    """`run` for one rank, with weights. Each rank predicts a share of the images, and rank 0 writes."""
    spec, source = find_model(cfg.Global.model), cfg.Evaluate.weight_path
    dataset_dir, output = Path(cfg.Global.dataset_dir), Path(cfg.Global.output)
    paths = dataset_paths(dataset_dir)
    coco = read_coco(paths.val_json)
    weight_path = find_weights(source, key="Evaluate.weight_path", output=output)
    info = describe_weights(
        spec,
        weight_path,
        source=source,
        dataset_dir=dataset_dir,
        image_size=cfg.Train.image_size,
        bands=find_bands(cfg, paths.root),
    )
    require_categories_of_model(weight_path, info, coco)
    model = load_model(spec, weight_path, num_classes=len(info.categories))
    spec.limit_detections(model, cfg.Global.max_detections, info.image_size)
    backend = NetworkBackend(model, info.preprocess)
    metrics = _evaluate(cfg, ranks, backend, coco, info.categories, limit=model.max_detections)
    if not ranks.is_main:
        return {}
    data = describe_data(dataset_dir, val=coco)
    return {"metrics": metrics, **describe_model(weight_path, info), "data": data}


def evaluate_export(cfg: Config, ranks: Ranks) -> dict[str, Any]:
    """`run` for one rank, with an exported model."""
    dataset_dir, output, name = Path(cfg.Global.dataset_dir), Path(cfg.Global.output), cfg.Evaluate.backend
    coco = read_coco(dataset_paths(dataset_dir).val_json)
    model_dir = Path(cfg.Evaluate.model_dir or best_of_run(output, "inference", key="Evaluate.model_dir"))
    device = paddle.device.get_device()
    if name is None or name == "auto":
        name = choose_backend(model_dir, device=device)
    backend = open_backend(model_dir, name, device=device if name == "paddle" else "cpu")
    categories = _categories_of(backend.spec, model_dir, coco)
    metrics = _evaluate(cfg, ranks, backend, coco, categories, limit=backend.spec.max_detections)
    if not ranks.is_main:
        return {}
    data = describe_data(dataset_dir, val=coco)
    return {"metrics": metrics, **describe_exported(model_dir, name), "data": data}


def _categories_of(spec: ExportedSpec, model_dir: Path, coco: CocoFile) -> tuple[Category, ...]:
    """The classes of an exported model. Raises DatasetError unless ``coco`` lists them in the same order."""
    ids = spec.exported_from.get("category_ids", ())
    if len(ids) != len(spec.labels):  # an export of PaddleX
        ids = [category.id for category in coco.categories]
        ids += range(len(ids), len(spec.labels))
    categories = tuple(map(Category, ids, spec.labels))
    same_categories(CocoFile(model_dir / "inference.yml", (), (), categories), coco)
    return categories


def _evaluate(
    cfg: Config,
    ranks: Ranks,
    backend: Backend,
    coco: CocoFile,
    categories: Sequence[Category],
    *,
    limit: int | None,
) -> dict[str, Any]:
    """The metrics for the result file. Rank 0 writes the predictions; other ranks return nothing."""
    if ranks.is_main and limit is not None and (notice := crowding_notice(coco, limit)):
        LOGGER.warning(notice)
    with WorkerPool(cfg.Train.num_workers) as pool:
        results = predict_dataset(
            backend,
            coco,
            dataset_paths(Path(cfg.Global.dataset_dir)).image_dir,
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
            ranks=ranks,
        )
    if not ranks.is_main:
        return {}
    metrics = evaluate_coco(coco, results, [category.id for category in categories], also_as_in_file=True)
    for line in metrics.table().splitlines():
        LOGGER.info(line)
    write_predictions(Path(cfg.Global.output), results, categories)
    return metrics.to_json()


def write_predictions(
    output_dir: Path, results: Mapping[Id, Instances], categories: Sequence[Category]
) -> None:
    """Write ``segm.json`` and ``bbox.json``: every prediction in COCO's result format."""
    rows = results_to_coco_json(results, [category.id for category in categories])
    with claimed(output_dir, ("segm.json", "bbox.json")):
        for name, dropped in (("segm.json", "bbox"), ("bbox.json", "segmentation")):
            content = [{key: value for key, value in row.items() if key != dropped} for row in rows]
            write_json(output_dir / name, content, indent=None)
