"""How far a training run is: a plain record, stored as JSON in the ``.pdstates`` beside a weight file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddlex_seg.errors import WeightsError
from paddlex_seg.files.json import write_json


@dataclass(frozen=True)
class Progress:
    """How far a training run is: all of its state that is not a tensor.

    Random numbers need no place here: they depend on the seed and the position in the run alone.
    """

    epoch: int = 0  # epochs finished, evaluation included
    epoch_step: int = 0  # steps done in the epoch after these
    step: int = 0  # steps done in the run, skipped ones included
    batch_size: int = 0  # images a step, of all processes together
    loss_sums: Mapping[str, float] = field(default_factory=dict)  # over the good steps of this epoch
    skipped_in_epoch: int = 0  # steps of this epoch without an update, because a number was not finite
    skipped_in_a_row: int = 0
    skipped: int = 0  # in the run; as in a row, without those of a loss scale that was too large
    rollbacks: int = 0
    micro_batches: int = 1  # parts that a batch is computed in, after memory ran out
    run_epochs: int = 0  # length of the run where a time budget decides on it
    seconds: float = 0.0  # of training, over all sittings
    best_score: float = -1.0  # highest mask AP so far
    best_epoch: int = 0
    best_step: int = 0  # names the checkpoint
    history: tuple[Mapping[str, Any], ...] = ()  # a row for each evaluation: epoch, step, mean losses, AP


def write_progress(weight_path: Path, progress: Progress) -> None:
    """Write ``.pdstates`` beside a weight file."""
    write_json(weight_path.with_suffix(".pdstates"), asdict(progress))


def read_progress(weight_path: Path) -> Progress:
    """How far the run was when the checkpoint was written. Raises WeightsError when that cannot be read."""
    path = weight_path.with_suffix(".pdstates")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return Progress(**{**state, "history": tuple(state["history"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{path}: cannot be read as the state of a training run of this toolkit ({error}). To start a "
            f"new run from these weights, set Train.pretrain_weight_path instead of Train.resume."
        ) from error
