"""Which weights are meant, what they are, and whether they fit the data set."""

from pathlib import Path

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.files import BEST
from paddlex_seg.checkpoints.info import ModelInfo, read_info
from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.download import resolve_weights
from paddlex_seg.recipes import ImageSize
from paddlex_seg.runtime.network import expand_home, network
from paddlex_seg.structures import CocoFile


def find_weights(value: str, *, key: str, output: Path) -> Path:
    """The weight file of the setting ``key``, whose value is a path or an address.

    Raises WeightsError when there is none. The error points to the best model of the run in ``output``, if it
    has one.
    """
    try:
        return resolve_weights(expand_home(value), config_key=key, network=network())
    except WeightsError as error:
        best = output / BEST / f"{BEST}.pdparams"
        if best.is_file() and Path(value) != best:
            raise WeightsError(f"{error} Global.output holds {best}: set {key}={best} to use it.") from error
        raise


def describe_weights(
    spec: ModelSpec,
    weight_path: Path,
    *,
    source: str,
    dataset_dir: Path,
    image_size: int | ImageSize | None,
) -> ModelInfo:
    """What a weight file is: as the file beside it says, else official COCO weights if ``source`` is their
    URL, else weights of the model ``spec`` for the categories of the data set in ``dataset_dir``.

    image_size: as `Recipe.input_size` takes it; used where no file says it. Raises WeightsError when the
    weights are of another model.
    """
    info = read_info(weight_path)
    if info is None:
        if source == spec.official_weights:
            categories = COCO_CATEGORIES
        else:
            categories = read_coco(dataset_paths(dataset_dir).train_json).categories
        return ModelInfo(spec.name, categories, spec.recipe.input_size(image_size))
    if info.model_name != spec.name:
        raise WeightsError(f"{weight_path} holds a {info.model_name}, but Global.model is {spec.name}.")
    return info


def require_categories_of_model(weight_path: Path, info: ModelInfo, coco: CocoFile) -> None:
    """Raise DatasetError unless the file lists the categories of the model, in the same order."""
    same_categories(CocoFile(path=weight_path, images=(), annotations=(), categories=info.categories), coco)
