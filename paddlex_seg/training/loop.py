"""Mode train: from annotated pictures to a checkpoint and an exported model.

Four calls from the command line to the loss: `cli.main`, `run`, `train_one_epoch`, `train_step`.
"""

import logging
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paddlex_seg.checkpoints.files import (
    BEST,
    CHECKPOINTS,
    Progress,
    checkpoints,
    link_checkpoint,
    load_model,
    newest_sound_checkpoint,
    remove_leftovers,
    remove_old_checkpoints,
    step_of,
    weight_file,
)
from paddlex_seg.config import Config
from paddlex_seg.data.samples.loader import TrainBatch, WorkerPool, train_batches
from paddlex_seg.data.samples.tasks import TrainingSet, TrainSample
from paddlex_seg.errors import DatasetError, PaddlexSegError, WeightsError
from paddlex_seg.files.publish import free_backup
from paddlex_seg.metrics.coco_ap import CocoMetrics, evaluate_coco
from paddlex_seg.modes.evaluate import predict_pictures
from paddlex_seg.modes.export import export_model
from paddlex_seg.modes.result_file import write_result
from paddlex_seg.ops.joined_batch import take_from_first_process
from paddlex_seg.reports.training import TrainingPage
from paddlex_seg.runtime.log import format_seconds, log_file, progress_bar
from paddlex_seg.runtime.ranks import join_ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.training.metrics_log import MetricsLog, bring_metrics, visualdl_file
from paddlex_seg.training.resume import bring_along, is_saved, load_tensors, save_state
from paddlex_seg.training.schedule import write_schedule
from paddlex_seg.training.self_check import check_evaluation, check_export, check_step
from paddlex_seg.training.setup import BAD_SAMPLES, Run, prepare, start_training
from paddlex_seg.training.step import (
    StepResult,
    TrainState,
    not_finite_parts,
    running_statistics,
    train_step,
)

LOGGER = logging.getLogger(__name__)
MOST_SKIPPED_IN_A_ROW = 10
MOST_ROLLBACKS = 3
MOST_SHOWN = 16  # training pictures on the page


