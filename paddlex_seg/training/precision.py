"""Mixed precision: convolutions and matrix products in 16 bits, everything else in 32 bits.

Weights, gradients, optimizer, moving average and checkpoints stay float32. The models compute their losses in
float32 themselves.
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
GROWTH_STEPS = 2000  # finite steps in a row after which the loss scale is doubled


class Precision:
    """The number type of a training step, and its loss scale.

    Many gradients are smaller than the smallest number of float16 and would become 0. With float16 the loss
    is therefore multiplied by the loss scale before the backward pass, and the gradients are divided by it
    afterwards. The loss scale is halved when a gradient is not finite, and doubled after 2000 finite steps in
    a row. bfloat16 has the range of float32 and needs no loss scale: it stays 1.

    ``dtype`` None means float32.
    """

    def __init__(self, dtype: Dtype | None = None) -> None:
        self.dtype = dtype
        self.loss_scale = FIRST_SCALE if dtype == "float16" else 1.0
        self.good_steps = 0

    def autocast(self) -> AbstractContextManager[None]:
        """The context for computing the loss; the backward pass runs outside it."""
        if self.dtype is None:
            return nullcontext()
        return paddle.amp.auto_cast(level="O1", dtype=self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """The scaled loss, on which to call ``backward``."""
        return loss * self.loss_scale if self.dtype == "float16" else loss

    @paddle.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the loss scale, in place. Parameters without a gradient are allowed."""
        if self.dtype != "float16":
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.scale_(1 / self.loss_scale)  # a power of two: nothing is rounded

    def update(self, found_nonfinite: bool) -> None:
        """Adapt the loss scale after a step."""
        if self.dtype != "float16":
            return
        if found_nonfinite:
            self.loss_scale, self.good_steps = max(self.loss_scale / 2, 1.0), 0
            return
        self.good_steps += 1
        if self.good_steps == GROWTH_STEPS:
            self.loss_scale, self.good_steps = self.loss_scale * 2, 0

    def state_dict(self) -> dict[str, float]:
        """The state for ``load_state_dict``; empty when there is no loss scale."""
        if self.dtype != "float16":
            return {}
        return {"loss_scale": self.loss_scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Load a saved state. A run resumed in another precision starts with the initial loss scale."""
        if self.dtype == "float16" and state:
            self.loss_scale, self.good_steps = float(state["loss_scale"]), int(state["good_steps"])


def choose_precision(level: Level, dtype: Dtype = "float16") -> Precision:
    """The precision for the device in use: ``OFF`` is float32, ``O1`` is mixed precision.

    On a CPU, Paddle 3.2 has no convolution or matrix product in 16 bits: O1 then means float32, with a
    warning. Raises ConfigError for O2, and BackendError for a GPU that does not support ``dtype``.
    """
    if level == "OFF":
        return Precision()
    if level == "O2":
        raise ConfigError(
            "Train.amp: found O2, which keeps the weights themselves in 16 bits; expected OFF or O1. Set "
            "Train.amp=O1: it also computes convolutions and matrix products in 16 bits."
        )
    device = paddle.get_device()
    if device == "cpu":
        LOGGER.warning(
            "Train.amp is %s, but Paddle computes in 32 bits on a CPU. Training runs without mixed "
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
            f"Train.amp: {device} cannot compute in {dtype}. Set Train.amp=OFF, or the other 16-bit type in "
            "Train.amp_dtype."
        )
    return Precision(dtype)
