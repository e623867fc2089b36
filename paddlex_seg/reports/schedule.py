"""The learning-rate schedule of a run as it really is: in words, in ``schedule.json``, and as a curve."""

from dataclasses import asdict, dataclass
from pathlib import Path

from paddlex_seg.files.json import write_json
from paddlex_seg.training.optimizer import PiecewiseSchedule, Schedule, capped_warmup_steps

SCHEDULE_FILE = "schedule.json"
_MAX_POINTS = 500  # of the curve, besides the steps where the rate bends or jumps


@dataclass(frozen=True)
class RateChange:
    """A step from which on the learning rate is another one."""

    step: int  # counted from 0
    epoch: int  # the one that the step is in, counted from 1
    learning_rate: float


@dataclass(frozen=True)
class ScheduleReport:
    """What a schedule comes to in a run. Steps are counted from 0, epochs from 1."""

    kind: str  # "cosine", "piecewise" or "constant"
    base_learning_rate: float
    first_learning_rate: float
    final_learning_rate: float  # of the last step
    epochs: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int  # after capping
    asked_warmup_steps: int
    milestones: tuple[RateChange, ...]  # those within the run
    learning_rates: tuple[tuple[int, float], ...]  # step, rate: with straight lines between, the curve

    def lines(self) -> list[str]:
        """The schedule in words, for the log."""
        text = [
            f"Schedule: {self.epochs} epochs of {self.steps_per_epoch} steps, {self.total_steps} in all.",
            f"Learning rate: {self._warmup_text()}{self._decay_text()}",
        ]
        if self.warmup_steps < self.asked_warmup_steps:
            text.append(
                f"Warm-up is {self.warmup_steps} steps instead of {self.asked_warmup_steps}, "
                "a third of the run: the run is short."
            )
        return text

    def _warmup_text(self) -> str:
        if not self.warmup_steps:
            return f"{self.base_learning_rate:g} from the first step"
        return (
            f"from {self.first_learning_rate:g} up to {self.base_learning_rate:g} "
            f"in the first {self.warmup_steps} steps (warm-up)"
        )

    def _decay_text(self) -> str:
        if self.kind == "cosine":
            return f", then along a cosine to {self.final_learning_rate:.3g} at the last step."
        changes = [
            f"{change.learning_rate:g} from step {change.step} (epoch {change.epoch})"
            for change in self.milestones
        ]
        return ", then " + ", ".join(changes) + "." if changes else ", then constant."


def describe_schedule(schedule: Schedule, *, steps_per_epoch: int) -> ScheduleReport:
    """What ``schedule`` comes to in a run whose epochs have ``steps_per_epoch`` steps."""
    total = schedule.run_steps
    warmup = capped_warmup_steps(schedule.warmup_steps, total)
    steps = schedule.milestones if isinstance(schedule, PiecewiseSchedule) else ()
    milestones = tuple(
        RateChange(step, step // steps_per_epoch + 1, schedule.lr_at_step(step))
        for step in steps
        if step < total
    )
    kind = (
        "cosine" if not isinstance(schedule, PiecewiseSchedule) else "piecewise" if milestones else "constant"
    )
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
        asked_warmup_steps=schedule.warmup_steps,
        milestones=milestones,
        learning_rates=tuple(
            (step, schedule.lr_at_step(step)) for step in sorted(shown) if 0 <= step < total
        ),
    )


def write_schedule(output: Path, report: ScheduleReport) -> None:
    """Write ``schedule.json`` into the output folder."""
    write_json(output / SCHEDULE_FILE, asdict(report))
