"""Checkpoints: folders that explain themselves, published by one rename and checked when read.

``checkpoints/step_00000120/`` holds ``step_00000120.pdparams`` (the weights to use: the moving average where
there is one), ``.pdema`` (then the raw weights; PaddleX names them so), ``.pdopt``, ``.pdstates`` (JSON: how
far the run is), ``.info.json`` (what the weights are: model, categories, input size, versions, score),
``config.yaml``, and ``checksums.json`` over all of these. ``best_model/`` is a view of the best of them.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import paddle

from paddlex_seg import __version__
from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.weights import load_into, read_weights, write_weights
from paddlex_seg.errors import WeightsError
from paddlex_seg.files import atomic
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import link_or_copy
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import Category

LOGGER = logging.getLogger(__name__)
CHECKSUMS = "checksums.json"
CHECKPOINTS = "checkpoints"
BEST = "best_model"
_NAME = re.compile(r"step_(\d{8,})")
# Temporary names of earlier versions, left by killed runs: with the process id, or with a random ending.
_EARLIER_NAMES = re.compile(
    r"\.(?:step_\d+|best_model|(?:train_result|schedule)\.json)\.(?:old\.)?(?P<pid>\d+)"
    r"|\.(?:metrics\.jsonl|training\.html|curves\.png|bad_samples\.json)\.[a-z0-9_]{8}"
)


@dataclass(frozen=True)
class ModelInfo:
    """What a weight file is: enough to evaluate and export it without asking the user."""

    model_name: str
    categories: tuple[Category, ...]  # in the order of the class indices
    image_size: tuple[int, int]  # as in recipes.ImageSize


@dataclass(frozen=True)
class Progress:
    """How far a training run is: all of its state that is not a tensor.

    Random numbers need no place here: they depend on the seed and the position in the run alone.
    """

    epoch: int = 0  # epochs finished, evaluation included
    epoch_step: int = 0  # steps done in the epoch after these
    step: int = 0  # steps done in the run, skipped ones included
    batch_size: int = 0  # pictures a step, of all processes together
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


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps is."""
    return output / CHECKPOINTS / f"step_{step:08d}"


def save_checkpoint(
    folder: Path,
    *,
    weights: Mapping[str, paddle.Tensor],
    raw_weights: Mapping[str, paddle.Tensor] | None,
    training_state: Mapping[str, paddle.Tensor],
    progress: Progress,
    score: float | None,
    info: ModelInfo,
    config_yaml: str,
) -> None:
    """Write a checkpoint folder, whose files carry its name; it is there whole or not at all.

    Raises WeightsError when the disk refuses; what was there before is then untouched.
    """
    stem = folder.name
    with _published(folder) as new:
        write_weights(weights, new / f"{stem}.pdparams")
        if raw_weights is not None:
            write_weights(raw_weights, new / f"{stem}.pdema")
        write_weights(training_state, new / f"{stem}.pdopt")
        write_json(new / f"{stem}.pdstates", asdict(progress))
        write_json(
            new / f"{stem}.info.json", {"metric": score, "epoch": progress.epoch, **info_to_json(info)}
        )
        (new / "config.yaml").write_text(config_yaml, encoding="utf-8")
        write_checksums(new)


def write_checksums(folder: Path) -> None:
    """Note what the files of a checkpoint folder are like now."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    write_json(folder / CHECKSUMS, {path.name: _checksum(path) for path in files})


def link_checkpoint(source: Path, folder: Path) -> None:
    """The same checkpoint elsewhere: its files under the name of that folder, linked where possible."""
    checksums = json.loads((source / CHECKSUMS).read_text(encoding="utf-8"))
    renamed = {name.replace(source.name, folder.name): name for name in checksums}
    with _published(folder) as new:
        for name, original in renamed.items():
            link_or_copy(source / original, new / name)
        write_json(new / CHECKSUMS, {name: checksums[original] for name, original in renamed.items()})


def checkpoints(output: Path) -> list[Path]:
    """The checkpoint folders of a run, the newest first. Some may be damaged."""
    folder = output / CHECKPOINTS
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name)), reverse=True, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of steps that a checkpoint folder is named after."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match.group(1))


def weight_file(checkpoint: Path) -> Path:
    """The file in a checkpoint folder that stands for it."""
    return checkpoint / f"{checkpoint.name}.pdparams"


def newest_sound_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint whose files are as they were written; damaged ones are named in the log."""
    for checkpoint in checkpoints(output):
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint
        LOGGER.warning("%s is damaged and is left out: %s.", checkpoint, problem)
    return None


