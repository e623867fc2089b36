"""Mode predict: run an exported model on images and write visualizations and JSON."""

import logging
from pathlib import Path
from typing import Any

from paddlex_seg.checkpoints.identity import best_of_run
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError
from paddlex_seg.inference.predictor import open_predictor
from paddlex_seg.runtime.device import use_device

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Predict ``Predict.input`` with the model in ``Predict.model_dir``; results go to ``Global.output``."""
    if cfg.Predict.input is None:
        raise ConfigError(
            "Predict.input is empty. Set it to an image file, a folder, a pattern, a URL, or a list of these."
        )
    output = Path(cfg.Global.output)
    model_dir = cfg.Predict.model_dir or best_of_run(output, "inference", key="Predict.model_dir")
    device = use_device(cfg.Global.device)
    predictor = open_predictor(
        Path(model_dir),
        device=device,
        run_mode=cfg.Predict.kernel_option.run_mode,
        batch_size=cfg.Predict.batch_size,
        threshold=cfg.Predict.threshold,
    )
    written = []
    for result in predictor.predict(list(cfg.Predict.input)):
        image_file = result.save_to_img(output)
        json_file = result.save_to_json(output)
        written.append({"input": str(result.input_path), "image": str(image_file), "json": str(json_file)})
        LOGGER.info("%s: %d object(s), drawn in %s", result.input_path, len(result.instances), image_file)
    return {"results": written}
