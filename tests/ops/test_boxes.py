import numpy as np
import paddle
import pytest

from paddlex_seg.ops.boxes import boxes_to_distances, distances_to_boxes, giou_loss, pairwise_iou


def test_distances_and_boxes_are_inverse() -> None:
    points = paddle.to_tensor([[5.0, 7.0], [1.0, 2.0]])
    distances = paddle.to_tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.5, 2.0]])
    boxes = distances_to_boxes(points, distances)
    assert boxes[0].tolist() == [4.0, 5.0, 8.0, 11.0]
    np.testing.assert_allclose(boxes_to_distances(points, boxes).numpy(), distances.numpy())


def test_iou_of_each_pair_and_of_boxes_turned_inside_out() -> None:
    boxes = paddle.to_tensor([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    others = paddle.to_tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [2.0, 2.0, 0.0, 0.0]])
    np.testing.assert_allclose(pairwise_iou(boxes, others).numpy(), [[1 / 7, 1, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("box", "loss"),
    [([0, 0, 2, 2], 0.0), ([1, 0, 3, 2], 1 - 1 / 3), ([2, 0, 4, 2], 1.0), ([4, 0, 6, 2], 1 + 1 / 3)],
    ids=["same", "half", "touching", "apart"],
)
def test_giou_loss_and_its_gradient(box: list[int], loss: float) -> None:
    predicted = paddle.to_tensor([box], dtype="float32", stop_gradient=False)
    value = giou_loss(predicted, paddle.to_tensor([[0.0, 0.0, 2.0, 2.0]]))
    value.sum().backward()
    assert float(value) == pytest.approx(loss, abs=1e-6)
    assert np.isfinite(predicted.grad.numpy()).all()
