"""Mode train: from annotated pictures to a checkpoint and an exported model.

Four calls from the command line to the loss: `cli.main`, `run`, `train_one_epoch`, ``model.loss``.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_seg.catalog import ModelSpec, find_model
from paddlex_seg.config import Config, load_config
from paddlex_seg.data.checks import check
from paddlex_seg.data.coco import dataset_paths
from paddlex_seg.data.dataset import TrainingSet
from paddlex_seg.data.loader import WorkerPool, epoch_plan, num_batches, train_batches
from paddlex_seg.engine.checkpoint import (
    ModelInfo,
    Progress,
    load_model,
    read_progress,
    replace_folder,
    save_checkpoint,
)
from paddlex_seg.engine.device import use_device
from paddlex_seg.engine.download import resolve_weights
from paddlex_seg.engine.ema import Ema
from paddlex_seg.engine.evaluate import describe_weights, predict_pictures, require_categories_of_model
from paddlex_seg.engine.export import export_model
from paddlex_seg.engine.log import format_seconds, log_file, progress_bar
from paddlex_seg.engine.optimizer import (
    Schedule,
    build_optimizer,
    build_schedule,
    load_optimizer_state,
    optimizer_state,
)
from paddlex_seg.engine.result_file import write_result
from paddlex_seg.engine.weights import load_into, read_weights
from paddlex_seg.errors import ConfigError, DatasetError, PaddlexSegError
from paddlex_seg.metrics.coco_ap import CocoMetrics, evaluate_coco
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.recipes import Recipe
from paddlex_seg.structures import Batch, CocoFile

LOGGER = logging.getLogger(__name__)
SCRATCH = "scratch"


@dataclass
class TrainState:
    """All that changes while a model trains."""

    model: InstanceSegmenter
    optimizer: paddle.optimizer.Optimizer
    ema: Ema | None
    progress: Progress = Progress()


@dataclass
class Clock:
    """What steps and evaluations have cost so far, and so what the rest will."""

    steps_left: int
    evaluations_left: int
    step_seconds: float = 0.0  # running mean
    data_seconds: float = 0.0  # of it, waiting for pictures
    evaluation_seconds: float | None = None

    def count_step(self, data_seconds: float, step_seconds: float) -> None:
        """Take one finished step into account."""
        weight = 0.1 if self.step_seconds else 1.0
        self.step_seconds += weight * (step_seconds - self.step_seconds)
        self.data_seconds += weight * (data_seconds - self.data_seconds)
        self.steps_left -= 1

    def count_evaluation(self, seconds: float) -> None:
        """Take one finished evaluation into account."""
        self.evaluation_seconds = seconds
        self.evaluations_left -= 1

    def eta(self) -> str:
        """Time to the end of the run, evaluations included; a lower bound until the first one is measured."""
        seconds = self.steps_left * self.step_seconds + self.evaluations_left * (
            self.evaluation_seconds or 0.0
        )
        return ("" if self.evaluation_seconds is not None else ">") + format_seconds(seconds)


def run(cfg: Config) -> dict[str, Any]:
    """Train ``Global.model`` on ``Global.dataset_dir`` and leave the results in ``Global.output``.

    Raises ConfigError, DatasetError or WeightsError before the first step where something is wrong.
    """
    output = Path(cfg.Global.output)
    with log_file(output / "train.log"):
        use_device(cfg.Global.device)
        spec = find_model(cfg.Global.model)
        recipe = recipe_of(cfg, spec)
        require_fitting_rate(cfg, recipe)
        image_size = recipe.input_size(cfg.Train.image_size)
        train, val, image_dir = read_data(cfg)
        (output / "config.yaml").write_text(cfg.to_yaml(), encoding="utf-8")
        paddle.seed(cfg.Train.seed)
        info = ModelInfo(spec.name, train.categories, image_size)
        require_same_run(cfg, spec, train)
        state = start_training(cfg, spec, num_classes=len(train.categories))
        dataset = TrainingSet(
            train,
            image_dir,
            recipe.policies,
            recipe.resizes(info.image_size),
            recipe.preprocess(info.image_size),
            seed=cfg.Train.seed,
        )
        try:
            with WorkerPool(cfg.Train.num_workers) as pool:
                train_epochs(
                    cfg, spec, state, dataset=dataset, val=val, image_dir=image_dir, info=info, pool=pool
                )
        except KeyboardInterrupt:
            LOGGER.warning(
                "Interrupted after %d finished epochs.%s", state.progress.epoch, _how_to_resume(output, state)
            )
            raise
        best = output / "best_model"
        model = load_model(spec, best / "best_model.pdparams", num_classes=len(info.categories))
        export_model(model, spec, info, best / "inference")
        LOGGER.info(
            "Best mask AP %s, of epoch %d: %s",
            _as_text(state.progress.best_score),
            state.progress.best_epoch,
            best,
        )
        return train_result(cfg, state)


def read_data(cfg: Config) -> tuple[CocoFile, CocoFile, Path]:
    """Train and val annotations and the folder of the pictures, checked so far that training can begin."""
    report = check(Path(cfg.Global.dataset_dir), "header")
    report.raise_for_errors()
    train, val = report.train, report.val
    if not any(not annotation.iscrowd for annotation in train.annotations):
        raise DatasetError(f"{train.path}: has no annotated object, so there is nothing to learn from.")
    if cfg.Train.num_classes not in (None, len(train.categories)):
        names = ", ".join(category.name for category in train.categories)
        raise ConfigError(
            f"Train.num_classes is {cfg.Train.num_classes}, but {train.path} lists {len(train.categories)} "
            f"categories ({names}). Set it to {len(train.categories)}, or leave it out."
        )
    LOGGER.info(
        "Training on %d pictures with %d objects of %d classes, evaluating on %d pictures with %d objects.",
        *(len(train.images), len(train.annotations), len(train.categories)),
        *(len(val.images), len(val.annotations)),
    )
    return train, val, dataset_paths(Path(cfg.Global.dataset_dir)).image_dir


def starts_from_scratch(cfg: Config) -> bool:
    """Whether the first weights are random. A resumed run keeps the answer of its beginning."""
    return cfg.Train.pretrain_weight_path == SCRATCH


def recipe_of(cfg: Config, spec: ModelSpec) -> Recipe:
    """The settings of the run: from random weights, training needs others than the official ones."""
    return spec.scratch_recipe if starts_from_scratch(cfg) else spec.recipe


def require_fitting_rate(cfg: Config, recipe: Recipe) -> None:
    """Raise ConfigError for a learning rate of another order than the recipe's optimizer can learn with."""
    usual, rate = recipe.usual_learning_rate, cfg.Train.learning_rate
    if usual is not None and rate > 10 * usual:
        raise ConfigError(
            f"Train.learning_rate: found {rate:g}, which is one for SGD and official weights. From random "
            f"weights {cfg.Global.model} is trained with {recipe.optimizer}; expected {10 * usual:g} at "
            f"most. Set -o Train.learning_rate={usual:g}."
        )


