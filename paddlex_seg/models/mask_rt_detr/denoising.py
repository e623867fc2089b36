"""Denoising queries: annotated objects with noise. The decoder learns to restore them; no matching is needed.

Paper: F. Li et al., "DN-DETR", https://arxiv.org/abs/2203.01305. Shapes: B images, D denoising queries in
groups of G queries. G is the largest number of objects in an image of the joined batch.
"""

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor

from paddlex_seg.models.mask_rt_detr.objects import Matches, Objects
from paddlex_seg.ops.boxes import inverse_sigmoid
from paddlex_seg.structures import JoinedTotals

LABEL_NOISE = 0.25  # share of the queries with a random class
BOX_NOISE = 1.0  # 1.0: centres move by up to half the box size, sizes change by up to 100 %


@dataclass(frozen=True)
class Denoising:
    """The denoising queries of a batch. In images with fewer than G objects, groups are padded at the end."""

    class_ids: Tensor  # int64 [B, D], with noise; the number of classes for padding
    boxes: Tensor  # [B, D, 4], cxcywh 0..1, with noise
    num_groups: int
    group_size: int  # G

    @property
    def num_queries(self) -> int:
        """D."""
        return self.num_groups * self.group_size

    def content(self, class_embedding: Tensor) -> Tensor:
        """Content [B, D, C] of the queries from the class embedding [K, C]; zeros for padding."""
        padding = paddle.zeros([1, class_embedding.shape[1]])
        rows = paddle.concat([class_embedding, padding]).gather(self.class_ids.flatten())
        return rows.reshape([*self.class_ids.shape, -1])

    def attention_mask(self, num_matching: int) -> Tensor:
        """Mask [D + Q, D + Q]: 0 where the query of a row may attend to that of a column, otherwise -inf.

        Groups do not attend to each other. The Q matching queries, at the end, do not attend to any group.
        """
        group = np.repeat(np.arange(self.num_groups), self.group_size)
        blocked = np.zeros([self.num_queries + num_matching] * 2, bool)
        blocked[: self.num_queries, : self.num_queries] = group[:, None] != group
        blocked[self.num_queries :, : self.num_queries] = True
        return paddle.to_tensor(np.where(blocked, -np.inf, 0.0).astype(np.float32))

    def matches(self, objects: Objects) -> Matches:
        """Pairs of each object and its query in each group. Queries are indices in the B * D queries."""
        queries, matched = [], []
        for image, (first, count) in enumerate(zip(objects.first, objects.counts, strict=True)):
            group, number = np.indices([self.num_groups, count]).reshape(2, -1)
            queries.append(image * self.num_queries + group * self.group_size + number)
            matched.append(first + number)
        return Matches(np.concatenate(queries), np.concatenate(matched))


@paddle.no_grad()
def make_denoising(
    objects: Objects, num_classes: int, max_queries: int, joined: JoinedTotals
) -> Denoising | None:
    """About ``max_queries`` queries per image, at least one group. None if the joined batch has no objects.

    Every object gets a query, so images with more objects than ``max_queries`` get more queries.
    """
    group_size = joined.maximum(max(objects.counts))
    if group_size == 0 or max_queries == 0:
        return None
    num_groups = max(max_queries // group_size, 1)
    class_ids = np.full([len(objects.counts), group_size], num_classes)
    boxes = np.zeros([len(objects.counts), group_size, 4], np.float32)
    for image, (first, count) in enumerate(zip(objects.first, objects.counts, strict=True)):
        class_ids[image, :count] = objects.class_ids.numpy()[first : first + count]
        boxes[image, :count] = objects.boxes.numpy()[first : first + count]
    noisy_ids = _with_label_noise(np.tile(class_ids, [1, num_groups]), num_classes)
    noisy_boxes = paddle.to_tensor(np.tile(boxes, [1, num_groups, 1]))
    step = paddle.concat([noisy_boxes[..., 2:] / 2, noisy_boxes[..., 2:]], axis=-1) * BOX_NOISE
    noisy_boxes = noisy_boxes + step * (2 * paddle.rand(noisy_boxes.shape) - 1)
    return Denoising(
        class_ids=paddle.to_tensor(noisy_ids),
        boxes=F.sigmoid(inverse_sigmoid(noisy_boxes)),
        num_groups=num_groups,
        group_size=group_size,
    )


def _with_label_noise(class_ids: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    drawn = paddle.rand([class_ids.size]).numpy().reshape(class_ids.shape)
    chosen = np.nonzero((drawn < LABEL_NOISE) & (class_ids < num_classes))
    if len(chosen[0]) > 0:
        class_ids[chosen] = paddle.randint(0, num_classes, [len(chosen[0])]).numpy()
    return class_ids
