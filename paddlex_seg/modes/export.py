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
from paddlex_seg.errors import BackendError, CertificateError, ConfigError
from paddlex_seg.export.graphs import FILES, PROOF, export_model
from paddlex_seg.inference.backends.exported_files import ONNX
from paddlex_seg.inference.backends.open import is_installed
from paddlex_seg.inference.conversion import NOT_INSTALLED, can_convert
from paddlex_seg.inference.onnx_proof import RUNTIMES, publish_onnx
from paddlex_seg.runtime.device import use_device

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Export ``Export.weight_path`` into ``Global.output``, also as ``network.onnx``: see ``Export.onnx``.

    Raises ConfigError when that is asked for and the converter is not installed.
    """
    if cfg.Export.onnx and not can_convert():
        raise ConfigError(f"Export.onnx is True. {NOT_INSTALLED}")
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
    files = [*FILES, *PROOF]
    if write_onnx(output, cfg.Export.onnx):
        files.append(ONNX)
    return {"model_dir": cfg.Global.output, "files": files, **describe_model(weight_path, info)}


def write_onnx(output: Path, wanted: bool | None) -> bool:
    """Write ``network.onnx`` into an exported folder if that is wanted (None: if it is possible).

    Returns whether it was written. Raises CertificateError when it gives something else than the model.
    """
    if wanted is False or (wanted is None and not (can_convert() and any(map(is_installed, RUNTIMES)))):
        return False
    try:
        publish_onnx(output)
    except CertificateError:
        raise
    except BackendError as error:
        if wanted:
            raise
        LOGGER.warning("%s was not written: %s", output / ONNX, error)
        return False
    return True
