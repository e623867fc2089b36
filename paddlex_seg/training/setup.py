"""Set up a training run: check settings and data, then build the network and the optimizer."""

import logging
from dataclasses import asdict, replace
from pathlib import Path

import paddle

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import is_official
from paddlex_seg.checkpoints.info import ModelInfo, read_info
from paddlex_seg.checkpoints.progress import Progress, read_progress
from paddlex_seg.checkpoints.weights import check_weights, load_pretrained
from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.checking.check import check
from paddlex_seg.data.coco.describe import describe_annotations
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.samples.epochs import image_weights
from paddlex_seg.data.samples.mixing import Mixing
from paddlex_seg.data.samples.quarantine import Quarantine, read_bad_samples
from paddlex_seg.data.samples.tasks import TrainingSet
from paddlex_seg.data.samples.transforms import LargeScaleJitter
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.evaluation.predict import crowding_notice
from paddlex_seg.files.weights_cache import resolve_weights
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.synchronized_norm import synchronize_batch_norm
from paddlex_seg.recipes import ImageSize, Recipe
from paddlex_seg.runtime.network import network
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import Bands, CocoFile
from paddlex_seg.training.auto_batch import find_batch_size
from paddlex_seg.training.ema import Ema
from paddlex_seg.training.metrics_log import require_viewers
from paddlex_seg.training.optimizer import (
    build_optimizer,
    freeze,
    scale_learning_rates,
)
from paddlex_seg.training.precision import choose_precision
from paddlex_seg.training.resume import find_checkpoint, load_state
from paddlex_seg.training.run import BAD_SAMPLES, Run
from paddlex_seg.training.same_run import announce_changes, first_source, recipe_of_run, require_same_run
from paddlex_seg.training.step import TrainState

LOGGER = logging.getLogger(__name__)


def prepare(cfg: Config, ranks: Ranks, stop: StopSignals) -> tuple[Run, Path | None]:
    """Check settings and data before anything is built, and find the checkpoint to resume from, if any."""
    spec, output = find_model(cfg.Global.model), Path(cfg.Global.output)
    checkpoint = find_checkpoint(cfg.Train.resumes_from, output)
    recipe_name = recipe_of_run(cfg, spec, checkpoint)
    recipe = spec.scratch_recipe if recipe_name == "scratch" else spec.recipe
    require_fitting_rate(cfg, recipe)
    image_size = recipe.input_size(cfg.Train.image_size)
    require_viewers(tensorboard=cfg.Train.tensorboard, visualdl=cfg.Train.visualdl)
    bands = find_bands(cfg, dataset_paths(Path(cfg.Global.dataset_dir)).root)
    train, val, image_dir = read_data(cfg, bands)
    data = describe_annotations(train=train, val=val)
    info = ModelInfo(spec.name, train.categories, image_size, recipe_name, data=data, bands=bands)
    if checkpoint is not None:
        require_same_run(checkpoint, info, train)
        announce_changes(checkpoint, cfg, info)
    dataset = training_set(cfg, recipe, train, image_dir, image_size, bands)
    bad_file = output / BAD_SAMPLES
    quarantine = Quarantine(
        cfg.Train.max_bad_samples,
        bad_file if ranks.is_main else None,
        known=() if checkpoint is None else read_bad_samples(bad_file),
    )
    run = Run(*(cfg, spec, recipe, info, dataset, val, image_dir, output, ranks, stop), quarantine=quarantine)
    return run, checkpoint


def training_set(
    cfg: Config,
    recipe: Recipe,
    train: CocoFile,
    image_dir: Path,
    image_size: ImageSize,
    bands: Bands | None = None,
) -> TrainingSet:
    """The training images with the augmentation of the recipe and of the configuration.

    Input size and mixing may change during the run; ``Run.training_set`` sets them.
    """
    augment = cfg.Train.augment
    jitter = (LargeScaleJitter(prob=augment.large_scale_jitter),) if augment.large_scale_jitter else ()
    return TrainingSet(
        train,
        image_dir,
        (*recipe.policies, *jitter),
        recipe.resizes(image_size),
        replace(recipe.preprocess(image_size), bands=bands),
        seed=cfg.Train.seed,
        mixing=Mixing(
            recipe.mosaic_prob if augment.mosaic is None else augment.mosaic,
            augment.copy_paste,
        ),
        weights=image_weights(
            train,
            repeat_threshold=cfg.Train.repeat_threshold,
            negatives_ratio=cfg.Train.negatives_ratio,
        ),
    )


def read_data(cfg: Config, bands: Bands | None = None) -> tuple[CocoFile, CocoFile, Path]:
    """Train and val annotations and the image folder, checked enough to start training."""
    report = check(Path(cfg.Global.dataset_dir), "header", bands=bands)
    report.raise_for_errors()
    train, val = report.train, report.val
    if not any(not annotation.iscrowd for annotation in train.annotations):
        raise DatasetError(f"{train.path}: found no annotated object. Training needs at least one.")
    if cfg.Train.num_classes not in (None, len(train.categories)):
        names = ", ".join(category.name for category in train.categories)
        raise ConfigError(
            f"Train.num_classes is {cfg.Train.num_classes}, but {train.path} lists {len(train.categories)} "
            f"categories ({names}). Set it to {len(train.categories)}, or leave it out."
        )
    LOGGER.info(
        "Training on %d images with %d objects of %d classes, evaluating on %d images with %d objects.",
        *(len(train.images), len(train.annotations), len(train.categories)),
        *(len(val.images), len(val.annotations)),
    )
    return train, val, dataset_paths(Path(cfg.Global.dataset_dir)).image_dir


