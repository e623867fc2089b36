"""From the command line to the loss there are few calls in few files, so a training step is quick to read."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from small_runs import run_slim, train_options

import paddlex_seg
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg

PACKAGE = Path(paddlex_seg.__file__).parent
PATH = [
    ("cli.py", "main"),
    ("modes/train.py", "run"),
    ("training/loop.py", "train_one_epoch"),
    ("training/step.py", "train_step"),
    ("training/step.py", "forward_backward"),
    ("models/pp_yoloe_seg/model.py", "loss"),
]


def test_calls_from_the_command_line_to_the_loss(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = PpYoloeSeg.loss
    found: list[list[tuple[str, str]]] = []

    def noted(self: PpYoloeSeg, batch: Any) -> Any:
        frames = [(Path(frame.filename), frame.function) for frame in reversed(inspect.stack(context=0)[1:])]
        within = [
            (path.relative_to(PACKAGE).as_posix(), function)
            for path, function in frames
            if path.is_relative_to(PACKAGE)
        ]
        found.append([*within, ("models/pp_yoloe_seg/model.py", loss.__name__)])
        return loss(self, batch)

    monkeypatch.setattr(PpYoloeSeg, "loss", noted)
    monkeypatch.setattr("paddlex_seg.training.output.export_model", lambda *args: None)
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__epochs_iters=1))
    assert outcome.code == 0, outcome.stderr
    assert found[0] == PATH
    assert len(PATH) <= 6
    assert len({file for file, _ in PATH[1:-1]}) <= 5
