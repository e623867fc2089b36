"""What a run continues: the recipe of its weights, and what a resumed run may change."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.identity import is_official, require_categories_of_model
from paddlex_seg.checkpoints.info import ModelInfo, RecipeName, read_info
from paddlex_seg.checkpoints.progress import read_progress
from paddlex_seg.checkpoints.weights import check_weights
from paddlex_seg.config.read import load_config
from paddlex_seg.config.schema import SCRATCH, Config
from paddlex_seg.data.bands import describe_bands
from paddlex_seg.errors import ConfigError, WeightsError
from paddlex_seg.files.weights_cache import resolve_weights
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import CocoFile

LOGGER = logging.getLogger(__name__)
FIXED = {"Train.freeze"}
# Settings without an influence on what is learned.
UNSAID = {
    f"Train.{name}"
    for name in (
        *("resume", "resume_path", "num_classes", "self_check", "log_interval", "num_workers"),
        *("save_interval", "keep_last", "tensorboard", "visualdl"),
    )
}


def first_source(cfg: Config, spec: ModelSpec) -> str:
    """Path or URL of the initial weights."""
    return cfg.Train.pretrain_weight_path or spec.official_weights


def recipe_of_run(cfg: Config, spec: ModelSpec, checkpoint: Path | None) -> RecipeName:
    """The recipe to train with: that of the checkpoint, or that of the initial weights.

    Weights that were trained from random weights have other mask targets and another loss than official
    weights, so they are fine-tuned with the recipe that they were trained with. Raises ConfigError when a
    resumed run is told to start from random weights, or no longer to.
    """
    if checkpoint is not None:
        recipe = _recipe_of_weights(checkpoint)
        saved = saved_config(checkpoint)
        if saved is not None and saved.Train.from_scratch != cfg.Train.from_scratch:
            begun, now = ("with", "without") if saved.Train.from_scratch else ("without", "with")
            raise ConfigError(
                f"{checkpoint} is from a run started {begun} Train.pretrain_weight_path={SCRATCH}, but this "
                f"run is {now} it. The two use different optimizers. Resume with the setting of the first "
                "run."
            )
        return recipe
    source = first_source(cfg, spec)
    if cfg.Train.from_scratch or is_official(spec, source):
        return "scratch" if cfg.Train.from_scratch else "official"
    path = resolve_weights(
        source, config_key="Train.pretrain_weight_path", network=network(), verify=check_weights
    )
    recipe = _recipe_of_weights(path, spec.name)
    if recipe == "scratch":
        LOGGER.info(
            "%s was trained from random weights. Its recipe is used again: mask targets, loss and optimizer "
            "(%s) are those of that training.",
            *(source, spec.scratch_recipe.optimizer),
        )
    return recipe


def require_same_run(checkpoint: Path, info: ModelInfo, train: CocoFile) -> None:
    """Raise unless a checkpoint has the model, categories, input size and bands of this run."""
    read_progress(checkpoint)  # raises for weights without the state of a run
    saved = read_info(checkpoint)
    if saved is None:
        raise WeightsError(
            f"{checkpoint} does not say what it is, so a run cannot be resumed from it. To start a new run "
            f"from these weights, set Train.pretrain_weight_path={checkpoint} instead of Train.resume."
        )
    if saved.model_name != info.model_name:
        raise WeightsError(
            f"{checkpoint} holds weights of {saved.model_name}, but Global.model is {info.model_name}. Set "
            f"Global.model={saved.model_name}, or use other weights."
        )
    require_categories_of_model(checkpoint, saved, train)
    if saved.image_size != info.image_size:
        height, width = saved.image_size
        raise ConfigError(
            f"Train.image_size: this run has inputs of {list(info.image_size)}, but {checkpoint} was trained "
            f"at {list(saved.image_size)}. Its scores could not be compared with new ones. Set "
            f"-o 'Train.image_size=[{height},{width}]', or start a new run with "
            f"Train.pretrain_weight_path={checkpoint}."
        )
    if saved.bands != info.bands:
        raise ConfigError(
            f"Global.bands: this run has {describe_bands(info.bands)}, but {checkpoint} was trained with "
            f"{describe_bands(saved.bands)}. Its images would look different. Set Global.bands, or "
            f"bands.yaml in the data set, as before, or start a new run with "
            f"Train.pretrain_weight_path={checkpoint}."
        )


def announce_changes(checkpoint: Path, cfg: Config, info: ModelInfo) -> None:
    """Log the settings and data that have changed since a checkpoint was written.

    Raises ConfigError for a setting that decides which state a checkpoint holds.
    """
    saved = saved_config(checkpoint)
    before, now = ({} if one is None else dict(_settings(one)) for one in (saved, cfg))
    for key in sorted(before.keys() & now.keys() - UNSAID):
        if before[key] == now[key] or now[key] == "auto":
            continue
        if key in FIXED:
            raise ConfigError(
                f"{key}: found {now[key]}, but the run of {checkpoint} has {before[key]}, and its optimizer "
                f"state is for that. Set it as before, or start a new run with "
                f"Train.pretrain_weight_path={checkpoint}."
            )
        LOGGER.warning("Changed since the checkpoint: %s was %s, is %s.", key, before[key], now[key])
    described = read_info(checkpoint)
    for split in ("train", "val"):
        old, new = ((one.data if one else {}).get(split) for one in (described, info))
        if old and new and old["sha256"] != new["sha256"]:
            LOGGER.warning(
                "Changed since the checkpoint: the %s annotations had %d images and %d objects, have %d, %d.",
                *(split, old["images"], old["objects"], new["images"], new["objects"]),
            )


def saved_config(weight_path: Path) -> Config | None:
    """The configuration beside the weights of a checkpoint; None if this version cannot read it."""
    path = weight_path.with_name("config.yaml")
    try:
        return load_config(str(path)) if path.is_file() else None
    except ConfigError:  # of an earlier version, or of PaddleX
        return None


def _recipe_of_weights(weight_path: Path, model_name: str | None = None) -> RecipeName:
    """The recipe that weights were trained with. Weights of another model count as official."""
    info = read_info(weight_path)
    if info is not None and model_name not in (None, info.model_name):
        return "official"
    if info is not None and info.recipe is not None:
        return info.recipe
    saved = saved_config(weight_path)  # beside checkpoints of earlier versions
    return "scratch" if saved is not None and saved.Train.from_scratch else "official"


def _settings(cfg: Config) -> Iterator[tuple[str, Any]]:
    """The settings that can change what a training does, by key."""
    yield "Global.dataset_dir", cfg.Global.dataset_dir
    values = cfg.Train.model_dump(mode="json")
    yield from ((f"Train.augment.{name}", value) for name, value in values.pop("augment").items())
    yield from ((f"Train.{name}", value) for name, value in values.items())
