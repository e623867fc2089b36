"""Non-maximum suppression on Paddle tensors.

Shapes: B images, L boxes, K classes, N kept boxes, P masks of [h, w] pixels.
"""

import paddle
from paddle import Tensor

NOTHING = -1e30  # score of a missing box; not infinite, because some runtimes multiply it by 0
MORE_THAN_ANY = 1_000_000  # no limit of boxes per group; ONNX Runtime keeps no box for a limit of -1


def grouped_nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    *,
    image: Tensor,
    num_images: int | Tensor,
    group: Tensor,
    num_groups: int,
    iou_threshold: float,
) -> Tensor:
    """NMS within each image and group. Returns the positions, int64 [M], of the boxes to keep.

    boxes_xyxy: float32 [N, 4]; scores: float32 [N], a box with score ``NOTHING`` is never kept; image and
    group (a class or a level): int64 [N]. The result is sorted by image, then group, then descending score. N
    is at least 1, M may be 0. Unlike in ``multiclass_nms``, each box has only one group.
    """
    num_boxes = boxes_xyxy.shape[0]
    of_image = (paddle.arange(num_images).unsqueeze(1) == image).unsqueeze(1)  # [B, 1, N]
    of_group = (paddle.arange(num_groups).unsqueeze(1) == group).unsqueeze(0)  # [1, G, N]
    # One score table per image, instead of one group per image and class: the ONNX converter needs a fixed
    # number of groups.
    table = paddle.where(of_image & of_group, scores, paddle.full([1], NOTHING))
    positions = multiclass_nms(
        boxes_xyxy.unsqueeze(0).expand([num_images, num_boxes, 4]),
        table,
        score_threshold=NOTHING / 2,
        iou_threshold=iou_threshold,
        nms_top_k=MORE_THAN_ANY,
        keep_top_k=-1,
    )[1]
    return positions % num_boxes


def best_of_each_image(
    scores: Tensor, image: Tensor, num_images: int | Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """The ``limit`` best scores of each image: positions, int64 [M], and number per image, int32 [B].

    scores: float32 [N]; image: int64 [N]. Positions are sorted by image, then descending score. N and M may
    be 0.
    """
    is_own = paddle.arange(num_images).unsqueeze(1) == image.unsqueeze(0)
    of_image = paddle.where(is_own, scores.unsqueeze(0), paddle.full([1, 1], NOTHING))  # [B, N]
    # Append ``limit`` missing entries, because topk needs at least ``limit`` entries.
    nothing = paddle.full([1, limit], NOTHING).expand([num_images, limit])
    best, position = paddle.topk(paddle.concat([of_image, nothing], axis=1), limit, axis=1)
    is_there = best > NOTHING / 2
    chosen = paddle.nonzero(is_there.flatten()).flatten()
    return position.flatten().gather(chosen), is_there.astype("int32").sum(axis=1).astype("int32")


def multiclass_nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    nms_top_k: int,
    keep_top_k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """NMS within each class: drops boxes that overlap a better box of the same class.

    boxes_xyxy: float32 [B, L, 4]; scores: float32 [B, K, L]. The ``nms_top_k`` best boxes of each class and
    image above ``score_threshold`` are candidates; ``keep_top_k`` boxes are kept per image. Returns rows
    float32 [N, 6] of class index, score, x1, y1, x2, y2, sorted by image, then class, then descending score;
    the position of each row in the B * L boxes, int64 [N]; and the rows per image, int32 [B]. N may be 0.
    """
    # The operator has no public Python function. It runs in dynamic mode and in graphs, and exporters know
    # its name.
    rows, positions, num_rows = paddle._C_ops.multiclass_nms3(
        boxes_xyxy,
        scores,
        None,  # rows per image of the input, only for a packed layout, which we do not use
        score_threshold,
        nms_top_k,
        keep_top_k,
        iou_threshold,
        True,  # normalized: the width of a box is x2 - x1, without adding 1
        1.0,  # nms_eta: the IoU threshold stays constant
        -1,  # background_label: no class is the background
    )
    return rows, positions.flatten().astype("int64"), num_rows


def matrix_nms(masks: Tensor, class_ids: Tensor, scores: Tensor, *, sigma: float = 2.0) -> Tensor:
    """Scores [B, P] after Matrix NMS: lower where a mask overlaps a better mask of the same class.

    Paper: X. Wang et al., "SOLOv2", https://arxiv.org/abs/2003.10152, section 3.3, with the Gaussian decay
    exp(-sigma * IoU^2). masks: float32 [B, P, h * w], 0 or 1; class_ids: integers [B, P]; scores: float32
    [B, P] in descending order. No mask is dropped. An empty mask has IoU 0 with all others.
    """
    area = masks.sum(axis=2)  # [B, P]
    intersection = paddle.matmul(masks, masks, transpose_y=True)  # [B, P, P]
    union = area.unsqueeze(2) + area.unsqueeze(1) - intersection
    same_class = (class_ids.unsqueeze(2) == class_ids.unsqueeze(1)).astype("float32")
    # [B, i, j]: IoU of mask j with mask i, where i has the better score.
    iou = paddle.triu(intersection / union.clip(min=1) * same_class, diagonal=1)
    # Compensation: mask i lowers others less if mask i itself overlaps a better mask.
    compensation = iou.max(axis=1).unsqueeze(2)  # [B, i, 1]
    return scores * paddle.exp(sigma * (compensation.square() - iou.square())).min(axis=1)
