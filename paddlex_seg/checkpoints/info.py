"""The description of weights (model, categories, input size) in the ``.info.json`` beside a weight file."""

import json
from dataclasses import dataclass
from pathlib import Path

import paddle

from paddlex_seg import __version__
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.json import write_json
from paddlex_seg.structures import Category


@dataclass(frozen=True)
class ModelInfo:
    """The description of a weight file: enough to evaluate and export it without further settings."""

    model_name: str
    categories: tuple[Category, ...]  # in the order of the class indices
    image_size: tuple[int, int]  # as in recipes.ImageSize


def write_info(weight_path: Path, info: ModelInfo, *, score: float | None, epoch: int) -> None:
    """Write ``.info.json`` beside a weight file.

    score: mask AP of the weights, 0..1, None when they were not evaluated; epoch: number of finished epochs.
    """
    content = {
        "metric": score,
        "epoch": epoch,
        "model_name": info.model_name,
        "categories": [{"id": category.id, "name": category.name} for category in info.categories],
        "image_size": list(info.image_size),
        "paddlex_seg_version": __version__,
        "paddle_version": paddle.__version__,
    }
    write_json(weight_path.with_suffix(".info.json"), content)


def read_info(weight_path: Path) -> ModelInfo | None:
    """The description in the ``.info.json`` beside a weight file; None when there is none.

    Raises WeightsError when the description exists but cannot be read.
    """
    path = weight_path.with_suffix(".info.json")
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "model_name" not in data:  # from PaddleX: only score and epoch
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
            f"failed ({type(error).__name__}: {error}). Restore the file, or move it to another folder to "
            f"use the categories of the data set."
        ) from error