def require_fitting_rate(cfg: Config, recipe: Recipe) -> None:
    """Raise ConfigError for a learning rate that is far too high for the recipe's optimizer."""
    usual, rate = recipe.usual_learning_rate, cfg.Train.learning_rate
    if usual is not None and rate > 10 * usual:
        raise ConfigError(
            f"Train.learning_rate: found {rate:g}, which suits SGD and official weights. From random "
            f"weights, and from weights that were trained so, {cfg.Global.model} is trained with "
            f"{recipe.optimizer}; expected {10 * usual:g} at most. Set -o Train.learning_rate={usual:g}."
        )


def start_training(run: Run, checkpoint: Path | None) -> tuple[Run, TrainState]:
    """Build model, optimizer and EMA, with the initial weights or the state of a checkpoint.

    The returned run has a number as batch size also when ``Train.batch_size`` is auto.
    """
    cfg, recipe = run.cfg, run.recipe
    paddle.seed(cfg.Train.seed)
    model = run.spec.build(num_classes=len(run.info.categories), from_scratch=run.info.recipe == "scratch")
    run.spec.limit_detections(model, cfg.Global.max_detections, run.info.image_size)
    for coco in (run.dataset.coco, run.val) if run.ranks.is_main else ():
        if notice := crowding_notice(coco, model.max_detections):
            LOGGER.warning(notice)
    if checkpoint is None:
        load_first_weights(run, model)
    still = freeze(model, cfg.Train.freeze) if cfg.Train.freeze else ()
    scale_learning_rates(model, cfg.Train.lr_factors)
    if cfg.Train.sync_bn:
        synchronize_batch_norm(model)
    optimizer = build_optimizer(
        model,
        kind=recipe.optimizer,
        learning_rate=cfg.Train.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        clip_norm=recipe.clip_norm,
    )
    ema = recipe.ema and replace(recipe.ema, skip=(*recipe.ema.skip, *still))
    state = TrainState(
        model,
        optimizer,
        Ema(model, **asdict(ema)) if ema else None,
        choose_precision(cfg.Train.amp, cfg.Train.amp_dtype),
    )
    run = settle_batch_size(run, state, checkpoint)
    images = run.batch_size * run.ranks.world_size
    state.progress = Progress(batch_size=images, micro_batches=cfg.Train.accumulate_steps)
    if checkpoint is not None:
        load_state(state, checkpoint, batch_size=images, steps_per_epoch=run.steps_per_epoch)
        state.progress = within_budget(run, state.progress)
    return run, state


def settle_batch_size(run: Run, state: TrainState, checkpoint: Path | None) -> Run:
    """The run with a number as ``Train.batch_size``: the one set, that of the checkpoint, or measured now."""
    cfg, ranks = run.cfg, run.ranks
    if cfg.Train.batch_size != "auto":
        return run
    before = 0 if checkpoint is None else read_progress(checkpoint).batch_size
    if before:
        images = max(1, before // (cfg.Train.accumulate_steps * ranks.world_size))
        LOGGER.info("Train.batch_size=auto: %d image(s) per step, as in the checkpoint.", images)
    else:
        images = find_batch_size(
            *(state, run.dataset, ranks),
            optimizer=run.recipe.optimizer,
            accumulate_steps=cfg.Train.accumulate_steps,
        )
    return replace(run, cfg=cfg.with_batch_size(images))


def within_budget(run: Run, progress: Progress) -> Progress:
    """More epochs for a finished run that is resumed with a larger time budget than it has used."""
    budget = run.cfg.Train.time_budget
    if budget is None or progress.epoch < run.num_epochs(progress) or progress.seconds == 0:
        return progress
    left = 60 * budget - progress.seconds
    more = int(left * progress.epoch / progress.seconds)
    return replace(progress, run_epochs=progress.epoch + max(0, more))


def load_first_weights(run: Run, model: InstanceSegmenter) -> None:
    """Load the initial weights; ``scratch`` keeps the random ones."""
    if run.cfg.Train.from_scratch:
        LOGGER.info("Training starts from random weights.")
        return
    source = first_source(run.cfg, run.spec)
    path = resolve_weights(
        source, config_key="Train.pretrain_weight_path", network=network(), verify=check_weights
    )
    described = read_info(path)
    official = COCO_CATEGORIES if is_official(run.spec, source) else None
    report = load_pretrained(
        model,
        path,
        categories=run.info.categories,
        source_categories=described.categories if described else official,
        source=source,
    )
    LOGGER.info("Training starts from %s. %s", source, report.message())
