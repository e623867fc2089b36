"""Find a weight file, describe its weights, and check whether they fit the data set."""

from pathlib import Path

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.files import BEST
from paddlex_seg.checkpoints.info import ModelInfo, read_info
from paddlex_seg.checkpoints.weights import check_weights
from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.weights_cache import resolve_weights
from paddlex_seg.recipes import ImageSize
from paddlex_seg.runtime.network import expand_home, network
from paddlex_seg.structures import CocoFile


def find_weights(value: str, *, key: str, output: Path) -> Path:
    """The weight file that the setting ``key`` names by a path or a URL.

    Raises WeightsError when there is none. The message names the best model of the run in ``output``, if
    there is one.
    """
    try:
        return resolve_weights(expand_home(value), config_key=key, network=network(), verify=check_weights)
    except WeightsError as error:
        best = output / BEST / f"{BEST}.pdparams"
        if best.is_file() and Path(value) != best:
            raise WeightsError(
                f"{error} To use the best model of Global.output, set {key}={best}."
            ) from error
        raise


def describe_weights(
    spec: ModelSpec,
    weight_path: Path,
    *,
    source: str,
    dataset_dir: Path,
    image_size: int | ImageSize | None,
) -> ModelInfo:
    """Model, categories and input size of a weight file, from the ``.info.json`` beside it.

    Without that file, the model is ``spec``. The categories are then those of COCO if ``source`` is the URL
    of the official weights, else those of the data set in ``dataset_dir``, and the input size is
    ``image_size`` (as for `Recipe.input_size`). Raises WeightsError when the weights are of another model.
    """
    info = read_info(weight_path)
    if info is None:
        if source == spec.official_weights:
            categories = COCO_CATEGORIES
        else:
            categories = read_coco(dataset_paths(dataset_dir).train_json).categories
        return ModelInfo(spec.name, categories, spec.recipe.input_size(image_size))
    if info.model_name != spec.name:
        raise WeightsError(
            f"{weight_path} holds weights of {info.model_name}, but Global.model is {spec.name}. Set "
            f"Global.model={info.model_name}, or use other weights."
        )
    return info


def require_categories_of_model(weight_path: Path, info: ModelInfo, coco: CocoFile) -> None:
    """Raise DatasetError unless ``coco`` lists the categories of the model, in the same order."""
    same_categories(CocoFile(path=weight_path, images=(), annotations=(), categories=info.categories), coco)
