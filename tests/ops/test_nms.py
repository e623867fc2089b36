import numpy as np
import paddle

from paddlex_seg.ops.nms import multiclass_nms

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
