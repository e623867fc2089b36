"""Mode export: convert a checkpoint to an inference model for deployment and for mode predict."""

import logging
from pathlib import Path
from typing import Any

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.identity import describe_weights, find_weights, require_categories_of_model
from paddlex_seg.checkpoints.info import ModelInfo, describe_model
from paddlex_seg.checkpoints.weights import load_model
from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.errors import BackendError, CertificateError, ConfigError
from paddlex_seg.evaluation.int8 import AnnotatedData, add_int8
from paddlex_seg.export.graphs import FILES, PROOF, export_model
from paddlex_seg.inference import edge, quantization
from paddlex_seg.inference.backends.exported_files import ONNX
from paddlex_seg.inference.backends.open import is_installed
from paddlex_seg.inference.conversion import NOT_INSTALLED, PACKAGE, can_convert
from paddlex_seg.inference.onnx_proof import RUNTIMES, publish_onnx
from paddlex_seg.runtime.device import use_device
from paddlex_seg.structures import BackendName

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Export ``Export.weight_path`` into ``Global.output``, with the other networks that are asked for."""
    require_possible(cfg)
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
    if write_onnx(output, True if cfg.Export.int8 else cfg.Export.onnx):
        files.append(ONNX)
    files += add_small_networks(cfg, output, weight_path, info)
    return {"model_dir": cfg.Global.output, "files": files, **describe_model(weight_path, info)}


def write_onnx(output: Path, wanted: bool | None) -> bool:
    """Write ``network.onnx`` into an exported folder if that is wanted (None: if it is possible).

    Returns whether it was written. Raises CertificateError when it gives something else than the model.
    """
    if wanted is False or (wanted is None and not (can_convert() and any(map(is_installed, RUNTIMES)))):
        return False
    try:
        publish_onnx(output)
    except CertificateError as error:
        raise CertificateError(
            f"{error} The other files of the export are there, and proven. Export.onnx=False leaves "
            f"{ONNX} out."
        ) from error
    except BackendError as error:
        if wanted:
            raise
        LOGGER.warning("%s was not written: %s", output / ONNX, error)
        return False
    return True


def require_possible(cfg: Config) -> None:
    """Raise ConfigError at once if a network that is asked for is not offered, or packages are missing."""
    if cfg.Export.onnx and not can_convert():
        raise ConfigError(f"Export.onnx is True. {NOT_INSTALLED}")
    if cfg.Export.edge:
        edge.require_offered(cfg.Global.model)
        quantization.require_packages((PACKAGE, *edge.PACKAGES), "Export.edge")
    if cfg.Export.int8:
        quantization.require_offered(cfg.Global.model)
        needed = quantization.FOR_OPENVINO + (quantization.FOR_ONNXRUNTIME if cfg.Export.edge else ())
        quantization.require_packages((PACKAGE, *needed), "Export.int8")


def add_small_networks(cfg: Config, folder: Path, weight_path: Path, info: ModelInfo) -> list[str]:
    """Add the networks that ``Export.edge`` and ``Export.int8`` ask for; the names of their files."""
    entries = [edge.publish_edge(folder)] if cfg.Export.edge else []
    if cfg.Export.int8:
        paths = dataset_paths(Path(cfg.Global.dataset_dir))
        data = AnnotatedData(
            train=read_coco(paths.train_json),
            val=read_coco(paths.val_json),
            image_dir=paths.image_dir,
            category_ids=[category.id for category in info.categories],
        )
        require_categories_of_model(weight_path, info, data.val)
        backends: list[BackendName] = ["openvino", "onnxruntime"] if cfg.Export.edge else ["openvino"]
        entries += [add_int8(folder, backend, data) for backend in backends]
    return list(dict.fromkeys(name for entry in entries for name in entry.sha256 if name not in FILES))
