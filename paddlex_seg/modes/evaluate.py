"""Mode evaluate: COCO's metrics of a checkpoint, an exported model, or a file of detections of any tool."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.json import write_json
from paddlex_seg.files.written import claimed
from paddlex_seg.metrics.coco_ap import evaluate_coco, measure_tables, results_to_coco_json
from paddlex_seg.modes.detections import Detected, TruthFile, detections_of_file, prepare_models, truth_of
from paddlex_seg.modes.explain import explain
from paddlex_seg.structures import Category, Id, Instances

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Evaluate ``Evaluate.weight_path``, with ``Evaluate.backend`` the exported model in
    ``Evaluate.model_dir``, or the detections in the file ``Evaluate.predictions``.

    The annotations are those of ``Evaluate.split`` of ``Global.dataset_dir``, or ``Evaluate.annotations``.
    Writes ``bbox.json`` and ``segm.json`` (the predictions of a model in COCO's result format) into
    ``Global.output``. A file of detections needs neither Paddle nor images.
    """
    _refuse_contradictions(cfg)
    if cfg.Evaluate.predictions is not None:
        truth = truth_of(cfg)
        return _conclude(cfg, truth, detections_of_file(Path(cfg.Evaluate.predictions), truth))
    prepare_models()
    return _evaluate_model(cfg)


def _evaluate_model(cfg: Config) -> dict[str, Any]:
    """`run` for one rank, with a model. Each rank predicts a share of the images, and rank 0 writes."""
    from paddlex_seg.modes.model_detections import detections_of_export, detections_of_weights
    from paddlex_seg.runtime.ranks import join_ranks

    settings = cfg.Evaluate
    with join_ranks(cfg.Global.device) as ranks:
        truth = truth_of(cfg)
        if settings.backend is None:
            found = detections_of_weights(cfg, ranks, truth, settings.weight_path, key="Evaluate.weight_path")
        else:
            found = detections_of_export(
                cfg, ranks, truth, settings.model_dir, settings.backend, key="Evaluate.model_dir"
            )
        if not ranks.is_main:
            return {}
        return _conclude(cfg, truth, found)


def _refuse_contradictions(cfg: Config) -> None:
    settings = cfg.Evaluate
    if settings.predictions is not None:
        for key in ("weight_path", "backend", "model_dir"):
            value = getattr(settings, key)
            if value is not None:
                raise ConfigError(
                    f"Evaluate.predictions is {settings.predictions}, and Evaluate.{key} is {value}: a file "
                    "of detections needs no model. Remove one of them."
                )
    if settings.write_thresholds and settings.backend is None:
        raise ConfigError(
            "Evaluate.write_thresholds is true, and Evaluate.backend is null: thresholds are written into an "
            "exported model. Set Evaluate.backend to paddle, onnxruntime, openvino or auto, which evaluates "
            "the exported model in Evaluate.model_dir."
        )
    if settings.model_dir is not None and settings.backend is None:
        raise ConfigError(
            f"Evaluate.model_dir is {settings.model_dir}, and Evaluate.backend is null, which evaluates "
            "weights. Set Evaluate.backend to paddle, onnxruntime, openvino or auto, or remove "
            "Evaluate.model_dir."
        )


def _conclude(cfg: Config, truth: TruthFile, found: Detected) -> dict[str, Any]:
    """The content of the result file. Logs the metrics, and writes a model's detections and the page."""
    category_ids = [category.id for category in found.categories]
    with_page = cfg.Evaluate.page or cfg.Evaluate.write_thresholds
    tables = measure_tables(
        truth.coco, found.results, category_ids, across_classes=with_page, has_masks=found.has_masks
    )
    metrics = evaluate_coco(truth.coco, found.results, category_ids, also_as_in_file=True, tables=tables)
    for line in metrics.table().splitlines():
        LOGGER.info(line)
    content: dict[str, Any] = {"metrics": metrics.to_json(), **found.description, "data": truth.description}
    if found.notes:
        content["notes"] = list(found.notes)
    if cfg.Evaluate.predictions is None:
        # Before the analysis, so that detections of hours are not lost if it fails.
        write_predictions(Path(cfg.Global.output), found.results, found.categories)
    if with_page:
        content["analysis"] = explain(cfg, truth, found, tables, metrics).to_json()
    return content


def write_predictions(
    output_dir: Path, results: Mapping[Id, Instances], categories: Sequence[Category]
) -> None:
    """Write ``segm.json`` and ``bbox.json``: every prediction in COCO's result format."""
    rows = results_to_coco_json(results, [category.id for category in categories])
    with claimed(output_dir, ("segm.json", "bbox.json")):
        for name, dropped in (("segm.json", "bbox"), ("bbox.json", "segmentation")):
            content = [{key: value for key, value in row.items() if key != dropped} for row in rows]
            write_json(output_dir / name, content, indent=None)