def start_training(cfg: Config, spec: ModelSpec, *, num_classes: int) -> TrainState:
    """The model with its first weights, optimizer and moving average, or as a checkpoint has them."""
    model = spec.build(num_classes=num_classes, from_scratch=starts_from_scratch(cfg))
    if cfg.Train.resume_path is None:
        load_first_weights(model, cfg.Train.pretrain_weight_path or spec.official_weights)
    recipe = recipe_of(cfg, spec)
    optimizer = build_optimizer(
        model,
        kind=recipe.optimizer,
        learning_rate=cfg.Train.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        clip_norm=recipe.clip_norm,
    )
    state = TrainState(model, optimizer, Ema(model, **asdict(recipe.ema)) if recipe.ema else None)
    if cfg.Train.resume_path is not None:
        weight_path = resolve_weights(cfg.Train.resume_path, config_key="Train.resume_path")
        resume(state, weight_path)
        bring_best_model(state, weight_path, Path(cfg.Global.output))
    return state


def load_first_weights(model: InstanceSegmenter, source: str) -> None:
    """Load what a training starts from; ``scratch`` leaves the random weights."""
    if source == SCRATCH:
        LOGGER.info("Training starts from random weights.")
        return
    path = resolve_weights(source, config_key="Train.pretrain_weight_path")
    report = load_into(model, read_weights(path), source=source)
    LOGGER.info("Training starts from %s. %s", source, report.message())


