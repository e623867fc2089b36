"""The learning rate at each step: the schedule, a summary of it for one run, and ``schedule.json``.

A schedule is a pure function of the step number. The training loop calls
``optimizer.set_lr(schedule.lr_at_step(n))`` before each step, so resuming needs only the step number. All
lengths are in steps, counted from 0. The caller chooses them: milestones and the length of the cosine scale
with the number of epochs.
"""

import math
from bisect import bisect_left
from dataclasses import asdict, dataclass
from pathlib import Path

from paddlex_seg.files.json import write_json
from paddlex_seg.recipes import CosineDecay, PiecewiseDecay
from paddlex_seg.structures import RateChange, ScheduleReport

SCHEDULE_FILE = "schedule.json"
_MAX_POINTS = 500  # of the curve, besides the steps where the rate bends or jumps


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up to ``base_lr``, then half a cosine that is 0 from step ``cosine_steps`` on.

    The warm-up starts at ``warmup_start_factor * base_lr`` and is capped, see ``capped_warmup_steps``.
    """

    base_lr: float
    run_steps: int
    cosine_steps: int  # may lie beyond run_steps, so that the run ends above 0
    warmup_steps: int = 0
    warmup_start_factor: float = 0.0

    def lr_at_step(self, step: float) -> float:
        """The learning rate of step number ``step``, the first being 0."""
        warmup_steps = capped_warmup_steps(self.warmup_steps, self.run_steps)
        if step < warmup_steps:
            return self.base_lr * _warmup_factor(step, warmup_steps, self.warmup_start_factor)
        progress = min((step - warmup_steps) / max(self.cosine_steps - warmup_steps, 1), 1.0)
        return self.base_lr * 0.5 * (math.cos(math.pi * progress) + 1)


@dataclass(frozen=True)
class PiecewiseSchedule:
    """Linear warm-up to ``base_lr``; from step ``milestones[i]`` on ``base_lr * factors[i]``.

    The warm-up starts at ``warmup_start_factor * base_lr`` and is capped, see ``capped_warmup_steps``; a
    milestone within it takes effect all the same.
    """

    base_lr: float
    run_steps: int
    milestones: tuple[int, ...] = ()  # ascending
    factors: tuple[float, ...] = ()
    warmup_steps: int = 0
    warmup_start_factor: float = 0.0

    def lr_at_step(self, step: float) -> float:
        """The learning rate of step number ``step``, the first being 0."""
        lr = self.base_lr
        for milestone, factor in zip(self.milestones, self.factors, strict=True):
            if step >= milestone:
                lr = self.base_lr * factor
        warmup_steps = capped_warmup_steps(self.warmup_steps, self.run_steps)
        return lr * _warmup_factor(step, warmup_steps, self.warmup_start_factor)


@dataclass(frozen=True)
class PacedSchedule:
    """A schedule that a run with a time budget passes through at a pace of its own.

    At step ``planned_at`` of the run it is at step ``position`` of the schedule, and at the end of the run at
    the end of the schedule. A new plan changes these numbers, but neither the schedule nor the place in it.
    So the learning rate does not jump, and what is over does not begin again.
    """

    schedule: CosineSchedule | PiecewiseSchedule
    run_steps: int
    planned_at: int
    position: float

    @property
    def base_lr(self) -> float:
        """The learning rate after the warm-up."""
        return self.schedule.base_lr

    def lr_at_step(self, step: float) -> float:
        """The learning rate of step number ``step`` of the run, the first being 0."""
        return self.schedule.lr_at_step(self.position_at(step))

    def position_at(self, step: float) -> float:
        """The step of the schedule at step ``step`` of the run."""
        if step < self.planned_at:
            return self.position * step / self.planned_at
        done = (step - self.planned_at) / max(self.run_steps - self.planned_at, 1)
        return self.position + min(done, 1.0) * (self.schedule.run_steps - self.position)

    def step_at(self, position: float) -> int:
        """The first step of the run at or after step ``position`` of the schedule."""
        return bisect_left(range(self.run_steps), position, key=self.position_at)


Schedule = CosineSchedule | PiecewiseSchedule


def carried_over(step: float, before: Schedule, after: Schedule) -> float:
    """The step of ``after`` with the learning rate that ``before`` has at ``step``.

    It is as far in the warm-up, or as far after it. For a piecewise schedule, the two have the same
    milestones relative to their lengths.
    """
    warmup, new_warmup = (capped_warmup_steps(one.warmup_steps, one.run_steps) for one in (before, after))
    if step < warmup:
        return new_warmup * step / warmup
    done = (step - warmup) / (before.run_steps - warmup)
    return new_warmup + done * (after.run_steps - new_warmup)


def build_schedule(
    decay: CosineDecay | PiecewiseDecay,
    *,
    base_lr: float,
    run_steps: int,
    warmup_steps: int,
    warmup_start_factor: float,
) -> Schedule:
    """The schedule of a run of ``run_steps`` steps, which stretch the relative lengths of ``decay``."""
    if isinstance(decay, CosineDecay):
        cosine_steps = round(decay.stretch * run_steps)
        return CosineSchedule(base_lr, run_steps, cosine_steps, warmup_steps, warmup_start_factor)
    milestones = tuple(round(fraction * run_steps) for fraction in decay.milestones)
    return PiecewiseSchedule(base_lr, run_steps, milestones, decay.factors, warmup_steps, warmup_start_factor)


def capped_warmup_steps(warmup_steps: int, run_steps: int) -> int:
    """The actual number of warm-up steps in a run of ``run_steps`` steps: at most a third of them.

    Recipes warm up for 1000 steps or more. A fine-tuning run on a few dozen images may have fewer steps
    than that, and would never reach the configured learning rate.
    """
    return min(warmup_steps, run_steps // 3)


def describe_schedule(schedule: Schedule | PacedSchedule, *, steps_per_epoch: int) -> ScheduleReport:
    """A summary of ``schedule`` for a run whose epochs have ``steps_per_epoch`` steps."""
    total = schedule.run_steps
    plain = schedule.schedule if isinstance(schedule, PacedSchedule) else schedule
    warmup = capped_warmup_steps(plain.warmup_steps, plain.run_steps)
    steps = plain.milestones if isinstance(plain, PiecewiseSchedule) else ()
    if isinstance(schedule, PacedSchedule):
        warmup, steps = schedule.step_at(warmup), tuple(map(schedule.step_at, steps))
    milestones = tuple(
        RateChange(step, step // steps_per_epoch + 1, schedule.lr_at_step(step))
        for step in steps
        if step < total
    )
    kind = "cosine" if not isinstance(plain, PiecewiseSchedule) else "piecewise" if milestones else "constant"
    bends = {step for change in milestones for step in (change.step - 1, change.step)}
    every = -(-total // _MAX_POINTS)
    shown = {*range(0, total, every), warmup, total - 1} | bends
    return ScheduleReport(
        kind=kind,
        base_learning_rate=schedule.base_lr,
        first_learning_rate=schedule.lr_at_step(0),
        final_learning_rate=schedule.lr_at_step(total - 1),
        epochs=-(-total // steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        asked_warmup_steps=plain.warmup_steps,
        milestones=milestones,
        learning_rates=tuple(
            (step, schedule.lr_at_step(step)) for step in sorted(shown) if 0 <= step < total
        ),
    )


def write_schedule(output: Path, report: ScheduleReport) -> None:
    """Write ``schedule.json`` into the output folder."""
    write_json(output / SCHEDULE_FILE, asdict(report))


def _warmup_factor(step: float, warmup_steps: int, start_factor: float) -> float:
    if step >= warmup_steps:
        return 1.0
    done = step / warmup_steps
    return start_factor * (1 - done) + done
