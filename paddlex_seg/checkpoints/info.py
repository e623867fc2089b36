"""The description of weights: model, categories, input size, bands, preprocessing, recipe, data, versions.

It is stored twice: in the weight file itself, so that a copied file still says what it is, and as readable
``.info.json`` beside it. PaddleX's loaders ignore both.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import paddle

from paddlex_seg import __version__
from paddlex_seg.catalog import MODELS, find_model
from paddlex_seg.checkpoints.weights import read_description
from paddlex_seg.data.bands import bands_from_json
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.json import write_json
from paddlex_seg.structures import Bands, Category, PreprocessSpec

RecipeName = Literal["official", "scratch"]  # see recipes.py


@dataclass(frozen=True)
class ModelInfo:
    """The description of a weight file: enough to evaluate, export and fine-tune it without settings."""

    model_name: str
    categories: tuple[Category, ...]  # in the order of the class indices
    image_size: tuple[int, int]  # as in recipes.ImageSize
    recipe: RecipeName | None = "official"  # that the weights were trained with; None: an earlier version
    own_preprocess: PreprocessSpec | None = None  # only if it is not that of the model in this version
    data: Mapping[str, Any] = field(default_factory=dict, compare=False)  # of `describe_annotations`
    bands: Bands | None = None  # that images are read with

    @property
    def preprocess(self) -> PreprocessSpec:
        """How an image is converted to the network input."""
        spec = self.own_preprocess or find_model(self.model_name).recipe.preprocess(self.image_size)
        return replace(spec, bands=self.bands)


def info_to_json(info: ModelInfo, *, score: float | None, epoch: int) -> dict[str, Any]:
    """The description as JSON values, for the weight file and for ``.info.json``.

    score: mask AP of the weights, 0..1, None when they were not evaluated; epoch: number of finished epochs.
    """
    return {
        "metric": score,
        "epoch": epoch,
        "model_name": info.model_name,
        "categories": [{"id": category.id, "name": category.name} for category in info.categories],
        "image_size": list(info.image_size),
        "preprocess": preprocess_to_json(info.preprocess),
        "recipe": info.recipe,
        "data": info.data,
        "paddlex_seg_version": __version__,
        "paddle_version": paddle.__version__,
    }


def preprocess_to_json(spec: PreprocessSpec) -> dict[str, Any]:
    """The preprocessing as JSON values. Without bands as earlier versions wrote it, so that they can read it;
    with bands they must refuse it.
    """
    values = asdict(spec)
    if spec.bands is None:
        del values["bands"]
    return values


def write_info(weight_path: Path, description: Mapping[str, Any]) -> None:
    """Write ``.info.json`` beside a weight file, with the checksum of that file."""
    write_json(
        weight_path.with_suffix(".info.json"), {**description, "weights_sha256": sha256_of(weight_path)}
    )


def describe_model(weight_path: Path, info: ModelInfo) -> dict[str, Any]:
    """What a result was made with, for result files: model, weights, input size and preprocessing."""
    return {
        "model": info.model_name,
        "weights": {"path": str(weight_path), "sha256": sha256_of(weight_path)},
        "num_classes": len(info.categories),
        "recipe": info.recipe,
        "input_size": list(info.image_size),
        "preprocess": preprocess_to_json(info.preprocess),
    }


def read_info(weight_path: Path) -> ModelInfo | None:
    """The description of a weight file, from the file itself or from the ``.info.json`` beside it.

    None when there is neither. Raises WeightsError when a description cannot be read, and when ``.info.json``
    belongs to another weight file.
    """
    if weight_path.suffix in (".pdopt", ".pdstates"):
        raise WeightsError(
            f"{weight_path} holds the state of a training, not weights. Give "
            f"{weight_path.with_suffix('.pdparams').name} beside it."
        )
    path = weight_path.with_suffix(".info.json")
    beside = _read_json(path) if path.is_file() else None
    expected = None if beside is None else beside.get("weights_sha256")
    if beside is not None and expected is not None and expected == sha256_of(weight_path):
        return _to_info(beside, path)
    inside = read_description(weight_path)
    if inside is not None:
        return _to_info(inside, weight_path)
    if beside is None or "model_name" not in beside:  # PaddleX writes only score and epoch
        return None
    if expected is not None:
        raise WeightsError(
            f"{path} describes another weight file: its weights_sha256 is not that of {weight_path.name}. "
            f"Put back the weights that it was written with, or move {path.name} to another folder."
        )
    return _to_info(beside, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise TypeError(f"found {type(data).__name__}")
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    return data


def _to_info(data: Mapping[str, Any], path: Path) -> ModelInfo:
    """The description read from ``path``. Earlier versions wrote neither recipe, preprocess nor data."""
    try:
        height, width = data["image_size"]
        preprocess = _to_preprocess(data.get("preprocess"))
        info = ModelInfo(
            model_name=data["model_name"],
            categories=tuple(Category(id=item["id"], name=item["name"]) for item in data["categories"]),
            image_size=(int(height), int(width)),
            recipe=data.get("recipe"),
            own_preprocess=preprocess and replace(preprocess, bands=None),
            data=data.get("data", {}),
            bands=preprocess.bands if preprocess is not None else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error
    spec = MODELS.get(info.model_name)
    if spec is not None and info.own_preprocess == spec.recipe.preprocess(info.image_size):
        return ModelInfo(**{**vars(info), "own_preprocess": None})
    return info


def _to_preprocess(data: Mapping[str, Any] | None) -> PreprocessSpec | None:
    if data is None:
        return None
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
    }
    return PreprocessSpec(**{**values, "bands": bands_from_json(values.get("bands"))})


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path}: expected model_name, categories and image_size as training writes them, but reading failed "
        f"({type(error).__name__}: {error}). Restore the file, or move it to another folder and state what "
        "the weights are with Global.model, Global.dataset_dir and Train.image_size."
    )
