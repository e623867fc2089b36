"""A short trial before training: errors show within a minute, not at the end of the first epoch."""

import logging
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.data.samples.loader import TrainBatch, WorkerPool
from paddlex_seg.evaluation.predict import predict_dataset
from paddlex_seg.export.graphs import write_graphs
from paddlex_seg.metrics.coco_ap import evaluate_coco
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.structures import CocoFile, PreprocessSpec
from paddlex_seg.training.run import Run, epoch_batches
from paddlex_seg.training.step import TrainState, try_step

LOGGER = logging.getLogger(__name__)
MOST_IMAGES = 2


def check_step(state: TrainState, batch: TrainBatch, ranks: Ranks) -> None:
    """Forward and backward of one batch, without changing the model. Every process of a run calls it."""
    start = time.perf_counter()
    try_step(state, batch.batch, ranks)
    LOGGER.info("Self-check: forward and backward of one batch, %.1f s.", time.perf_counter() - start)


def check_evaluation(
    state: TrainState, val: CocoFile, image_dir: Path, preprocess: PreprocessSpec, pool: WorkerPool
) -> None:
    """Evaluate the first val images."""
    start = time.perf_counter()
    images = val.images[:MOST_IMAGES]
    ids = {image.id for image in images}
    few = replace(
        val, images=images, annotations=tuple(item for item in val.annotations if item.image_id in ids)
    )
    backend = NetworkBackend(state.model, preprocess)
    results = predict_dataset(backend, few, image_dir, batch_size=1, pool=pool, log_interval=MOST_IMAGES + 1)
    evaluate_coco(few, results, [category.id for category in few.categories])
    LOGGER.info("Self-check: evaluation of %d image(s), %.1f s.", len(images), time.perf_counter() - start)


def check_export(spec: ModelSpec, info: ModelInfo) -> None:
    """Export a network of the same model to a temporary folder. Random weights need no certificate."""
    start = time.perf_counter()
    model = spec.build(num_classes=len(info.categories))
    model.eval()
    with tempfile.TemporaryDirectory(prefix="paddlex_seg.") as folder:
        write_graphs(model, spec, info, Path(folder))
    LOGGER.info("Self-check: export, %.1f s.", time.perf_counter() - start)


def self_check(run: Run, state: TrainState, pool: WorkerPool) -> None:
    """Try a training step, an evaluation and an export, which would otherwise fail only after an epoch."""
    with closing(epoch_batches(run, run.dataset, Progress(), pool)) as batches:
        check_step(state, next(batches), run.ranks)
    if run.ranks.is_main:
        preprocess = run.info.preprocess
        check_evaluation(state, run.val, run.image_dir, preprocess, pool)
        check_export(run.spec, run.info)
    run.ranks.barrier()
