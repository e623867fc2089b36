"""Mixed precision: convolutions and products of matrices in 16 bits, all else in 32 bits.

Weights, their gradients, the optimizer and the moving average stay float32, and so does a checkpoint.
Losses are computed in float32; that is the models' own doing.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import paddle
from paddle import Tensor

from paddlex_seg.errors import BackendError, ConfigError

LOGGER = logging.getLogger(__name__)

Level = Literal["OFF", "O1", "O2"]
Dtype = Literal["float16", "bfloat16"]

FIRST_SCALE = 65536.0
GROWTH_STEPS = 2000  # good steps after which the scale is doubled


class Precision:
    """How a training step computes, and the scale that its loss gets.

    The smallest numbers of float16 are larger than many gradients, which would become 0. Its losses are
    therefore multiplied by ``scale`` before the backward pass, and the gradients divided by it after. The
    scale halves when gradients are not finite and doubles after 2000 steps in a row in which they are.
    bfloat16 has the range of float32 and needs no scale: it is 1 and stays so.

    ``dtype`` None computes in float32.
    """

    def __init__(self, dtype: Dtype | None = None) -> None:
        self.dtype = dtype
        self.loss_scale = FIRST_SCALE if dtype == "float16" else 1.0
        self.good_steps = 0

    def autocast(self) -> AbstractContextManager[None]:
        """The context of the loss function; the backward pass stands outside."""
        if self.dtype is None:
            return nullcontext()
        return paddle.amp.auto_cast(level="O1", dtype=self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """What to call ``backward`` of."""
        return loss * self.loss_scale if self.dtype == "float16" else loss

    @paddle.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the scale, in place. Parameters may be without one."""
        if self.dtype != "float16":
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.scale_(1 / self.loss_scale)  # a power of two: nothing is rounded

    def update(self, found_nonfinite: bool) -> None:
        """Adapt the scale after a step, which was skipped if a gradient was not finite."""
        if self.dtype != "float16":
            return
        if found_nonfinite:
            self.loss_scale, self.good_steps = max(self.loss_scale / 2, 1.0), 0
            return
        self.good_steps += 1
        if self.good_steps == GROWTH_STEPS:
            self.loss_scale, self.good_steps = self.loss_scale * 2, 0

    def state_dict(self) -> dict[str, float]:
        """What ``load_state_dict`` needs to go on exactly; nothing where there is no scale."""
        if self.dtype != "float16":
            return {}
        return {"loss_scale": self.loss_scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state. A run that is resumed in another precision starts with its own scale."""
        if self.dtype == "float16" and state:
            self.loss_scale, self.good_steps = float(state["loss_scale"]), int(state["good_steps"])


def choose_precision(level: Level, dtype: Dtype = "float16") -> Precision:
    """The precision for the device in use: ``OFF`` is float32, ``O1`` mixed.

    On a CPU, for which Paddle 3.2 has no convolution or product of matrices in 16 bits, O1 is float32 with a
    warning. Raises ConfigError for O2, and BackendError for a GPU that lacks ``dtype``.
    """
    if level == "OFF":
        return Precision()
    if level == "O2":
        raise ConfigError(
            "Train.amp: found O2, which keeps the weights themselves in 16 bits; expected OFF or O1. Set "
            "Train.amp=O1: convolutions and products of matrices are in 16 bits there, too."
        )
    device = paddle.get_device()
    if device == "cpu":
        LOGGER.warning(
            "Train.amp is %s, but on a CPU Paddle computes in 32 bits: training goes on without mixed "
            "precision.",
            level,
        )
        return Precision()
    is_supported = {
        "float16": paddle.amp.is_float16_supported,
        "bfloat16": paddle.amp.is_bfloat16_supported,
    }[dtype]
    if device.startswith("gpu") and not is_supported():
        raise BackendError(
            f"Train.amp: {device} cannot compute in {dtype}. Set Train.amp=OFF, or the other type of 16 bits."
        )
    return Precision(dtype)
