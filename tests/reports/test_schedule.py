import json
from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.reports.schedule import RateChange, describe_schedule, write_schedule
from paddlex_seg.training.optimizer import CosineSchedule, PiecewiseSchedule, Schedule

STEPS = PiecewiseSchedule(0.01, 1200, (800, 1100), (0.1, 0.01), warmup_steps=1000, warmup_start_factor=0.1)
COSINE = CosineSchedule(0.01, 1200, 1440, warmup_steps=100)


def test_a_schedule_of_steps_in_numbers_and_words() -> None:
    report = describe_schedule(STEPS, steps_per_epoch=100)
    assert (report.kind, report.epochs, report.total_steps) == ("piecewise", 12, 1200)
    assert (report.warmup_steps, report.asked_warmup_steps) == (400, 1000)
    assert report.milestones == (RateChange(800, 9, 0.001), RateChange(1100, 12, 0.0001))
    assert report.lines() == [
        "Schedule: 12 epochs of 100 steps, 1200 in all.",
        "Learning rate: from 0.001 up to 0.01 in the first 400 steps (warm-up), then 0.001 from step 800 "
        "(epoch 9), 0.0001 from step 1100 (epoch 12).",
        "Warm-up is 400 steps instead of 1000, a third of the run: the run is short.",
    ]


def test_a_cosine_ends_at_the_rate_of_the_last_step() -> None:
    report = describe_schedule(COSINE, steps_per_epoch=100)
    assert report.final_learning_rate == COSINE.lr_at_step(1199) > 0
    assert len(report.lines()) == 2
    assert f"along a cosine to {COSINE.lr_at_step(1199):.3g} at the last step" in report.lines()[1]


def test_a_constant_rate_without_warmup() -> None:
    report = describe_schedule(PiecewiseSchedule(0.5, 10, (20,), (0.1,)), steps_per_epoch=4)
    assert report.kind == "constant" and report.milestones == () and report.epochs == 3
    assert report.lines()[1] == "Learning rate: 0.5 from the first step, then constant."


@pytest.mark.parametrize(
    "schedule",
    [STEPS, COSINE, PiecewiseSchedule(0.01, 9000, (6001, 8251), (0.1, 0.01), warmup_steps=777)],
    ids=["steps", "cosine", "long"],
)
def test_straight_lines_between_the_stored_rates_are_the_schedule(schedule: Schedule) -> None:
    report = describe_schedule(schedule, steps_per_epoch=7)
    steps, rates = np.array(report.learning_rates).T
    every = range(schedule.run_steps)
    expected = np.array([schedule.lr_at_step(step) for step in every])
    assert np.abs(np.interp(every, steps, rates) - expected).max() < 1e-4 * schedule.base_lr
    assert steps[0] == 0 and steps[-1] == schedule.run_steps - 1 and len(steps) < 520


def test_a_run_of_one_step_has_a_schedule(tmp_path: Path) -> None:
    write_schedule(tmp_path, describe_schedule(CosineSchedule(0.1, 1, 1, 1000), steps_per_epoch=1))
    stored = json.loads((tmp_path / "schedule.json").read_text(encoding="utf-8"))
    assert stored["learning_rates"] == [[0, 0.1]]
    assert stored["warmup_steps"] == 0