@dataclass
class Clock:
    """What steps and evaluations have cost so far, and so what the rest will."""

    step_seconds: float = 0.0  # running mean
    data_seconds: float = 0.0  # of it, waiting for pictures
    evaluation_seconds: float | None = None
    last: float = field(default_factory=time.perf_counter)

    def count_step(self, data_seconds: float, step_seconds: float) -> None:
        """Take one finished step into account."""
        weight = 0.1 if self.step_seconds else 1.0
        self.step_seconds += weight * (step_seconds - self.step_seconds)
        self.data_seconds += weight * (data_seconds - self.data_seconds)

    def passed(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds

    def eta(self, run: Run, progress: Progress) -> str:
        """Time to the end of the run, evaluations included; a lower bound until the first one is measured."""
        epochs = run.num_epochs(progress)
        pixels = [run.recipe.input_pixels_at(epoch / epochs) for epoch in range(progress.epoch, epochs)]
        steps = run.steps_per_epoch * sum(pixels) / pixels[0] - progress.epoch_step  # of the present size
        evaluations = sum(run.is_due(epoch, progress) for epoch in range(progress.epoch + 1, epochs + 1))
        seconds = steps * self.step_seconds + evaluations * (self.evaluation_seconds or 0.0)
        return ("" if self.evaluation_seconds is not None else ">") + format_seconds(seconds)


def run(cfg: Config) -> dict[str, Any]:
    """Train ``Global.model`` on ``Global.dataset_dir`` and leave the results in ``Global.output``.

    Raises ConfigError, DatasetError or WeightsError before the first step where something is wrong, and
    KeyboardInterrupt, with how to continue, when it is stopped.
    """
    with (
        join_ranks(cfg.Global.device) as ranks,
        log_file(Path(cfg.Global.output) / "train.log") if ranks.is_main else nullcontext(),
        StopSignals(at_once=ranks.world_size == 1) as stop,
    ):
        with stop.interruptible():
            this, checkpoint = prepare(cfg, ranks, stop)
            this, state = start_training(this, checkpoint)
        with WorkerPool(cfg.Train.num_workers) as pool:
            if checkpoint is None and cfg.Train.self_check:
                with stop.interruptible():
                    self_check(this, state, pool)
            begin_output(this, state, checkpoint)
            with recorded(this, state.progress, checkpoint) as this:
                try:
                    train_epochs(this, state, pool)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(save_before_leaving(this, state)) from None
        if ranks.is_main:
            with stop.interruptible():
                export_best(this, state.progress)
        return train_result(this, state.progress)


def self_check(this: Run, state: TrainState, pool: WorkerPool) -> None:
    """Find in a minute what would otherwise end the run after its first epoch."""
    with closing(epoch_batches(this, this.dataset, Progress(), pool)) as batches:
        check_step(state, next(batches), this.ranks)
    if this.ranks.is_main:
        preprocess = this.spec.recipe.preprocess(this.info.image_size)
        check_evaluation(state, this.val, this.image_dir, preprocess, pool)
        check_export(this.spec, this.info)
    this.ranks.barrier()


def begin_output(this: Run, state: TrainState, checkpoint: Path | None) -> None:
    """Make the output folder that of this run, with what it goes on from.

    Nothing of another run that was in it is lost, or taken for a part of this one.
    """
    if this.ranks.is_main:
        goes_on_here = (
            checkpoint is not None
            and checkpoint.parent.parent.resolve() == (this.output / CHECKPOINTS).resolve()
        )
        clear_output(this, is_new=not goes_on_here)
    if checkpoint is not None:
        bring_along(state, checkpoint, this.output, is_main=this.ranks.is_main)


def clear_output(this: Run, *, is_new: bool) -> None:
    """Move aside what another run has left in the output folder, and delete what a killed one had begun."""
    if is_new and not this.quarantine.records:  # the self-check may have found some
        (this.output / BAD_SAMPLES).unlink(missing_ok=True)
    remove_leftovers(this.output)
    for name in (CHECKPOINTS, BEST) if is_new else ():
        earlier = this.output / name
        if earlier.exists() and any(earlier.iterdir()):  # none are there where the first one was not finished
            backup = free_backup(earlier)
            os.replace(earlier, backup)
            LOGGER.warning(
                "%s is of an earlier run and is kept as %s. To continue a run: Train.resume=auto.",
                *(earlier, backup),
            )
    (this.output / "config.yaml").write_text(this.cfg.to_yaml(), encoding="utf-8")


@contextmanager
def recorded(this: Run, progress: Progress, checkpoint: Path | None) -> Iterator[Run]:
    """The run with what it leaves for people to look at, begun or gone on with, on the main rank."""
    report = this.schedule_report(progress)
    for line in report.lines():
        LOGGER.info(line)
    if not this.ranks.is_main:
        yield this
        return
    if checkpoint is not None:
        bring_metrics(checkpoint.parent.parent.parent, this.output)
    viewers = {"tensorboard": this.cfg.Train.tensorboard, "visualdl": this.cfg.Train.visualdl}
    resume_step = None if checkpoint is None else progress.step
    with MetricsLog(this.output, resume_step=resume_step, **viewers) as numbers:
        write_schedule(this.output, report)
        page = TrainingPage(
            this.output,
            title=f"{this.spec.name}: {this.cfg.Global.dataset_dir}",
            schedule=report,
            samples=first_samples(this.training_set(Progress())),
            categories=this.info.categories,
            settings=this.cfg.to_yaml(),
        )
        page.write()
        yield replace(this, numbers=numbers, page=page)


def first_samples(dataset: TrainingSet) -> list[TrainSample]:
    """Pictures as the network gets them, for people to look at: the first ones of the first epoch."""
    samples = []
    for draw in dataset.draws(epoch=0)[:MOST_SHOWN]:
        with suppress(DatasetError):  # told when its turn comes
            samples.append(dataset.task(0, draw, dataset.resizes[0])())
    return samples


def train_epochs(this: Run, state: TrainState, pool: WorkerPool) -> None:
    """All epochs: train, evaluate when due and after the last, keep the best and the last."""
    clock = Clock()
    write_train_result(this, state)
    while not is_finished(this, state.progress):
        train_one_epoch(this, state, clock, pool)
        progress = state.progress
        this.quarantine.merge(bad for found in this.ranks.gather(this.quarantine.records) for bad in found)
        plan_by_time(this, state, clock)
        if this.is_due(progress.epoch + 1, state.progress):
            go_back_unless_finite(this, state)
            start = time.perf_counter()
            metrics = evaluate_now(this, state, pool)
            clock.evaluation_seconds = time.perf_counter() - start
            finish_epoch(this, state, clock, metrics)
        else:
            state.progress = after_epoch(state.progress)
            save_when_due(this, state, clock)


def is_finished(this: Run, progress: Progress) -> bool:
    """Whether the run is at its end, by length or because it no longer gets better."""
    if progress.epoch >= this.num_epochs(progress):
        return True
    patience = this.cfg.Train.early_stop
    waited = sum(row["epoch"] > progress.best_epoch for row in progress.history)
    return patience is not None and progress.best_epoch > 0 and waited >= patience


def plan_by_time(this: Run, state: TrainState, clock: Clock) -> None:
    """After each epoch, take as many more as the time budget allows."""
    if this.cfg.Train.time_budget is None:
        return
    state.progress = replace(state.progress, seconds=state.progress.seconds + clock.passed())
    epoch, evaluation = state.progress.epoch + 1, clock.evaluation_seconds or clock.step_seconds
    per_epoch = clock.step_seconds * this.steps_per_epoch + evaluation / this.cfg.Train.eval_interval
    left = 60 * this.cfg.Train.time_budget - state.progress.seconds - evaluation
    run_epochs = this.ranks.gather(epoch + max(0, int(left / per_epoch)))[0]
    if run_epochs == state.progress.run_epochs:
        return
    state.progress = replace(state.progress, run_epochs=run_epochs)
    LOGGER.info("%d epochs fit in the time budget of %g minutes.", run_epochs, this.cfg.Train.time_budget)
    if this.page is not None:
        this.page.schedule = this.schedule_report(state.progress)
        write_schedule(this.output, this.page.schedule)


def epoch_batches(
    this: Run, dataset: TrainingSet, progress: Progress, pool: WorkerPool
) -> Generator[TrainBatch, None, None]:
    """What is left of the epoch to train on, for this process."""
    return train_batches(
        dataset,
        progress.epoch,
        this.batch_size,
        pool,
        rank=this.ranks.rank,
        world_size=this.ranks.world_size,
        first_batch=progress.epoch_step,
        quarantine=this.quarantine,
    )


def train_one_epoch(this: Run, state: TrainState, clock: Clock, pool: WorkerPool) -> None:
    """The rest of an epoch, step by step.

    Raises PaddlexSegError when too many steps gave numbers that are not finite, KeyboardInterrupt when the
    run is to stop.
    """
    state.model.train()
    cfg, steps = this.cfg, this.steps_per_epoch
    schedule = this.schedule(state.progress)
    this.ranks.barrier()  # an evaluation or a checkpoint before may have taken one of them longer
    title = f"epoch {state.progress.epoch + 1}/{this.num_epochs(state.progress)}"
    with (
        closing(epoch_batches(this, this.training_set(state.progress), state.progress, pool)) as batches,
        progress_bar(title, total=steps) as advance,
    ):
        advance(steps=state.progress.epoch_step)
        while state.progress.epoch_step < steps:
            if this.ranks.any_of(this.stop.requested):
                raise KeyboardInterrupt
            start = time.perf_counter()
            with this.stop.interruptible():
                batch = next(batches)
            data_seconds = time.perf_counter() - start
            rate = schedule.lr_at_step(state.progress.epoch * steps + state.progress.epoch_step)
            result = train_step(state, batch, rate, seed=cfg.Train.seed, ranks=this.ranks, stop=this.stop)
            clock.count_step(data_seconds, time.perf_counter() - start)
            if result.problem is not None:
                answer_refused_step(this, state, result)
            progress = state.progress
            advance(f"loss {result.losses['loss']:.3f} eta {clock.eta(this, progress)}")
            if progress.epoch_step % cfg.Train.log_interval == 0 or progress.epoch_step == steps:
                log_step(this, progress, rate, result.losses, clock)
            if progress.epoch_step < steps and save_when_due(this, state, clock):
                this.ranks.barrier()


def answer_refused_step(this: Run, state: TrainState, result: StepResult) -> None:
    """A step was left out: say why, and where that cannot help, go back to the last checkpoint."""
    progress = state.progress
    LOGGER.warning("Step %d (epoch %d) is left out: %s.", progress.step, progress.epoch + 1, result.problem)
    note_event(this, progress, "step left out", reason=result.problem)
    if not result.weights_are_finite:
        go_back(this, state, f"the weights are not finite; {result.problem}")
    elif progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        go_back(this, state, f"{progress.skipped_in_a_row} steps in a row were left out; {result.problem}")


def go_back_unless_finite(this: Run, state: TrainState) -> None:
    """Neither evaluate nor save what is not finite, as an update can be even with finite gradients."""
    if bad := not_finite_parts(state):
        go_back(this, state, f"the {bad} are not finite")


def go_back(this: Run, state: TrainState, reason: str) -> None:
    """Take weights, optimizer and moving average from the last checkpoint, and go on from here with them.

    Raises PaddlexSegError when there is none, or going back has not helped before.
    """
    progress = state.progress
    checkpoint = newest_sound_checkpoint(this.output)
    if checkpoint is None or progress.rollbacks >= MOST_ROLLBACKS:
        raise PaddlexSegError(
            f"Step {progress.step} (epoch {progress.epoch + 1}): {reason}; "
            + ("there is no checkpoint to go back to" if checkpoint is None else "going back did not help")
            + ". Look at the annotations of these pictures, or lower Train.learning_rate (now "
            f"{this.cfg.Train.learning_rate:g})."
        )
    load_tensors(state, weight_file(checkpoint))
    state.progress = replace(progress, rollbacks=progress.rollbacks + 1, skipped_in_a_row=0)
    LOGGER.warning(
        "Step %d (epoch %d): %s. Going on with the weights of %s.",
        *(progress.step, progress.epoch + 1, reason, checkpoint),
    )
    note_event(this, progress, "back to a checkpoint", reason=reason, checkpoint=checkpoint.name)


def note_event(this: Run, progress: Progress, name: str, **details: Any) -> None:
    """Have something out of the ordinary among the numbers of the run."""
    if this.numbers is not None:
        this.numbers.event(name, epoch=progress.epoch + 1, step=progress.step, **details)


def evaluate_now(this: Run, state: TrainState, pool: WorkerPool) -> CocoMetrics:
    """Metrics of the weights that a checkpoint would hold now."""
    cfg = this.cfg
    averaged = state.ema.applied(state.model) if state.ema else nullcontext()
    with averaged:
        if not cfg.Train.sync_bn:
            this.ranks.barrier()
            take_from_first_process(running_statistics(state.model))
        results = predict_pictures(
            state.model,
            this.val,
            this.image_dir,
            this.spec.recipe.preprocess(this.info.image_size),
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
            ranks=this.ranks,
            stop=this.stop,
        )
    return evaluate_coco(this.val, results, [category.id for category in this.info.categories])


def after_epoch(progress: Progress) -> Progress:
    """The beginning of the next epoch."""
    return replace(progress, epoch=progress.epoch + 1, epoch_step=0, loss_sums={}, skipped_in_epoch=0)


def finish_epoch(this: Run, state: TrainState, clock: Clock, metrics: CocoMetrics) -> None:
    """After an evaluation: log it, save the last and perhaps the best checkpoint, rewrite the result file."""
    score, epoch = metrics.segm.AP, state.progress.epoch + 1
    good_steps = max(state.progress.epoch_step - state.progress.skipped_in_epoch, 1)
    losses = {name: total / good_steps for name, total in state.progress.loss_sums.items()}
    row = {"epoch": epoch, "step": state.progress.step, **losses, "mask_ap": score, "box_ap": metrics.bbox.AP}
    best = state.progress.best_score
    # Of equal scores the later one counts: at the beginning all are 0.
    is_best = state.progress.best_epoch == 0 or (best < 0 if score is None else score >= best)
    state.progress = replace(after_epoch(state.progress), history=(*state.progress.history, row))
    if is_best:
        state.progress = replace(
            state.progress,
            best_score=score if score is not None else -1.0,
            best_epoch=epoch,
            best_step=state.progress.step,
        )
    for line in metrics.table().splitlines():
        LOGGER.info(line)
    LOGGER.info("Epoch %d: mask AP %s.", epoch, _as_text(score))
    LOGGER.info("Best test mask ap is %s.", _as_text(state.progress.best_score))
    if this.numbers is not None and this.page is not None:
        scores = {"mask_ap": score, "mask_ap50": metrics.segm.AP50, "mask_ap75": metrics.segm.AP75}
        scores |= {"box_ap": metrics.bbox.AP, "box_ap50": metrics.bbox.AP50}
        this.numbers.evaluation(epoch=epoch, step=state.progress.step, losses=losses, **scores)
        this.page.write()
    save_now(this, state, clock, score=score, is_best=is_best)
    write_train_result(this, state)


def save_when_due(this: Run, state: TrainState, clock: Clock) -> bool:
    """Save a checkpoint when ``Train.save_interval`` says so, and give back whether it did."""
    interval = this.cfg.Train.save_interval
    if interval is None or state.progress.step % interval:
        return False
    go_back_unless_finite(this, state)
    save_now(this, state, clock)
    return True


def save_now(
    this: Run, state: TrainState, clock: Clock, *, score: float | None = None, is_best: bool = False
) -> None:
    """Save a checkpoint and delete the ones that are too old. Raises WeightsError when the disk refuses.

    score: mask AP of the model, where it was evaluated.
    """
    state.progress = replace(state.progress, seconds=state.progress.seconds + clock.passed())
    if not this.ranks.is_main:
        return
    step, keep_last = state.progress.step, this.cfg.Train.keep_last
    try:
        folder = save_state(state, this.output, this.info, score=score, config_yaml=this.cfg.to_yaml())
        if is_best:
            link_checkpoint(folder, this.output / BEST)
    except WeightsError as error:
        left = newest_sound_checkpoint(this.output)
        raise WeightsError(
            f"{error} "
            + (f"{left} is whole. " if left else "There is no earlier checkpoint. ")
            + "Make room, or name another Global.output, and continue with -o Train.resume="
            + (f"{left}" if left else "auto")
        ) from error
    remove_old_checkpoints(this.output, step=step, keep_last=keep_last)


def save_before_leaving(this: Run, state: TrainState) -> str:
    """Save where the run stands, and say how to continue."""
    if state.progress.step == 0:
        return "interrupted before the first step; nothing was to be saved"
    if not is_saved(state, this.output):
        go_back_unless_finite(this, state)
        save_now(this, state, Clock())
        write_train_result(this, state)
    this.ranks.barrier()
    return (
        f"interrupted after {state.progress.step} steps, which are saved. To continue, give the same command "
        "with -o Train.resume=auto"
    )


def export_best(this: Run, progress: Progress) -> None:
    """Export the best model beside its weights."""
    best = this.output / BEST
    model = load_model(this.spec, best / f"{BEST}.pdparams", num_classes=len(this.info.categories))
    export_model(model, this.spec, this.info, best / "inference")
    LOGGER.info("Export inference config file to %s", best / "inference" / "inference.yml")
    LOGGER.info("Best mask AP %s, of epoch %d: %s", _as_text(progress.best_score), progress.best_epoch, best)


def write_train_result(this: Run, state: TrainState) -> None:
    """Rewrite the result file, so that programs can follow the run."""
    if this.ranks.is_main:
        write_result(this.output, "train", train_result(this, state.progress))


def train_result(this: Run, progress: Progress) -> dict[str, Any]:
    """What ``train_result.json`` says: the keys of PaddleX, and the history of the evaluations."""
    last = checkpoints(this.output)[:5]
    best = progress.best_score
    models: dict[str, dict[str, Any]] = {f"last_{number}": {} for number in range(1, 6)}
    scores = {row["step"]: row["mask_ap"] for row in progress.history}
    for number, folder in enumerate(last, start=1):
        models[f"last_{number}"] = _model_entry(this.output, folder, scores.get(step_of(folder)))
    models["best"] = (
        _model_entry(this.output, this.output / BEST, best if best >= 0 else None) if progress.history else {}
    )
    return {
        "model_name": this.spec.name,
        "label_dict": "",
        "visualdl_log": visualdl_file(this.output) if this.cfg.Train.visualdl else "",
        "train_log": "train.log",
        "config": "config.yaml",
        "models": models,
        "done_flag": is_finished(this, progress),
        "best_epoch": progress.best_epoch,
        "history": progress.history,
    }


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


def log_step(this: Run, progress: Progress, rate: float, losses: Mapping[str, float], clock: Clock) -> None:
    """The line of PaddleX about a step, and the same among the numbers of the run."""
    steps = this.steps_per_epoch
    images_per_second = progress.batch_size / clock.step_seconds
    if this.numbers is not None:
        this.numbers.step(
            epoch=progress.epoch + 1,
            step=progress.step,
            learning_rate=rate,
            losses=losses,
            data_seconds=clock.data_seconds,
            step_seconds=clock.step_seconds,
            images_per_second=images_per_second,
        )
    LOGGER.info(
        "Epoch: [%d] [%*d/%d] learning_rate: %.6f %s eta: %s batch_cost: %.4f data_cost: %.4f ips: %.4f "
        "images/s",
        progress.epoch,
        len(str(steps)),
        progress.epoch_step,
        steps,
        rate,
        " ".join(f"{name}: {value:.4f}" for name, value in losses.items()),
        clock.eta(this, progress),
        clock.step_seconds,
        clock.data_seconds,
        images_per_second,
    )


def _as_text(score: float | None) -> str:
    return "undefined" if score is None or score < 0 else f"{score:.3f}"
