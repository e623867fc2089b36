"""The training loop: the steps of an epoch, then evaluation and checkpoints.

From the command line to the loss: `cli.main`, `modes.train.run`, `train_one_epoch`, `step.train_step`,
`step.forward_backward`, `model.loss`.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace

from paddlex_seg.checkpoints.files import newest_sound_checkpoint
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.predict import predict_dataset
from paddlex_seg.metrics.coco_ap import CocoMetrics, evaluate_coco
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.ops.processes import take_from_first_process
from paddlex_seg.runtime.log import progress_bar
from paddlex_seg.training.guards import answer_refused_step, go_back_unless_finite
from paddlex_seg.training.output import going_on, save_now, score_text, write_page, write_train_result
from paddlex_seg.training.resume import is_saved
from paddlex_seg.training.run import EVALUATION_SHARE, Clock, Run, epoch_batches
from paddlex_seg.training.schedule import write_schedule
from paddlex_seg.training.step import TrainState, not_finite_parts, running_statistics, train_step

LOGGER = logging.getLogger(__name__)
HOW_TO_CONTINUE = "To continue, run the same command with -o Train.resume=auto"


def say_when_nothing_is_left(run: Run, progress: Progress) -> None:
    """Log that a resumed run has no epoch to train, and which setting would give it one."""
    if not run.is_finished(progress):
        return
    if progress.epoch < run.num_epochs(progress):
        setting = f"set Train.early_stop higher than {run.cfg.Train.early_stop}, or to null"
    elif progress.run_epochs:
        setting = f"set Train.time_budget higher than the {progress.seconds / 60:.1f} minutes of this run"
    else:
        setting = f"set Train.epochs_iters higher than {progress.epoch}"
    LOGGER.info("All %d epochs are done; nothing is left to train. To train on, %s.", progress.epoch, setting)


def train_one_epoch(run: Run, state: TrainState, clock: Clock, pool: WorkerPool) -> None:
    """Train the remaining steps of an epoch.

    Raises PaddlexSegError when too many steps gave numbers that are not finite, and KeyboardInterrupt when
    the run is told to stop.
    """
    state.model.train()
    cfg, steps = run.cfg, run.steps_per_epoch
    schedule = run.schedule(state.progress)
    run.ranks.barrier()  # an evaluation or a checkpoint may have taken one rank longer
    pixels = run.input_pixels(state.progress, state.progress.epoch)
    title = f"epoch {state.progress.epoch + 1}/{run.num_epochs(state.progress)}"
    with (
        closing(epoch_batches(run, run.training_set(state.progress), state.progress, pool)) as batches,
        progress_bar(title, total=steps) as advance,
    ):
        advance(steps=state.progress.epoch_step)
        while state.progress.epoch_step < steps:
            if run.ranks.any_of(run.stop.requested):
                raise KeyboardInterrupt
            start = time.perf_counter()
            with run.stop.interruptible():
                batch = next(batches)
            data_seconds = time.perf_counter() - start
            rate = schedule.lr_at_step(state.progress.epoch * steps + state.progress.epoch_step)
            result = train_step(state, batch, rate, seed=cfg.Train.seed, ranks=run.ranks, stop=run.stop)
            clock.count_step(data_seconds, time.perf_counter() - start, pixels)
            if result.problem is not None:
                answer_refused_step(run, state, result)
            progress = state.progress
            advance(f"loss {result.losses['loss']:.3f} eta {clock.eta(run, progress)}")
            if progress.epoch_step % cfg.Train.log_interval == 0 or progress.epoch_step == steps:
                log_step(run, progress, rate, result.losses, clock)
            if progress.epoch_step < steps and save_when_due(run, state, clock):
                run.ranks.barrier()


def end_epoch(run: Run, state: TrainState, clock: Clock, pool: WorkerPool) -> None:
    """After the last step of an epoch: evaluate if due, save the last checkpoint and update the best one."""
    progress = state.progress
    run.quarantine.merge(bad for found in run.ranks.gather(run.quarantine.records) for bad in found)
    plan_by_time(run, state, clock)
    if run.is_due(progress.epoch + 1, state.progress):
        go_back_unless_finite(run, state)
        start = time.perf_counter()
        metrics = evaluate_now(run, state, pool)
        clock.count_evaluation(time.perf_counter() - start)
        plan_evaluations(run, state, clock)
        finish_epoch(run, state, clock, metrics)
    else:
        state.progress = after_epoch(state.progress)
        save_when_due(run, state, clock)


def plan_by_time(run: Run, state: TrainState, clock: Clock) -> None:
    """After each epoch, check whether the planned number of epochs fits in the time budget, or plan anew."""
    if run.cfg.Train.time_budget is None:
        return
    state.progress = replace(state.progress, seconds=state.progress.seconds + clock.passed())
    run_epochs = run.ranks.gather(clock.epochs_that_fit(run, state.progress))[0]
    if run_epochs == state.progress.run_epochs:
        return
    state.progress = run.planned(state.progress, run_epochs)
    LOGGER.info("%d epochs fit in the time budget of %g minutes.", run_epochs, run.cfg.Train.time_budget)
    if run.page is not None:
        run.page.schedule = run.schedule_report(state.progress)
        with going_on("schedule"):
            write_schedule(run.output, run.page.schedule)


def plan_evaluations(run: Run, state: TrainState, clock: Clock) -> None:
    """After each evaluation, choose when to evaluate next, unless the user has."""
    if run.cfg.Train.eval_interval is not None:
        return
    interval, seconds, share = run.ranks.gather(clock.fitting_interval(run, state.progress))[0]
    if interval == state.progress.eval_interval:
        return
    state.progress = replace(state.progress, eval_interval=interval)
    LOGGER.info(
        "An evaluation takes %.1f s, %.0f %% of an epoch. The model is evaluated every %d epochs now, so "
        "that evaluations take at most %d %% of the time of training. Train.eval_interval sets another "
        "number.",
        seconds,
        100 * share,
        interval,
        100 * EVALUATION_SHARE,
    )


def evaluate_now(run: Run, state: TrainState, pool: WorkerPool) -> CocoMetrics:
    """Evaluate the current weights: the moving average (EMA) if there is one."""
    cfg = run.cfg
    averaged = state.ema.applied(state.model) if state.ema else nullcontext()
    with averaged:
        if not cfg.Train.sync_bn:
            run.ranks.barrier()
            take_from_first_process(running_statistics(state.model))
        results = predict_dataset(
            NetworkBackend(state.model, run.info.preprocess),
            run.val,
            run.image_dir,
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
            ranks=run.ranks,
            stop=run.stop,
        )
    return evaluate_coco(run.val, results, [category.id for category in run.info.categories])


def after_epoch(progress: Progress) -> Progress:
    """The progress at the start of the next epoch."""
    return replace(progress, epoch=progress.epoch + 1, epoch_step=0, loss_sums={}, loss_steps=0.0)


def finish_epoch(run: Run, state: TrainState, clock: Clock, metrics: CocoMetrics) -> None:
    """After an evaluation: log it, save a checkpoint, update the best model, rewrite the result file."""
    score, epoch = metrics.segm.AP, state.progress.epoch + 1
    losses = state.progress.mean_losses
    row = {"epoch": epoch, "step": state.progress.step, **losses, "mask_ap": score, "box_ap": metrics.bbox.AP}
    best = state.progress.best_score
    # When scores are equal, the later epoch is the best: at the beginning all scores are 0.
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
    LOGGER.info("Epoch %d: mask AP %s.", epoch, score_text(score))
    LOGGER.info("Best test mask ap is %s.", score_text(state.progress.best_score))
    if run.numbers is not None and run.page is not None:
        scores = {"mask_ap": score, "mask_ap50": metrics.segm.AP50, "mask_ap75": metrics.segm.AP75}
        scores |= {"box_ap": metrics.bbox.AP, "box_ap50": metrics.bbox.AP50}
        run.numbers.evaluation(epoch=epoch, step=state.progress.step, losses=losses, **scores)
        write_page(run.page, if_due=True)
    save_now(run, state, clock, score=score, is_best=is_best)
    write_train_result(run, state)


def save_when_due(run: Run, state: TrainState, clock: Clock) -> bool:
    """Save a checkpoint if ``Train.save_interval`` requires one. Return whether one was saved."""
    interval = run.cfg.Train.save_interval
    if interval is None or state.progress.step % interval:
        return False
    go_back_unless_finite(run, state)
    save_now(run, state, clock)
    return True


def save_before_leaving(run: Run, state: TrainState, clock: Clock) -> str:
    """Save a checkpoint of the current step. Return a message that says how to continue."""
    if state.progress.step == 0:
        return "interrupted before the first step; there is nothing to save"
    if not is_saved(state, run.output):
        go_back_unless_finite(run, state)
        save_now(run, state, clock)
        write_train_result(run, state)
    run.ranks.barrier()
    return f"interrupted after step {state.progress.step}; a checkpoint is saved. {HOW_TO_CONTINUE}"


def save_after_failure(run: Run, state: TrainState, clock: Clock) -> str:
    """Save a checkpoint of the current step when the state is whole. Return a message for the error.

    Other ranks are not asked: they may not be able to answer. So only the main rank can save, after a failure
    of its own.
    """
    step = state.progress.step
    if step == 0:
        return ""
    why_not = "only the first process saves checkpoints"
    if run.ranks.is_main:
        try:
            if is_saved(state, run.output):
                return f"The checkpoint of step {step} is saved. {HOW_TO_CONTINUE}."
            if state.is_whole and not not_finite_parts(state):
                save_now(run, state, clock)
                write_train_result(run, state)
                return f"A checkpoint of step {step} is saved. {HOW_TO_CONTINUE}."
            why_not = "it is not whole"
        except Exception as problem:
            why_not = f"it could not be saved ({problem})"
    last = newest_sound_checkpoint(run.output)
    return f"The state after step {step} is lost, because {why_not}. " + (
        f"The last checkpoint is {last}. {HOW_TO_CONTINUE}." if last else "There is no checkpoint."
    )


def log_step(run: Run, progress: Progress, rate: float, losses: Mapping[str, float], clock: Clock) -> None:
    """Log a step in PaddleX's format, and record the same numbers in the metrics log."""
    steps = run.steps_per_epoch
    images_per_second = progress.batch_size / clock.step_seconds
    if run.numbers is not None:
        run.numbers.step(
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
        clock.eta(run, progress),
        clock.step_seconds,
        clock.data_seconds,
        images_per_second,
    )
