"""Find a weight file, find out what its weights are, and check whether they fit the data set."""

import json
import logging
from dataclasses import replace
from pathlib import Path

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.info import ModelInfo, read_info
from paddlex_seg.checkpoints.weights import check_weights
from paddlex_seg.data.bands import describe_bands
from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.addresses import file_name, scheme_of
from paddlex_seg.files.run_folder import BEST, DEFAULT_OUTPUT, best_of_run
from paddlex_seg.files.weights_cache import resolve_weights
from paddlex_seg.recipes import ImageSize
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import Bands, CocoFile

LOGGER = logging.getLogger(__name__)


def find_weights(value: str | None, *, key: str, output: Path) -> Path:
    """The weight file that the setting ``key`` names by a path or a URL. None: see `best_of_run`.

    In a configuration of PaddleX, ``output/best_model/...`` means the best model of the run in ``output``
    where that file does not exist. Raises WeightsError when there is no such file. The message names the best
    model of the run in ``output``, if there is one.
    """
    best, default = (folder / BEST / f"{BEST}.pdparams" for folder in (output, DEFAULT_OUTPUT))
    if value is None or (Path(value) == default and not default.exists() and best.is_file()):
        value = str(best_of_run(output, best.name, key=key))
        LOGGER.info("%s: %s is used.", key, value)
    try:
        return resolve_weights(value, config_key=key, network=network(), verify=check_weights)
    except WeightsError as error:
        if best.is_file() and Path(value) != best:
            raise WeightsError(
                f"{error} To use the best model of Global.output, set {key}={best}."
            ) from error
        raise


def describe_weights(
    spec: ModelSpec,
    weight_path: Path,
    *,
    source: str | None,
    dataset_dir: Path,
    image_size: int | ImageSize | None,
    bands: Bands | None = None,
) -> ModelInfo:
    """What the weights in a file are: model, categories, input size, bands, preprocessing, recipe.

    Weights of this toolkit say it. Official weights, recognised by their URL or file name ``source``, have
    the categories of COCO. Weights of another toolkit say nothing: ``image_size`` (as for
    `Recipe.input_size`) must then be given, and the categories are those of the data set in ``dataset_dir``.
    Images are read with ``bands`` only for weights that do not say with which bands they were trained.
    Raises WeightsError when nothing is known, and when the weights are of another model.
    """
    info = read_info(weight_path)
    if info is None:
        if is_official(spec, source):
            return ModelInfo(spec.name, COCO_CATEGORIES, spec.recipe.input_size(image_size), bands=bands)
        return replace(_described_by_settings(spec, weight_path, dataset_dir, image_size), bands=bands)
    if info.model_name != spec.name:
        raise WeightsError(
            f"{weight_path} holds weights of {info.model_name}, but Global.model is {spec.name}. Set "
            f"Global.model={info.model_name}, or use other weights."
        )
    if image_size is not None and spec.recipe.input_size(image_size) != info.image_size:
        LOGGER.warning(
            "Train.image_size=%s is not used: %s was trained at %s, and is used at that size.",
            *(image_size, weight_path, list(info.image_size)),
        )
    if bands is None and info.bands is not None:
        LOGGER.info("Images are read as for the training of %s: %s.", weight_path, info.bands)
    elif bands != info.bands:
        LOGGER.warning(
            "Global.bands (%s) is not used: %s was trained with %s, and is used so.",
            *(bands, weight_path, describe_bands(info.bands)),
        )
    return info


def is_official(spec: ModelSpec, source: str | None) -> bool:
    """Whether a path or a URL names the official weights of a model."""
    text = source or ""
    name = text.replace("\\", "/").rpartition("/")[2] if scheme_of(text) is None else file_name(text)
    return name == file_name(spec.official_weights)


def require_categories_of_model(weight_path: Path, info: ModelInfo, coco: CocoFile) -> None:
    """Raise DatasetError unless ``coco`` lists the categories of the model, in the same order."""
    same_categories(CocoFile(path=weight_path, images=(), annotations=(), categories=info.categories), coco)


def _described_by_settings(
    spec: ModelSpec, weight_path: Path, dataset_dir: Path, image_size: int | ImageSize | None
) -> ModelInfo:
    """The description that the user gives of weights that have none."""
    if image_size is None:
        example = {
            "model_name": spec.name,
            "categories": [{"id": 1, "name": "..."}],
            "image_size": list(spec.recipe.image_size),
        }
        raise WeightsError(
            f"{weight_path} does not say what it is: found neither a description in the file nor "
            f"{weight_path.with_suffix('.info.json').name} beside it. Expected class names and input size. "
            f"With wrong ones, results are wrong without an error. Copy the .info.json of the training to "
            f"this place, or write it ({json.dumps(example)}), or set Train.image_size to the input size of "
            f"its training (officially {list(spec.recipe.image_size)}) and Global.dataset_dir to its data."
        )
    path = dataset_paths(dataset_dir).train_json
    categories = read_coco(path).categories
    LOGGER.warning(
        "%s does not say what it is. As set, it is taken as %s at Train.image_size=%s with the classes of "
        "%s: %s.",
        *(weight_path, spec.name, image_size, path, ", ".join(category.name for category in categories)),
    )
    return ModelInfo(spec.name, categories, spec.recipe.input_size(image_size), recipe=None)
