"""A network small enough to export in a second: it finds red things (class 0) and green things (class 1).

The score of a class is that of its brightest cell, the box is the whole image, and the mask at stride 4 is
where the channel is bright. Dark images have no rows at all.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn
from paddle.static import InputSpec

from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.inference.export_spec import ExportedSpec, write_inference_yml
from paddlex_seg.inference.onnx_proof import publish_onnx
from paddlex_seg.structures import PreprocessSpec

INPUT_HW = (64, 96)
STRIDE = 4


class ToyNetwork(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        weight = np.zeros((2, 3, STRIDE, STRIDE), np.float32)
        weight[0, 0] = weight[1, 1] = 1 / STRIDE**2
        assign = nn.initializer.Assign
        self.mean = nn.Conv2D(
            3, 2, STRIDE, stride=STRIDE, weight_attr=assign(weight), bias_attr=assign(np.zeros(2))
        )

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        brightness = self.mean(image)  # [B, 2, h, w]
        scores = nn.functional.max_pool2d(brightness, brightness.shape[2:]).flatten(1)  # [B, 2]
        found = scores > 0.05
        rows = found.flatten().nonzero().flatten()
        size = (im_shape / scale_factor).flip(-1).tile([1, 2])  # [2B, 2] as x, y of both classes
        corners = size.reshape([-1, 2]).gather(rows)  # [N, 2]
        classes = (scores * 0 + paddle.to_tensor([0.0, 1.0])).flatten().gather(rows)
        head = paddle.stack([classes, scores.flatten().gather(rows)], axis=1)
        mask = paddle.nn.functional.sigmoid(20 * (brightness.flatten(0, 1).gather(rows) - 0.5))
        return paddle.concat([head, corners * 0, corners], axis=1), found.sum(1).astype("int32"), mask


class PastedToyNetwork(nn.Layer):
    """As official graphs: masks of the size of the first image, and a row that is no detection."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ToyNetwork()

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bbox, bbox_num, mask = self.network(image, im_shape, scale_factor)
        bbox = paddle.concat([bbox, paddle.zeros([1, 6])])
        mask = paddle.concat([mask, paddle.zeros([1, INPUT_HW[0] // STRIDE, INPUT_HW[1] // STRIDE])])
        size = (im_shape / scale_factor)[0].round().astype("int32")
        pasted = paddle.nn.functional.interpolate(
            mask.unsqueeze(0), size=[size[0], size[1]], mode="bilinear"
        )[0]
        return bbox, bbox_num + 1, (pasted > 0.5).astype("int32")


class BoxlessToyNetwork(nn.Layer):
    """As official graphs of SOLOv2: number, classes, scores and masks, and a row that is no detection."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PastedToyNetwork()

    def forward(
        self, image: Tensor, im_shape: Tensor, scale_factor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bbox, bbox_num, mask = self.network(image, im_shape, scale_factor)
        return bbox_num, bbox[:, 0].astype("int64"), bbox[:, 1], mask.astype("uint8")


SPEC = ExportedSpec(
    model_name="PP-YOLOE_seg-S",
    arch="PPYOLOE",
    min_subgraph_size=3,
    labels=("red thing", "绿色"),
    preprocess=PreprocessSpec(size_hw=INPUT_HW, interpolation=1),
    draw_threshold=0.5,
    mask_frame="image",
)


def export_toy(
    folder: Path,
    *,
    small: bool = True,
    pasted: bool = False,
    boxless: bool = False,
    spec: ExportedSpec = SPEC,
) -> Path:
    """Write an exported directory with our graph, the official one (of SOLOv2: ``boxless``), or both."""
    folder.mkdir(parents=True, exist_ok=True)
    if small:
        save_graph(ToyNetwork(), folder / "network")
        (folder / "network.pdiparams").rename(folder / "inference.pdiparams")
    if pasted:
        save_graph(PastedToyNetwork(), folder / "inference")
    if boxless:
        save_graph(BoxlessToyNetwork(), folder / "inference")
    checksums = {path.name: sha256_of(path) for path in folder.iterdir() if path.name != "inference.yml"}
    write_inference_yml(folder / "inference.yml", replace(spec, sha256=checksums))
    return folder


def export_onnx_toy(folder: Path) -> Path:
    """What a machine without Paddle gets: the network as ONNX file, its description and what proves it."""
    publish_onnx(export_toy(folder))
    (folder / "network.json").unlink()
    (folder / "inference.pdiparams").unlink()
    return folder


def save_graph(layer: nn.Layer, prefix: Path) -> None:
    inputs = [
        InputSpec([-1, 3, *INPUT_HW], "float32", name="image"),
        InputSpec([-1, 2], "float32", name="im_shape"),
        InputSpec([-1, 2], "float32", name="scale_factor"),
    ]
    layer.eval()
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=inputs, full_graph=True), str(prefix))


def image_with(
    size_hw: tuple[int, int],
    *,
    red: tuple[slice, slice] | None = None,
    green: tuple[slice, slice] | None = None,
) -> NDArray[np.uint8]:
    """An RGB image, black but for a red and a green rectangle."""
    image = np.zeros((*size_hw, 3), np.uint8)
    for channel, where in enumerate((red, green)):
        if where is not None:
            image[(*where, channel)] = 255
    return image


def inputs_of_brightness(values: list[float]) -> tuple[NDArray, NDArray, NDArray]:
    """The inputs of a batch with red images of these brightnesses, 0 to 1."""
    image = np.zeros((len(values), 3, *INPUT_HW), np.float32)
    image[:, 0] = np.array(values)[:, None, None]
    im_shape = np.tile(np.float32(INPUT_HW), (len(values), 1))
    return image, im_shape, np.ones_like(im_shape)
