"""Mode benchmark: how long an exported model takes with each backend, from image files to RLE."""

import logging
from pathlib import Path
from typing import Any

from paddlex_seg.config.pipeline import ModelSettings
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.run_folder import best_of_run
from paddlex_seg.inference.speed import candidates, image_files, measure_all
from paddlex_seg.pipelines.folders import model_folder

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Measure the model in ``Predict.model_dir`` with the images of ``Predict.input``.

    The table is logged, the result file has the same as JSON. Raises DatasetError without an image, and
    PaddlexSegError when no backend can run the model.
    """
    if cfg.Predict.input is None:
        raise ConfigError(
            "Predict.input is empty. Set it to an image file, a folder or a pattern, or a list of these."
        )
    output = Path(cfg.Global.output)
    model_dir = cfg.Predict.model_dir or best_of_run(output, "inference", key="Predict.model_dir")
    places = {"model_dir": "Predict.model_dir"}
    report = measure_all(
        model_folder(ModelSettings(model_dir=str(model_dir), places=places)),
        image_files(cfg.Predict.input),
        candidates(),
        threshold=cfg.Predict.threshold,
        run_mode=cfg.Predict.kernel_option.run_mode,
        tell=LOGGER.info,
    )
    LOGGER.info("%s", report.table())
    return report.as_json()
