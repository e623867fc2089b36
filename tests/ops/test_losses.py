import numpy as np
import paddle
import pytest

from paddlex_seg.ops.losses import distribution_focal_loss, varifocal_loss, varifocal_loss_with_logits


def test_varifocal_loss_weighs_positives_by_target_and_negatives_by_error() -> None:
    scores = paddle.to_tensor([0.3, 0.8, 0.6])
    wanted = paddle.to_tensor([0.0, 0.9, 0.0])
    positive = paddle.to_tensor([False, True, True])  # the last has target score 0, so its weight is 0
    expected = -0.75 * 0.3**2 * np.log(0.7) - 0.9 * (0.9 * np.log(0.8) + 0.1 * np.log(0.2))
    assert float(varifocal_loss(scores, wanted, positive)) == pytest.approx(expected, rel=1e-5)


def test_varifocal_loss_of_a_nan_score_is_nan() -> None:
    scores = paddle.to_tensor([0.3, float("nan")])
    assert np.isnan(float(varifocal_loss(scores, paddle.zeros([2]), paddle.zeros([2]) > 0)))


def test_varifocal_loss_of_logits_is_that_of_their_sigmoid() -> None:
    logits = paddle.to_tensor([-1.5, 0.3, 2.0])
    wanted, positive = paddle.to_tensor([0.0, 0.9, 0.0]), paddle.to_tensor([False, True, False])
    expected = float(varifocal_loss(paddle.nn.functional.sigmoid(logits), wanted, positive))
    assert float(varifocal_loss_with_logits(logits, wanted, positive)) == pytest.approx(expected, rel=1e-5)


def test_distribution_focal_loss_shares_between_the_two_nearest_bins() -> None:
    logits = paddle.to_tensor([[0.0, 1.0, 2.0, 0.5]])
    log_probability = logits[0].numpy() - np.log(np.exp(logits[0].numpy()).sum())
    expected = -(0.75 * log_probability[1] + 0.25 * log_probability[2])
    assert float(distribution_focal_loss(logits, paddle.to_tensor([1.25]))) == pytest.approx(
        expected, rel=1e-5
    )
