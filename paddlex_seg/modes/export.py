"""Mode export: convert a checkpoint to an inference model for deployment and for mode predict."""

import logging
from pathlib import Path
from typing import Any

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import describe_weights, find_weights
from paddlex_seg.checkpoints.info import describe_model
from paddlex_seg.checkpoints.weights import load_model
from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.export.graphs import FILES, export_model
from paddlex_seg.runtime.device import use_device

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Export ``Export.weight_path`` into ``Global.output``."""
    use_device(cfg.Global.device)
    spec, source, output = find_model(cfg.Global.model), cfg.Export.weight_path, Path(cfg.Global.output)
    weight_path = find_weights(source, key="Export.weight_path", output=output)
    info = describe_weights(
        spec,
        weight_path,
        source=source,
        dataset_dir=Path(cfg.Global.dataset_dir),
        image_size=cfg.Train.image_size,
        bands=find_bands(cfg, Path(cfg.Global.dataset_dir)),
    )
    model = load_model(spec, weight_path, num_classes=len(info.categories))
    spec.limit_detections(model, cfg.Global.max_detections, info.image_size)
    export_model(model, spec, info, output, weight_path)
    LOGGER.info("Export inference config file to %s", output / "inference.yml")
    return {"model_dir": cfg.Global.output, "files": list(FILES), **describe_model(weight_path, info)}
