"""Assignment of boxes to objects, and sampling of the boxes for training.

Shapes: N boxes, G objects of one image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor

from paddlex_seg.ops.boxes import pairwise_iou
from paddlex_seg.structures import Target

OBJECTS_AT_ONCE = 16  # objects per chunk of the IoU table with all anchors, to limit memory
SAMPLES_PER_IMAGE = 512
FOREGROUND_SHARE = 0.25
UNIT_BOX = [0.0, 0.0, 1.0, 1.0]  # used if an image has no box


class Overlaps(NamedTuple):
    """For each of N boxes, the object with the highest IoU. Without objects, all values are 0."""

    iou: Tensor  # float32 [N]
    object: Tensor  # int64 [N]
    is_best_of_object: Tensor  # bool [N]: the box has the highest IoU with some object


class RoiSamples(NamedTuple):
    """n sampled boxes of a batch, image by image, foreground first. Image b has ``num[b]`` boxes."""

    boxes_xyxy: Tensor  # float32 [n, 4]
    num: Tensor  # int32 [B]
    class_ids: Tensor  # int64 [n]; background: the number of classes
    objects: Tensor  # int64 [n]: index of the object in its image
    object_boxes_xyxy: Tensor  # float32 [n, 4]; 0 for an image without objects


@paddle.no_grad()
def best_overlaps(boxes_xyxy: Tensor, object_boxes_xyxy: Tensor) -> Overlaps:
    """The object with the highest IoU of each box. boxes_xyxy: float32 [N, 4]; object_boxes_xyxy: [G, 4]."""
    num_boxes, num_objects = boxes_xyxy.shape[0], object_boxes_xyxy.shape[0]
    best = paddle.zeros([num_boxes])
    owner = paddle.zeros([num_boxes], dtype="int64")
    is_best_of_object = paddle.zeros([num_boxes], dtype="bool")
    for begin in range(0, num_objects, OBJECTS_AT_ONCE):
        some = object_boxes_xyxy[begin : begin + OBJECTS_AT_ONCE]
        iou = pairwise_iou(some, boxes_xyxy, epsilon=1e-10)  # [g, N]
        highest = iou.max(axis=1, keepdim=True)
        is_best_of_object |= ((iou == highest) & (iou > 0)).any(axis=0)
        own = iou.max(axis=0)
        owner = paddle.where(own > best, iou.argmax(axis=0) + begin, owner)
        best = paddle.maximum(own, best)
    return Overlaps(best, owner, is_best_of_object)


def random_subset(positions: Tensor, count: int) -> Tensor:
    """``count`` random elements of ``positions``, int64 [n]; all of them if n <= count."""
    if positions.shape[0] <= count:
        return positions
    return positions.gather(paddle.randperm(positions.shape[0])[:count])


@paddle.no_grad()
def sample_rois(
    proposals: Sequence[Tensor], targets: Sequence[Target], *, num_classes: int, foreground_iou: float
) -> RoiSamples:
    """Random samples of the proposals [n, 4] and object boxes of each image, up to a quarter foreground."""
    images = []
    for proposal, target in zip(proposals, targets, strict=True):
        labelled = label_rois(
            [paddle.concat([proposal, target.boxes_xyxy])],
            [target],
            num_classes=num_classes,
            foreground_iou=foreground_iou,
        )
        is_foreground = labelled.class_ids < num_classes
        foreground = random_subset(
            paddle.nonzero(is_foreground).flatten(), int(SAMPLES_PER_IMAGE * FOREGROUND_SHARE)
        )
        background = random_subset(
            paddle.nonzero(~is_foreground).flatten(), SAMPLES_PER_IMAGE - len(foreground)
        )
        images.append(_choose(labelled, paddle.concat([foreground, background])))
    return _join(images)


@paddle.no_grad()
def label_rois(
    boxes: Sequence[Tensor], targets: Sequence[Target], *, num_classes: int, foreground_iou: float
) -> RoiSamples:
    """All boxes, [n, 4] for each image, assigned to objects by IoU."""
    return _join(
        [
            _label(image_boxes, target, num_classes=num_classes, foreground_iou=foreground_iou)
            for image_boxes, target in zip(boxes, targets, strict=True)
        ]
    )


def foreground_rows(samples: RoiSamples, num_classes: int) -> Tensor:
    """The positions of the samples that belong to an object, int64 [f]."""
    return paddle.nonzero(samples.class_ids < num_classes).flatten()


def _label(boxes: Tensor, target: Target, *, num_classes: int, foreground_iou: float) -> RoiSamples:
    if boxes.shape[0] == 0:  # one box, so that every layer gets a gradient
        boxes = paddle.to_tensor([UNIT_BOX])
    overlap = best_overlaps(boxes, target.boxes_xyxy)
    class_ids = paddle.full([boxes.shape[0]], num_classes, dtype="int64")
    object_boxes = paddle.zeros_like(boxes)
    if len(target.class_ids):
        is_foreground = overlap.iou >= foreground_iou
        class_ids = paddle.where(is_foreground, target.class_ids.gather(overlap.object), class_ids)
        object_boxes = target.boxes_xyxy.gather(overlap.object)
    num = paddle.to_tensor([boxes.shape[0]], dtype="int32")
    return RoiSamples(boxes, num, class_ids, overlap.object, object_boxes)


def _choose(samples: RoiSamples, rows: Tensor) -> RoiSamples:
    boxes, _, *others = samples
    return RoiSamples(
        boxes.gather(rows),
        paddle.to_tensor([rows.shape[0]], dtype="int32"),
        *(tensor.gather(rows) for tensor in others),
    )


def _join(images: Sequence[RoiSamples]) -> RoiSamples:
    return RoiSamples(*(paddle.concat(list(tensors)) for tensors in zip(*images, strict=True)))
