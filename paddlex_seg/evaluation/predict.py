"""Predicts all images of a data set with any `structures.Backend`, distributed over ranks."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.data.samples.loader import WorkerPool, evaluation_batches, evaluation_plan
from paddlex_seg.inference.backends.base import find_instances, fitting_batch_size
from paddlex_seg.runtime.log import progress_bar
from paddlex_seg.runtime.ranks import ONE_RANK, Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import Backend, CocoFile, Id, Instances, PreprocessSpec

LOGGER = logging.getLogger(__name__)


def predict_dataset(
    backend: Backend,
    coco: CocoFile,
    image_dir: Path,
    *,
    batch_size: int,
    pool: WorkerPool,
    log_interval: int,
    ranks: Ranks = ONE_RANK,
    stop: StopSignals | None = None,
) -> dict[Id, Instances]:
    """The predictions for each image of a COCO file, by image id, in file order.

    With n ranks, each rank predicts every n-th batch, and all ranks get all results. The batches are the same
    as with one rank, so results do not depend on the number of ranks. If ``stop`` is requested on one rank,
    KeyboardInterrupt is raised on all ranks, between two batches.
    """
    batch_size, preprocess = fitting_batch_size(backend, batch_size), backend.preprocess
    results: dict[Id, Instances] = {}
    own = images_of_rank(coco, preprocess, batch_size, ranks)
    num_batches = len(evaluation_plan(own, preprocess, batch_size))
    batches = evaluation_batches(own, image_dir, preprocess, batch_size=batch_size, pool=pool)
    with progress_bar("evaluate", num_batches) as advance:
        for number, (records, *inputs) in enumerate(batches, start=1):
            sizes = [(record.height, record.width) for record in records]
            found = find_instances(backend, NetworkInput(*inputs), sizes)
            results |= {record.id: instances for record, instances in zip(records, found, strict=True)}
            advance("")
            if stop is not None and stop.requested:
                break
            if number % log_interval == 0:
                LOGGER.info("Evaluate: [%d/%d]", number, num_batches)
    parts = ranks.gather((results, stop is not None and stop.requested))
    if any(stopped for _, stopped in parts):
        raise KeyboardInterrupt
    everything = {image_id: found for part, _ in parts for image_id, found in part.items()}
    return {record.id: everything[record.id] for record in coco.images}


def crowding_notice(coco: CocoFile, max_detections: int) -> str | None:
    """A sentence about images with more annotated objects than a model finds; None if there are none."""
    counts = Counter(one.image_id for one in coco.annotations if not one.iscrowd)
    crowded = [image for image in coco.images if counts[image.id] > max_detections]
    if not crowded:
        return None
    fullest = max(crowded, key=lambda image: counts[image.id])
    return (
        f"{coco.path.name}: {len(crowded)} of {len(coco.images)} images have more objects than the "
        f"{max_detections} that this model finds in an image; {fullest.file_name} has {counts[fullest.id]}. "
        "The others are missed. Set a higher Global.max_detections, or cut the images into tiles."
    )


def images_of_rank(coco: CocoFile, preprocess: PreprocessSpec, batch_size: int, ranks: Ranks) -> CocoFile:
    """The images of this rank: those in every n-th batch of ``evaluation_plan``.

    The plan of only these images has the same batches, because per input size only the last batch can be
    smaller than ``batch_size``.
    """
    plan = evaluation_plan(coco, preprocess, batch_size)[ranks.rank :: ranks.world_size]
    indices = sorted(index for batch in plan for index in batch)
    return replace(coco, images=tuple(coco.images[index] for index in indices))
