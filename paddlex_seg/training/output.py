"""The output folder of a training run: checkpoints, best model, metrics, training page, result file."""

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddlex_seg.checkpoints.files import (
    checkpoints,
    damage,
    link_checkpoint,
    newest_sound_checkpoint,
    remove_leftovers,
    remove_old_checkpoints,
    step_of,
)
from paddlex_seg.checkpoints.info import describe_model, read_info
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.checkpoints.weights import load_model
from paddlex_seg.data.samples.tasks import TrainingSet, TrainSample
from paddlex_seg.errors import DatasetError, WeightsError
from paddlex_seg.export.graphs import export_model
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import free_backup
from paddlex_seg.files.run_folder import BEST, CHECKPOINTS
from paddlex_seg.files.written import WrittenFiles, claimed
from paddlex_seg.fonts import unwritable_notice
from paddlex_seg.reports.metrics_file import METRICS_FILE
from paddlex_seg.reports.training import CURVES_FILE, PAGE_FILE, TrainingPage
from paddlex_seg.runtime.environment import versions
from paddlex_seg.training.metrics_log import (
    TENSORBOARD_FOLDER,
    VISUALDL_FILES,
    MetricsLog,
    bring_metrics,
    visualdl_file,
)
from paddlex_seg.training.resume import bring_along, home_of, save_state, saved_step
from paddlex_seg.training.run import BAD_SAMPLES, Clock, Run
from paddlex_seg.training.same_run import first_source
from paddlex_seg.training.schedule import SCHEDULE_FILE, write_schedule
from paddlex_seg.training.step import TrainState

LOGGER = logging.getLogger(__name__)
RESULT_FILE, LOG_FILE, CONFIG_FILE = "train_result.json", "train.log", "config.yaml"
# What a training writes into its output folder, beside checkpoints.
OUTPUT_FILES = (
    *(LOG_FILE, RESULT_FILE, METRICS_FILE, BAD_SAMPLES, SCHEDULE_FILE, PAGE_FILE),
    *(CURVES_FILE, TENSORBOARD_FOLDER, VISUALDL_FILES),
)
MOST_SHOWN = 16  # training images on the page


class NotSaved(WeightsError):
    """A checkpoint could not be written. The message says how to go on."""


def claimed_output(output: Path) -> AbstractContextManager[None]:
    """While the context lasts, a training writes into ``output``. Files of the user are kept as ``.bak``.

    Checkpoints are not meant: `clear_output` keeps all that it finds.
    """
    written = WrittenFiles()
    if (output / CHECKPOINTS).is_dir() and not written.knows(output / LOG_FILE):
        for name in (*OUTPUT_FILES, CONFIG_FILE):  # a run of an earlier version, which kept no register
            written.adopt(output / name)
    return claimed(output, OUTPUT_FILES)


def begin_output(run: Run, state: TrainState, checkpoint: Path | None) -> None:
    """Prepare the output folder for this run, with the checkpoint that it resumes from.

    Results of another run, and checkpoints after the resumed one, are moved aside: they are neither lost nor
    mixed with the results of this run.
    """
    if run.ranks.is_main:
        goes_on_here = checkpoint is not None and home_of(checkpoint, run.output) is run.output
        clear_output(run, is_new=not goes_on_here)
        if checkpoint is not None:
            move_later_ones_aside(run.output, state.progress.step)
    if checkpoint is not None:
        bring_along(state, checkpoint, run.output, is_main=run.ranks.is_main)


def clear_output(run: Run, *, is_new: bool) -> None:
    """Move results of another run aside, and delete temporary files of killed runs."""
    if is_new and not run.quarantine.records:  # the self-check may have found some
        (run.output / BAD_SAMPLES).unlink(missing_ok=True)
    remove_leftovers(run.output)
    for name in (CHECKPOINTS, BEST) if is_new else ():
        earlier = run.output / name
        if earlier.exists() and any(earlier.iterdir()):  # empty when the earlier run saved no checkpoint
            LOGGER.warning(
                "%s holds results of an earlier run, which are kept as %s. To continue a run instead, set "
                "Train.resume=auto.",
                *(earlier, move_aside(earlier)),
            )
    WrittenFiles().put(config_file(run.output), run.cfg.to_yaml().encode())


