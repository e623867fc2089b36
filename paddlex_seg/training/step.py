"""One training step, and what happens when its numbers are not finite or memory runs out.

A step either updates the model or leaves it bit-identical, also when it is interrupted.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.data.samples.loader import TrainBatch, split_batch
from paddlex_seg.errors import BackendError
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.ops.joined_batch import CountedPart, PartOfBatch
from paddlex_seg.ops.processes import average_gradients, mean_losses
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import Batch
from paddlex_seg.training.diagnosis import describe_culprit
from paddlex_seg.training.ema import RUNNING_STATISTICS, Ema
from paddlex_seg.training.optimizer import optimizer_state
from paddlex_seg.training.precision import Precision

LOGGER = logging.getLogger(__name__)
MOST_DESCRIBED = 3  # skipped steps per run that are diagnosed; a diagnosis takes as long as several steps


class OutOfMemoryError(BackendError):
    """A step ran out of memory."""


@dataclass
class TrainState:
    """All that changes while a model trains."""

    model: InstanceSegmenter
    optimizer: paddle.optimizer.Optimizer
    ema: Ema | None
    precision: Precision = field(default_factory=Precision)
    progress: Progress = Progress()
    is_whole: bool = True  # False while a part of it has changed and another has not

    @property
    def parameters(self) -> list[Tensor]:
        """The trainable parameters."""
        return [parameter for parameter in self.model.parameters() if not parameter.stop_gradient]


@dataclass(frozen=True)
class StepResult:
    """The result of a step. ``problem`` says why the model was not updated; None when it was."""

    losses: Mapping[str, float]
    problem: str | None = None
    weights_are_finite: bool = True


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed the network's random numbers for one step, so that resuming needs no saved random state."""
    (number,) = np.random.SeedSequence([seed, step, rank]).generate_state(1)
    paddle.seed(int(number))


def train_step(
    state: TrainState, batch: TrainBatch, rate: float, *, seed: int, ranks: Ranks, stop: StopSignals
) -> StepResult:
    """Forward, backward, one optimizer step and one EMA update.

    With several processes, all of them either update or skip. Raises BackendError when memory runs out for
    a single image, and KeyboardInterrupt when ``stop`` requests it.
    """
    statistics = running_statistics(state.model)
    before = [tensor.clone() for tensor in statistics]
    state.is_whole = False
    try:
        with stop.interruptible():
            seed_step(seed, state.progress.step, ranks.rank)
            losses = mean_losses(
                forward_backward(state, batch.batch, before, may_split=ranks.world_size == 1)
            )
            average_gradients(state.parameters)
            state.precision.unscale(state.parameters)
            gradients = [p.grad for p in state.parameters if p.grad is not None]
            finite = all(math.isfinite(value) for value in losses.values()) and all_finite(
                [*gradients, *statistics]
            )
            refused = ranks.any_of(not finite)
            # A loss scale that is too large also gives infinite gradients. It is halved below.
            is_overflow = state.precision.loss_scale > 1 and all(map(math.isfinite, losses.values()))
            if refused and not is_overflow:
                result = _refuse(state, batch, losses, before, ranks)
    except BaseException:
        _put_back(state, before)
        state.is_whole = True
        raise
    scale = state.precision.loss_scale
    state.precision.update(found_nonfinite=refused)
    if refused:
        _put_back(state, before)
        if is_overflow:
            result = StepResult(losses, f"gradients overflow 16 bits at a loss scale of {scale:g}")
        state.progress = _after_skipped_step(state.progress, is_overflow=is_overflow)
        state.is_whole = True
        return result
    state.optimizer.set_lr(rate)
    state.optimizer.step()
    state.optimizer.clear_grad(set_to_zero=False)
    if state.ema is not None:
        state.ema.update(state.model)
    state.progress = _after_step(state.progress, losses)
    state.is_whole = True
    return StepResult(losses)


def forward_backward(
    state: TrainState, batch: Batch, statistics_before: Sequence[Tensor], *, may_split: bool
) -> dict[str, Tensor]:
    """Compute the gradients of a batch into the parameters, and return its losses.

    The batch is computed in ``progress.micro_batches`` parts. Losses and gradients are the same as for the
    whole batch, except that batch normalisation sees the images of one part. When memory runs out, the number
    of parts is doubled for the rest of the run. Raises OutOfMemoryError when ``may_split`` is false or a part
    has one image.
    """
    while True:
        means: dict[str, Tensor] = {}
        try:
            for part in parts_of_batch(state, batch):
                with state.precision.autocast():
                    losses = state.model.loss(part)
                require_joined(state.model, part)
                share = part.joined.share
                total = losses["loss"] if share == 1 else losses["loss"] * share
                state.precision.scale(total).backward()
                for name, loss in losses.items():
                    value = loss.detach() * share
                    means[name] = means[name] + value if name in means else value
            return means
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            parts = state.progress.micro_batches
            if not may_split or parts >= len(batch.targets):
                raise _out_of_memory(batch, step=state.progress.step + 1, parts=parts) from error
            _put_back(state, statistics_before)
            state.progress = replace(state.progress, micro_batches=2 * parts)
            LOGGER.warning(
                "Memory ran out at step %d. From now on each batch of %d images is computed in %d parts. "
                "Gradients are accumulated over the parts, so the batch size of a step stays the same.",
                *(state.progress.step + 1, len(batch.targets), 2 * parts),
            )


def parts_of_batch(state: TrainState, batch: Batch) -> list[Batch]:
    """Split a batch into parts. Each part carries the normalisers of the loss over the whole batch."""
    parts = split_batch(batch, state.progress.micro_batches)
    if len(parts) == 1:
        return parts
    counted = count_totals(state, parts)
    return [
        part._replace(joined=PartOfBatch(counted, share=len(part.targets) / len(batch.targets)))
        for part in parts
    ]


