"""Mode predict: run an exported model on images and write visualizations and JSON."""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from paddlex_seg.checkpoints.identity import best_of_run, describe_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import reserved_space
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.fonts import unwritable_notice
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.predictor import Predictor, open_predictor
from paddlex_seg.inference.sources import count_inputs
from paddlex_seg.modes.predictions import Report, require_separate, take_results
from paddlex_seg.modes.result_file import result_path, write_result
from paddlex_seg.runtime.device import use_device

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
    predictor = open_exported(cfg, model_dir)
    about_model = describe_exported(model_dir)
    report = Report()
    try:
        with reserved_space(result_path(output, "predict")) as reserve:
            report.on_row = lambda row: reserve(_bytes_of(row, report))
            inputs = list(cfg.Predict.input)
            take_results(predictor.predict(inputs), report, output, total=count_inputs(inputs))
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


def open_exported(cfg: Config, model_dir: Path) -> Predictor:
    """The predictor for an exported model. Settings that it cannot follow are logged."""
    device = use_device(cfg.Global.device)
    predictor = open_predictor(
        model_dir,
        device=device,
        run_mode=cfg.Predict.kernel_option.run_mode,
        batch_size=cfg.Predict.batch_size,
        threshold=cfg.Predict.threshold,
    )
    wanted, limit = cfg.Global.max_detections, predictor.max_detections
    if wanted not in (None, limit):
        LOGGER.warning(
            "Global.max_detections=%d is not used: %s was exported with %s. Export the model again.",
            *(wanted, model_dir, limit or "an unknown limit"),
        )
    wanted_bands = None if cfg.Global.bands is None else cfg.Global.bands.to_bands()
    if wanted_bands is not None and wanted_bands != predictor.bands:
        LOGGER.warning(
            "Global.bands (%s) is not used: %s was trained with %s, and is used so.",
            *(wanted_bands, model_dir, describe_bands(predictor.bands)),
        )
    if notice := unwritable_notice(predictor.labels):
        LOGGER.warning(notice)
    return predictor


def describe_exported(model_dir: Path) -> dict[str, Any]:
    """What the results were made with, for the result file."""
    spec = read_inference_yml(model_dir / "inference.yml")
    weights = model_dir / "inference.pdiparams"
    return {
        "model": spec.model_name,
        "weights": {"path": str(weights), "sha256": sha256_of(weights)},
        "exported_from": dict(spec.exported_from),
        "input_size": list(spec.preprocess.size_hw),
    }
