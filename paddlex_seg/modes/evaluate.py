"""Mode evaluate: run a checkpoint on the val images and compute the COCO metrics."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import describe_weights, find_weights, require_categories_of_model
from paddlex_seg.checkpoints.info import describe_model
from paddlex_seg.checkpoints.weights import load_model
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.describe import describe_data
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.predict import crowding_notice, predict_dataset
from paddlex_seg.files.json import write_json
from paddlex_seg.files.written import claimed
from paddlex_seg.metrics.coco_ap import evaluate_coco, results_to_coco_json
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.runtime.ranks import Ranks, join_ranks
from paddlex_seg.structures import Category, Id, Instances

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Evaluate ``Evaluate.weight_path`` on the val images of ``Global.dataset_dir``.

    Writes ``bbox.json`` and ``segm.json`` (the predictions in COCO's result format) into ``Global.output``.
    """
    with join_ranks(cfg.Global.device) as ranks:
        return evaluate_checkpoint(cfg, ranks)


def evaluate_checkpoint(cfg: Config, ranks: Ranks) -> dict[str, Any]:
    """`run` for one rank. Each rank predicts a share of the images, and rank 0 writes the results."""
    spec, source = find_model(cfg.Global.model), cfg.Evaluate.weight_path
    dataset_dir, output = Path(cfg.Global.dataset_dir), Path(cfg.Global.output)
    paths = dataset_paths(dataset_dir)
    coco = read_coco(paths.val_json)
    weight_path = find_weights(source, key="Evaluate.weight_path", output=output)
    info = describe_weights(
        spec, weight_path, source=source, dataset_dir=dataset_dir, image_size=cfg.Train.image_size
    )
    require_categories_of_model(weight_path, info, coco)
    model = load_model(spec, weight_path, num_classes=len(info.categories))
    spec.limit_detections(model, cfg.Global.max_detections, info.image_size)
    if ranks.is_main and (notice := crowding_notice(coco, model.max_detections)):
        LOGGER.warning(notice)
    with WorkerPool(cfg.Train.num_workers) as pool:
        results = predict_dataset(
            NetworkBackend(model, info.preprocess),
            coco,
            paths.image_dir,
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
            ranks=ranks,
        )
    if not ranks.is_main:
        return {}
    metrics = evaluate_coco(
        coco, results, [category.id for category in info.categories], also_as_in_file=True
    )
    for line in metrics.table().splitlines():
        LOGGER.info(line)
    write_predictions(output, results, info.categories)
    data = describe_data(dataset_dir, val=coco)
    return {"metrics": metrics.to_json(), **describe_model(weight_path, info), "data": data}


def write_predictions(
    output_dir: Path, results: Mapping[Id, Instances], categories: Sequence[Category]
) -> None:
    """Write ``segm.json`` and ``bbox.json``: every prediction in COCO's result format."""
    rows = results_to_coco_json(results, [category.id for category in categories])
    with claimed(output_dir, ("segm.json", "bbox.json")):
        for name, dropped in (("segm.json", "bbox"), ("bbox.json", "segmentation")):
            content = [{key: value for key, value in row.items() if key != dropped} for row in rows]
            write_json(output_dir / name, content, indent=None)