@paddle.no_grad()
def count_totals(state: TrainState, parts: Sequence[Batch]) -> list[CountedPart]:
    """The normalisers of the loss, from an extra forward pass that leaves the model unchanged."""
    statistics = running_statistics(state.model)
    before, drawn = [tensor.clone() for tensor in statistics], paddle.get_rng_state()
    counted = [CountedPart() for _ in parts]
    for part, joined in zip(parts, counted, strict=True):
        with state.precision.autocast():
            state.model.loss(part._replace(joined=joined))
    paddle.set_rng_state(drawn)
    for tensor, value in zip(statistics, before, strict=True):
        tensor.set_value(value)
    return counted


def require_joined(model: InstanceSegmenter, batch: Batch) -> None:
    """Raise AssertionError when a loss normalises by its own part only: its gradients would be wrong."""
    if batch.joined.num_calls == 0:
        raise AssertionError(
            f"{type(model).__name__}.loss never asks batch.joined what to divide by. On several processes, "
            "or in parts, its gradients would depend on which images are together; see ops/joined_batch.py."
        )


def try_step(state: TrainState, batch: Batch, ranks: Ranks) -> None:
    """Forward and backward of a batch, as in ``train_step``, without changing the model."""
    before = [tensor.clone() for tensor in running_statistics(state.model)]
    state.model.train()
    try:
        forward_backward(state, batch, before, may_split=ranks.world_size == 1)
        average_gradients(state.parameters)
    finally:
        _put_back(state, before)


def try_whole(state: TrainState, batch: Batch) -> None:
    """Forward and backward of a batch in one part, on this process alone, without changing the model.

    Raises OutOfMemoryError.
    """
    before = [tensor.clone() for tensor in running_statistics(state.model)]
    state.model.train()
    try:
        forward_backward(state, batch, before, may_split=False)
    finally:
        _put_back(state, before)


def running_statistics(model: nn.Layer) -> list[Tensor]:
    """Means and variances of batch normalisation. A forward pass in training mode changes them."""
    return [
        tensor for name, tensor in model.state_dict().items() if name.split(".")[-1] in RUNNING_STATISTICS
    ]


def not_finite_parts(state: TrainState) -> str:
    """Which of weights, optimizer and moving averages hold numbers that are not finite; empty for none."""
    parts: dict[str, Iterable[Any]] = {
        "weights": state.model.state_dict().values(),
        "numbers of the optimizer": optimizer_state(state.optimizer, state.model).values(),
        "moving averages": state.ema.state_dict().values() if state.ema else (),
    }
    return " and ".join(name for name, tensors in parts.items() if not all_finite(tensors))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number of any tensor is infinite or NaN."""
    sums = [tensor.detach().astype("float32").sum() for tensor in tensors if tensor.is_floating_point()]
    return not sums or math.isfinite(float(paddle.add_n(sums)))


def _refuse(
    state: TrainState, batch: TrainBatch, losses: Mapping[str, float], before: Sequence[Tensor], ranks: Ranks
) -> StepResult:
    """The result of a step with numbers that are not finite; the same on all processes."""
    gradients = {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not all_finite([gradient])]
    _put_back(state, before)  # what the step did to the running statistics is no fault of the weights
    weights_are_finite = not ranks.any_of("weights" in not_finite_parts(state))
    problem = f"a loss or gradient is not finite ({losses_to_text(losses)})"
    if state.progress.skipped < MOST_DESCRIBED:
        culprit = describe_culprit(state.model, batch, losses, bad, several_processes=ranks.world_size > 1)
        told = ranks.gather(culprit)
        problem = "; ".join(dict.fromkeys(told))
    return StepResult(losses, problem, weights_are_finite)


def _after_step(progress: Progress, losses: Mapping[str, float]) -> Progress:
    sums = progress.loss_sums
    return replace(
        progress,
        step=progress.step + 1,
        epoch_step=progress.epoch_step + 1,
        skipped_in_a_row=0,
        loss_sums={name: sums.get(name, 0.0) + value for name, value in losses.items()},
        loss_steps=progress.loss_steps + 1,
    )


def _after_skipped_step(progress: Progress, *, is_overflow: bool) -> Progress:
    """An overflow of the loss scale is not counted: it says nothing about the data."""
    return replace(
        progress,
        step=progress.step + 1,
        epoch_step=progress.epoch_step + 1,
        skipped=progress.skipped + (not is_overflow),
        skipped_in_a_row=progress.skipped_in_a_row + (not is_overflow),
    )


def losses_to_text(losses: Mapping[str, float]) -> str:
    """Such as ``loss nan, loss_cls 0.213``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in losses.items())


@paddle.no_grad()
def _put_back(state: TrainState, statistics_before: Sequence[Tensor]) -> None:
    """Undo the changes of a step before its update: clear gradients, restore running statistics."""
    state.optimizer.clear_grad(set_to_zero=False)
    for tensor, before in zip(running_statistics(state.model), statistics_before, strict=True):
        tensor.set_value(before)


def _out_of_memory(batch: Batch, *, step: int, parts: int) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"Memory ran out at step {step} for {len(batch.targets)} images of {batch.image.shape[2]} x "
        f"{batch.image.shape[3]} pixels, computed in {parts} part(s). Lower Train.batch_size (and raise "
        "Train.accumulate_steps to keep the images per step), or lower Train.image_size."
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Paddle raises one error type on the CPU and several on GPUs; the text tells which are out of memory."""
    text = str(error)
    return isinstance(error, MemoryError) or "ResourceExhausted" in text or "out of memory" in text.lower()
