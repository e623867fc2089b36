"""An exported folder as PaddleX wrote it before Paddle 3: ``inference.pdmodel``, and no checksums."""

from pathlib import Path

import paddle
from paddle import Tensor, nn
from toy_model import INPUT_HW, SPEC, STRIDE, save_graph

from paddlex_seg.inference.export_spec import write_inference_yml


class LegacyNetwork(nn.Layer):
    """Finds one thing per class in every image. Its functions still exist in Paddle's earlier graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2D(3, 2, STRIDE, stride=STRIDE)
        self.norm = nn.BatchNorm2D(2)

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cells = paddle.clip(self.norm(self.mean(image)), 0.0, 1.0)
        scores = paddle.mean(cells, axis=[2, 3])  # [B, 2]
        size = paddle.tile(im_shape / scale_factor, [1, 2]).reshape([-1, 2])
        column = scores.reshape([-1, 1])
        bbox = paddle.concat([column * 0, column * 0 + 0.9, size * 0, size], axis=1)
        bbox_num = paddle.sum(paddle.ones_like(scores), axis=1).astype("int32")
        pasted = nn.functional.interpolate(cells, scale_factor=STRIDE)  # for images of the size of the input
        mask = pasted.reshape([-1, *INPUT_HW]) > 0.5
        return bbox, bbox_num, mask.astype("int32")


def export_legacy(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with paddle.pir_utils.OldIrGuard():
        paddle.disable_static()  # the guard turns it on
        save_graph(LegacyNetwork(), folder / "inference")
    write_inference_yml(folder / "inference.yml", SPEC)
    return folder
