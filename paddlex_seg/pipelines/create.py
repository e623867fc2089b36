"""``create_model`` and ``create_pipeline``: PaddleX's Python interface, of both its generations."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from paddlex_seg.config.pipeline import means_folder, read_pipeline, settings_of_arguments
from paddlex_seg.errors import ConfigError
from paddlex_seg.inference.thresholds import Threshold
from paddlex_seg.pipelines.model import Model, Pipeline

LOGGER = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


def create_model(
    model_name: PathLike | None = None,
    model_dir: PathLike | None = None,
    *,
    device: str | None = None,
    batch_size: int = 1,
    threshold: Threshold | None = None,
    backend: str | None = None,
    precision: str | None = None,
    use_hpip: bool | None = None,
    hpi_config: Mapping[str, Any] | None = None,
    engine: str | None = None,
    engine_config: Mapping[str, Any] | None = None,
    model: PathLike | None = None,
    hpi_params: Mapping[str, Any] | None = None,
    pp_option: Any = None,
    img_size: Any = None,
) -> Model:
    """A model that is ready to predict.

    model_name: one of the models in docs/models.md; it may be left out if ``model_dir`` is given. As in older
    versions of PaddleX, it may also be the folder, and be called ``model``. model_dir: the folder of an
    exported model, or of a run that has one; None uses the official model, which is downloaded once.
    device: ``cpu``, ``gpu:0``; None uses a GPU if one is usable. batch_size: images per call of the network;
    results do not depend on it. threshold: keep instances with a higher score: a number from 0 to 1, or class
    names or indices with such numbers; None, and for classes that are not named, uses the threshold of the
    model. backend: ``paddle``, ``onnxruntime``, ``openvino``, or ``auto`` for the fastest certified one; None
    is ``paddle``, and where PaddlePaddle is not installed, ``auto``. precision: ``f32``; ``bf16`` or ``int8``
    at a cost of AP. engine_config: ``{"run_mode": "mkldnn"}`` uses oneDNN on the CPU.

    Of PaddleX: ``use_hpip=True`` is ``backend="auto"``, and ``hpi_config={"backend": ...}`` names a backend,
    as in ``hpi_params``. pp_option and img_size have no effect; the log says what replaces them.

    Raises ConfigError for an argument that is wrong, and BackendError when the official model cannot be
    downloaded, or the files of the model or the device cannot be used.
    """
    if model is not None and model_name is not None:
        raise ConfigError("create_model: model and model_name mean the same; give one of them.")
    name = model_name if model is None else model
    if name is None and model_dir is None:
        raise ConfigError("create_model: name a model, or the folder of an exported model.")
    if model_dir is None and (
        isinstance(name, os.PathLike) or (isinstance(name, str) and means_folder(name))
    ):
        name, model_dir = None, name
    if img_size is not None:
        LOGGER.warning(
            "img_size is not used: an exported model has one input size, which Train.image_size sets."
        )
    settings = settings_of_arguments(
        "create_model",
        model_name=name,
        model_dir=model_dir,
        device=device,
        batch_size=batch_size,
        backend=backend,
        precision=precision,
        use_hpip=use_hpip,
        hpi_config=hpi_config,
        engine=engine,
        engine_config=engine_config,
        hpi_params=hpi_params,
        pp_option=pp_option,
    )
    return Model(settings, threshold)


def create_pipeline(
    pipeline: PathLike | Mapping[str, Any] | None = None,
    config: PathLike | Mapping[str, Any] | None = None,
    *,
    device: str | None = None,
    batch_size: int | None = None,
    threshold: Threshold | None = None,
    backend: str | None = None,
    precision: str | None = None,
    use_hpip: bool | None = None,
    hpi_config: Mapping[str, Any] | None = None,
    engine: str | None = None,
    engine_config: Mapping[str, Any] | None = None,
    hpi_params: Mapping[str, Any] | None = None,
    pp_option: Any = None,
) -> Pipeline:
    """The pipeline that a name or a YAML file describes, ready to predict.

    pipeline: ``instance_segmentation``, the path of a YAML file, or its content as a mapping. config: a path
    or a mapping, instead. A relative ``model_dir`` in a file is looked for in the current folder, then beside
    the file. The other arguments are those of `create_model` and beat the file. Raises the errors of
    `create_model`; those about a file name the line.
    """
    settings = read_pipeline(
        pipeline,
        config,
        device=device,
        batch_size=batch_size,
        backend=backend,
        precision=precision,
        use_hpip=use_hpip,
        hpi_config=hpi_config,
        engine=engine,
        engine_config=engine_config,
        hpi_params=hpi_params,
        pp_option=pp_option,
    )
    return Pipeline(settings, threshold)
