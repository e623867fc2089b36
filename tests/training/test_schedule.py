import json
from pathlib import Path

import numpy as np
import pytest
from official_recipes import OFFICIAL

from paddlex_seg.recipes import MASK_RCNN, CosineDecay, PiecewiseDecay
from paddlex_seg.structures import RateChange
from paddlex_seg.training.schedule import (
    CosineSchedule,
    PiecewiseSchedule,
    Schedule,
    build_schedule,
    capped_warmup_steps,
    describe_schedule,
    write_schedule,
)

STEPS = PiecewiseSchedule(0.01, 1200, (800, 1100), (0.1, 0.01), warmup_steps=1000, warmup_start_factor=0.1)
COSINE = CosineSchedule(0.01, 1200, 1440, warmup_steps=100)


def test_a_schedule_of_steps_in_numbers_and_words() -> None:
    report = describe_schedule(STEPS, steps_per_epoch=100)
    assert (report.kind, report.epochs, report.total_steps) == ("piecewise", 12, 1200)
    assert (report.warmup_steps, report.asked_warmup_steps) == (400, 1000)
    assert report.milestones == (RateChange(800, 9, 0.001), RateChange(1100, 12, 0.0001))
    assert report.lines() == [
        "Schedule: 12 epochs of 100 steps, 1200 steps in total.",
        "Learning rate: from 0.001 up to 0.01 in the first 400 steps (warm-up), then 0.001 from step 800 "
        "(epoch 9), 0.0001 from step 1100 (epoch 12).",
        "Warm-up is 400 steps instead of 1000, because it is limited to a third of the run.",
    ]


def test_a_cosine_ends_at_the_rate_of_the_last_step() -> None:
    report = describe_schedule(COSINE, steps_per_epoch=100)
    assert report.final_learning_rate == COSINE.lr_at_step(1199) > 0
    assert len(report.lines()) == 2
    assert f"then cosine decay to {COSINE.lr_at_step(1199):.3g} at the last step" in report.lines()[1]


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


# Schedules of recipes


def schedule_of(recipe: dict, steps_per_epoch: int) -> CosineSchedule | PiecewiseSchedule:
    """The schedule of a recipe as the reference facts write it down."""
    learning_rate, run_steps = recipe["learning_rate"], recipe["epoch"] * steps_per_epoch
    decay, warmup = learning_rate["schedulers"]
    base_lr, start = learning_rate["base_lr"], warmup["start_factor"]
    warmup_steps = warmup["epochs"] * steps_per_epoch if warmup.get("epochs") else warmup["steps"]
    if "max_epochs" in decay:
        length = decay["max_epochs"] * steps_per_epoch
        return CosineSchedule(base_lr, run_steps, length, warmup_steps, start)
    milestones = tuple(epoch * steps_per_epoch for epoch in decay["milestones"])
    return PiecewiseSchedule(base_lr, run_steps, milestones, tuple(decay["gamma"]), warmup_steps, start)


def test_learning_rates_of_every_recipe_equal_the_reference(reference_dir: Path) -> None:
    golden = json.loads((reference_dir / "goldens/lr_schedules.json").read_text())
    assert len(golden["lr_at_step"]) >= 15
    for model, expected in golden["lr_at_step"].items():
        facts = json.loads((reference_dir / f"manifests/{model}.config.json").read_text())
        schedule = schedule_of(facts["recipe"], golden["steps_per_epoch"])
        found = [schedule.lr_at_step(int(step)) for step in expected]
        np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12, err_msg=model)


@pytest.mark.parametrize("model", OFFICIAL)
def test_the_official_length_gives_the_official_learning_rates(reference_dir: Path, model: str) -> None:
    golden = json.loads((reference_dir / "goldens/lr_schedules.json").read_text())
    facts = json.loads((reference_dir / f"manifests/{model}.config.json").read_text())["recipe"]
    steps_per_epoch, rate = golden["steps_per_epoch"], facts["learning_rate"]
    warmup = rate["schedulers"][1]
    schedule = build_schedule(
        OFFICIAL[model].decay,
        base_lr=rate["base_lr"],
        run_steps=facts["epoch"] * steps_per_epoch,
        warmup_steps=warmup.get("steps") or warmup["epochs"] * steps_per_epoch,
        warmup_start_factor=OFFICIAL[model].warmup_start,
    )
    expected = golden["lr_at_step"][model]
    found = [schedule.lr_at_step(int(step)) for step in expected]
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("run_steps", [24, 600])
def test_the_lengths_of_a_recipe_follow_the_run(run_steps: int) -> None:
    def rates(decay: CosineDecay | PiecewiseDecay, *twelfths: int) -> list[float]:
        schedule = build_schedule(
            decay, base_lr=2.0, run_steps=run_steps, warmup_steps=0, warmup_start_factor=0.0
        )
        steps = [twelfth * run_steps // 12 for twelfth in twelfths]
        return [schedule.lr_at_step(step) for before in steps for step in (before - 1, before)]

    assert rates(MASK_RCNN.decay, 8, 11) == pytest.approx([2, 0.2, 0.2, 0.02])
    assert rates(PiecewiseDecay(), 6, 12) == [2.0] * 4
    assert rates(CosineDecay(), 6, 12)[1::2] == pytest.approx([1, 0])
    assert rates(CosineDecay(stretch=2.0), 12)[1] == pytest.approx(1)


def test_the_cosine_ends_at_zero_and_stays_there() -> None:
    schedule = CosineSchedule(base_lr=1.0, run_steps=120, cosine_steps=100, warmup_steps=20)
    assert schedule.lr_at_step(20) == 1.0
    assert schedule.lr_at_step(60) == pytest.approx(0.5)
    assert schedule.lr_at_step(100) == schedule.lr_at_step(119) == 0


@pytest.mark.parametrize(
    ("wanted", "run_steps", "given"),
    [(1000, 6000, 1000), (1000, 90, 30), (0, 90, 0), (1000, 2, 0), (1000, 0, 0)],
)
def test_warmup_takes_a_third_of_a_short_run_at_most(wanted: int, run_steps: int, given: int) -> None:
    assert capped_warmup_steps(wanted, run_steps) == given


@pytest.mark.parametrize("run_steps", [1, 2, 3, 30, 90])
def test_a_short_run_reaches_its_learning_rate(run_steps: int) -> None:
    for schedule in (
        PiecewiseSchedule(0.01, run_steps, (run_steps * 8 // 12,), (0.1,), 1000, 0.001),
        CosineSchedule(0.01, run_steps, run_steps * 96 // 80, 2500, 0.0),
    ):
        rates = [schedule.lr_at_step(step) for step in range(run_steps)]
        assert max(rates) == pytest.approx(0.01) or run_steps == 1
        assert sum(rates) > 0


def test_a_milestone_within_the_warmup_takes_effect() -> None:
    schedule = PiecewiseSchedule(1.0, 30, milestones=(5,), factors=(0.1,), warmup_steps=10)
    assert schedule.lr_at_step(4) == pytest.approx(0.4)
    assert schedule.lr_at_step(5) == pytest.approx(0.05)
    assert schedule.lr_at_step(29) == pytest.approx(0.1)


def test_as_many_factors_as_milestones_are_required() -> None:
    with pytest.raises(ValueError, match="zip"):
        PiecewiseSchedule(1.0, 30, milestones=(5, 6), factors=(0.1,)).lr_at_step(0)