def damage(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint folder; None when all are as they were written."""
    path = checkpoint / CHECKSUMS
    try:
        checksums = json.loads(path.read_text(encoding="utf-8"))
        expected = {str(name): str(checksum) for name, checksum in checksums.items()}
    except (OSError, ValueError, AttributeError) as error:
        return f"{path.name} cannot be read ({error})"
    for name, checksum in expected.items():
        try:
            found = _checksum(checkpoint / name)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found != checksum:
            return f"{name} has other content than was written (its checksum differs)"
    return None


def remove_old_checkpoints(output: Path, *, step: int, keep_last: int) -> None:
    """Delete all but the last checkpoints up to ``step``, and the best ones that these refer to.

    Those after ``step`` are of a future that was given up when the run was resumed from an earlier one.
    """
    last = [path for path in checkpoints(output) if step_of(path) <= step][:keep_last]
    kept = {step_of(path) for path in last} | {_best_step(path) for path in last}
    for path in checkpoints(output):
        if step_of(path) not in kept:
            shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(output: Path) -> None:
    """Delete what killed runs had begun to write or to delete in an output folder."""
    for folder in (output, output / CHECKPOINTS):
        atomic.remove_leftovers(folder, older=_EARLIER_NAMES)


def _best_step(checkpoint: Path) -> int:
    try:
        return read_progress(weight_file(checkpoint)).best_step
    except WeightsError:  # a damaged one refers to none
        return -1


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """A new folder to be filled, which takes the place of ``folder`` when the context ends well."""
    try:
        with atomic.new_folder(folder) as new:
            yield new
    except OSError as problem:
        raise WeightsError(f"{folder}: the checkpoint could not be written: {problem}.") from problem


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def info_to_json(info: ModelInfo) -> dict[str, Any]:
    """The part of ``.info.json`` that says what the weights are."""
    return {
        "model_name": info.model_name,
        "categories": [{"id": category.id, "name": category.name} for category in info.categories],
        "image_size": list(info.image_size),
        "paddlex_seg_version": __version__,
        "paddle_version": paddle.__version__,
    }


def read_info(weight_path: Path) -> ModelInfo | None:
    """What a weight file says of itself in the ``.info.json`` beside it; None when there is none.

    Raises WeightsError when the file is there and cannot be understood.
    """
    path = weight_path.with_suffix(".info.json")
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "model_name" not in data:  # of PaddleX: only the score and the epoch
            return None
        height, width = data["image_size"]
        return ModelInfo(
            model_name=data["model_name"],
            categories=tuple(Category(id=item["id"], name=item["name"]) for item in data["categories"]),
            image_size=(int(height), int(width)),
        )
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path}: expected model_name, categories and image_size as training writes them, but reading "
            f"failed ({type(error).__name__}: {error}). Restore the file, or delete it to have the data "
            f"set's categories used."
        ) from error


def load_model(spec: ModelSpec, weight_path: Path, num_classes: int) -> InstanceSegmenter:
    """Build a model in evaluation mode with all of its weights. Raises WeightsError when some do not fit."""
    model = spec.build(num_classes=num_classes)
    report = load_into(model, read_weights(weight_path), source=weight_path)
    if report.missing or report.skipped:
        raise WeightsError(
            f"{weight_path} does not fit {spec.name} with {num_classes} classes. {report.message()}"
        )
    model.eval()
    return model


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
