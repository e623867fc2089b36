"""Proves that an export gives what the network in memory gives, before it is published."""

import logging
import time
from pathlib import Path

import paddle

from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.inference import reference
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.certificate import add_entries
from paddlex_seg.inference.certify import certify, files_of, require_passed, wrong_parameters
from paddlex_seg.inference.stored_inputs import FEW, stored_inputs
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.network_backend import NetworkBackend

LOGGER = logging.getLogger(__name__)


def prove_export(folder: Path, model: InstanceSegmenter, info: ModelInfo, *, published: Path) -> None:
    """Write ``reference.json`` and ``certificate.json`` into a folder that was just exported.

    The official graph differs from ours only in how masks are pasted, and its full-size masks take long, so
    it gets fewer images. published: the folder for messages. Raises CertificateError when a graph gives
    something else than the network.
    """
    start, inputs = time.perf_counter(), stored_inputs()
    labels = [category.name for category in info.categories]
    expected = reference.make_reference(NetworkBackend(model, info.preprocess), labels, inputs)
    reference.write_reference(folder / reference.FILE, expected, inputs)
    parameters = {one.name: one for one in model.state_dict().values()}
    few = [one for one in inputs if one.name in FEW]
    device = paddle.device.get_device()
    entries = []
    for graph, images in (("network.json", inputs), ("inference.json", few)):
        backend = PaddleBackend(folder, _exported_device(device), official=graph == "inference.json")
        entries.append(
            certify(
                backend,
                backend.spec,
                expected,
                images,
                name="paddle",
                files=files_of(folder, graph),
                wrong=wrong_parameters(folder, graph, parameters),
            )
        )
    require_passed(entries, published)
    add_entries(folder, entries)
    LOGGER.info(
        "Certificate: %s, %.1f s.",
        " and ".join(f"{one.graph} {one.verdict}" for one in entries),
        time.perf_counter() - start,
    )


def _exported_device(device: str) -> str:
    """The device for exported graphs: that of the network if they can run there."""
    return device if device.startswith("gpu") else "cpu"
