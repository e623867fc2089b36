"""``--paddle2onnx``: writes the network of an exported model as ONNX file, with a certificate."""

import logging
from argparse import Namespace
from pathlib import Path

from paddlex_seg.config.pipeline import ModelSettings
from paddlex_seg.config.values import PathText, Positive
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.inference.backends.exported_files import ONNX, OURS
from paddlex_seg.inference.conversion import LOWEST_OPSET, NOT_INSTALLED, OPSET, can_convert
from paddlex_seg.inference.onnx_proof import publish_onnx
from paddlex_seg.modes.pipeline import read_option
from paddlex_seg.modes.result_file import open_output
from paddlex_seg.pipelines.folders import model_folder
from paddlex_seg.runtime.environment import use_writable_folders

LOGGER = logging.getLogger(__name__)


def run(options: Namespace) -> None:
    """Convert ``--paddle_model_dir`` into ``--onnx_model_dir``, which is the same folder if it is not given.

    Raises ConfigError for a wrong option, BackendError for a folder or network that cannot be converted, and
    CertificateError when the file gives something else than the model.
    """
    source = read_option(options, "paddle_model_dir", PathText)
    target = read_option(options, "onnx_model_dir", PathText)
    opset = read_option(options, "opset_version", Positive) or OPSET
    if not can_convert():
        raise ConfigError(f"--paddle2onnx: {NOT_INSTALLED}")
    settings = ModelSettings(model_dir=source, places={"model_dir": "--paddle_model_dir"})
    folder = model_folder(settings)
    if not (folder / OURS).is_file():
        raise BackendError(
            f"--paddle_model_dir: {folder} has no {OURS}, the graph that can be converted. On the official "
            "graphs of PaddleX and PaddleDetection (inference.json, inference.pdmodel, model.pdmodel), which "
            "paste masks, paddle2onnx aborts. Export the weights with mode export of this toolkit "
            "(Export.weight_path may be the URL of official weights), and convert that folder."
        )
    if opset < LOWEST_OPSET:
        LOGGER.warning("--opset_version %d is too low for these networks; %d is used.", opset, LOWEST_OPSET)
        opset = LOWEST_OPSET
    output = folder if target is None else Path(target)
    open_output(output, "--onnx_model_dir")
    use_writable_folders(output)
    publish_onnx(folder, output, opset=opset)
    LOGGER.info("%s: written. It runs with the backends onnxruntime and openvino.", output / ONNX)
