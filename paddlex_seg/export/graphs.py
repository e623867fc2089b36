"""Exports a network to a folder that official PaddleX, Paddle's deployment code and our predictor can load.

Two graphs share one parameter file. ``inference.json`` is the official graph: it pastes masks to the size of
the original image. ``network.json`` is only the network, with small masks. Our predictor prefers
``network.json``, because the full-size masks of one large image can exceed the memory of a machine.
"""

import errno
import filecmp
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import paddle
from paddle import Tensor, nn
from paddle.jit.dy2static import convert_call_func
from paddle.jit.dy2static.utils import get_temp_dir
from paddle.static import InputSpec

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.export.proof import prove_export
from paddlex_seg.files.atomic import new_files
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.written import claimed
from paddlex_seg.inference import certificate, reference
from paddlex_seg.inference.export_spec import ExportedSpec, write_inference_yml
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.ops.masks import paste_masks
from paddlex_seg.runtime.environment import versions, writable_home
from paddlex_seg.structures import Detections, PreprocessSpec

FILES = ("inference.json", "inference.pdiparams", "network.json", "inference.yml")
PROOF = (reference.FILE, certificate.FILE)
_ITEM_BYTES = {"0.t_f16": 2, "0.t_bf16": 2, "0.t_f32": 4, "0.t_f64": 8, "0.t_i32": 4, "0.t_i64": 8}


def export_model(
    model: InstanceSegmenter,
    spec: ModelSpec,
    info: ModelInfo,
    folder: Path,
    weight_path: Path | None = None,
) -> None:
    """Write the exported folder. Files are moved into ``folder`` only after all of them are complete and
    proven to give what the model gives.

    weight_path: the file of the weights, whose identity is written into ``inference.yml``. Files of the user
    with these names are kept as ``.bak``. Raises CertificateError when the files give something else.
    """
    with claimed(folder, (*FILES, *PROOF)), new_files(folder) as temporary:
        write_graphs(model, spec, info, temporary, weight_path)
        prove_export(temporary, model, info, published=folder)


def write_graphs(
    model: InstanceSegmenter,
    spec: ModelSpec,
    info: ModelInfo,
    folder: Path,
    weight_path: Path | None = None,
) -> None:
    """Write what `export_model` writes into an empty folder, without a certificate."""
    inputs = _input_spec(info.preprocess)
    official = WithoutBoxes if spec.arch == "SOLOv2" else WithPastedMasks
    _save_graph(official(model), inputs, folder / "inference")
    _save_graph(WithSmallMasks(model), inputs, folder / "network")
    require_whole(folder)
    checksums = {name: sha256_of(folder / name) for name in FILES if name != "inference.yml"}
    weights = {} if weight_path is None else identity_of(weight_path, info)
    described = replace(exported_spec(model, spec, info), sha256=checksums, exported_from=weights)
    write_inference_yml(folder / "inference.yml", described)
    for path in folder.iterdir():
        if path.name not in FILES:
            path.unlink()


class WithPastedMasks(nn.Layer):
    """The official graph: boxes, count per image, and int32 masks at the size of the original image."""

    def __init__(self, model: InstanceSegmenter):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `InstanceSegmenter.forward`; the third output is [N, height, width] of 0 and 1."""
        bbox, bbox_num, mask = self.model(image, im_shape, scale_factor)
        pasted = paste_masks(
            Detections(bbox, bbox_num, mask),
            im_shape,
            scale_factor,
            input_hw=image.shape[2:],
            mask_frame=self.model.mask_frame,
        )
        return bbox, bbox_num, pasted


class WithoutBoxes(nn.Layer):
    """The official graph of SOLOv2: count per image, classes, scores, and masks as ``WithPastedMasks``."""

    def __init__(self, model: InstanceSegmenter):
        super().__init__()
        self.pasting = WithPastedMasks(model)

    def forward(
        self, image: Tensor, im_shape: Tensor, scale_factor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows as in `Detections`: int32 [B], int64 [N], float32 [N] and uint8 [N, height, width]."""
        bbox, bbox_num, pasted = self.pasting(image, im_shape, scale_factor)
        return bbox_num, bbox[:, 0].astype("int64"), bbox[:, 1], pasted.astype("uint8")


