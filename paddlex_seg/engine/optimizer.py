"""The optimizer of a recipe, and the learning rate at each step.

A schedule is a pure function of the step number; the training loop calls
``optimizer.set_lr(schedule.lr_at_step(n))`` before each step, so that resuming needs the step number and
nothing else. All lengths are in steps, counted from 0 and chosen by the caller: milestones and the cosine's
length follow the number of epochs of the run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn
from paddle.optimizer import AdamW, Momentum, Optimizer
from paddle.regularizer import L2Decay

from paddlex_seg.recipes import CosineDecay, PiecewiseDecay


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up to ``base_lr``, then half a cosine that is 0 from step ``cosine_steps`` on.

    The warm-up starts at ``warmup_start_factor * base_lr`` and is capped, see ``capped_warmup_steps``.
    """

    base_lr: float
    run_steps: int
    cosine_steps: int  # may lie beyond run_steps, so that the run ends above 0
    warmup_steps: int = 0
    warmup_start_factor: float = 0.0

    def lr_at_step(self, step: int) -> float:
        """The learning rate of step number ``step``, the first being 0."""
        warmup_steps = capped_warmup_steps(self.warmup_steps, self.run_steps)
        if step < warmup_steps:
            return self.base_lr * _warmup_factor(step, warmup_steps, self.warmup_start_factor)
        progress = min((step - warmup_steps) / max(self.cosine_steps - warmup_steps, 1), 1.0)
        return self.base_lr * 0.5 * (math.cos(math.pi * progress) + 1)


@dataclass(frozen=True)
class PiecewiseSchedule:
    """Linear warm-up to ``base_lr``; from step ``milestones[i]`` on ``base_lr * factors[i]``.

    The warm-up starts at ``warmup_start_factor * base_lr`` and is capped, see ``capped_warmup_steps``; a
    milestone within it takes effect all the same.
    """

    base_lr: float
    run_steps: int
    milestones: tuple[int, ...] = ()  # ascending
    factors: tuple[float, ...] = ()
    warmup_steps: int = 0
    warmup_start_factor: float = 0.0

    def lr_at_step(self, step: int) -> float:
        """The learning rate of step number ``step``, the first being 0."""
        lr = self.base_lr
        for milestone, factor in zip(self.milestones, self.factors, strict=True):
            if step >= milestone:
                lr = self.base_lr * factor
        warmup_steps = capped_warmup_steps(self.warmup_steps, self.run_steps)
        return lr * _warmup_factor(step, warmup_steps, self.warmup_start_factor)


Schedule = CosineSchedule | PiecewiseSchedule


def build_schedule(
    decay: CosineDecay | PiecewiseDecay,
    *,
    base_lr: float,
    run_steps: int,
    warmup_steps: int,
    warmup_start_factor: float,
) -> Schedule:
    """The schedule of a run of ``run_steps`` steps, which stretch the relative lengths of ``decay``."""
    if isinstance(decay, CosineDecay):
        cosine_steps = round(decay.stretch * run_steps)
        return CosineSchedule(base_lr, run_steps, cosine_steps, warmup_steps, warmup_start_factor)
    milestones = tuple(round(fraction * run_steps) for fraction in decay.milestones)
    return PiecewiseSchedule(base_lr, run_steps, milestones, decay.factors, warmup_steps, warmup_start_factor)


def capped_warmup_steps(warmup_steps: int, run_steps: int) -> int:
    """The warm-up that a run of ``run_steps`` steps really gets: at most a third of it.

    Recipes warm up for 1000 steps or more. A fine-tuning run on a few dozen pictures may be shorter than
    that as a whole, and would end without ever having trained at the learning rate it was given.
    """
    return min(warmup_steps, run_steps // 3)


def build_optimizer(
    model: nn.Layer,
    *,
    kind: Literal["momentum", "adamw"],
    learning_rate: float,
    weight_decay: float,
    momentum: float = 0.9,
    clip_norm: float | None = None,
) -> Optimizer:
    """The optimizer of the trainable parameters of a model.

    ``kind="momentum"``: ``weight_decay`` is an L2 term in the gradient; a regularizer in a parameter's own
    ParamAttr replaces it. ``kind="adamw"``: ``weight_decay`` is decoupled and acts on every parameter, also
    on those whose ParamAttr has a regularizer (that one is added to the gradient), as the recipes were
    trained. Gradients are clipped to the global L2 norm ``clip_norm``. A parameter's own learning-rate
    factor multiplies the rate.
    """
    parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    clip = None if clip_norm is None else nn.ClipGradByGlobalNorm(clip_norm)
    if kind == "adamw":
        return AdamW(learning_rate, parameters=parameters, weight_decay=weight_decay, grad_clip=clip)
    return Momentum(
        learning_rate,
        momentum=momentum,
        parameters=parameters,
        weight_decay=L2Decay(weight_decay),
        grad_clip=clip,
    )


def optimizer_state(optimizer: Optimizer, model: nn.Layer) -> dict[str, Tensor]:
    """The optimizer's tensors (momenta and the like) under the network's names: ``<parameter>|<kind>``.

    Paddle keys them by counters of the process ("conv2d_7.w_0_velocity_0"), which another process, or a
    second model in the same one, counts differently.
    """
    kinds = {parameter.name: name for name, parameter in model.named_parameters()}
    state = {}
    for key, tensor in optimizer.state_dict().items():
        owner = next((name for name in kinds if key.startswith(f"{name}_")), None)
        if owner is not None:
            state[f"{kinds[owner]}|{key.removeprefix(f'{owner}_')}"] = tensor
    return state


def load_optimizer_state(optimizer: Optimizer, model: nn.Layer, state: Mapping[str, NDArray]) -> None:
    """Put back what `optimizer_state` gave."""
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    renamed = {}
    for key, array in state.items():
        name, _, kind = key.rpartition("|")
        renamed[f"{names[name]}_{kind}"] = paddle.to_tensor(array)
    optimizer.set_state_dict(renamed)


def _warmup_factor(step: int, warmup_steps: int, start_factor: float) -> float:
    if step >= warmup_steps:
        return 1.0
    done = step / warmup_steps
    return start_factor * (1 - done) + done
