"""Non-maximum suppression on Paddle tensors."""

import paddle
from paddle import Tensor


def multiclass_nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    nms_top_k: int,
    keep_top_k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Drops boxes that overlap a better one of their own class.

    boxes_xyxy: float32 [B, L, 4]; scores: float32 [B, K, L]. Of each class and image the ``nms_top_k`` best
    above ``score_threshold`` take part; ``keep_top_k`` stay per image. Returns, image by image, within an
    image by class, within a class by falling score: rows float32 [N, 6] of class index, score, x1, y1, x2,
    y2; the position of each row in the B * L boxes, int64 [N]; and the rows per image, int32 [B]. N may be 0.
    """
    # The operator has no public Python function. It runs eagerly and in graphs, and exporters know it by its
    # name.
    rows, positions, num_rows = paddle._C_ops.multiclass_nms3(
        boxes_xyxy,
        scores,
        None,  # rows per image of the input, for a packed layout that we do not use
        score_threshold,
        nms_top_k,
        keep_top_k,
        iou_threshold,
        True,  # a box from x1 to x2 is x2 - x1 wide, not one more
        1.0,  # the IoU threshold stays as it is from box to box
        -1,  # no class is the background
    )
    return rows, positions.flatten().astype("int64"), num_rows