def resume(state: TrainState, weight_path: Path) -> None:
    """Continue where a checkpoint stands: weights, optimizer, moving average, epoch and best score."""
    state.progress = read_progress(weight_path)
    raw_path = weight_path.with_suffix(".pdema")
    weights = read_weights(raw_path if raw_path.is_file() else weight_path)
    load_into(state.model, weights, source=weight_path)
    saved = read_weights(weight_path.with_suffix(".pdopt"))
    load_optimizer_state(state.optimizer, state.model, _part(saved, "optimizer"))
    if state.ema is not None:
        state.ema.load_state_dict(_part(saved, "ema"))
    LOGGER.info("Continuing after epoch %d of %s.", state.progress.epoch, weight_path)


def require_same_run(cfg: Config, spec: ModelSpec, train: CocoFile) -> None:
    """Raise unless the checkpoint to resume, if any, is of this model, these categories and this recipe."""
    if cfg.Train.resume_path is None:
        return
    weight_path = resolve_weights(cfg.Train.resume_path, config_key="Train.resume_path")
    info = describe_weights(spec, weight_path, cfg, source=cfg.Train.resume_path)
    require_categories_of_model(weight_path, info, train)
    saved = weight_path.with_name("config.yaml")
    if saved.is_file() and starts_from_scratch(load_config(str(saved))) != starts_from_scratch(cfg):
        begun, now = ("with", "without") if not starts_from_scratch(cfg) else ("without", "with")
        raise ConfigError(
            f"{weight_path} is of a run that was begun {begun} Train.pretrain_weight_path={SCRATCH}, and is "
            f"resumed {now} it. The two have different optimizers; resume with the settings of the beginning."
        )


def bring_best_model(state: TrainState, weight_path: Path, output: Path) -> None:
    """Have the best model so far in the output folder, also when a run goes on in another one.

    Where it was not kept beside the checkpoint that is resumed, the next evaluated model counts as the best.
    """
    best, source = output / "best_model", weight_path.parent.parent / "best_model"
    if not source.is_dir():
        LOGGER.warning("%s is not there: the best model is looked for among the coming epochs.", source)
        state.progress = replace(state.progress, best_score=-1.0, best_epoch=0)
    elif source.resolve() != best.resolve():
        temporary = best.with_name(f".{best.name}.{os.getpid()}")
        shutil.copytree(source, temporary)
        replace_folder(temporary, best)


def train_epochs(
    cfg: Config,
    spec: ModelSpec,
    state: TrainState,
    *,
    dataset: TrainingSet,
    val: CocoFile,
    image_dir: Path,
    info: ModelInfo,
    pool: WorkerPool,
) -> None:
    """All epochs: train, evaluate when due and after the last, keep the best and the last."""
    epochs, interval = cfg.Train.epochs_iters, cfg.Train.eval_interval
    steps_per_epoch = num_batches(dataset.epoch_length, cfg.Train.batch_size)
    first, recipe = state.progress.epoch, recipe_of(cfg, spec)
    schedule = build_schedule(
        recipe.decay,
        base_lr=cfg.Train.learning_rate,
        run_steps=epochs * steps_per_epoch,
        warmup_steps=cfg.Train.warmup_steps,
        warmup_start_factor=recipe.warmup_start,
    )
    due = [epoch for epoch in range(first + 1, epochs + 1) if epoch % interval == 0 or epoch == epochs]
    clock = Clock(steps_left=(epochs - first) * steps_per_epoch, evaluations_left=len(due))
    write_result(Path(cfg.Global.output), "train", train_result(cfg, state))
    for epoch in range(first, epochs):
        seed_epoch(cfg.Train.seed, epoch)
        batches = (part.batch for part in train_batches(dataset, epoch, cfg.Train.batch_size, pool))
        losses = train_one_epoch(
            state,
            batches,
            schedule,
            clock,
            cfg=cfg,
            names=_picture_names(dataset, epoch, cfg.Train.batch_size),
        )
        state.progress = replace(state.progress, epoch=epoch + 1)
        if epoch + 1 in due:
            start = time.perf_counter()
            metrics = evaluate_now(cfg, spec, state, val=val, image_dir=image_dir, info=info, pool=pool)
            clock.count_evaluation(time.perf_counter() - start)
            keep(cfg, state, info, metrics=metrics, losses=losses)


