"""Why a model has its AP: the analysis of an evaluation, its page, and the best score thresholds."""

import logging
from collections.abc import Iterator
from pathlib import Path

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.analysis import Analysis, analyse
from paddlex_seg.evaluation.label_review import Suspect, review_labels
from paddlex_seg.evaluation.page import evaluation_page
from paddlex_seg.evaluation.slices import ImageLook, measure_images
from paddlex_seg.files.written import claimed
from paddlex_seg.inference.backends.exported_files import find_description
from paddlex_seg.inference.export_spec import write_class_thresholds
from paddlex_seg.metrics.coco_ap import CocoMetrics, Tables
from paddlex_seg.modes.detections import Detected, TruthFile
from paddlex_seg.reports.evaluation import write_evaluation_page
from paddlex_seg.structures import Bands, Id

LOGGER = logging.getLogger(__name__)
PAGE = "evaluation.html"
_WORTH_WORKERS = 200  # images; starting workers takes as long as measuring so many
OUT_OF_FOLD = "To review labels of the train part, use detections of mode folds."


def explain(cfg: Config, truth: TruthFile, found: Detected, tables: Tables, metrics: CocoMetrics) -> Analysis:
    """Analyse an evaluation, log what it means, and write its page into ``Global.output``."""
    bands = None if truth.image_dir is None else find_bands(cfg, truth.image_dir.parent)
    looks = image_looks(cfg, truth, bands)
    analysis = analyse(truth.coco, found.results, tables, looks=looks, resamples=cfg.Evaluate.bootstraps)
    for sentence in analysis.verdict:
        LOGGER.info(sentence)
    if found.model_dir is not None and cfg.Evaluate.write_thresholds:
        _write_thresholds(found.model_dir, found, analysis)
    if cfg.Evaluate.page:
        output = Path(cfg.Global.output)
        suspects = _suspects(truth, found, tables)
        trained_on = cfg.Evaluate.predictions is None and cfg.Evaluate.split == "train"
        notes = (
            ["A model agrees with the labels that it was trained on. " + OUT_OF_FOLD] if trained_on else []
        )
        page = evaluation_page(
            truth.coco.path.name,
            truth.coco,
            found.results,
            metrics,
            analysis,
            facts=tuple(_facts(truth, found)),
            suspects=suspects,
            notes=(*found.notes, *notes),
        )
        with claimed(output, (PAGE,)):
            write_evaluation_page(output / PAGE, page, image_dir=truth.image_dir, bands=bands)
        LOGGER.info("The page of this evaluation: %s", output / PAGE)
    return analysis


def _suspects(truth: TruthFile, found: Detected, tables: Tables) -> list[Suspect]:
    if tables.segm is None:
        return []
    ids = [category.id for category in found.categories]
    return review_labels(truth.coco, found.results, ids, overlaps=tables.segm, truth=tables.truth)


def image_looks(cfg: Config, truth: TruthFile, bands: Bands | None) -> dict[Id, ImageLook] | None:
    """How the images look; None if they were not found."""
    if truth.image_dir is None:
        return None
    workers = cfg.Train.num_workers if len(truth.coco.images) >= _WORTH_WORKERS else 0
    with WorkerPool(workers) as pool:
        return measure_images(truth.coco, truth.image_dir, pool, bands)


def _facts(truth: TruthFile, found: Detected) -> Iterator[tuple[str, str]]:
    yield "Annotations", str(truth.coco.path)
    yield from found.facts
    yield "Images", str(len(truth.coco.images))
    yield "Objects", str(sum(not one.iscrowd for one in truth.coco.annotations))
    yield "Detections", str(sum(map(len, found.results.values())))


def _write_thresholds(model_dir: Path, found: Detected, analysis: Analysis) -> None:
    best = {
        id: curve.best
        for id, curve in zip(analysis.overlaps.category_ids, analysis.curves.classes, strict=True)
    }
    of_classes = [best.get(category.id) for category in found.categories]
    thresholds = [None if one is None else one.threshold for one in of_classes]
    description = find_description(model_dir)
    write_class_thresholds(description, thresholds)
    LOGGER.info(
        "%s: the best score thresholds of %d of %d classes are the model's default now.",
        description,
        sum(one is not None for one in thresholds),
        len(thresholds),
    )
