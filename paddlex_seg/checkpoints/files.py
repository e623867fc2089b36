"""Checkpoints: self-describing folders, which appear by one rename and are verified when read.

``checkpoints/step_00000120/`` holds ``step_00000120.pdparams`` (the weights to use: the moving average if
there is one), ``.pdema`` (the raw weights if there is a moving average; PaddleX uses this name), ``.pdopt``
(optimizer), ``.pdstates`` (JSON: progress of the run), ``.info.json`` (description of the weights: model,
categories, input size, versions, score), ``config.yaml``, and ``checksums.json`` over all of these.
``best_model/`` holds the files of the best checkpoint, linked under another name.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import paddle

from paddlex_seg.checkpoints.info import ModelInfo, info_to_json, write_info
from paddlex_seg.checkpoints.progress import Progress, read_progress, write_progress
from paddlex_seg.checkpoints.weights import dump_weights
from paddlex_seg.errors import WeightsError
from paddlex_seg.files import atomic
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import link_or_copy
from paddlex_seg.files.run_folder import CHECKPOINTS

LOGGER = logging.getLogger(__name__)
CHECKSUMS = "checksums.json"
_NAME = re.compile(r"step_(\d{8,})")
# Temporary files of earlier versions, left by killed runs. Their names end in a process id or random text.
_EARLIER_NAMES = re.compile(
    r"\.(?:step_\d+|best_model|(?:train_result|schedule)\.json)\.(?:old\.)?(?P<pid>\d+)"
    r"|\.(?:metrics\.jsonl|training\.html|curves\.png|bad_samples\.json)\.[a-z0-9_]{8}"
)


def checkpoint_folder(output: Path, step: int) -> Path:
    """The folder of the checkpoint after ``step`` steps."""
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
    """Write a checkpoint folder, all or nothing. Its files have the name of the folder.

    Raises WeightsError when it cannot be written to disk; an earlier checkpoint of the same name then stays.
    """
    description = info_to_json(info, score=score, epoch=progress.epoch)
    with _published(folder) as new:
        weight_path = new / f"{folder.name}.pdparams"
        dump_weights(weights, weight_path, description)
        if raw_weights is not None:
            of_raw_weights = {**description, "metric": None}
            dump_weights(raw_weights, weight_path.with_suffix(".pdema"), of_raw_weights)
        dump_weights(training_state, weight_path.with_suffix(".pdopt"))
        write_progress(weight_path, progress)
        write_info(weight_path, description)
        (new / "config.yaml").write_text(config_yaml, encoding="utf-8")
        write_checksums(new)


def link_checkpoint(source: Path, folder: Path) -> None:
    """Link or copy a checkpoint to another folder. Its files get the name of that folder."""
    checksums = json.loads((source / CHECKSUMS).read_text(encoding="utf-8"))
    stem = weight_file(source).stem
    renamed = {
        f"{folder.name}{name.removeprefix(stem)}" if name.startswith(f"{stem}.") else name: name
        for name in checksums
    }
    with _published(folder) as new:
        for name, original in renamed.items():
            link_or_copy(source / original, new / name)
        write_json(new / CHECKSUMS, {name: checksums[original] for name, original in renamed.items()})


def is_same_checkpoint(one: Path, other: Path) -> bool:
    """Whether two checkpoint folders were written with the same files, whatever their names."""
    one_sums, other_sums = (
        json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")) for folder in (one, other)
    )
    return sorted(one_sums.values()) == sorted(other_sums.values())


def checkpoints(output: Path) -> list[Path]:
    """The checkpoint folders of a run, the newest first. Some may be damaged."""
    return checkpoints_in(output / CHECKPOINTS)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder such as ``checkpoints`` or ``checkpoints.bak``, the newest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name)), reverse=True, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of steps in the name of a checkpoint folder."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match.group(1))


def weight_file(checkpoint: Path) -> Path:
    """The ``.pdparams`` file of a checkpoint folder, also when the folder got another name."""
    path = checkpoint / f"{checkpoint.name}.pdparams"
    others = [] if path.is_file() else list(checkpoint.glob("*.pdparams"))
    return others[0] if len(others) == 1 else path


def newest_sound_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint of a run whose checksums match. Damaged checkpoints are logged."""
    return newest_sound(checkpoints(output))


def newest_sound(folders: Iterable[Path]) -> Path | None:
    """The first checkpoint whose checksums match. Damaged checkpoints are logged."""
    for checkpoint in folders:
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint
        LOGGER.warning("%s is damaged and is not used: %s.", checkpoint, problem)
    return None


def damage(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint folder; None when all checksums match."""
    path = checkpoint / CHECKSUMS
    try:
        checksums = json.loads(path.read_text(encoding="utf-8"))
        expected = {str(name): str(checksum) for name, checksum in checksums.items()}
    except (OSError, ValueError, AttributeError) as error:
        return f"{path.name} cannot be read ({error})"
    for name, checksum in expected.items():
        try:
            found = sha256_of(checkpoint / name)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found != checksum:
            return f"{name} has changed since it was written (its checksum differs)"
    return None


def write_checksums(folder: Path) -> None:
    """Write the checksums of the files in a checkpoint folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    write_json(folder / CHECKSUMS, {path.name: sha256_of(path) for path in files})


def remove_old_checkpoints(output: Path, *, step: int, keep_last: int) -> None:
    """Keep the last checkpoints up to ``step`` and the best checkpoints that they refer to; delete the rest.

    Checkpoints after ``step`` are obsolete: they exist when the run was resumed from an earlier checkpoint.
    """
    last = [path for path in checkpoints(output) if step_of(path) <= step][:keep_last]
    kept = {step_of(path) for path in last} | {_best_step(path) for path in last}
    for path in checkpoints(output):
        if step_of(path) not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _best_step(checkpoint: Path) -> int:
    try:
        return read_progress(weight_file(checkpoint)).best_step
    except WeightsError:  # a damaged checkpoint refers to no best checkpoint
        return -1


def remove_leftovers(output: Path) -> None:
    """Delete temporary files and folders of killed runs in an output folder."""
    for folder in (output, output / CHECKPOINTS):
        atomic.remove_leftovers(folder, older=_EARLIER_NAMES)


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """A new folder to fill. It replaces ``folder`` when the context ends without an error."""
    try:
        with atomic.new_folder(folder) as new:
            yield new
    except OSError as problem:
        raise WeightsError(f"{folder}: the checkpoint could not be written: {problem}.") from problem