class WithSmallMasks(nn.Layer):
    """Only the network. A separate layer, because exporting would replace the model's own ``forward``."""

    def __init__(self, model: InstanceSegmenter):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `InstanceSegmenter.forward`."""
        bbox, bbox_num, mask = self.model(image, im_shape, scale_factor)
        return bbox, bbox_num, mask


def identity_of(weight_path: Path, info: ModelInfo) -> dict[str, Any]:
    """What ``inference.yml`` says about the weights that were exported. It names no folder."""
    return {
        "weights": weight_path.name,
        "weights_sha256": sha256_of(weight_path),
        "category_ids": [category.id for category in info.categories],
        "recipe": info.recipe,
        **versions(),
    }


def exported_spec(model: InstanceSegmenter, spec: ModelSpec, info: ModelInfo) -> ExportedSpec:
    """The content of ``inference.yml`` for a model."""
    return ExportedSpec(
        model_name=spec.name,
        arch=spec.arch,
        min_subgraph_size=spec.min_subgraph_size,
        labels=tuple(category.name for category in info.categories),
        preprocess=info.preprocess,
        draw_threshold=0.5,
        mask_frame=model.mask_frame,
        max_detections=model.max_detections,
    )


def _input_spec(preprocess: PreprocessSpec) -> list[InputSpec]:
    """The inputs of the graphs. With ``keep_ratio``, height and width are dynamic."""
    height, width = (-1, -1) if preprocess.keep_ratio else preprocess.size_hw
    return [
        InputSpec([-1, 3, height, width], "float32", name="image"),
        InputSpec([-1, 2], "float32", name="im_shape"),
        InputSpec([-1, 2], "float32", name="scale_factor"),
    ]


def _save_graph(layer: nn.Layer, inputs: list[InputSpec], prefix: Path) -> None:
    layer.eval()
    with paddle.no_grad(), writable_home(), _told_conversion_errors():
        graph = paddle.jit.to_static(layer, input_spec=inputs, full_graph=True)
        try:
            paddle.jit.save(graph, str(prefix))
        except RuntimeError as error:
            if "Cannot open" not in str(error):
                raise
            raise OSError(errno.EIO, "Paddle cannot open it to write", str(prefix)) from error


@contextmanager
def _told_conversion_errors() -> Iterator[None]:
    """Raise the first error of the disk to which Paddle writes the source code of converted functions.

    Paddle takes any OSError there for a function without source code. It then exports the function as it is,
    with the shapes of the example input as constants.
    """
    convert, failed = convert_call_func.convert_to_static, []

    def watched(function: Any) -> Any:
        try:
            return convert(function)
        except OSError as error:
            if error.errno is not None:  # a function without source code has none
                error.filename = error.filename or get_temp_dir()
                failed.append(error)
            raise

    convert_call_func.convert_to_static = watched
    try:
        yield
    finally:
        convert_call_func.convert_to_static = convert
        if failed:
            raise failed[0]


def require_whole(folder: Path) -> None:
    """Raise OSError unless all that Paddle wrote is there: its writing overlooks a full or failing disk."""
    for name in ("inference", "network"):
        graph, parameters = folder / f"{name}.json", folder / f"{name}.pdiparams"
        expected = _parameter_bytes(graph)
        if expected is None:
            _report_loss(graph)
        elif parameters.stat().st_size != expected:
            _report_loss(parameters)
    if not filecmp.cmp(folder / "inference.pdiparams", folder / "network.pdiparams", shallow=False):
        _report_loss(folder / "inference.pdiparams")  # both graphs read the same parameters


def _report_loss(path: Path) -> NoReturn:
    raise OSError(errno.ENOSPC, "Only a part was written, so the disk is full or fails", str(path))


def _parameter_bytes(graph: Path) -> int | None:
    """The size of the parameter file that a graph file asks for; None when the graph file is cut off."""
    try:
        program = json.loads(graph.read_bytes())
    except ValueError:
        return None
    operators = program["program"]["regions"][0]["blocks"][0]["ops"]
    return sum(_record_bytes(operator["O"]["TT"]["D"]) for operator in operators if operator["#"] == "p")


def _record_bytes(tensor: list[Any]) -> int:
    """The bytes of one tensor in a parameter file. tensor: its type, shape and more, as in a graph file."""
    kind, shape = tensor[0]["#"], tensor[1]
    versions_and_lengths, type_and_shape = 20, 2 + sum(1 + _varint_bytes(side) for side in shape)
    return versions_and_lengths + type_and_shape + math.prod(shape) * _ITEM_BYTES[kind]


def _varint_bytes(number: int) -> int:
    """The length of a number in Protocol Buffers: seven bits per byte."""
    return max(1, math.ceil(number.bit_length() / 7))
