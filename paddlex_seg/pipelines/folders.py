"""The folder of the exported model that settings name."""

import logging
import os
from pathlib import Path

from paddlex_seg.config.pipeline import ModelSettings, model_names
from paddlex_seg.errors import BackendError, ConfigError, suggest
from paddlex_seg.inference.backends.exported_files import PADDLEX_YML
from paddlex_seg.inference.export_spec import PADDLEDETECTION_YML
from paddlex_seg.inference.official import official_model
from paddlex_seg.runtime.network import network

LOGGER = logging.getLogger(__name__)
# Where a folder of a run has its exported model.
INNER_FOLDERS = ("inference", "best_model/inference")


def model_folder(settings: ModelSettings) -> Path:
    """The folder of an exported model: ``model_dir``, or that of the official model, downloaded once.

    For a folder of a run, it is the exported model in it. Raises ConfigError for a name that no model has,
    and BackendError for a folder that does not exist.
    """
    if settings.model_dir is not None:
        return _exported_in(_existing(settings))
    assert settings.model_name is not None
    require_known(settings.model_name, settings)
    return official_model(settings.model_name, network())


def require_known(name: str, settings: ModelSettings) -> None:
    """Raise ConfigError if there is no model of this name."""
    if name not in (names := model_names()):
        raise ConfigError(
            f"{settings.place('model_name')}: there is no model {name!r}.{suggest(name, names)} The models "
            f"are: {', '.join(names)}. For a model of your own, give the folder of the exported model."
        )


def _existing(settings: ModelSettings) -> Path:
    """``model_dir``, relative to the current folder; if it is not there, to the folder of the YAML file."""
    assert settings.model_dir is not None
    folder = Path(settings.model_dir)
    places = [folder] if settings.beside is None else [folder, settings.beside / folder]
    for place in places:
        if os.path.isdir(place):  # False for a path that no folder can have
            return place
    where = settings.place("model_dir")
    if any(map(os.path.isfile, places)):
        raise BackendError(f"{where}: {folder} is a file; expected the folder of an exported model.")
    searched = " nor ".join(dict.fromkeys(str(place.absolute()) for place in places))
    raise BackendError(
        f"{where}: {folder} does not exist ({searched}). Expected the folder of an exported model, such as "
        "output/best_model/inference."
    )


def _exported_in(folder: Path) -> Path:
    for inner in (".", *INNER_FOLDERS):
        if any((folder / inner / name).is_file() for name in (PADDLEX_YML, PADDLEDETECTION_YML)):
            if inner != ".":
                LOGGER.info("%s: the exported model in it is used, %s.", folder, folder / inner)
            return folder / inner
    return folder  # its missing files are told when it is opened
