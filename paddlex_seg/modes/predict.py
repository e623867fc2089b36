"""Mode predict: run an exported model on images and write visualizations and JSON."""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from paddlex_seg.config.pipeline import ModelSettings
from paddlex_seg.config.schema import Config
from paddlex_seg.data.bands import describe_bands
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import reserved_space
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.run_folder import best_of_run
from paddlex_seg.inference.backends.exported_files import find_description, find_files
from paddlex_seg.inference.backends.open import converted_file
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.modes.predictions import Report, predict_all, require_separate
from paddlex_seg.modes.result_file import result_path, write_result
from paddlex_seg.pipelines.model import Model
from paddlex_seg.structures import BackendName, Precision

LOGGER = logging.getLogger(__name__)
RESERVED = 16_384  # bytes for the message of a failure, and for what file systems add to a file


def run(cfg: Config) -> dict[str, Any]:
    """Predict ``Predict.input`` with the model in ``Predict.model_dir``; results go to ``Global.output``.

    An image that cannot be read, or whose result cannot be written, is logged and listed under ``skipped``.
    Raises DatasetError when no image can be read, and PaddlexSegError when no result can be written. The
    result file then has what was done before.
    """
    if cfg.Predict.input is None:
        raise ConfigError(
            "Predict.input is empty. Set it to an image file, a folder, a pattern, a URL, or a list of these."
        )
    require_separate(cfg.Predict.input, "Predict.input", "-o 'Predict.input=[{}]'", ", ")
    output = Path(cfg.Global.output)
    model_dir = Path(cfg.Predict.model_dir or best_of_run(output, "inference", key="Predict.model_dir"))
    model = open_exported(cfg, model_dir)
    about_model = describe_exported(model.model_dir, model.backend, model.precision)
    report = Report()
    try:
        with reserved_space(result_path(output, "predict")) as reserve:
            report.on_row = lambda row: reserve(_bytes_of(row, report))
            predict_all(model, cfg.Predict.input, report, folder=output, prints=False)
    except BaseException:
        with suppress(OSError):
            write_result(output, "predict", {**report.rows(), **about_model})
        raise
    return {**report.rows(), **about_model}


def _bytes_of(row: dict[str, str], report: Report) -> int:
    """The space to reserve for a row of the result file, so that it can be written when the disk is full."""
    is_first = len(report.results) + len(report.skipped) == 1
    # Twice, because the failure is added by writing the file again; and for its message.
    return 2 * len(json.dumps(row, indent=8)) + (RESERVED if is_first else 0)


def open_exported(cfg: Config, model_dir: Path) -> Model:
    """An exported model. Settings that it cannot follow are logged."""
    model = Model(exported_settings(cfg, model_dir))
    wanted, limit = cfg.Global.max_detections, model.max_detections
    if wanted not in (None, limit):
        LOGGER.warning(
            "Global.max_detections=%d is not used: %s was exported with %s. Export the model again.",
            *(wanted, model_dir, limit or "an unknown limit"),
        )
    wanted_bands = None if cfg.Global.bands is None else cfg.Global.bands.to_bands()
    if wanted_bands is not None and wanted_bands != model.bands:
        LOGGER.warning(
            "Global.bands (%s) is not used: %s was trained with %s, and is used so.",
            *(wanted_bands, model_dir, describe_bands(model.bands)),
        )
    return model


def exported_settings(cfg: Config, model_dir: Path) -> ModelSettings:
    """How ``cfg`` wants an exported model to be used."""
    return ModelSettings(
        model_dir=str(model_dir),
        device=cfg.Global.device,
        batch_size=cfg.Predict.batch_size,
        backend=cfg.Predict.backend,
        precision=cfg.Predict.precision,
        run_mode=cfg.Predict.kernel_option.run_mode,
        threshold=cfg.Predict.threshold,
        places={
            "device": "Global.device",
            "backend": "Predict.backend",
            "model_dir": "Predict.model_dir",
            "threshold": "Predict.threshold",
        },
    )


def describe_exported(model_dir: Path, backend: BackendName, precision: Precision = "f32") -> dict[str, Any]:
    """What the results were made with, for the result file."""
    weights = (
        find_files(model_dir).params if backend == "paddle" else converted_file(model_dir, backend, precision)
    )
    spec = read_inference_yml(find_description(model_dir))
    return {
        "model": spec.model_name,
        "backend": backend,
        "precision": precision,
        "weights": {"path": str(weights), "sha256": sha256_of(weights)},
        "exported_from": dict(spec.exported_from),
        "input_size": list(spec.preprocess.size_hw),
    }
