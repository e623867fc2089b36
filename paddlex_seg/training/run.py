"""The constants of a training run, and the timing of its steps."""

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.config.schema import Config
from paddlex_seg.data.samples.loader import TrainBatch, WorkerPool, num_batches, train_batches
from paddlex_seg.data.samples.quarantine import Quarantine
from paddlex_seg.data.samples.tasks import TrainingSet
from paddlex_seg.recipes import Recipe
from paddlex_seg.reports.training import TrainingPage
from paddlex_seg.runtime.log import format_seconds
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import CocoFile, ScheduleReport
from paddlex_seg.training.metrics_log import MetricsLog
from paddlex_seg.training.schedule import Schedule, build_schedule, describe_schedule

BAD_SAMPLES = "bad_samples.json"


@dataclass(frozen=True)
class Run:
    """The parts of a training run that do not change while the model trains."""

    cfg: Config
    spec: ModelSpec
    recipe: Recipe
    info: ModelInfo
    dataset: TrainingSet  # at full input size; ``training_set`` adapts it to the epoch
    val: CocoFile
    image_dir: Path
    output: Path
    ranks: Ranks
    stop: StopSignals
    numbers: MetricsLog | None = None  # on the main rank only, like ``page``
    page: TrainingPage | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)

    @property
    def batch_size(self) -> int:
        """Images per step and process."""
        images = self.cfg.Train.batch_size
        assert isinstance(images, int), "settled by start_training"
        return images * self.cfg.Train.accumulate_steps

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer, the same on all processes."""
        return num_batches(self.dataset.epoch_length, self.batch_size, self.ranks.world_size)

    def num_epochs(self, progress: Progress) -> int:
        """Length of the run in epochs: as set, or as planned from the time budget so far."""
        return progress.run_epochs or self.cfg.Train.epochs_iters

    def training_set(self, progress: Progress) -> TrainingSet:
        """The training images with the input sizes and the mixing of the current epoch."""
        share = progress.epoch / self.num_epochs(progress)
        return self.dataset.adapted(
            self.recipe.resizes_at(self.info.image_size, share),
            is_mixed=share < 1 - self.cfg.Train.augment.plain_share,
        )

    def is_due(self, epoch: int, progress: Progress) -> bool:
        """Whether the model is evaluated after ``epoch`` epochs."""
        return epoch % self.cfg.Train.eval_interval == 0 or epoch == self.num_epochs(progress)

    def is_finished(self, progress: Progress) -> bool:
        """Whether all epochs are done, or early stopping ends the run."""
        if progress.epoch >= self.num_epochs(progress):
            return True
        patience = self.cfg.Train.early_stop
        waited = sum(row["epoch"] > progress.best_epoch for row in progress.history)
        return patience is not None and progress.best_epoch > 0 and waited >= patience

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
        """The learning rate over the whole run, for the log and the training page."""
        return describe_schedule(self.schedule(progress), steps_per_epoch=self.steps_per_epoch)


@dataclass
class Clock:
    """Measured times of steps and evaluations, and the time left that follows from them."""

    step_seconds: float = 0.0  # running mean
    data_seconds: float = 0.0  # part of step_seconds: waiting for images
    evaluation_seconds: float | None = None
    last: float = field(default_factory=time.perf_counter)

    def count_step(self, data_seconds: float, step_seconds: float) -> None:
        """Add the times of one finished step."""
        weight = 0.1 if self.step_seconds else 1.0
        self.step_seconds += weight * (step_seconds - self.step_seconds)
        self.data_seconds += weight * (data_seconds - self.data_seconds)

    def passed(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds

    def eta(self, run: Run, progress: Progress) -> str:
        """Time left, evaluations included; a lower bound until the first evaluation is measured."""
        epochs = run.num_epochs(progress)
        pixels = [run.recipe.input_pixels_at(epoch / epochs) for epoch in range(progress.epoch, epochs)]
        steps = (
            run.steps_per_epoch * sum(pixels) / pixels[0] - progress.epoch_step
        )  # at the current input size
        evaluations = sum(run.is_due(epoch, progress) for epoch in range(progress.epoch + 1, epochs + 1))
        seconds = steps * self.step_seconds + evaluations * (self.evaluation_seconds or 0.0)
        return ("" if self.evaluation_seconds is not None else ">") + format_seconds(seconds)


def epoch_batches(
    run: Run, dataset: TrainingSet, progress: Progress, pool: WorkerPool
) -> Generator[TrainBatch, None, None]:
    """The remaining batches of the epoch for this process."""
    return train_batches(
        dataset,
        progress.epoch,
        run.batch_size,
        pool,
        rank=run.ranks.rank,
        world_size=run.ranks.world_size,
        first_batch=progress.epoch_step,
        quarantine=run.quarantine,
    )
