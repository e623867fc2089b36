"""Checkpoints: folders that explain themselves, published by one rename.

``best_model/`` holds ``best_model.pdparams`` (the weights to use: the moving average where there is one),
``.pdema`` (then the raw weights; PaddleX names them so), ``.pdopt``, ``.pdstates`` (JSON: epoch, step, best
score), ``.info.json`` (what the weights are: model, categories, input size, versions, score) and
``config.yaml``.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import paddle

from paddlex_seg import __version__
from paddlex_seg.catalog import ModelSpec
from paddlex_seg.engine.result_file import write_json
from paddlex_seg.engine.weights import load_into, read_weights, write_weights
from paddlex_seg.errors import WeightsError
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import Category


@dataclass(frozen=True)
class ModelInfo:
    """What a weight file is: enough to evaluate and export it without asking the user."""

    model_name: str
    categories: tuple[Category, ...]  # in the order of the class indices
    image_size: tuple[int, int]  # as in recipes.ImageSize


@dataclass(frozen=True)
class Progress:
    """How far a training run is."""

    epoch: int = 0  # epochs finished
    step: int = 0  # optimizer steps done
    best_score: float = -1.0  # highest mask AP so far
    best_epoch: int = 0
    history: tuple[Mapping[str, Any], ...] = ()  # a row for each evaluation: epoch, step, mean losses, AP


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
    """Write a checkpoint folder, whose files carry its name; replaces an older one only when complete."""
    stem = folder.name
    temporary = folder.with_name(f".{stem}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write_weights(weights, temporary / f"{stem}.pdparams")
        if raw_weights is not None:
            write_weights(raw_weights, temporary / f"{stem}.pdema")
        write_weights(training_state, temporary / f"{stem}.pdopt")
        write_json(temporary / f"{stem}.pdstates", asdict(progress))
        write_json(
            temporary / f"{stem}.info.json", {"metric": score, "epoch": progress.epoch, **info_to_json(info)}
        )
        (temporary / "config.yaml").write_text(config_yaml, encoding="utf-8")
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; the old one goes only after the new one is there."""
    old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


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
            f"new run from these weights, set Train.pretrain_weight_path instead of Train.resume_path."
        ) from error
