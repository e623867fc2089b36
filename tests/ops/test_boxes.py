import numpy as np
import paddle
import pytest

from paddlex_seg.ops.boxes import (
    boxes_to_deltas,
    boxes_to_distances,
    clip_boxes,
    cxcywh_to_xyxy,
    deltas_to_boxes,
    distances_to_boxes,
    giou_loss,
    inverse_sigmoid,
    iou,
    mask_boxes,
    pairwise_iou,
    xyxy_to_cxcywh,
)


def test_distances_and_boxes_are_inverse() -> None:
    points = paddle.to_tensor([[5.0, 7.0], [1.0, 2.0]])
    distances = paddle.to_tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.5, 2.0]])
    boxes = distances_to_boxes(points, distances)
    assert boxes[0].tolist() == [4.0, 5.0, 8.0, 11.0]
    np.testing.assert_allclose(boxes_to_distances(points, boxes).numpy(), distances.numpy())


def test_pairwise_iou_and_iou_of_inverted_boxes() -> None:
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


def test_giou_loss_and_iou_broadcast_over_all_pairs() -> None:
    boxes = paddle.to_tensor([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    others = paddle.to_tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0]])
    pairs = [giou_loss(boxes[i : i + 1], others[j : j + 1]).item() for i in range(2) for j in range(2)]
    together = giou_loss(boxes.unsqueeze(1), others.unsqueeze(0))
    np.testing.assert_allclose(together.numpy().ravel(), pairs, rtol=1e-6)
    np.testing.assert_allclose(iou(boxes, others).numpy(), [1 / 7, 0], rtol=1e-6)


def test_centres_and_corners_are_inverse() -> None:
    boxes = paddle.to_tensor([[1.0, 2.0, 4.0, 8.0]])
    assert xyxy_to_cxcywh(boxes).tolist() == [[2.5, 5.0, 3.0, 6.0]]
    assert cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)).tolist() == boxes.tolist()


def test_inverse_sigmoid_is_finite_at_and_outside_of_0_and_1() -> None:
    fraction = paddle.to_tensor([-1.0, 0.0, 0.25, 1.0, 2.0])
    ends = np.log(1e-5)
    expected = [ends, ends, np.log(1 / 3), -ends, -ends]
    np.testing.assert_allclose(inverse_sigmoid(fraction).numpy(), expected, rtol=1e-6)


def test_boxes_of_masks_are_tight_and_zero_where_empty() -> None:
    masks = np.zeros([1, 3, 4, 10], bool)
    masks[0, 0, 1:3, 2] = masks[0, 0, 2, 5] = True
    masks[0, 1] = True
    found = mask_boxes(paddle.to_tensor(masks)).numpy()
    np.testing.assert_allclose(found, [[[0.2, 0.25, 0.6, 0.75], [0, 0, 1, 1], [0, 0, 0, 0]]], rtol=1e-6)


def test_deltas_and_boxes_are_inverse() -> None:
    references = paddle.to_tensor([[0.0, 0.0, 10.0, 20.0], [4.0, 4.0, 8.0, 6.0]])
    boxes = paddle.to_tensor([[5.0, 0.0, 15.0, 40.0], [3.0, 5.0, 9.0, 9.0]])
    deltas = boxes_to_deltas(boxes, references, weights=(10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(deltas[0].numpy(), [5.0, 5.0, 0.0, 5 * np.log(2)], rtol=1e-6)
    found = deltas_to_boxes(deltas, references, weights=(10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(found.numpy(), boxes.numpy(), rtol=1e-5, atol=1e-5)


def test_box_growth_by_deltas_is_limited() -> None:
    box = deltas_to_boxes(
        paddle.to_tensor([[0.0, 0.0, 90.0, 1.0]]), paddle.to_tensor([[0.0, 0.0, 2.0, 2.0]]), (1,) * 4
    )
    np.testing.assert_allclose(float(box[0, 2] - box[0, 0]), 2 * 62.5, rtol=1e-5)


def test_boxes_are_clipped_to_their_images() -> None:
    boxes = paddle.to_tensor([[-1.0, -2.0, 30.0, 40.0], [3.0, 4.0, 50.0, 60.0]])
    sizes = paddle.to_tensor([[20.0, 25.0], [99.0, 45.0]])
    assert clip_boxes(boxes, sizes).tolist() == [[0, 0, 25, 20], [3, 4, 45, 60]]
