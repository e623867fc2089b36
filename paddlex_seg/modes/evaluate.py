"""Mode evaluate: run a checkpoint over the val pictures and compute COCO's numbers."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle

from paddlex_seg.catalog import ModelSpec, find_model
from paddlex_seg.checkpoints.files import ModelInfo, load_model, read_info
from paddlex_seg.config import Config
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.read import dataset_paths, read_coco, same_categories
from paddlex_seg.data.samples.loader import WorkerPool, evaluation_batches, evaluation_plan
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.download import resolve_weights
from paddlex_seg.files.json import write_json
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.metrics.coco_ap import evaluate_coco, results_to_coco_json
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.runtime.log import progress_bar
from paddlex_seg.runtime.network import expand_home, network
from paddlex_seg.runtime.ranks import ONE_RANK, Ranks, join_ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import Category, CocoFile, Instances, PreprocessSpec

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Evaluate ``Evaluate.weight_path`` on the val pictures of ``Global.dataset_dir``.

    Writes ``bbox.json`` and ``segm.json`` (the predictions in COCO's result format) beside the result file.
    """
    with join_ranks(cfg.Global.device) as ranks:
        return evaluate_checkpoint(cfg, ranks)


def evaluate_checkpoint(cfg: Config, ranks: Ranks) -> dict[str, Any]:
    """`run` for one of several ranks. Each has a share of the pictures, and rank 0 writes the results."""
    spec = find_model(cfg.Global.model)
    paths = dataset_paths(Path(cfg.Global.dataset_dir))
    coco = read_coco(paths.val_json)
    weight_path = find_weights(cfg, cfg.Evaluate.weight_path, key="Evaluate.weight_path")
    info = describe_weights(spec, weight_path, cfg, source=cfg.Evaluate.weight_path)
    require_categories_of_model(weight_path, info, coco)
    model = load_model(spec, weight_path, num_classes=len(info.categories))
    with WorkerPool(cfg.Train.num_workers) as pool:
        results = predict_pictures(
            model,
            coco,
            paths.image_dir,
            spec.recipe.preprocess(info.image_size),
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
            ranks=ranks,
        )
    if not ranks.is_main:
        return {}
    metrics = evaluate_coco(coco, results, [category.id for category in info.categories])
    for line in metrics.table().splitlines():
        LOGGER.info(line)
    write_predictions(Path(cfg.Global.output), results, info.categories)
    return {"metrics": metrics.to_json()}


def predict_pictures(
    model: InstanceSegmenter,
    coco: CocoFile,
    image_dir: Path,
    preprocess: PreprocessSpec,
    *,
    batch_size: int,
    pool: WorkerPool,
    log_interval: int,
    ranks: Ranks = ONE_RANK,
    stop: StopSignals | None = None,
) -> dict[int, Instances]:
    """What a model finds in each picture of a COCO file, by image id, in the order of the file.

    Of several ranks, each looks at every n-th batch, and all get the results of all. The batches are those of
    a single rank, so that nothing depends on the number of ranks. Raises KeyboardInterrupt, on all ranks and
    between two batches, when ``stop`` of one says so.
    """
    results: dict[int, Instances] = {}
    own = pictures_of_rank(coco, preprocess, batch_size, ranks)
    num_batches = len(evaluation_plan(own, preprocess, batch_size))
    batches = evaluation_batches(own, image_dir, preprocess, batch_size=batch_size, pool=pool)
    with inference_mode(model), progress_bar("evaluate", num_batches) as advance:
        for number, (records, *inputs) in enumerate(batches, start=1):
            bbox, bbox_num, mask = model(*(paddle.to_tensor(array) for array in inputs))
            found = detections_to_instances(
                bbox.numpy(),
                bbox_num.numpy(),
                mask.numpy(),
                im_shape=inputs[1],
                scale_factor=inputs[2],
                input_hw=inputs[0].shape[2:],
                original_sizes=[(record.height, record.width) for record in records],
                mask_frame=model.mask_frame,
            )
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


def pictures_of_rank(coco: CocoFile, preprocess: PreprocessSpec, batch_size: int, ranks: Ranks) -> CocoFile:
    """The pictures in every n-th batch of ``evaluation_plan``, whose own plan makes the same batches of them.

    For of each size of input only the last batch can be smaller than ``batch_size``.
    """
    plan = evaluation_plan(coco, preprocess, batch_size)[ranks.rank :: ranks.world_size]
    indices = sorted(index for batch in plan for index in batch)
    return replace(coco, images=tuple(coco.images[index] for index in indices))


@contextmanager
def inference_mode(model: InstanceSegmenter) -> Iterator[None]:
    """No gradients and running statistics inside; the model's own mode again outside."""
    training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            yield
    finally:
        model.train() if training else model.eval()


def find_weights(cfg: Config, value: str, *, key: str) -> Path:
    """The weight file of a setting. The error for a missing one points to the run's own best model."""
    try:
        return resolve_weights(expand_home(value), config_key=key, network=network())
    except WeightsError as error:
        best = Path(cfg.Global.output) / "best_model" / "best_model.pdparams"
        if best.is_file() and Path(value) != best:
            raise WeightsError(f"{error} Global.output holds {best}: set {key}={best} to use it.") from error
        raise


def describe_weights(spec: ModelSpec, weight_path: Path, cfg: Config, *, source: str) -> ModelInfo:
    """What a weight file is: as the file beside it says, else official COCO weights if ``source`` is their
    URL, else weights of ``Global.model`` for the categories of the data set at hand.

    Raises WeightsError when the weights are of another model.
    """
    info = read_info(weight_path)
    if info is None:
        if source == spec.official_weights:
            categories = COCO_CATEGORIES
        else:
            categories = read_coco(dataset_paths(Path(cfg.Global.dataset_dir)).train_json).categories
        return ModelInfo(spec.name, categories, spec.recipe.input_size(cfg.Train.image_size))
    if info.model_name != spec.name:
        raise WeightsError(f"{weight_path} holds a {info.model_name}, but Global.model is {spec.name}.")
    return info


def require_categories_of_model(weight_path: Path, info: ModelInfo, coco: CocoFile) -> None:
    """Raise DatasetError unless the file lists the categories of the model, in the same order."""
    same_categories(CocoFile(path=weight_path, images=(), annotations=(), categories=info.categories), coco)


def write_predictions(
    output_dir: Path, results: Mapping[int, Instances], categories: Sequence[Category]
) -> None:
    """Write ``segm.json`` and ``bbox.json``: every prediction in COCO's result format."""
    rows = results_to_coco_json(results, [category.id for category in categories])
    for name, dropped in (("segm.json", "bbox"), ("bbox.json", "segmentation")):
        content = [{key: value for key, value in row.items() if key != dropped} for row in rows]
        write_json(output_dir / name, content, indent=None)
