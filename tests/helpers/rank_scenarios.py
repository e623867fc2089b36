"""Scenarios that ranks run in tests of distributed runs, instead of training."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
from small_runs import MODEL, slim_model

from paddlex_seg.catalog import MODELS
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import DatasetError
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.modes import train as train_mode
from paddlex_seg.runtime.ranks import Ranks, join_ranks
from paddlex_seg.training import loop
from paddlex_seg.training import output as training_output
from paddlex_seg.training.run import Run
from paddlex_seg.training.step import StepResult, TrainState

Scenario = Callable[[Ranks], dict[str, Any]]


def install(name: str) -> None:
    """Let the command line of this process run a scenario instead of mode train, or a small training."""
    if name.startswith("train"):
        train_small(slowly=name == "train slowly")
        if name == "train and note statistics":
            note_statistics()
        return

    def run(cfg: Config) -> dict[str, Any]:
        with join_ranks(cfg.Global.device) as ranks:
            loop.LOGGER.info("rank %d of %d works", ranks.rank, ranks.world_size)
            return SCENARIOS[name](ranks)

    train_mode.run = run


def train_small(*, slowly: bool) -> None:
    """Mode train with a network of few channels and without an export; ``slowly``: half a second a step."""
    MODELS[MODEL] = replace(MODELS[MODEL], build=slim_model)
    training_output.export_model = lambda *args: None
    step = loop.train_step

    def slow_step(*args: Any, **options: Any) -> StepResult:
        time.sleep(0.5)
        return step(*args, **options)

    if slowly:
        loop.train_step = slow_step


def note_statistics() -> None:
    """Write the running statistics of each rank, in training and in evaluation, to the output folder."""
    evaluate, predict = loop.evaluate_now, loop.predict_dataset
    noted: dict[str, Any] = {}

    def statistics(model: paddle.nn.Layer) -> dict[str, Any]:
        tensors = model.state_dict().items()
        return {name: value.numpy() for name, value in tensors if name.endswith(("._mean", "._variance"))}

    def predict_and_note(backend: NetworkBackend, *args: Any, **options: Any) -> Any:
        noted.update({f"evaluated {name}": value for name, value in statistics(backend.model).items()})
        return predict(backend, *args, **options)

    def evaluate_and_note(run: Run, state: TrainState, *args: Any) -> Any:
        metrics = evaluate(run, state, *args)
        np.savez(run.output / f"statistics_{run.ranks.rank}.npz", **statistics(state.model), **noted)
        return metrics

    loop.predict_dataset, loop.evaluate_now = predict_and_note, evaluate_and_note


# Scenarios


def talk(ranks: Ranks) -> dict[str, Any]:
    """Collective calls of the ranks, with some megabytes of data."""
    gathered = ranks.gather({"rank": ranks.rank, "payload": os.urandom(5_000_000 + ranks.rank)})
    if ranks.rank == 1:
        loop.LOGGER.info("rank 1 says something")
        loop.LOGGER.warning("rank 1 warns")
    ranks.barrier()
    return {
        "ranks": [value["rank"] for value in gathered],
        "sizes": [len(value["payload"]) for value in gathered],
        "any": [ranks.any_of(flag) for flag in (False, ranks.rank == 1, True)],
        "main": ranks.gather(ranks.is_main),
        "devices": ranks.gather(paddle.device.get_device()),
    }


def come_late(ranks: Ranks) -> dict[str, Any]:
    """Rank 0 does something for longer than a collective waits."""
    if ranks.is_main:
        time.sleep(40)
    ranks.barrier()
    return {"any": ranks.any_of(ranks.is_main)}


def work(ranks: Ranks, step: Callable[[int], None] = lambda number: None) -> dict[str, Any]:
    """Endless steps. The ranks agree before each step to continue."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    ranks.barrier()
    loop.LOGGER.info("all ranks listen")
    for number in range(3000):
        step(number)
        if ranks.any_of(bool(received)):
            time.sleep(0.5)  # time in which a second signal would be noticed
            return {"received": ranks.gather(received)}
        time.sleep(0.05)
    return {}


def fail(ranks: Ranks) -> dict[str, Any]:
    """Rank 1 finds an error while rank 0 waits for it."""

    def step(number: int) -> None:
        if ranks.rank == 1 and number == 5:
            raise DatasetError("image 7 is broken")

    return work(ranks, step)


def leave(ranks: Ranks) -> dict[str, Any]:
    """Rank 1 ends without a message."""

    def step(number: int) -> None:
        if ranks.rank == 1 and number == 5:
            os._exit(9)

    return work(ranks, step)


def sleep(ranks: Ranks) -> dict[str, Any]:
    """Ignores SIGTERM and does not end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ranks.barrier()
    loop.LOGGER.info("all ranks listen")
    time.sleep(600)
    return {}


SCENARIOS: dict[str, Scenario] = {
    "talk": talk,
    "come late": come_late,
    "work": work,
    "fail": fail,
    "leave": leave,
    "sleep": sleep,
}
