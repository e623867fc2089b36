"""The progress of a training run, stored as JSON in the ``.pdstates`` file beside a weight file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddlex_seg.errors import WeightsError
from paddlex_seg.files.json import write_json


@dataclass(frozen=True)
class Progress:
    """The progress of a training run: all of its state that is not a tensor.

    No random state is stored: random numbers depend only on the seed and the position in the run.
    """

    epoch: int = 0  # epochs finished, evaluation included
    epoch_step: int = 0  # steps done in the current epoch
    step: int = 0  # steps done in the run, including skipped ones
    batch_size: int = 0  # images per step, over all processes
    # Sums over the steps of this epoch with an update, and the number of these steps. After a change of the
    # batch size, earlier steps count by their images.
    loss_sums: Mapping[str, float] = field(default_factory=dict)
    loss_steps: float = 0.0
    skipped_in_a_row: int = 0
    skipped: int = 0  # in the run; like skipped_in_a_row, without overflows of the loss scale
    rollbacks: int = 0
    micro_batches: int = 1  # parts that a batch is computed in, after memory ran out
    run_epochs: int = 0  # planned length of the run when there is a time budget, else 0
    # With a time budget, the schedule keeps the length of the first plan. Later plans change how fast the run
    # passes through it: after epoch planned_at it is at planned_position, at the end of the run at its end.
    schedule_epochs: int = 0
    planned_at: int = 0
    planned_position: float = 0.0  # in epochs of the schedule
    eval_interval: int = 1  # epochs between two evaluations, unless it is set
    seconds: float = 0.0  # training time, including the time before a resume
    best_score: float = -1.0  # highest mask AP so far
    best_epoch: int = 0
    best_step: int = 0  # the step of the best checkpoint
    history: tuple[Mapping[str, Any], ...] = ()  # a row for each evaluation: epoch, step, mean losses, AP

    @property
    def mean_losses(self) -> dict[str, float]:
        """Means over the images of this epoch; empty before its first step with an update."""
        return {name: total / self.loss_steps for name, total in self.loss_sums.items()}


def write_progress(weight_path: Path, progress: Progress) -> None:
    """Write ``.pdstates`` beside a weight file."""
    write_json(weight_path.with_suffix(".pdstates"), asdict(progress))


def read_progress(weight_path: Path) -> Progress:
    """Read the progress of a checkpoint's run. Raises WeightsError when it cannot be read."""
    path = weight_path.with_suffix(".pdstates")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if "skipped_in_epoch" in state:  # of an earlier version
            state["loss_steps"] = float(state["epoch_step"] - state.pop("skipped_in_epoch"))
        return Progress(**{**state, "history": tuple(state["history"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{path}: cannot be read as the progress of a training run of this toolkit ({error}). To start a "
            f"new run from these weights, set Train.pretrain_weight_path instead of Train.resume."
        ) from error
