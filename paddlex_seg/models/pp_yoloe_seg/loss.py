"""The losses of PP-YOLOE_seg.

Shapes: B images, K classes, L grid cells, P positive cells of the batch, G objects of the batch, [H, W]
input size.
"""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from paddlex_seg.models.pp_yoloe_seg.assigner import Positives, assign_positives
from paddlex_seg.models.pp_yoloe_seg.head import NUM_BINS, HeadOutputs, PpYoloeSegHead
from paddlex_seg.ops.boxes import boxes_to_distances, distances_to_boxes, giou_loss
from paddlex_seg.ops.losses import distribution_focal_loss, varifocal_loss
from paddlex_seg.ops.processes import in_step
from paddlex_seg.structures import JoinedTotals, Target

IOU_WEIGHT = 2.5
DFL_WEIGHT = 0.5
MASK_WEIGHT = 2.5
SCRATCH_CLASS_WEIGHT = 0.5


def pp_yoloe_seg_losses(
    head: PpYoloeSegHead,
    outputs: HeadOutputs,
    targets: Sequence[Target],
    joined: JoinedTotals,
    *,
    from_scratch: bool = False,
) -> dict[str, Tensor]:
    """Named scalars: ``loss`` to minimise, its terms before weighting, and ``loss_l1`` for the log.

    ``loss_l1`` is the mean over positives. All other terms are sums divided by the sum of the target scores
    (at least 1) of the joined batch.

    ``from_scratch`` makes three changes, which the published weights were trained without:
    - Mask targets are the mean of the 4x4 pixels under a prototype pixel, instead of the first of them. The
      first pixel shifts every mask by 1.5 pixels, too much for a thin object
      (benchmarks/mask_target_ceiling.py).
    - The mask loss is divided by the number of positives instead of their target scores. Scores are close to
    0 while boxes are poor, and the mask gradients would dominate all others. - The class loss is binary cross
    entropy. The varifocal loss hardly lowers background scores that are already small.
    """
    parts = [*in_step(outputs[:4]), *outputs[4:]]  # centers and strides have no gradient
    outputs = HeadOutputs(*(tensor.astype("float32") for tensor in parts))  # with AMP they may be in 16 bits
    positives = _assign(head, outputs, targets)
    count = paddle.to_tensor(float(len(positives.cell)))
    score_sum, num_positives = joined.normalizer(paddle.stack([positives.score.sum(), count])).unbind()
    losses = {"loss_cls": _class_loss(outputs.class_logits, positives, targets, is_plain=from_scratch)}
    if len(positives.cell) > 0:
        losses |= _box_losses(head, outputs, positives, targets)
        losses["loss_mask"] = _mask_loss(outputs, positives, targets, mean_targets=from_scratch)
    else:
        losses |= _zero_losses(outputs)
    normalizers = dict.fromkeys(losses, score_sum) | {"loss_l1": num_positives / count.clip(min=1.0)}
    if from_scratch:
        normalizers["loss_mask"] = num_positives
    losses = {name: loss / normalizers[name] for name, loss in losses.items()}
    total = (
        (SCRATCH_CLASS_WEIGHT if from_scratch else 1.0) * losses["loss_cls"]
        + IOU_WEIGHT * losses["loss_iou"]
        + DFL_WEIGHT * losses["loss_dfl"]
        + MASK_WEIGHT * losses["loss_mask"]
    )
    return {"loss": total, **losses}


@paddle.no_grad()
def _assign(head: PpYoloeSegHead, outputs: HeadOutputs, targets: Sequence[Target]) -> Positives:
    distances = head.expected_distances(outputs.distance_logits)
    boxes = distances_to_boxes(outputs.centers, distances) * outputs.strides
    return assign_positives(
        scores=F.sigmoid(outputs.class_logits),
        boxes_xyxy=boxes,
        centers=outputs.centers * outputs.strides,
        targets=targets,
    )


def _class_loss(
    class_logits: Tensor, positives: Positives, targets: Sequence[Target], *, is_plain: bool
) -> Tensor:
    """Varifocal loss, or binary cross entropy if ``is_plain``, summed over cells and classes."""
    wanted = paddle.zeros([class_logits.size])
    is_positive = paddle.zeros([class_logits.size])
    if len(positives.cell) > 0:
        classes = paddle.concat([target.class_ids for target in targets])[positives.object]
        entry = positives.cell * class_logits.shape[-1] + classes
        wanted = paddle.scatter(wanted, entry, positives.score)
        is_positive = paddle.scatter(is_positive, entry, paddle.ones_like(positives.score))
    logits = class_logits.flatten()
    if is_plain:
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return varifocal_loss(F.sigmoid(logits), wanted, is_positive > 0)


