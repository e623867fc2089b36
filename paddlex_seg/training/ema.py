"""Exponential moving average (EMA) of a network's weights. Training evaluates and saves these weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn

from paddlex_seg.errors import WeightsError

NUM_UPDATES = "@num_updates"  # no name of a network contains "@"
RUNNING_STATISTICS = ("_mean", "_variance")


class Ema:
    """Float32 averages of a network's floating-point state, running statistics included.

    ``kind`` sets the decay of update number n = 0, 1, ...:

    - ``"normal"``: ``decay``;
    - ``"threshold"``: the smaller of ``decay`` and (1 + n) / (10 + n);
    - ``"exponential"``: ``decay`` * (1 - exp(-(n + 1) / 2000)).

    Entries whose name contains a text of ``skip`` are not averaged. With ``skip_frozen``, neither are entries
    without a gradient, except running statistics. Entries that are not averaged have the network's values.
    """

    def __init__(
        self,
        model: nn.Layer,
        *,
        decay: float,
        kind: Literal["threshold", "normal", "exponential"] = "threshold",
        skip: tuple[str, ...] = (),
        skip_frozen: bool = False,
    ) -> None:
        self.decay = decay
        self.kind = kind
        self.num_updates = 0
        self._averages: dict[str, Tensor] = {
            name: paddle.zeros_like(tensor, dtype="float32")
            for name, tensor in model.state_dict().items()
            if tensor.is_floating_point()
            and not any(text in name for text in skip)
            and not (skip_frozen and tensor.stop_gradient and name.split(".")[-1] not in RUNNING_STATISTICS)
        }

    @paddle.no_grad()
    def update(self, model: nn.Layer) -> None:
        """Update the averages with the network's current weights. Call this after each optimizer step."""
        decay = self._decay_of(self.num_updates)
        current = model.state_dict()
        for name, average in self._averages.items():
            average.scale_(decay)
            average.add_(current[name].astype("float32") * (1 - decay))
        self.num_updates += 1

    @paddle.no_grad()
    def weights(self, model: nn.Layer) -> dict[str, Tensor]:
        """A full state dict to evaluate or to save, in the network's dtypes.

        Averages are copies. Entries that are not averaged are the network's own tensors; before the first
        update, all entries are.
        """
        current = dict(model.state_dict())
        if self.num_updates == 0:
            return current
        correction = self._bias_correction()
        for name, average in self._averages.items():
            current[name] = (average / correction).astype(current[name].dtype)
        return current

    @contextmanager
    def applied(self, model: nn.Layer) -> Iterator[None]:
        """Load the averages into the network inside the context; afterwards it is bit-identical to before."""
        tensors = model.state_dict()
        # All copies are made before the first change: a tensor may have two names.
        with paddle.no_grad():
            before = {name: tensors[name].clone() for name in self._averages}
        averaged = self.weights(model)
        try:
            for name in self._averages:
                tensors[name].set_value(averaged[name])
            yield
        finally:
            for name, tensor in before.items():
                tensors[name].set_value(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        """The state for ``load_state_dict``: the averages without bias correction, and the update count."""
        return {**self._averages, NUM_UPDATES: paddle.to_tensor(self.num_updates, dtype="int64")}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Load a saved state, in the form that ``read_weights`` returns.

        Raises WeightsError, and changes nothing, when its entries are not exactly this network's averages.
        """
        problems = self._misfits(state)
        if problems:
            raise WeightsError(
                f"{len(problems)} entries of the saved moving averages (EMA) do not fit this model. The "
                f"first is {problems[0]}. Resume with the configuration of the run that saved them."
            )
        for name, average in self._averages.items():
            average.set_value(np.asarray(state[name], dtype=np.float32))
        self.num_updates = int(state[NUM_UPDATES])

    def _misfits(self, state: Mapping[str, NDArray[Any]]) -> list[str]:
        expected = {name: average.shape for name, average in self._averages.items()} | {NUM_UPDATES: []}
        found = {name: list(array.shape) for name, array in state.items()}
        return [
            f"{name} (found {found.get(name, 'none')}, expected {expected.get(name, 'none')})"
            for name in sorted(expected.keys() | found.keys())
            if found.get(name) != expected.get(name)
        ]

    def _decay_of(self, update: int) -> float:
        if self.kind == "threshold":
            return min(self.decay, (1 + update) / (10 + update))
        if self.kind == "exponential":
            return self.decay * (1 - math.exp(-(update + 1) / 2000))
        return self.decay

    def _bias_correction(self) -> float:
        """The averages start at zero; this is the total weight of real weights in them.

        As in PaddleDetection, the last decay is used for all updates, which is exact only for "normal".
        "exponential" needs no correction, because its first decays are nearly 0.
        """
        if self.kind == "exponential":
            return 1.0
        return 1 - self._decay_of(self.num_updates - 1) ** self.num_updates
