"""Mode predict: run an exported model on images and write visualizations and JSON."""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from paddlex_seg.checkpoints.identity import best_of_run, describe_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError, DatasetError, PaddlexSegError
from paddlex_seg.files.addresses import scheme_of
from paddlex_seg.files.atomic import reserved_space
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.names import printable
from paddlex_seg.fonts import unwritable_notice
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.predictor import Predictor, open_predictor
from paddlex_seg.inference.results import UnwritableResult
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
    if len(cfg.Predict.input) == 1:
        require_one_input(cfg.Predict.input[0])
    output = Path(cfg.Global.output)
    model_dir = Path(cfg.Predict.model_dir or best_of_run(output, "inference", key="Predict.model_dir"))
    predictor = open_exported(cfg, model_dir)
    report = Report(describe_exported(model_dir))
    try:
        with reserved_space(result_path(output, "predict")) as reserve:
            report.reserve = reserve
            predict_all(predictor, list(cfg.Predict.input), output, report)
    except BaseException as error:
        with suppress(OSError):
            write_result(output, "predict", report.content())
        if isinstance(error, OSError):
            raise PaddlexSegError(
                f"{error.filename or output}: cannot be written ({error.strerror or error}). The results of "
                f"{len(report.rows['results'])} image(s) are complete and listed in predict_result.json. "
                "Free disk space, or set another Global.output."
            ) from error
        raise
    return report.content()


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


@dataclass
class Report:
    """What was done so far: the content of the result file."""

    model: Mapping[str, Any]
    rows: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {"results": [], "skipped": []})
    reserve: Callable[[int], None] = lambda num_bytes: None

    def content(self) -> dict[str, Any]:
        """The content of the result file."""
        return {**self.rows, **self.model}

    def add(self, key: str, **row: str) -> None:
        """Add a row. When the disk is full, there is still space for all rows."""
        self.rows[key].append(row)
        # Twice, because the failure is added by writing the file again; and for its message.
        self.reserve(2 * len(json.dumps(row, indent=8)) + (RESERVED if len(self.rows[key]) == 1 else 0))

    def skip(self, name: str | None, problem: str) -> None:
        """Add an input without a result."""
        self.add("skipped", input=printable(str(name)), problem=printable(problem))


def predict_all(predictor: Predictor, inputs: list[str], output: Path, report: Report) -> None:
    """Predict the inputs, write the results into a folder, and add them to the report."""
    unreadable = 0
    for result in predictor.predict(inputs):
        name = str(result.input_path)
        if result.error is not None:
            report.skip(name, result.error)
            unreadable += 1
            continue
        try:
            saved = result.write_files(output)
        except UnwritableResult as error:
            LOGGER.warning("Result skipped: %s", printable(str(error)))
            report.skip(name, str(error))
        else:
            report.add("results", input=name, image=str(saved.image), json=str(saved.json))
            LOGGER.info("%s: %d object(s), drawn in %s", name, len(result.instances), saved.image)
    if not report.rows["results"]:
        skipped = report.rows["skipped"]
        problems = "\n".join(row["problem"] for row in skipped[:10])
        more = f"\n... and {len(skipped) - 10} more" if len(skipped) > 10 else ""
        error_class = DatasetError if unreadable == len(skipped) else PaddlexSegError
        raise error_class(f"No input gave a result.\n{problems}{more}")


def require_one_input(text: str) -> None:
    """Raise ConfigError for several inputs in one text, such as ``a.jpg,b.jpg``. A name may have commas."""
    parts = [part for part in re.split(r"\s*[,;]\s*", text) if part]
    if scheme_of(text):
        parts = [part for part in parts if scheme_of(part)]
    elif os.path.exists(text) or glob(text, recursive=True):
        return
    if len(parts) > 1:
        raise ConfigError(
            f"Predict.input: there is no file {text}. To name several inputs, write a list: "
            f"-o 'Predict.input=[{', '.join(parts)}]'."
        )
