"""What happens when numbers are not finite: the step is skipped, or the last checkpoint is loaded."""

import logging
from dataclasses import replace

from paddlex_seg.checkpoints.files import newest_sound_checkpoint, weight_file
from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.training.output import note_event
from paddlex_seg.training.resume import load_tensors
from paddlex_seg.training.run import Run
from paddlex_seg.training.step import StepResult, TrainState, not_finite_parts

LOGGER = logging.getLogger(__name__)
MOST_SKIPPED_IN_A_ROW = 10
MOST_ROLLBACKS = 3


def answer_refused_step(run: Run, state: TrainState, result: StepResult) -> None:
    """Log why a step was skipped. When skipping cannot help, go back to the last checkpoint."""
    progress = state.progress
    LOGGER.warning("Step %d (epoch %d) is skipped: %s.", progress.step, progress.epoch + 1, result.problem)
    note_event(run, progress, "step left out", reason=result.problem)
    if not result.weights_are_finite:
        go_back(run, state, f"the weights are not finite; {result.problem}")
    elif progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        go_back(run, state, f"{progress.skipped_in_a_row} steps in a row were skipped; {result.problem}")


def go_back_unless_finite(run: Run, state: TrainState) -> None:
    """Go back before an evaluation or a checkpoint when numbers are not finite.

    An update can give such numbers even when the gradients are finite.
    """
    if bad := not_finite_parts(state):
        go_back(run, state, f"the {bad} are not finite")


def go_back(run: Run, state: TrainState, reason: str) -> None:
    """Load weights, optimizer and EMA from the last checkpoint, and continue at the current step.

    Raises PaddlexSegError when there is no checkpoint, or the run went back `MOST_ROLLBACKS` times before.
    """
    progress = state.progress
    checkpoint = newest_sound_checkpoint(run.output)
    if checkpoint is None or progress.rollbacks >= MOST_ROLLBACKS:
        raise PaddlexSegError(
            f"Step {progress.step} (epoch {progress.epoch + 1}): {reason}; "
            + ("there is no checkpoint to go back to" if checkpoint is None else "going back did not help")
            + ". Check the annotations of these images, or lower Train.learning_rate (now "
            f"{run.cfg.Train.learning_rate:g})."
        )
    state.is_whole = False
    load_tensors(state, weight_file(checkpoint))
    state.is_whole = True
    state.progress = replace(progress, rollbacks=progress.rollbacks + 1, skipped_in_a_row=0)
    LOGGER.warning(
        "Step %d (epoch %d): %s. Training continues with the weights of %s.",
        *(progress.step, progress.epoch + 1, reason, checkpoint),
    )
    note_event(run, progress, "back to a checkpoint", reason=reason, checkpoint=checkpoint.name)