def seed_epoch(seed: int, epoch: int) -> None:
    """Let what a network draws while it trains depend on these two only, so that resuming changes nothing."""
    (number,) = np.random.SeedSequence([seed, epoch]).generate_state(1)
    paddle.seed(int(number))


def train_one_epoch(
    state: TrainState,
    batches: Iterable[Batch],
    schedule: Schedule,
    clock: Clock,
    *,
    cfg: Config,
    names: Sequence[Sequence[str]],
) -> dict[str, float]:
    """One pass over the training pictures. Returns the mean of each loss.

    ``names`` are the pictures of each batch, for the error that names them. Raises PaddlexSegError when the
    loss is not finite.
    """
    state.model.train()
    epoch = state.progress.epoch
    sums: dict[str, float] = {}
    with progress_bar(f"epoch {epoch + 1}/{cfg.Train.epochs_iters}", total=len(names)) as advance:
        for number, (batch, data_seconds) in enumerate(_timed(batches), start=1):
            start = time.perf_counter()
            rate = schedule.lr_at_step(state.progress.step)
            losses = train_step(state, batch, rate, names[number - 1])
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            state.progress = replace(state.progress, step=state.progress.step + 1)
            clock.count_step(data_seconds, time.perf_counter() - start + data_seconds)
            advance(f"loss {losses['loss']:.3f} eta {clock.eta()}")
            if number % cfg.Train.log_interval == 0 or number == len(names):
                _log_step(epoch, number, len(names), rate, losses, clock, cfg.Train.batch_size)
    return {name: total / len(names) for name, total in sums.items()}


