"""Trainings to which something happens, and what they must come to."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result
from small_runs import last_checkpoint, run_slim, train_options

from paddlex_seg.checkpoints.files import checkpoints, step_of
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg

STEPS = 8  # of `train`: two epochs of four steps


def train(dataset: Path, output: Path, **changes: Any) -> Outcome:
    return run_slim("train", output, **train_options(dataset, **{"Train__batch_size": 2, **changes}))


def during_loss(patch: pytest.MonkeyPatch, call: int, action: Callable[[], None]) -> None:
    """Call a function after forward pass number ``call``, when running statistics have changed."""
    loss, calls = PpYoloeSeg.loss, []

    def wrapped(self: PpYoloeSeg, batch: Any) -> Any:
        losses = loss(self, batch)
        calls.append(1)
        if len(calls) == call:
            action()
        return losses

    patch.setattr(PpYoloeSeg, "loss", wrapped)


def train_until(dataset: Path, output: Path, step: int, **changes: Any) -> Outcome:
    """A training that is stopped after a step."""
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, step + 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        return train(dataset, output, **changes)


def own_images(dataset: Path, folder: Path) -> Path:
    """A copy of a data set, images included."""
    shutil.copytree(dataset, folder)
    return folder


def assert_same_end(output: Path, undisturbed: Path) -> None:
    """The last checkpoints of two runs have the same numbers, and so do all evaluations."""
    assert step_of(checkpoints(output)[0]) == step_of(checkpoints(undisturbed)[0])
    for suffix in ("pdparams", "pdema", "pdopt"):
        found, expected = (read_weights(last_checkpoint(folder, suffix)) for folder in (output, undisturbed))
        assert found.keys() == expected.keys()
        different = [name for name in expected if found[name].tobytes() != expected[name].tobytes()]
        assert not different, different[:5]
    assert read_result(output, "train")["history"] == read_result(undisturbed, "train")["history"]
