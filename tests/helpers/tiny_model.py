"""A network of one layer whose detections depend on all that a certificate compares."""

import numpy as np
import paddle
from paddle import Tensor, nn

from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import Detections, MaskFrame


class TinyModel(InstanceSegmenter):
    """Four objects in every image, of classes 0, 1, 0, 1.

    The mask of an object is where a mixture of the colours is bright, and its score says how bright.
    """

    mask_frame: MaskFrame = "image_logits"
    max_detections = 4

    def __init__(self, score_bias: float = 0.0) -> None:
        super().__init__()
        self.score_bias = score_bias
        weight = np.random.RandomState(3).uniform(-1, 1, (4, 3, 4, 4)).astype(np.float32)
        weight -= weight.mean(axis=(1, 2, 3), keepdims=True) - 0.02  # masks with and without bright places
        self.masks = nn.Conv2D(
            3,
            4,
            4,
            stride=4,
            weight_attr=nn.initializer.Assign(weight),
            bias_attr=nn.initializer.Constant(-0.2),
        )

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        masks = self.masks(image)  # [B, 4, h, w]
        scores = nn.functional.sigmoid(8 * masks.mean([2, 3]) + self.score_bias).flatten()  # [4B]
        classes = paddle.to_tensor([0.0, 1.0, 0.0, 1.0]).tile([image.shape[0]])
        size = (im_shape / scale_factor).flip(-1).repeat_interleave(4, axis=0)  # [4B, 2], x and y
        bbox = paddle.concat([paddle.stack([classes, scores], axis=1), 0 * size, size], axis=1)
        return Detections(bbox, paddle.full([image.shape[0]], 4, "int32"), masks.flatten(0, 1))


class TinyRoiModel(InstanceSegmenter):
    """Four objects in every image, whose masks are cut out of features by RoiAlign, as in R-CNNs."""

    mask_frame: MaskFrame = "box"
    max_detections = 4

    def __init__(self) -> None:
        super().__init__()
        self.features = TinyModel().masks

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        features = 40 * self.features(image)  # [B, 4, h, w]
        corners = paddle.to_tensor(
            [[0.1, 0.1, 0.5, 0.6], [0.3, 0.2, 0.9, 0.8], [0.0, 0.4, 0.6, 1.0], [0.4, 0.0, 1.0, 0.5]]
        )
        boxes = (corners * im_shape.flip(-1).tile([1, 2]).unsqueeze(1)).flatten(0, 1)  # [4B, 4]
        number = paddle.full([image.shape[0]], 4, "int32")
        cut = paddle.vision.ops.roi_align(features, boxes, number, 14, 0.25, aligned=False)  # [4B, 4, 14, 14]
        masks = nn.functional.sigmoid(cut[:, 0])
        scale = scale_factor.flip(-1).tile([1, 2]).repeat_interleave(4, axis=0)
        scores = paddle.full([4 * image.shape[0], 1], 0.5)
        return Detections(paddle.concat([0 * scores, scores, boxes / scale], axis=1), number, masks)
