"""Losses on Paddle tensors."""

import paddle
import paddle.nn.functional as F
from paddle import Tensor


def varifocal_loss(scores: Tensor, target_scores: Tensor, is_positive: Tensor, alpha: float = 0.75) -> Tensor:
    """Sum of the varifocal loss. Positives are weighted by their target, negatives by alpha * score^2.

    Paper: H. Zhang et al., https://arxiv.org/abs/2008.13367. All arguments have the same shape. scores and
    target_scores: 0..1, target_scores is 0 for negatives; is_positive: bool. The weight of negatives also
    gets a gradient. If a score is rounded to 0 or 1, its logarithm is limited to -100, as in PaddleDetection;
    the loss computed from logits would be lower. A NaN score makes the loss NaN.
    """
    if bool(scores.isnan().any()):
        return scores.sum()  # Paddle's cross entropy would raise
    weight = paddle.where(is_positive, target_scores, alpha * scores.square())
    return (weight * F.binary_cross_entropy(scores, target_scores, reduction="none")).sum()


def varifocal_loss_with_logits(
    logits: Tensor, target_scores: Tensor, is_positive: Tensor, alpha: float = 0.75
) -> Tensor:
    """`varifocal_loss` of sigmoid(logits), without the limit of the logarithms."""
    weight = paddle.where(is_positive, target_scores, alpha * F.sigmoid(logits).square())
    return (weight * F.binary_cross_entropy_with_logits(logits, target_scores, reduction="none")).sum()


def distribution_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy with the two bins next to each target. The nearer bin has the larger weight.

    Paper: X. Li et al., https://arxiv.org/abs/2006.04388. logits: float32 [..., bins];
    targets: float32 [...], 0 <= target < bins - 1, the fractional position between the bins. Returns [...].
    """
    log_probability = F.log_softmax(logits, axis=-1)
    lower = targets.floor()
    index = lower.astype("int64").unsqueeze(-1)
    lower_term = paddle.take_along_axis(log_probability, index, axis=-1).squeeze(-1)
    upper_term = paddle.take_along_axis(log_probability, index + 1, axis=-1).squeeze(-1)
    return -(lower_term * (lower + 1 - targets) + upper_term * (targets - lower))
