"""What a training is made of: settings, data, network and optimizer, checked before anything takes long."""

import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import paddle

from paddlex_seg.catalog import ModelSpec, find_model
from paddlex_seg.checkpoints.files import ModelInfo, Progress, read_info, read_progress
from paddlex_seg.checkpoints.weights import load_pretrained
from paddlex_seg.config.schema import Config
from paddlex_seg.data.checking.check import check
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.samples.epochs import picture_weights
from paddlex_seg.data.samples.loader import num_batches
from paddlex_seg.data.samples.mixing import Mixing
from paddlex_seg.data.samples.quarantine import Quarantine, read_bad_samples
from paddlex_seg.data.samples.tasks import TrainingSet
from paddlex_seg.data.samples.transforms import LargeScaleJitter
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.files.download import resolve_weights
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.synchronized_norm import synchronize_batch_norm
from paddlex_seg.recipes import ImageSize, Recipe
from paddlex_seg.reports.schedule import ScheduleReport, describe_schedule
from paddlex_seg.reports.training import TrainingPage
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import CocoFile
from paddlex_seg.training.auto_batch import find_batch_size
from paddlex_seg.training.ema import Ema
from paddlex_seg.training.metrics_log import MetricsLog, require_viewers
from paddlex_seg.training.optimizer import (
    Schedule,
    build_optimizer,
    build_schedule,
    freeze,
    scale_learning_rates,
)
from paddlex_seg.training.precision import choose_precision
from paddlex_seg.training.resume import find_checkpoint, load_state, require_same_run
from paddlex_seg.training.step import TrainState

LOGGER = logging.getLogger(__name__)
BAD_SAMPLES = "bad_samples.json"


@dataclass(frozen=True)
class Run:
    """What stays the same while a model trains."""

    cfg: Config
    spec: ModelSpec
    recipe: Recipe
    info: ModelInfo
    dataset: TrainingSet  # with whole inputs; what an epoch trains on is ``training_set``
    val: CocoFile
    image_dir: Path
    output: Path
    ranks: Ranks
    stop: StopSignals
    numbers: MetricsLog | None = None  # the main rank has it, and the page
    page: TrainingPage | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)

    @property
    def batch_size(self) -> int:
        """Pictures a step and process."""
        pictures = self.cfg.Train.batch_size
        assert isinstance(pictures, int), "settled by start_training"
        return pictures * self.cfg.Train.accumulate_steps

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer, the same on all processes."""
        return num_batches(self.dataset.epoch_length, self.batch_size, self.ranks.world_size)

    def num_epochs(self, progress: Progress) -> int:
        """Length of the run: as set, or as a time budget has decided so far."""
        return progress.run_epochs or self.cfg.Train.epochs_iters

    def training_set(self, progress: Progress) -> TrainingSet:
        """The training pictures as they are at this point of the run."""
        share = progress.epoch / self.num_epochs(progress)
        return self.dataset.adapted(
            self.recipe.resizes_at(self.info.image_size, share),
            is_mixed=share < 1 - self.cfg.Train.augment.plain_share,
        )

    def is_due(self, epoch: int, progress: Progress) -> bool:
        """Whether the model is evaluated after ``epoch`` epochs."""
        return epoch % self.cfg.Train.eval_interval == 0 or epoch == self.num_epochs(progress)

    def schedule(self, progress: Progress) -> Schedule:
        """The learning rate over the whole run."""
        return build_schedule(
            self.recipe.decay,
            base_lr=self.cfg.Train.learning_rate,
            run_steps=self.num_epochs(progress) * self.steps_per_epoch,
            warmup_steps=self.cfg.Train.warmup_steps,
            warmup_start_factor=self.recipe.warmup_start,
        )

    def schedule_report(self, progress: Progress) -> ScheduleReport:
        """The same for people."""
        return describe_schedule(self.schedule(progress), steps_per_epoch=self.steps_per_epoch)


def prepare(cfg: Config, ranks: Ranks, stop: StopSignals) -> tuple[Run, Path | None]:
    """Find what is wrong with settings and data before anything is built, and what is to be resumed."""
    spec = find_model(cfg.Global.model)
    recipe = recipe_of(cfg, spec)
    require_fitting_rate(cfg, recipe)
    image_size = recipe.input_size(cfg.Train.image_size)
    require_viewers(tensorboard=cfg.Train.tensorboard, visualdl=cfg.Train.visualdl)
    train, val, image_dir = read_data(cfg)
    checkpoint = find_checkpoint(cfg)
    if checkpoint is not None:
        require_same_run(checkpoint, cfg, spec, train)
    dataset = training_set(cfg, recipe, train, image_dir, image_size)
    info = ModelInfo(spec.name, train.categories, image_size)
    output = Path(cfg.Global.output)
    bad_file = output / BAD_SAMPLES
    quarantine = Quarantine(
        cfg.Train.max_bad_samples,
        bad_file if ranks.is_main else None,
        known=() if checkpoint is None else read_bad_samples(bad_file),
    )
    this = Run(
        *(cfg, spec, recipe, info, dataset, val, image_dir, output, ranks, stop), quarantine=quarantine
    )
    return this, checkpoint


def training_set(
    cfg: Config, recipe: Recipe, train: CocoFile, image_dir: Path, image_size: ImageSize
) -> TrainingSet:
    """The training pictures with the changes of the recipe and those that the configuration adds.

    Their inputs are whole from the beginning: see ``Run.training_set``.
    """
    augment = cfg.Train.augment
    jitter = (LargeScaleJitter(prob=augment.large_scale_jitter),) if augment.large_scale_jitter else ()
    return TrainingSet(
        train,
        image_dir,
        (*recipe.policies, *jitter),
        recipe.resizes(image_size),
        recipe.preprocess(image_size),
        seed=cfg.Train.seed,
        mixing=Mixing(
            recipe.mosaic_prob if augment.mosaic is None else augment.mosaic,
            augment.copy_paste,
        ),
        weights=picture_weights(
            train,
            repeat_threshold=cfg.Train.repeat_threshold,
            negatives_ratio=cfg.Train.negatives_ratio,
        ),
    )


def read_data(cfg: Config) -> tuple[CocoFile, CocoFile, Path]:
    """Train and val annotations and the folder of the pictures, checked so far that training can begin."""
    report = check(Path(cfg.Global.dataset_dir), "header")
    report.raise_for_errors()
    train, val = report.train, report.val
    if not any(not annotation.iscrowd for annotation in train.annotations):
        raise DatasetError(f"{train.path}: has no annotated object, so there is nothing to learn from.")
    if cfg.Train.num_classes not in (None, len(train.categories)):
        names = ", ".join(category.name for category in train.categories)
        raise ConfigError(
            f"Train.num_classes is {cfg.Train.num_classes}, but {train.path} lists {len(train.categories)} "
            f"categories ({names}). Set it to {len(train.categories)}, or leave it out."
        )
    LOGGER.info(
        "Training on %d pictures with %d objects of %d classes, evaluating on %d pictures with %d objects.",
        *(len(train.images), len(train.annotations), len(train.categories)),
        *(len(val.images), len(val.annotations)),
    )
    return train, val, dataset_paths(Path(cfg.Global.dataset_dir)).image_dir


def recipe_of(cfg: Config, spec: ModelSpec) -> Recipe:
    """The settings of the run: from random weights, training needs others than the official ones."""
    return spec.scratch_recipe if cfg.Train.from_scratch else spec.recipe


def require_fitting_rate(cfg: Config, recipe: Recipe) -> None:
    """Raise ConfigError for a learning rate of another order than the recipe's optimizer can learn with."""
    usual, rate = recipe.usual_learning_rate, cfg.Train.learning_rate
    if usual is not None and rate > 10 * usual:
        raise ConfigError(
            f"Train.learning_rate: found {rate:g}, which is one for SGD and official weights. From random "
            f"weights {cfg.Global.model} is trained with {recipe.optimizer}; expected {10 * usual:g} at "
            f"most. Set -o Train.learning_rate={usual:g}."
        )


