"""The constants of a training run, and the timing of its steps."""

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Generator
from dataclasses import dataclass, field, replace
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
from paddlex_seg.training.schedule import (
    PacedSchedule,
    Schedule,
    build_schedule,
    carried_over,
    describe_schedule,
)

BAD_SAMPLES = "bad_samples.json"
UNPLANNED_STEPS = 10**9  # before the first plan of a time budget, the rate warms up and does not fall
STEPS_OF_MEAN, EVALUATIONS_OF_MEAN = 100, 10
MOST_EPOCHS = 10**7  # to plan, however large the time budget
EVALUATION_SHARE = 0.15  # of the time of the steps, that evaluations take at most by default
PLAN_TOLERANCE = 0.05  # of the time left: measured times vary, and a plan that is as good as right is kept


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

    def share(self, progress: Progress, epoch: int) -> float:
        """The share of the schedule that lies before an epoch, 0 to 1."""
        schedule = self.schedule(progress)
        if not isinstance(schedule, PacedSchedule):
            return epoch / self.num_epochs(progress)
        return schedule.position_at(epoch * self.steps_per_epoch) / schedule.schedule.run_steps

    def input_pixels(self, progress: Progress, epoch: int) -> float:
        """Mean pixels of the inputs of an epoch, as a fraction of the pixels of full-size ones."""
        return self.recipe.input_pixels_at(self.share(progress, epoch))

    def training_set(self, progress: Progress) -> TrainingSet:
        """The training images with the input sizes and the mixing of the current epoch."""
        share = self.share(progress, progress.epoch)
        return self.dataset.adapted(
            self.recipe.resizes_at(self.info.image_size, share),
            is_mixed=share < 1 - self.cfg.Train.augment.plain_share,
        )

    def is_due(self, epoch: int, progress: Progress) -> bool:
        """Whether the model is evaluated after ``epoch`` epochs."""
        if epoch == self.num_epochs(progress):
            return True
        interval = self.cfg.Train.eval_interval
        if interval is not None:
            return epoch % interval == 0
        last = progress.history[-1]["epoch"] if progress.history else 0
        return epoch - last >= progress.eval_interval

    def is_finished(self, progress: Progress) -> bool:
        """Whether all epochs are done, or early stopping ends the run."""
        if progress.epoch >= self.num_epochs(progress):
            return True
        patience = self.cfg.Train.early_stop
        waited = sum(row["epoch"] > progress.best_epoch for row in progress.history)
        return patience is not None and progress.best_epoch > 0 and waited >= patience

    def schedule(self, progress: Progress) -> Schedule | PacedSchedule:
        """The learning rate over the whole run."""
        if not progress.run_epochs:
            planned_later = self.cfg.Train.time_budget is not None
            steps = UNPLANNED_STEPS if planned_later else self.num_epochs(progress) * self.steps_per_epoch
            return self.schedule_of(steps)
        length = progress.schedule_epochs or progress.run_epochs  # an earlier version planned anew each time
        return PacedSchedule(
            self.schedule_of(length * self.steps_per_epoch),
            run_steps=progress.run_epochs * self.steps_per_epoch,
            planned_at=progress.planned_at * self.steps_per_epoch,
            position=progress.planned_position * self.steps_per_epoch,
        )

    def schedule_of(self, steps: int) -> Schedule:
        """The learning rate over a run of ``steps`` steps."""
        return build_schedule(
            self.recipe.decay,
            base_lr=self.cfg.Train.learning_rate,
            run_steps=steps,
            warmup_steps=self.cfg.Train.warmup_steps,
            warmup_start_factor=self.recipe.warmup_start,
        )

    def planned(self, progress: Progress, epochs: int) -> Progress:
        """``progress`` at the end of an epoch, with another plan for the length of the run."""
        schedule, steps, epoch = self.schedule(progress), self.steps_per_epoch, progress.epoch + 1
        if isinstance(schedule, PacedSchedule):
            length = schedule.schedule.run_steps // steps
            position = schedule.position_at(epoch * steps)
        else:
            length = epochs
            position = carried_over(epoch * steps, schedule, self.schedule_of(epochs * steps))
        return replace(
            progress,
            run_epochs=epochs,
            schedule_epochs=length,
            planned_at=epoch,
            planned_position=position / steps,
        )

    def schedule_report(self, progress: Progress) -> ScheduleReport:
        """The learning rate over the whole run, for the log and the training page."""
        schedule = self.schedule(progress)
        if schedule.run_steps == UNPLANNED_STEPS:
            schedule = self.schedule_of(self.num_epochs(progress) * self.steps_per_epoch)
        return describe_schedule(schedule, steps_per_epoch=self.steps_per_epoch)


