"""The losses of SOLOv2: a focal loss for the classes of all cells, a dice loss for the masks of some.

Shapes: B images, K classes, L grid cells, n objects and P assigned cells of one image, [h, w] = [H/4, W/4].
"""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from paddlex_seg.models.solov2.head import GridOutputs, cells_to_rows
from paddlex_seg.models.solov2.targets import ImageTargets, assign_cells, shrink_masks
from paddlex_seg.structures import JoinedTotals, Target

MASK_WEIGHT = 3.0


def solov2_losses(
    outputs: GridOutputs, mask_features: Tensor, targets: Sequence[Target], joined: JoinedTotals
) -> dict[str, Tensor]:
    """``loss``, the sum of ``loss_cate`` and ``loss_ins``, which are weighted already.

    mask_features: [B, C, h, w]. Without objects ``loss_ins`` is 0, and all that it could depend on still gets
    a gradient, so that replicas of a distributed run stay in step.
    """
    # They are less under mixed precision.
    class_logits, kernels = (cells_to_rows(levels).astype("float32") for levels in outputs)
    mask_features = mask_features.astype("float32")
    assigned = [assign_cells(target) for target in targets]
    loss_cate = _class_loss(class_logits, assigned, joined)
    loss_ins = MASK_WEIGHT * _mask_loss(kernels, mask_features, assigned, targets, joined)
    return {"loss": loss_cate + loss_ins, "loss_cate": loss_cate, "loss_ins": loss_ins}


def _class_loss(class_logits: Tensor, assigned: Sequence[ImageTargets], joined: JoinedTotals) -> Tensor:
    """class_logits: [B, L, K]. The sum over all cells, per cell that has an object (and one more)."""
    class_of_cell = np.stack([image.class_of_cell for image in assigned])  # [B, L]
    num_classes = class_logits.shape[-1]
    wanted = F.one_hot(paddle.to_tensor(class_of_cell + 1), num_classes + 1)[:, :, 1:]
    assigned_cells = joined.total(paddle.to_tensor([(class_of_cell >= 0).sum()], dtype="float32"))
    count = joined.own_part(1.0 + assigned_cells)
    return F.sigmoid_focal_loss(class_logits, wanted, normalizer=count, alpha=0.25, gamma=2.0)


def _mask_loss(
    kernels: Tensor,
    mask_features: Tensor,
    assigned: Sequence[ImageTargets],
    targets: Sequence[Target],
    joined: JoinedTotals,
) -> Tensor:
    """kernels: [B, L, C]. The mean over the assigned cells of all images."""
    dice = []
    # Unbound, so that one copy puts their gradients together: those of slices are each as large as a batch.
    per_image = zip(kernels.unbind(), mask_features.unbind(), assigned, targets, strict=True)
    for kernel, features, image, target in per_image:
        wanted = shrink_masks(target.masks).astype("float32").flatten(1)  # [n, h * w]
        # Some objects are too small to leave a pixel.
        has_pixels = wanted.sum(axis=1).numpy()[image.objects] > 0
        cells, objects = image.cells[has_pixels], image.objects[has_pixels]
        if len(cells) > 0:
            # Not kernel[cells]: Paddle 3.2.2 takes wrong rows of a tensor that is a transposed view.
            logits = paddle.matmul(kernel.gather(paddle.to_tensor(cells)), features.flatten(1))  # [P, h * w]
            dice.append(dice_loss(F.sigmoid(logits), wanted, paddle.to_tensor(objects)))
    share = joined.share_of_mean(sum(len(rows) for rows in dice))
    if not dice:
        return 0.0 * (kernels.mean() + mask_features.mean())
    return share * paddle.concat(dice).mean()


def dice_loss(probabilities: Tensor, masks: Tensor, mask_of_row: Tensor) -> Tensor:
    """How little each row [P, pixels] of probabilities overlaps its mask: [P], from 0 to 1.

    masks: float32 [n, pixels], 0 or 1; mask_of_row: int64 [P], which of them a row is to be.
    """
    # All rows with all masks in one product: cheaper than a copy of a mask for each row.
    overlap = paddle.take_along_axis(
        paddle.matmul(probabilities, masks, transpose_y=True), mask_of_row.unsqueeze(1), axis=1
    ).squeeze(1)
    area = masks.sum(axis=1).gather(mask_of_row)
    return 1 - 2 * overlap / (probabilities.square().sum(axis=1) + area + 0.002)