def train_step(state: TrainState, batch: Batch, rate: float, names: Sequence[str]) -> dict[str, float]:
    """Forward, backward, one step of the optimizer and of the moving average."""
    losses = state.model.loss(batch)
    values = {name: float(value) for name, value in losses.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise PaddlexSegError(
            f"The loss is not finite at step {state.progress.step + 1} (epoch {state.progress.epoch + 1}): "
            f"{values}. The pictures of this step are {', '.join(names)}. Look at their annotations, or "
            f"lower Train.learning_rate (now {rate:g})."
        )
    state.optimizer.set_lr(rate)
    losses["loss"].backward()
    state.optimizer.step()
    state.optimizer.clear_grad()
    if state.ema is not None:
        state.ema.update(state.model)
    return values


def evaluate_now(
    cfg: Config,
    spec: ModelSpec,
    state: TrainState,
    *,
    val: CocoFile,
    image_dir: Path,
    info: ModelInfo,
    pool: WorkerPool,
) -> CocoMetrics:
    """Metrics of the weights that a checkpoint would hold now."""
    preprocess = spec.recipe.preprocess(info.image_size)
    averaged = state.ema.applied(state.model) if state.ema else nullcontext()
    with averaged:
        results = predict_pictures(
            state.model,
            val,
            image_dir,
            preprocess,
            batch_size=cfg.Evaluate.batch_size,
            pool=pool,
            log_interval=cfg.Evaluate.log_interval,
        )
    return evaluate_coco(val, results, [category.id for category in info.categories])


def keep(
    cfg: Config,
    state: TrainState,
    info: ModelInfo,
    *,
    metrics: CocoMetrics,
    losses: Mapping[str, float],
) -> None:
    """After an evaluation: log it, save the last and perhaps the best checkpoint, rewrite the result file."""
    score = metrics.segm.AP
    epoch = state.progress.epoch
    best = state.progress.best_score
    # Of equal scores the later one counts: at the beginning all are 0.
    is_best = state.progress.best_epoch == 0 or (best < 0 if score is None else score >= best)
    if is_best:
        state.progress = replace(
            state.progress, best_score=score if score is not None else -1.0, best_epoch=epoch
        )
    row = {"epoch": epoch, "step": state.progress.step, **losses, "mask_ap": score, "box_ap": metrics.bbox.AP}
    state.progress = replace(state.progress, history=(*state.progress.history, row))
    for line in metrics.table().splitlines():
        LOGGER.info(line)
    LOGGER.info("Epoch %d: mask AP %s.", epoch, _as_text(score))
    LOGGER.info("Best test mask ap is %s.", _as_text(state.progress.best_score))
    output = Path(cfg.Global.output)
    for name in ("last_model", "best_model") if is_best else ("last_model",):
        _save(cfg, state, info, output / name, score)
    write_result(output, "train", train_result(cfg, state))


def train_result(cfg: Config, state: TrainState) -> dict[str, Any]:
    """What ``train_result.json`` says: the keys of PaddleX, and the history of the evaluations."""
    output = Path(cfg.Global.output)
    history = state.progress.history
    best = state.progress.best_score
    models: dict[str, dict[str, Any]] = {f"last_{number}": {} for number in range(1, 6)}
    # Before the first evaluation, checkpoints in the folder are of an earlier run.
    models["last_1"] = _model_entry(output, "last_model", history[-1]["mask_ap"]) if history else {}
    models["best"] = _model_entry(output, "best_model", best if best >= 0 else None) if history else {}
    return {
        "model_name": cfg.Global.model,
        "label_dict": "",
        "visualdl_log": "",
        "train_log": "train.log",
        "config": "config.yaml",
        "models": models,
        "done_flag": state.progress.epoch >= cfg.Train.epochs_iters,
        "best_epoch": state.progress.best_epoch,
        "history": history,
    }


def _save(cfg: Config, state: TrainState, info: ModelInfo, folder: Path, score: float | None) -> None:
    training_state = {
        f"optimizer/{name}": tensor for name, tensor in optimizer_state(state.optimizer, state.model).items()
    }
    if state.ema is not None:
        training_state |= {f"ema/{name}": tensor for name, tensor in state.ema.state_dict().items()}
    raw = state.model.state_dict()
    save_checkpoint(
        folder,
        weights=state.ema.weights(state.model) if state.ema else raw,
        raw_weights=raw if state.ema else None,
        training_state=training_state,
        progress=state.progress,
        score=score,
        info=info,
        config_yaml=cfg.to_yaml(),
    )


def _model_entry(output: Path, name: str, score: float | None) -> dict[str, Any]:
    """Score and files of a checkpoint, relative to the output folder; empty when it was not written yet."""
    if not (output / name).is_dir():
        return {}
    files = {suffix: f"{name}/{name}.{suffix}" for suffix in ("pdparams", "pdema", "pdopt", "pdstates")}
    inference = {
        "inference_config": f"{name}/inference/inference.yml",
        "pdmodel": f"{name}/inference/inference.json",
        "pdiparams": f"{name}/inference/inference.pdiparams",
    }
    present = {key: file for key, file in {**files, **inference}.items() if (output / file).is_file()}
    return {"score": score, **present}


def _part(saved: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in saved.items()
        if name.startswith(f"{prefix}/")
    }


def _picture_names(dataset: TrainingSet, epoch: int, batch_size: int) -> list[list[str]]:
    plan = epoch_plan(dataset.draws(epoch), batch_size)
    return [[dataset.file_name(draw.picture) for draw in draws] for draws in plan]


def _timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    start = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - start
        start = time.perf_counter()


def _log_step(
    epoch: int,
    number: int,
    steps: int,
    rate: float,
    losses: Mapping[str, float],
    clock: Clock,
    batch_size: int,
) -> None:
    LOGGER.info(
        "Epoch: [%d] [%*d/%d] learning_rate: %.6f %s eta: %s batch_cost: %.4f data_cost: %.4f ips: %.4f "
        "images/s",
        epoch,
        len(str(steps)),
        number,
        steps,
        rate,
        " ".join(f"{name}: {value:.4f}" for name, value in losses.items()),
        clock.eta(),
        clock.step_seconds,
        clock.data_seconds,
        batch_size / clock.step_seconds,
    )


def _how_to_resume(output: Path, state: TrainState) -> str:
    last = output / "last_model" / "last_model.pdparams"
    # Without history, the checkpoint in the folder is of an earlier run.
    return f" To continue: -o Train.resume_path={last}" if state.progress.history and last.is_file() else ""


def _as_text(score: float | None) -> str:
    return "undefined" if score is None or score < 0 else f"{score:.3f}"
