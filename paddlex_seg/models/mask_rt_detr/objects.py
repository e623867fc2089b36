"""The annotated objects of a batch, for denoising, matching and losses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor

from paddlex_seg.ops.boxes import xyxy_to_cxcywh
from paddlex_seg.structures import Target


class Objects(NamedTuple):
    """All G objects of a batch, image by image. Image b has ``counts[b]`` objects."""

    class_ids: Tensor  # int64 [G]
    boxes: Tensor  # [G, 4], cxcywh as fractions of the input
    masks: Tensor  # uint8 [G, H, W]
    counts: tuple[int, ...]

    @property
    def first(self) -> tuple[int, ...]:
        """Index of each image's first object."""
        return tuple(np.cumsum([0, *self.counts[:-1]]).tolist())

    def of_image(self, image: int) -> Tensor:
        """Indices of the objects of an image."""
        return paddle.arange(self.first[image], self.first[image] + self.counts[image])


class Matches(NamedTuple):
    """Pairs of queries and objects, image by image."""

    query: NDArray[np.int64]  # [M], index in the B * Q queries
    object: NDArray[np.int64]  # [M], index in the objects of the batch


def gather_objects(targets: Sequence[Target], image_hw: Sequence[int]) -> Objects:
    """The objects of all targets. image_hw: size of the network input."""
    height, width = image_hw
    size = paddle.to_tensor([width, height, width, height], dtype="float32")
    return Objects(
        class_ids=paddle.concat([target.class_ids for target in targets]),
        boxes=xyxy_to_cxcywh(paddle.concat([target.boxes_xyxy for target in targets]) / size),
        masks=paddle.concat([target.masks for target in targets]),
        counts=tuple(len(target.class_ids) for target in targets),
    )
