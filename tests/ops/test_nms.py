import numpy as np
import paddle
import pytest

from paddlex_seg.ops.nms import NOTHING, best_of_each_image, grouped_nms, matrix_nms, multiclass_nms

LIMITS = {"score_threshold": 0.1, "iou_threshold": 0.5, "nms_top_k": 100}
BOXES = paddle.to_tensor([[[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 0, 60, 10]]] * 2)
SCORES = paddle.to_tensor([[[0.5, 0.9, 0.3], [0.6, 0.05, 0.7]], [[0.0, 0.0, 0.0], [0.0, 0.2, 0.0]]])


def test_only_boxes_of_the_same_class_suppress_each_other() -> None:
    rows, positions, counts = multiclass_nms(BOXES, SCORES, keep_top_k=10, **LIMITS)
    np.testing.assert_allclose(rows[:, :2].numpy(), [[0, 0.9], [0, 0.3], [1, 0.7], [1, 0.6], [1, 0.2]])
    assert positions.tolist() == [1, 2, 2, 0, 4]
    np.testing.assert_array_equal(rows[:, 2:].numpy(), BOXES.reshape([-1, 4]).numpy()[positions.numpy()])
    assert counts.tolist() == [4, 1]


def test_the_best_are_kept_per_image_over_all_classes() -> None:
    rows, _, counts = multiclass_nms(BOXES, SCORES, keep_top_k=2, **LIMITS)
    np.testing.assert_allclose(rows[:, 1].numpy(), [0.9, 0.7, 0.2])
    assert counts.tolist() == [2, 1]


def plain_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[i, :2], boxes[kept][:, :2])
        high = np.minimum(boxes[i, 2:], boxes[kept][:, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        if (shared / (areas[i] + areas[kept] - shared) <= iou_threshold).all():
            kept.append(int(i))
    return kept


def test_boxes_are_suppressed_within_their_image_and_group_only() -> None:
    random = np.random.default_rng(0)
    corner = random.uniform(0, 40, (120, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + random.uniform(5, 30, (120, 2)).astype(np.float32)], axis=1)
    scores = random.normal(size=120).astype(np.float32)
    scores[::7] = NOTHING
    image, group = random.integers(2, size=120), random.integers(3, size=120)
    kept = grouped_nms(
        *map(paddle.to_tensor, (boxes, scores)),
        image=paddle.to_tensor(image),
        num_images=2,
        group=paddle.to_tensor(group),
        num_groups=3,
        iou_threshold=0.4,
    )
    expected = []
    for b in range(2):
        for g in range(3):
            own = np.flatnonzero((image == b) & (group == g) & (scores > NOTHING))
            expected += own[plain_nms(boxes[own], scores[own], 0.4)].tolist()
    assert kept.tolist() == expected
    assert 20 < len(expected) < 100


def test_nms_of_missing_boxes_keeps_none() -> None:
    none = paddle.zeros([1], dtype="int64")
    kept = grouped_nms(
        paddle.to_tensor([[0.0, 0.0, 1.0, 1.0]]),
        paddle.to_tensor([NOTHING]),
        image=none,
        num_images=2,
        group=none,
        num_groups=3,
        iou_threshold=0.5,
    )
    best, counts = best_of_each_image(paddle.zeros([0]), kept, num_images=2, limit=5)
    assert kept.shape == best.shape == [0]
    assert counts.tolist() == [0, 0]


def test_best_of_each_image_are_in_descending_score() -> None:
    scores = paddle.to_tensor([0.1, 0.9, -3.0, 0.5, 0.7])
    best, counts = best_of_each_image(scores, paddle.to_tensor([2, 0, 2, 0, 0]), num_images=3, limit=2)
    assert best.tolist() == [1, 4, 0, 2]
    assert counts.tolist() == [2, 0, 2]


def test_matrix_nms_equals_its_formula_in_plain_loops() -> None:
    random = np.random.default_rng(4)
    masks = (random.random((2, 9, 60)) < random.uniform(0.2, 0.9, (2, 9, 1))).astype(np.float32)
    masks[1, 6:] = 0  # unused rows of the second image
    masks[0, 4] = masks[0, 1]
    class_ids = random.integers(0, 3, (2, 9))
    class_ids[0, 4] = class_ids[0, 1]
    scores = -np.sort(-random.random((2, 9))).astype(np.float32)
    scores[1, 6:] = 0
    found = matrix_nms(*map(paddle.to_tensor, (masks, class_ids, scores)), sigma=2.0).numpy()

    def iou(b: int, i: int, j: int) -> float:
        if class_ids[b, i] != class_ids[b, j]:
            return 0.0
        union = np.maximum(masks[b, i], masks[b, j]).sum()
        return float((masks[b, i] * masks[b, j]).sum() / union) if union else 0.0

    for b in range(2):
        for j in range(9):
            decay = 1.0
            for i in range(j):
                excuse = max((iou(b, k, i) for k in range(i)), default=0.0)
                decay = min(decay, np.exp(-2 * iou(b, i, j) ** 2) / np.exp(-2 * excuse**2))
            assert found[b, j] == pytest.approx(scores[b, j] * decay, rel=1e-4, abs=1e-7)
    assert found[0, 4] < 0.5 * scores[0, 4]  # the same mask as a better one
    assert found[0, 0] == scores[0, 0]
    assert not found[1, 6:].any()
