"""Runs whose length follows from a time budget, in which inputs grow and times vary."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import read_result
from disturbed import train
from small_runs import MODEL, last_checkpoint

from paddlex_seg.checkpoints.progress import Progress, read_progress
from paddlex_seg.config.read import load_config
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.training import loop
from paddlex_seg.training.run import Clock, Run
from paddlex_seg.training.schedule import (
    CosineSchedule,
    PacedSchedule,
    PiecewiseSchedule,
    carried_over,
    describe_schedule,
)
from paddlex_seg.training.setup import prepare

MINUTES, STEP_SECONDS, EVALUATION_SECONDS, WARMUP = 30, 4.0, 2.5, 20


@pytest.fixture(scope="module")
def forty_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forty")
    write_demo_dataset(folder, num_train=40, num_val=4)
    return folder / COCO_FOLDER


class Simulation:
    """A run from random weights whose steps take a time in proportion to their pixels, but for ``noise``.

    ``exponent``: of the pixels, when the time of a step does not follow them exactly.
    """

    def __init__(self, dataset: Path, *, noise: float, exponent: float = 1.0) -> None:
        options = ["pretrain_weight_path=scratch", f"time_budget={MINUTES}", f"warmup_steps={WARMUP}"]
        settings = [f"Global.dataset_dir={dataset}", *(f"Train.{option}" for option in options)]
        self.run: Run = prepare(load_config(f"{MODEL}.yaml", settings), Ranks(), StopSignals())[0]
        self.noise, self.exponent, self.random = noise, exponent, np.random.default_rng(0)
        self.state: Any = SimpleNamespace(progress=Progress(batch_size=self.run.batch_size))
        self.clock, self.time = Clock(), 0.0
        self.clock.passed = self.passed  # type: ignore[method-assign]
        self.rates: list[float] = []
        self.plans: list[int] = []
        while not self.run.is_finished(self.state.progress):
            self.epoch()

    @property
    def minutes(self) -> float:
        return (self.state.progress.seconds + self.time) / 60

    def passed(self) -> float:
        seconds, self.time = self.time, 0.0
        return seconds

    def epoch(self) -> None:
        run, start = self.run, self.state.progress
        pixels, schedule = run.input_pixels(start, start.epoch), run.schedule(start)
        for step in range(run.steps_per_epoch):
            self.rates.append(schedule.lr_at_step(start.epoch * run.steps_per_epoch + step))
            seconds = STEP_SECONDS * pixels**self.exponent * self.varied()
            seconds *= 4 if len(self.rates) == 1 else 1  # the first step is always slow
            self.clock.count_step(0.0, seconds, pixels)
            self.time += seconds
            self.state.progress = replace(self.state.progress, epoch_step=step + 1)
        loop.plan_by_time(run, self.state, self.clock)
        self.plans.append(self.state.progress.run_epochs)
        seconds = EVALUATION_SECONDS * self.varied()
        self.clock.count_evaluation(seconds)
        self.time += seconds
        self.state.progress = loop.after_epoch(self.state.progress)

    def varied(self) -> float:
        return float(self.random.lognormal(0, self.noise))


@pytest.mark.parametrize(
    ("noise", "exponent", "most_plans", "within"),
    [(0.0, 1.0, 2, 0.03), (0.1, 1.0, 3, 0.08), (0.3, 1.0, 5, 0.15), (0.1, 0.6, 12, 0.25)],
)
def test_a_plan_lasts_and_the_learning_rate_does_not_jump(
    forty_images: Path, noise: float, exponent: float, most_plans: int, within: float
) -> None:
    done = Simulation(forty_images, noise=noise, exponent=exponent)
    base = done.run.cfg.Train.learning_rate
    assert 0.95 * MINUTES < done.minutes < 1.02 * MINUTES
    assert len(set(done.plans)) <= most_plans, done.plans
    assert max(abs(plan / len(done.plans) - 1) for plan in done.plans) <= within, done.plans
    rates = np.array(done.rates) / base
    assert rates.max() == pytest.approx(1, abs=0.01) and rates[-1] < 0.01
    assert np.abs(np.diff(rates)).max() <= 1 / WARMUP + 1e-9  # no step is steeper than the warm-up
    assert (np.diff(rates[WARMUP:]) <= 1e-9).all()  # and after it, the rate never rises


def test_a_stop_during_an_evaluation_does_not_end_every_resumed_run(
    dataset: Path, tmp_path: Path, no_export: None
) -> None:
    options = {"Train__time_budget": 30, "Train__epochs_iters": 2}
    forward = PpYoloeSeg.forward

    def stopped(self: PpYoloeSeg, *inputs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *inputs)

    for _ in range(2):  # the second time, no step was measured before the plan
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PpYoloeSeg, "forward", stopped)
            outcome = train(dataset, tmp_path, **options, Train__resume="auto")
        assert "interrupted after step 4; a checkpoint is saved" in outcome.stderr, outcome.stderr
    saved = read_progress(last_checkpoint(tmp_path))
    assert saved.run_epochs > 2
    options["Train__time_budget"] = saved.seconds / 60 + 0.001  # the rest of the run is this evaluation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "is_finished", lambda run, progress: progress.epoch >= 2)
        outcome = train(dataset, tmp_path, **options, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert [row["step"] for row in read_result(tmp_path, "train")["history"]] == [4, 8]


def test_all_time_of_a_stopped_run_counts(dataset: Path, tmp_path: Path, no_export: None) -> None:
    clock = Clock()
    clock.last -= 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paddlex_seg.modes.train.Clock", lambda: clock)
        loss, calls = PpYoloeSeg.loss, []

        def stopped(self: PpYoloeSeg, batch: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return loss(self, batch)

        patch.setattr(PpYoloeSeg, "loss", stopped)
        outcome = train(dataset, tmp_path)
    assert "interrupted after step 1" in outcome.stderr
    assert read_progress(last_checkpoint(tmp_path)).seconds > 100


def test_a_new_pace_goes_on_from_the_same_place_and_ends_at_the_end() -> None:
    steps = PiecewiseSchedule(1.0, 100, milestones=(60, 90), factors=(0.1, 0.01))
    paced = PacedSchedule(steps, run_steps=200, planned_at=20, position=50.0)
    assert [paced.position_at(step) for step in (0, 10, 20, 110, 200, 300)] == [0, 25, 50, 75, 100, 100]
    report = describe_schedule(paced, steps_per_epoch=10)
    assert [(change.step, change.learning_rate) for change in report.milestones] == [(56, 0.1), (164, 0.01)]
    assert report.total_steps == 200 and report.epochs == 20


@pytest.mark.parametrize("step", [0, 10, 20, 21, 60, 200])
def test_another_length_keeps_the_learning_rate(step: int) -> None:
    before, after = CosineSchedule(1.0, 200, 200, 20), CosineSchedule(1.0, 45, 45, 20)
    assert after.lr_at_step(carried_over(step, before, after)) == pytest.approx(before.lr_at_step(step))