def _box_losses(
    head: PpYoloeSegHead, outputs: HeadOutputs, positives: Positives, targets: Sequence[Target]
) -> dict[str, Tensor]:
    """Sums over the positives; for L1 the mean. Boxes are in units of the stride of their cell."""
    cell_of_image = positives.cell % len(outputs.centers)
    centers = outputs.centers[cell_of_image]  # [P, 2]
    boxes = paddle.concat([target.boxes_xyxy for target in targets])[positives.object]  # [P, 4]
    boxes = boxes / outputs.strides[cell_of_image]
    logits = outputs.distance_logits.flatten(0, 1)[positives.cell]  # [P, 4 * NUM_BINS]
    predicted = distances_to_boxes(centers, head.expected_distances(logits))
    # Targets stay below the last bin, which is only used as the upper neighbour.
    wanted = boxes_to_distances(centers, boxes).clip(0, NUM_BINS - 1 - 0.01)
    dfl = distribution_focal_loss(logits.reshape([-1, 4, NUM_BINS]), wanted).mean(axis=1)
    return {
        "loss_iou": (giou_loss(predicted, boxes) * positives.score).sum(),
        "loss_dfl": (dfl * positives.score).sum(),
        "loss_l1": F.l1_loss(predicted, boxes),
    }


def _mask_loss(
    outputs: HeadOutputs, positives: Positives, targets: Sequence[Target], *, mean_targets: bool
) -> Tensor:
    """Binary cross entropy inside the box of the object, mean over its pixels, summed over the positives.

    The loop over objects only uses the pixels of each box, shared by all cells of the object. So memory grows
    with the areas of the boxes, not with P whole images.
    """
    coefficients = outputs.coefficients.flatten(0, 1)[positives.cell]  # [P, 32]
    cells_of_object = np.bincount(positives.object.numpy(), minlength=sum(len(t.class_ids) for t in targets))
    rows = np.concatenate([[0], np.cumsum(cells_of_object)])
    total = paddle.zeros([])
    first_object = 0
    for prototypes, target in zip(outputs.prototypes, targets, strict=True):
        for j, box in enumerate(target.boxes_xyxy.numpy()):
            begin, end = rows[first_object + j : first_object + j + 2]
            if end > begin:
                coefficient = coefficients[begin:end]
                total = total + _object_mask_loss(
                    prototypes, coefficient, box, target.masks[j], mean_targets=mean_targets
                )
        first_object += len(target.class_ids)
    return total


def _object_mask_loss(
    prototypes: Tensor, coefficients: Tensor, box: np.ndarray, mask: Tensor, *, mean_targets: bool
) -> Tensor:
    """prototypes: [32, h, w]; coefficients: [p, 32]; box: [4] xyxy, input pixels; mask: uint8 [H, W]."""
    step_y, step_x = mask.shape[0] // prototypes.shape[1], mask.shape[1] // prototypes.shape[2]
    scale = np.array([step_x, step_y, step_x, step_y], dtype=np.float32)
    # A pixel is inside the box if first side <= index < second side.
    x1, y1, x2, y2 = np.maximum(np.ceil(box / scale), 0).astype(int)
    if mean_targets:
        pixels = mask[y1 * step_y : y2 * step_y, x1 * step_x : x2 * step_x].astype("float32")
        wanted = pixels.reshape([y2 - y1, step_y, x2 - x1, step_x]).mean(axis=[1, 3]).flatten()
    else:
        wanted = mask[::step_y, ::step_x][y1:y2, x1:x2].astype("float32").flatten()
    logits = paddle.matmul(coefficients, prototypes[:, y1:y2, x1:x2].flatten(1))  # [p, pixels in the box]
    error = F.binary_cross_entropy_with_logits(logits, wanted.expand_as(logits), reduction="sum")
    area = (box[2] - box[0]) / step_x * (box[3] - box[1]) / step_y
    return error / float(area)


def _zero_losses(outputs: HeadOutputs) -> dict[str, Tensor]:
    """Zero losses that still give each head a gradient, because no parameter may be without a gradient."""
    zero = 0.0 * (outputs.distance_logits.mean() + outputs.coefficients.mean() + outputs.prototypes.mean())
    return {"loss_iou": zero, "loss_dfl": zero, "loss_l1": zero.detach(), "loss_mask": zero}
