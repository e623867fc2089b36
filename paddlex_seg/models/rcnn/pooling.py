"""RoI align: features of boxes, from the FPN level that fits the size of each box.

Papers: K. He et al., "Mask R-CNN", https://arxiv.org/abs/1703.06870, section 3 (RoI align), and T.-Y. Lin et
al., "Feature Pyramid Networks", https://arxiv.org/abs/1612.03144, equation 1 (levels). Shapes: B images, N
boxes.
"""

from collections.abc import Sequence

import paddle
from paddle import Tensor
from paddle.vision.ops import roi_align

from paddlex_seg.models.rcnn.assign import UNIT_BOX
from paddlex_seg.ops.ragged import image_of_rows

CANONICAL_SIDE = 224.0  # pixels, the size of ImageNet images
CANONICAL_LEVEL = 2  # level for boxes of this size: stride 16
PYRAMID_STRIDES = (4, 8, 16, 32)
SINGLE_STRIDE = 16  # of a network without FPN


def pool_rois(features: Sequence[Tensor], boxes_xyxy: Tensor, num: Tensor, resolution: int) -> Tensor:
    """Features of boxes, float32 [N, C, resolution, resolution].

    features: float32 [B, C, h, w] of stride 4, 8, 16, 32, or one of stride 16; boxes_xyxy: float32 [N, 4],
    pixels of the input; num: int32 [B], number of boxes per image, in order. N is at least 1.
    """
    if len(features) == 1:
        return _align(features[0], boxes_xyxy, num, resolution, SINGLE_STRIDE)
    level = pyramid_level(boxes_xyxy)
    image = image_of_rows(boxes_xyxy.shape[0], num)
    pooled, positions = [], []
    for i, stride in enumerate(PYRAMID_STRIDES):
        position = paddle.nonzero(level == i).flatten()
        is_own = (level == i).unsqueeze(1) & (image.unsqueeze(1) == paddle.arange(num.shape[0]))
        count = is_own.astype("int32").sum(axis=0).astype("int32")
        own, count = with_spare_box(boxes_xyxy.gather(position), count)
        pooled.append(_align(features[i], own, count, resolution, stride)[:-1])
        positions.append(position)
    order = paddle.argsort(paddle.concat(positions))
    return paddle.concat(pooled).gather(order)


def pyramid_level(boxes_xyxy: Tensor) -> Tensor:
    """Index of the level of each box, int64 [N], 0..3: larger boxes use coarser features."""
    size = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clip(min=0)
    side = paddle.sqrt(size[:, 0] * size[:, 1])
    level = paddle.floor(paddle.log2(side / CANONICAL_SIDE + 1e-6)) + CANONICAL_LEVEL
    return level.clip(0, len(PYRAMID_STRIDES) - 1).astype("int64")


def with_spare_box(boxes_xyxy: Tensor, num: Tensor) -> tuple[Tensor, Tensor]:
    """Append a box to the last image, because some operators fail on 0 boxes. The caller removes it again."""
    return paddle.concat([boxes_xyxy, paddle.to_tensor([UNIT_BOX])]), num + _last_one(num)


def _last_one(num: Tensor) -> Tensor:
    """0, ..., 0, 1: int32 with the length of ``num``."""
    return (paddle.arange(num.shape[0]) == num.shape[0] - 1).astype("int32")


def _align(features: Tensor, boxes_xyxy: Tensor, num: Tensor, resolution: int, stride: int) -> Tensor:
    # Adaptive number of samples per grid cell; pixel centres at whole numbers, as in the published models.
    return roi_align(
        features, boxes_xyxy, num, resolution, spatial_scale=1 / stride, sampling_ratio=-1, aligned=False
    )
