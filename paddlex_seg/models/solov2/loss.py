"""The losses of SOLOv2: focal loss for the classes of all cells, dice loss for the masks of assigned cells.

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
    """``loss`` and its weighted terms ``loss_cate`` and ``loss_ins``.

    mask_features: [B, C, h, w]. Without objects ``loss_ins`` is 0, but kernels and mask features still get a
    gradient, because no parameter may be without a gradient.
    """
    # With mixed precision they may be in 16 bits.
    class_logits, kernels = (cells_to_rows(levels).astype("float32") for levels in outputs)
    mask_features = mask_features.astype("float32")
    assigned = [assign_cells(target) for target in targets]
    loss_cate = _class_loss(class_logits, assigned, joined)
    loss_ins = MASK_WEIGHT * _mask_loss(kernels, mask_features, assigned, targets, joined)
    return {"loss": loss_cate + loss_ins, "loss_cate": loss_cate, "loss_ins": loss_ins}


def _class_loss(class_logits: Tensor, assigned: Sequence[ImageTargets], joined: JoinedTotals) -> Tensor:
    """Sum over all cells, divided by the number of assigned cells + 1. class_logits: [B, L, K]."""
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
    """Mean over the assigned cells of all images. kernels: [B, L, C]."""
    dice = []
    # unbind() needs one gradient tensor for all images. With slices, each gradient has the size of the batch.
    per_image = zip(kernels.unbind(), mask_features.unbind(), assigned, targets, strict=True)
    for kernel, features, image, target in per_image:
        wanted = shrink_masks(target.masks).astype("float32").flatten(1)  # [n, h * w]
        # Some objects are so small that their shrunk mask is empty.
        has_pixels = wanted.sum(axis=1).numpy()[image.objects] > 0
        cells, objects = image.cells[has_pixels], image.objects[has_pixels]
        if len(cells) > 0:
            # Not kernel[cells]: Paddle 3.2.2 returns wrong rows if the tensor is a transposed view.
            logits = paddle.matmul(kernel.gather(paddle.to_tensor(cells)), features.flatten(1))  # [P, h * w]
            dice.append(dice_loss(F.sigmoid(logits), wanted, paddle.to_tensor(objects)))
    share = joined.share_of_mean(sum(len(rows) for rows in dice))
    if not dice:
        return 0.0 * (kernels.mean() + mask_features.mean())
    return share * paddle.concat(dice).mean()


def dice_loss(probabilities: Tensor, masks: Tensor, mask_of_row: Tensor) -> Tensor:
    """Dice loss of each row of probabilities [P, pixels] and its mask: [P], from 0 to 1.

    masks: float32 [n, pixels], 0 or 1; mask_of_row: int64 [P], index of the target mask of each row.
    """
    # One matrix product of all rows with all masks is faster than copying a mask for each row.
    overlap = paddle.take_along_axis(
        paddle.matmul(probabilities, masks, transpose_y=True), mask_of_row.unsqueeze(1), axis=1
    ).squeeze(1)
    area = masks.sum(axis=1).gather(mask_of_row)
    return 1 - 2 * overlap / (probabilities.square().sum(axis=1) + area + 0.002)