def config_file(output: Path) -> Path:
    """The file with the effective configuration.

    It has a number in its name if the user has a ``config.yaml`` there, which may be that of this run.
    """
    return WrittenFiles().free_name(output / CONFIG_FILE)


def move_later_ones_aside(output: Path, step: int) -> None:
    """Move checkpoints and a best model after ``step`` aside, when a run is resumed from an earlier one."""
    best = output / BEST
    is_later = damage(best) is None and (saved_step(best) or 0) > step
    later = [path for path in checkpoints(output) if step_of(path) > step and damage(path) is None]
    backup = free_backup(output / CHECKPOINTS)
    for path in later:
        backup.mkdir(exist_ok=True)
        os.replace(path, backup / path.name)
    kept = [*([backup] if later else []), *([move_aside(best)] if is_later else [])]
    if kept:
        LOGGER.warning(
            "The run goes on after step %d. Its checkpoints of later steps are kept in %s.",
            *(step, " and ".join(map(str, kept))),
        )


def move_aside(folder: Path) -> Path:
    """Give a folder the name of a backup, and return it."""
    backup = free_backup(folder)
    os.replace(folder, backup)
    return backup


@contextmanager
def recorded(run: Run, progress: Progress, checkpoint: Path | None) -> Iterator[Run]:
    """The run with its metrics log and training page open on the main rank, new or continued."""
    report = run.schedule_report(progress)
    for line in report.lines():
        LOGGER.info(line)
    if not run.ranks.is_main:
        yield run
        return
    home = None if checkpoint is None else home_of(checkpoint, run.output)
    # Without the metrics of the resumed run, those of another run in this folder are not continued.
    resume_step = progress.step if home is not None and bring_metrics(home, run.output) else None
    viewers = {"tensorboard": run.cfg.Train.tensorboard, "visualdl": run.cfg.Train.visualdl}
    with MetricsLog(run.output, resume_step=resume_step, **viewers) as numbers:
        write_schedule(run.output, report)
        if notice := unwritable_notice([category.name for category in run.info.categories]):
            LOGGER.warning(notice)
        page = TrainingPage(
            run.output,
            title=f"{run.spec.name}: {run.cfg.Global.dataset_dir}",
            schedule=report,
            samples=first_samples(run.training_set(Progress())),
            categories=run.info.categories,
            settings=run.cfg.to_yaml(),
        )
        page.write()
        try:
            yield replace(run, numbers=numbers, page=page)
        finally:
            write_page(page)


@contextmanager
def going_on(what: str) -> Iterator[None]:
    """For files that a training can do without: a disk that refuses one does not end the training."""
    try:
        yield
    except OSError as error:
        LOGGER.warning("The %s could not be written: %s. Training continues.", what, error)


def write_page(page: TrainingPage, *, if_due: bool = False) -> None:
    """Write the training page, if the disk takes it."""
    with going_on("training page"):
        if if_due:
            page.update()
        else:
            page.write()


def first_samples(dataset: TrainingSet) -> list[TrainSample]:
    """Network inputs to show on the training page: the first ones of the first epoch."""
    samples = []
    for draw in dataset.draws(epoch=0)[:MOST_SHOWN]:
        with suppress(DatasetError):  # reported when training reaches the image
            samples.append(dataset.task(0, draw, dataset.resizes[0])())
    return samples


def note_event(run: Run, progress: Progress, name: str, **details: Any) -> None:
    """Record an unusual event in the metrics log."""
    if run.numbers is not None:
        run.numbers.event(name, epoch=progress.epoch + 1, step=progress.step, **details)


def save_now(
    run: Run, state: TrainState, clock: Clock, *, score: float | None = None, is_best: bool = False
) -> None:
    """Save a checkpoint and delete old ones. Raises NotSaved when it cannot be written to disk.

    score: mask AP of the model, None when it was not evaluated.
    """
    state.progress = replace(state.progress, seconds=state.progress.seconds + clock.passed())
    if not run.ranks.is_main:
        return
    step, keep_last = state.progress.step, run.cfg.Train.keep_last
    try:
        folder = save_state(state, run.output, run.info, score=score, config_yaml=run.cfg.to_yaml())
        if is_best:
            link_checkpoint(folder, run.output / BEST)
    except WeightsError as error:
        left = newest_sound_checkpoint(run.output)
        raise NotSaved(
            f"{error} "
            + (f"{left} is complete. " if left else "There is no earlier checkpoint. ")
            + "Free disk space, or set another Global.output, and continue with -o Train.resume="
            + (f"{left}" if left else "auto")
        ) from error
    remove_old_checkpoints(run.output, step=step, keep_last=keep_last)


