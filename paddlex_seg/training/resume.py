"""Save the training state to a checkpoint, and resume exactly from it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle

from paddlex_seg.checkpoints.files import (
    CHECKSUMS,
    checkpoint_folder,
    checkpoints,
    checkpoints_in,
    damage,
    is_same_checkpoint,
    link_checkpoint,
    newest_sound,
    newest_sound_checkpoint,
    save_checkpoint,
    weight_file,
)
from paddlex_seg.checkpoints.finite import require_finite
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.progress import Progress, read_progress
from paddlex_seg.checkpoints.weights import check_weights, load_into, read_weights
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.run_folder import BEST, CHECKPOINTS
from paddlex_seg.training.optimizer import load_optimizer_state, optimizer_state
from paddlex_seg.training.step import TrainState

LOGGER = logging.getLogger(__name__)
AUTO = "auto"


def find_checkpoint(wanted: str | None, output: Path) -> Path | None:
    """The ``.pdparams`` file that ``Train.resume`` refers to; None for a new run.

    output: folder of the run, searched for ``auto``. Raises WeightsError when the named checkpoint is missing
    or damaged.
    """
    if wanted is None:
        return None
    if wanted == AUTO:
        found = newest_sound_checkpoint(output)
        if found is None and checkpoints(output):
            raise WeightsError(
                f"Train.resume={AUTO}: all checkpoints in {output / CHECKPOINTS} are damaged; the warnings "
                "above say how. Restore one of them, or start a new run without Train.resume."
            )
        if found is None:
            LOGGER.info("Train.resume=%s: %s has no checkpoint. A new run starts.", AUTO, output)
        return None if found is None else weight_file(found)
    path = Path(wanted).resolve()  # a link to a checkpoint has none of the other files beside it
    if path.is_dir():
        folder = newest_sound_checkpoint(path) or newest_sound(checkpoints_in(path))
        weight_path = weight_file(folder or path)
    else:
        weight_path = path
    if not weight_path.is_file():
        raise WeightsError(
            f"Train.resume: found {wanted}, which holds no checkpoint. Expected {AUTO}, the output folder of "
            f"a run, its {CHECKPOINTS}/, a folder in it, its {BEST}/, or the .pdparams file in such a folder."
        )
    if not weight_path.with_suffix(".pdstates").is_file():
        check_weights(weight_path)  # says what another kind of file is
    if (weight_path.parent / CHECKSUMS).is_file() and (problem := damage(weight_path.parent)):
        raise WeightsError(
            f"{weight_path.parent} is damaged: {problem}. Resume from an earlier checkpoint; "
            f"Train.resume={AUTO} takes the newest undamaged one."
        )
    return weight_path


def save_state(
    state: TrainState, output: Path, info: ModelInfo, *, score: float | None, config_yaml: str
) -> Path:
    """Write a checkpoint of the current step, return its folder. score: mask AP of its weights, if known."""
    training_state = {
        f"optimizer/{name}": tensor for name, tensor in optimizer_state(state.optimizer, state.model).items()
    }
    training_state |= {
        f"precision/{name}": paddle.to_tensor(number, dtype="float64")
        for name, number in state.precision.state_dict().items()
    }
    if state.ema is not None:
        training_state |= {f"ema/{name}": tensor for name, tensor in state.ema.state_dict().items()}
    raw = state.model.state_dict()
    folder = checkpoint_folder(output, state.progress.step)
    save_checkpoint(
        folder,
        weights=state.ema.weights(state.model) if state.ema else raw,
        raw_weights=raw if state.ema else None,
        training_state=training_state,
        progress=state.progress,
        score=score,
        info=info,
        config_yaml=config_yaml,
    )
    return folder


def is_saved(state: TrainState, output: Path) -> bool:
    """Whether the newest checkpoint holds exactly the current state of the run."""
    newest = next(iter(checkpoints(output)), None)
    if newest is None or damage(newest):
        return False
    saved = read_progress(weight_file(newest))
    return replace(saved, seconds=state.progress.seconds) == state.progress


def load_tensors(state: TrainState, weight_path: Path) -> None:
    """Load weights, optimizer, loss scale and EMA from a checkpoint."""
    raw_path = weight_path.with_suffix(".pdema")
    load_into(state.model, read_weights(raw_path if raw_path.is_file() else weight_path), source=weight_path)
    saved = read_weights(weight_path.with_suffix(".pdopt"))
    require_finite(saved, source=weight_path.with_suffix(".pdopt"))
    load_optimizer_state(state.optimizer, state.model, _part(saved, "optimizer"))
    state.precision.load_state_dict(_part(saved, "precision"))
    if state.ema is not None:
        state.ema.load_state_dict(_part(saved, "ema"))


def load_state(state: TrainState, weight_path: Path, *, batch_size: int, steps_per_epoch: int) -> None:
    """Continue from the step of a checkpoint.

    batch_size: current images per step over all processes; steps_per_epoch: at that batch size. When the
    batch size has changed, the position in the epoch is rounded to a whole step.
    """
    saved = read_progress(weight_path)
    load_tensors(state, weight_path)
    micro_batches = max(saved.micro_batches, state.progress.micro_batches)
    state.progress = replace(at_batch_size(saved, batch_size, steps_per_epoch), micro_batches=micro_batches)
    LOGGER.info(
        "Continuing at step %d (epoch %d, step %d of %d) with %s.",
        *(state.progress.step + 1, saved.epoch + 1, state.progress.epoch_step + 1, steps_per_epoch),
        weight_path,
    )
    if saved.batch_size not in (0, batch_size):
        LOGGER.warning(
            "Batch size changed from %d to %d. Training continues at the same image, but the result will "
            "differ from an uninterrupted run.",
            saved.batch_size,
            batch_size,
        )


def at_batch_size(progress: Progress, batch_size: int, steps_per_epoch: int) -> Progress:
    """The same position in the epoch, and the losses so far, counted in steps of another batch size."""
    if progress.batch_size in (0, batch_size):
        return replace(progress, batch_size=batch_size)
    epoch_step = min(progress.epoch_step * progress.batch_size // batch_size, steps_per_epoch)
    steps = progress.batch_size / batch_size  # in the place of one
    return replace(
        progress,
        batch_size=batch_size,
        epoch_step=epoch_step,
        loss_sums={name: total * steps for name, total in progress.loss_sums.items()},
        loss_steps=progress.loss_steps * steps,
    )


def home_of(weight_path: Path, output: Path) -> Path | None:
    """The output folder of the run that a checkpoint belongs to; None when it lies somewhere else.

    It is ``output``, unchanged, when the checkpoint belongs to the run there.
    """
    folder = weight_path.resolve().parent
    if folder == (output / BEST).resolve() or folder.parent == (output / CHECKPOINTS).resolve():
        return output
    if folder.parent.name == CHECKPOINTS:
        return folder.parent.parent
    return folder.parent if folder.name == BEST else None


def bring_along(state: TrainState, weight_path: Path, output: Path, *, is_main: bool) -> None:
    """Link the resumed checkpoint and the best model into the output folder, unless they are there.

    When the best checkpoint is missing or damaged, the next evaluated model becomes the best. All ranks make
    this decision; only the main rank writes files.
    """
    own = weight_path.parent
    if is_main and damage(own) is None:
        _adopt(own, checkpoint_folder(output, state.progress.step))
    if state.progress.best_epoch == 0:
        return
    best_step, home = state.progress.best_step, home_of(weight_path, output)
    best = checkpoint_folder(output, best_step)
    places = [own, own.parent / best.name]
    if home is not None:
        places += [checkpoint_folder(home, best_step), home / BEST]
    kept = next((place for place in places if saved_step(place) == best_step and not damage(place)), None)
    if kept is None:
        LOGGER.warning(
            "%s is missing or damaged. Tracking of the best model starts anew.", own.parent / best.name
        )
        state.progress = replace(state.progress, best_score=-1.0, best_epoch=0, best_step=0)
    elif is_main:
        _adopt(kept, best)
        _adopt(best, output / BEST)


def saved_step(folder: Path) -> int | None:
    """The step of the checkpoint in a folder; None when there is none."""
    try:
        return read_progress(weight_file(folder)).step
    except WeightsError:
        return None


def _adopt(source: Path, folder: Path) -> None:
    """Link a checkpoint to a folder, unless it is the same that is there. An export beside it then stays."""
    if damage(folder) is not None or not is_same_checkpoint(source, folder):
        link_checkpoint(source, folder)


def _part(saved: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in saved.items()
        if name.startswith(f"{prefix}/")
    }
