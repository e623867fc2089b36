"""Mode predict: run an exported model on images and write visualizations and JSON."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError, PaddlexSegError
from paddlex_seg.files.names import printable
from paddlex_seg.inference.predictor import Predictor, open_predictor, warn_of_unreadable
from paddlex_seg.inference.results import UnwritableResult
from paddlex_seg.inference.sources import UnreadableInput
from paddlex_seg.modes.result_file import write_result
from paddlex_seg.runtime.device import use_device

LOGGER = logging.getLogger(__name__)


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
    device = use_device(cfg.Global.device)
    predictor = open_predictor(
        Path(cfg.Predict.model_dir),
        device=device,
        run_mode=cfg.Predict.kernel_option.run_mode,
        batch_size=cfg.Predict.batch_size,
        threshold=cfg.Predict.threshold,
    )
    output = Path(cfg.Global.output)
    report: dict[str, list[dict[str, str]]] = {"results": [], "skipped": []}
    try:
        predict_all(predictor, list(cfg.Predict.input), output, report)
    except BaseException:
        with suppress(OSError):  # the disk that ended the run
            write_result(output, "predict", report)
        raise
    return report


def predict_all(
    predictor: Predictor, inputs: list[str], output: Path, report: dict[str, list[dict[str, str]]]
) -> None:
    """Predict the inputs, write the results into a folder, and add them to the report."""

    def skip(name: str | None, problem: str) -> None:
        report["skipped"].append({"input": printable(str(name)), "problem": printable(problem)})

    def skip_unreadable(error: UnreadableInput) -> None:
        warn_of_unreadable(error)
        skip(error.input, str(error))

    for result in predictor.predict(inputs, on_unreadable=skip_unreadable):
        name = str(result.input_path)
        try:
            saved = result.write_files(output)
        except UnwritableResult as error:
            LOGGER.warning("Result skipped: %s", printable(str(error)))
            skip(name, str(error))
        except OSError as error:
            raise PaddlexSegError(
                f"{error.filename or output}: cannot be written ({error.strerror or error}). Results of "
                f"{len(report['results'])} image(s) are complete and listed in predict_result.json."
            ) from error
        else:
            report["results"].append({"input": name, "image": str(saved.image), "json": str(saved.json)})
            LOGGER.info("%s: %d object(s), drawn in %s", name, len(result.instances), saved.image)
    if not report["results"]:
        problems = "\n".join(row["problem"] for row in report["skipped"][:10])
        raise PaddlexSegError(f"{output}: no result was written.\n{problems}")