def export_best(run: Run, progress: Progress) -> None:
    """Export the best model into the folder of its weights, as what its weights are."""
    best = run.output / BEST
    weight_path = best / f"{BEST}.pdparams"
    info = read_info(weight_path) or run.info
    model = load_model(run.spec, weight_path, num_classes=len(info.categories))
    run.spec.limit_detections(model, run.cfg.Global.max_detections, info.image_size)
    export_model(model, run.spec, info, best / "inference", weight_path)
    LOGGER.info("Export inference config file to %s", best / "inference" / "inference.yml")
    LOGGER.info("Best mask AP %s at epoch %d: %s", score_text(progress.best_score), progress.best_epoch, best)


def how_to_export(run: Run) -> str:
    """For a run whose training is complete: how to make the export that is missing."""
    best = run.output / BEST
    options = {
        "Global.mode": "export",
        "Export.weight_path": best / f"{BEST}.pdparams",
        "Global.output": best / "inference",
    }
    command = " ".join(f"-o {shlex.quote(f'{key}={value}')}" for key, value in options.items())
    return (
        f"Training is complete, and {best} holds its best model. Only its export is missing. To export it, "
        f"run the same command with {command}"
    )


def write_train_result(run: Run, state: TrainState) -> None:
    """Rewrite the result file, so that programs can follow the run."""
    if run.ranks.is_main:
        with going_on("result file"):
            # The command sets done_flag at its end: an export or a last write can still fail.
            write_json(run.output / RESULT_FILE, {"done_flag": False, **train_result(run, state.progress)})


def train_result(run: Run, progress: Progress) -> dict[str, Any]:
    """The content of ``train_result.json``: the keys of PaddleX, and the history of the evaluations."""
    last = checkpoints(run.output)[:5]
    best = progress.best_score
    models: dict[str, dict[str, Any]] = {f"last_{number}": {} for number in range(1, 6)}
    scores = {row["step"]: row["mask_ap"] for row in progress.history}
    for number, folder in enumerate(last, start=1):
        models[f"last_{number}"] = _model_entry(run.output, folder, scores.get(step_of(folder)))
    models["best"] = (
        _model_entry(run.output, run.output / BEST, best if best >= 0 else None) if progress.history else {}
    )
    return {
        "model_name": run.spec.name,
        "label_dict": "",
        "visualdl_log": visualdl_file(run.output) if run.cfg.Train.visualdl else "",
        "train_log": "train.log",
        "config": config_file(run.output).name,
        "models": models,
        "best_epoch": progress.best_epoch,
        "history": progress.history,
        "initial_weights": "scratch" if run.cfg.Train.from_scratch else first_source(run.cfg, run.spec),
        **_best_model(run),
        "data": {"path": run.cfg.Global.dataset_dir, **run.info.data},
        "versions": versions(),
    }


def _best_model(run: Run) -> dict[str, Any]:
    """The description of the best model, once there is one."""
    weight_path = run.output / BEST / f"{BEST}.pdparams"
    info = read_info(weight_path) if weight_path.is_file() else None
    return {} if info is None else describe_model(weight_path, info)


def _model_entry(output: Path, folder: Path, score: float | None) -> dict[str, Any]:
    """Score and files of a checkpoint, relative to the output folder."""
    stem = folder / folder.name
    files = {suffix: Path(f"{stem}.{suffix}") for suffix in ("pdparams", "pdema", "pdopt", "pdstates")}
    inference = {
        "inference_config": folder / "inference" / "inference.yml",
        "pdmodel": folder / "inference" / "inference.json",
        "pdiparams": folder / "inference" / "inference.pdiparams",
    }
    all_files = {**files, **inference}
    present = {key: file.relative_to(output).as_posix() for key, file in all_files.items() if file.is_file()}
    return {"score": score, **present}


def score_text(score: float | None) -> str:
    """Such as ``0.412``; "undefined" for None and below 0."""
    return "undefined" if score is None or score < 0 else f"{score:.3f}"