@dataclass
class Clock:
    """Measured times of steps and evaluations, and the time left that follows from them."""

    step_seconds: float = 0.0  # running mean
    data_seconds: float = 0.0  # part of step_seconds: waiting for images
    evaluation_seconds: float | None = None  # mean
    # Of a step with full-size inputs, for planning; a mean of more steps, so that plans last.
    full_step_seconds: float = 0.0
    counted: int = 0  # steps
    evaluations: int = 0
    last: float = field(default_factory=time.perf_counter)

    def count_step(self, data_seconds: float, step_seconds: float, pixels: float) -> None:
        """Add the times of one finished step. pixels: of its inputs, as a fraction of full-size ones."""
        self.counted += 1
        # The first step prepares much and counts only until there is another one.
        weight = 1 / min(max(self.counted - 1, 1), STEPS_OF_MEAN)
        self.full_step_seconds += weight * (step_seconds / pixels - self.full_step_seconds)
        weight = 0.1 if self.step_seconds else 1.0
        self.step_seconds += weight * (step_seconds - self.step_seconds)
        self.data_seconds += weight * (data_seconds - self.data_seconds)

    def count_evaluation(self, seconds: float) -> None:
        """Add the time of an evaluation."""
        before = self.evaluation_seconds or 0.0
        self.evaluations += 1
        self.evaluation_seconds = before + (seconds - before) / min(self.evaluations, EVALUATIONS_OF_MEAN)

    def fitting_interval(self, run: Run, progress: Progress) -> tuple[int, float, float]:
        """Epochs between two evaluations, so that they take at most `EVALUATION_SHARE` of the steps' time.

        Also the seconds of an evaluation, and their share of the steps of an epoch.
        """
        seconds = self.evaluation_seconds
        if not self.counted or seconds is None:
            return progress.eval_interval, 0.0, 0.0
        share = seconds / (self.step_seconds * run.steps_per_epoch)
        return max(1, math.ceil(share / EVALUATION_SHARE)), seconds, share

    def passed(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds

    def eta(self, run: Run, progress: Progress) -> str:
        """Time left, evaluations included; a lower bound until the first evaluation is measured."""
        now = run.input_pixels(progress, progress.epoch)
        seconds = seconds_left(run, progress, self.step_seconds / now, self.evaluation_seconds or 0.0)
        return ("" if self.evaluation_seconds is not None else ">") + format_seconds(seconds)

    def epochs_that_fit(self, run: Run, progress: Progress) -> int:
        """The number of epochs to plan for a time budget, at the end of an epoch.

        The present plan is kept when it is as good as right, and when nothing is measured yet since a resume.
        """
        epoch, budget = progress.epoch + 1, run.cfg.Train.time_budget
        assert budget is not None
        if not self.counted or (progress.run_epochs and self.evaluation_seconds is None):
            return run.num_epochs(progress)
        left, evaluation = 60 * budget - progress.seconds, self.evaluation_seconds
        if evaluation is None:  # a guess: an image takes as long as in training
            evaluation = self.full_step_seconds * len(run.val.images) / progress.batch_size

        def needed(epochs: int) -> float:
            return seconds_left(run, run.planned(progress, epochs), self.full_step_seconds, evaluation)

        if progress.run_epochs >= epoch and abs(left - needed(progress.run_epochs)) <= PLAN_TOLERANCE * left:
            return progress.run_epochs
        most = 2 * epoch
        while most < MOST_EPOCHS and needed(most) <= left:
            most *= 2
        return max(epoch, epoch - 1 + bisect_right(range(epoch, most), left, key=needed))


def seconds_left(run: Run, progress: Progress, full_step_seconds: float, evaluation_seconds: float) -> float:
    """Time that the rest of a run takes, with the input sizes and evaluations to come."""
    last, interval = run.num_epochs(progress), run.cfg.Train.eval_interval or progress.eval_interval
    steps = -progress.epoch_step * run.input_pixels(progress, progress.epoch)  # at full size
    begin = progress.epoch
    for until in (*(stage.until for stage in run.recipe.growth), math.inf):
        end = bisect_left(range(last), until, lo=begin, key=lambda epoch: run.share(progress, epoch))
        if end > begin:
            steps += (end - begin) * run.steps_per_epoch * run.input_pixels(progress, begin)
        begin = end
    evaluations = last // interval - progress.epoch // interval + (last % interval > 0)
    return steps * full_step_seconds + evaluations * evaluation_seconds


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