def start_training(this: Run, checkpoint: Path | None) -> tuple[Run, TrainState]:
    """The model with its first weights, optimizer and moving average, or as a checkpoint has them.

    The run comes back with its batch size, where ``Train.batch_size`` is auto.
    """
    cfg, recipe = this.cfg, this.recipe
    paddle.seed(cfg.Train.seed)
    model = this.spec.build(num_classes=len(this.info.categories), from_scratch=cfg.Train.from_scratch)
    if checkpoint is None:
        load_first_weights(this, model)
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
    this = settle_batch_size(this, state, checkpoint)
    pictures = this.batch_size * this.ranks.world_size
    state.progress = Progress(batch_size=pictures, micro_batches=cfg.Train.accumulate_steps)
    if checkpoint is not None:
        load_state(state, checkpoint, batch_size=pictures, steps_per_epoch=this.steps_per_epoch)
        state.progress = within_budget(this, state.progress)
    return this, state


def settle_batch_size(this: Run, state: TrainState, checkpoint: Path | None) -> Run:
    """The run with a number as ``Train.batch_size``: as set, as it was before resuming, or measured now."""
    cfg, ranks = this.cfg, this.ranks
    if cfg.Train.batch_size != "auto":
        return this
    before = 0 if checkpoint is None else read_progress(checkpoint).batch_size
    if before:
        pictures = max(1, before // (cfg.Train.accumulate_steps * ranks.world_size))
        LOGGER.info("Train.batch_size=auto: %d picture(s) a step, as the checkpoint says.", pictures)
    else:
        pictures = find_batch_size(
            *(state, this.dataset, ranks),
            optimizer=this.recipe.optimizer,
            accumulate_steps=cfg.Train.accumulate_steps,
        )
    return replace(this, cfg=cfg.with_batch_size(pictures))


def within_budget(this: Run, progress: Progress) -> Progress:
    """Where a finished run goes on when it is resumed with a larger time budget than it has used."""
    budget = this.cfg.Train.time_budget
    if budget is None or progress.epoch < this.num_epochs(progress) or progress.seconds == 0:
        return progress
    left = 60 * budget - progress.seconds
    more = int(left * progress.epoch / progress.seconds)
    return replace(progress, run_epochs=progress.epoch + max(0, more))


def load_first_weights(this: Run, model: InstanceSegmenter) -> None:
    """Load what a training starts from; ``scratch`` leaves the random weights."""
    source = this.cfg.Train.pretrain_weight_path or this.spec.official_weights
    if this.cfg.Train.from_scratch:
        LOGGER.info("Training starts from random weights.")
        return
    path = resolve_weights(source, config_key="Train.pretrain_weight_path")
    described = read_info(path)
    known = described.categories if described else None
    report = load_pretrained(
        model,
        path,
        categories=this.info.categories,
        source_categories=COCO_CATEGORIES if source == this.spec.official_weights else known,
        source=source,
    )
    LOGGER.info("Training starts from %s. %s", source, report.message())
