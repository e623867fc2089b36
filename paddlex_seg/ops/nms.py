"""Non-maximum suppression on Paddle tensors.

Shapes: B images, L boxes, K classes, N kept boxes, P masks of [h, w] pixels.
"""

import paddle
from paddle import Tensor

NOTHING = -1e30  # the score of what is not there; not infinite, since some runtimes multiply it by 0
MORE_THAN_ANY = 1_000_000  # boxes of one group; ONNX Runtime takes a limit of -1 for none at all


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
    """The positions, int64 [M], of the boxes that do not overlap a better one of their own image and group.

    boxes_xyxy: float32 [N, 4]; scores: float32 [N], of which ``NOTHING`` is never kept; image and group (a
    class, or a level): int64 [N]. Sorted by image, then by group, then by falling score. N is at least 1, M
    may be 0. Unlike in ``multiclass_nms``, a box has one group only.
    """
    num_boxes = boxes_xyxy.shape[0]
    of_image = (paddle.arange(num_images).unsqueeze(1) == image).unsqueeze(1)  # [B, 1, N]
    of_group = (paddle.arange(num_groups).unsqueeze(1) == group).unsqueeze(0)  # [1, G, N]
    # Tables and not one image for all: the converter to ONNX wants a fixed number of groups.
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
    """The positions, int64 [M], of the ``limit`` best of each image, and their number per image, int32 [B].

    scores: float32 [N]; image: int64 [N]. Image by image, by falling score. N and M may be 0.
    """
    is_own = paddle.arange(num_images).unsqueeze(1) == image.unsqueeze(0)
    of_image = paddle.where(is_own, scores.unsqueeze(0), paddle.full([1, 1], NOTHING))  # [B, N]
    # With as many entries of nothing, there are always enough to choose from.
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


def matrix_nms(masks: Tensor, class_ids: Tensor, scores: Tensor, *, sigma: float = 2.0) -> Tensor:
    """Scores [B, P], lowered where a mask overlaps a better one of its own class.

    Paper: X. Wang et al., "SOLOv2", https://arxiv.org/abs/2003.10152, section 3.3, with the Gaussian decay
    exp(-sigma * IoU^2). masks: float32 [B, P, h * w], 0 or 1; class_ids: integers [B, P]; scores: float32
    [B, P], falling. Nothing is dropped. An empty mask overlaps nothing.
    """
    area = masks.sum(axis=2)  # [B, P]
    intersection = paddle.matmul(masks, masks, transpose_y=True)  # [B, P, P]
    union = area.unsqueeze(2) + area.unsqueeze(1) - intersection
    same_class = (class_ids.unsqueeze(2) == class_ids.unsqueeze(1)).astype("float32")
    # [B, i, j]: how much j overlaps i, which is better.
    iou = paddle.triu(intersection / union.clip(min=1) * same_class, diagonal=1)
    # One that is itself overlapped by a better one is less of a reason to lower others.
    excuse = iou.max(axis=1).unsqueeze(2)  # [B, i, 1]
    return scores * paddle.exp(sigma * (excuse.square() - iou.square())).min(axis=1)
