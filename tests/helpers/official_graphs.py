"""Exported folders as PaddleX and PaddleDetection write them, with the toy network and odd outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
import yaml
from paddle import Tensor, nn
from toy_model import INPUT_HW, STRIDE, ToyNetwork, save_graph

PREPROCESS = [
    {"interp": 1, "keep_ratio": False, "target_size": list(INPUT_HW), "type": "Resize"},
    {"is_scale": True, "mean": [0.0] * 3, "norm_type": "none", "std": [1.0] * 3, "type": "NormalizeImage"},
    {"type": "Permute"},
]


@dataclass(frozen=True)
class Signature:
    """The outputs of a graph."""

    boxes: bool = True  # False: those of SOLOv2
    filler: bool = True  # a last row that is no detection
    count_type: str = "int32"
    count_has_axis: bool = True
    label_type: str = "int64"
    columns: bool = False  # classes and scores as [N, 1]
    mask_type: str = "int32"
    short_by: int = 0  # pixels that masks are smaller than the image
    reverse: bool = False  # outputs in reverse order


class OfficialNetwork(nn.Layer):
    """Red things are class 0, green things class 1, dark images have none."""

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.network = ToyNetwork()
        self.signature = signature

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, ...]:
        wanted = self.signature
        brightness = self.network.mean(image)  # [1, 2, h, w]
        found = nn.functional.max_pool2d(brightness, brightness.shape[2:]).flatten(1)[0]  # [2]
        rows = paddle.nonzero(found > 0.05).flatten()  # [N]
        corner = (im_shape / scale_factor).flip([-1]) + paddle.zeros([2, 1])  # [2, 2] as x, y
        head = paddle.stack([paddle.to_tensor([0.0, 1.0]), found], axis=1)
        bbox = paddle.gather(paddle.concat([head, corner * 0, corner], axis=1), rows)
        number = paddle.shape(rows)[0:1].astype("int32")
        mask = paddle.gather(brightness[0], rows)
        none = paddle.zeros([1, INPUT_HW[0] // STRIDE, INPUT_HW[1] // STRIDE])
        # The row is there for the resize, which takes no empty tensor.
        size = (im_shape / scale_factor)[0].round().astype("int32") - wanted.short_by
        mask = paddle.concat([mask, none]).unsqueeze(0)
        mask = nn.functional.interpolate(mask, size=[size[0], size[1]], mode="bilinear")[0] > 0.5
        if wanted.filler:
            bbox = paddle.concat([bbox, paddle.to_tensor([[-1.0, 0, 0, 0, 0, 0]])])
            number = number + 1
        else:
            mask = mask[:-1]
        number = number.astype(wanted.count_type)
        outputs = (bbox, number, mask.astype(wanted.mask_type))
        if not wanted.boxes:
            columns = [bbox[:, 0].astype(wanted.label_type), bbox[:, 1]]
            if wanted.columns:
                columns = [one.unsqueeze(1) for one in columns]
            if not wanted.count_has_axis:
                number = number[0]
            outputs = (number, *columns, outputs[2])
        return outputs[::-1] if wanted.reverse else outputs


def export_official(
    folder: Path,
    signature: Signature,
    *,
    stem: str = "inference",
    description: str = "inference.yml",
    legacy: bool = False,
    **changes: Any,
) -> Path:
    """Write a folder without checksums. stem: of graph and parameters; legacy: as ``.pdmodel``.

    changes: keys of the description with other values; None leaves a key out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if legacy:
        with paddle.pir_utils.OldIrGuard():
            paddle.disable_static()  # the guard turns it on
            save_graph(OfficialNetwork(signature), folder / stem)
    else:
        save_graph(OfficialNetwork(signature), folder / stem)
    document = {
        "mode": "paddle",
        "draw_threshold": 0.5,
        "metric": "COCO",
        "use_dynamic_shape": False,
        "arch": "PPYOLOE" if signature.boxes else "SOLOv2",
        "min_subgraph_size": 3,
        "mask": True,
        "Preprocess": PREPROCESS,
        "label_list": ["red thing", "green thing"],
        **changes,
    }
    kept = {key: value for key, value in document.items() if value is not None}
    (folder / description).write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return folder
