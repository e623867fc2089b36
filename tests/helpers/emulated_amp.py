"""Paddle's automatic mixed precision on a CPU, which has no kernels for it.

What a GPU computes in bfloat16 is float64 here, rounded to bfloat16 where an operator of Paddle's white list
takes and gives it: types mix, meet and clash in the same places, and results have the same errors. The rule
is that of level O1: white operators take 16 bits, black ones 32; all others take 32 bits as soon as one of
their inputs has them. Operators in place and the statistics of norms are left alone, as in Paddle.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paddle
import pytest
from paddle import Tensor, _C_ops
from paddle.amp.amp_lists import black_list, white_list

LOW, FULL = paddle.float64, paddle.float32
WHITE, BLACK = (
    white_list()["bfloat16"]["O1"],
    black_list()["bfloat16"]["O1"] | {"bilinear_interp", "nearest_interp", "sum"},
)
# Operators that convert on purpose, and operators that are composed of others here.
UNTOUCHED = {"cast", "linear", "batch_norm_", "einsum"}
OPERATORS = ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "gt", "lt", "ge", "le")


class EmulatedAmp:
    """Counts the operators that ran in 16 bits."""

    def __init__(self) -> None:
        self.enabled = False
        self.low_calls = 0

    @contextmanager
    def auto_cast(self, enable: bool = True, **_: Any) -> Iterator[None]:
        """Replaces ``paddle.amp.auto_cast``."""
        before, self.enabled = self.enabled, enable
        try:
            yield
        finally:
            self.enabled = before

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.enabled:
                return function(*args, **kwargs)
            kinds = {tensor.dtype for tensor in _tensors((*args, *kwargs.values()))} & {LOW, FULL}
            if name in WHITE and kinds:
                self.low_calls += 1
                args, kwargs = _map((args, kwargs), _rounded)
                return _map(function(*args, **kwargs), _rounded)
            if name in BLACK or len(kinds) == 2:
                args, kwargs = _map((args, kwargs), lambda x: x.astype(FULL) if x.dtype == LOW else x)
            return function(*args, **kwargs)

        return call

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As Paddle builds it."""
        product = _C_ops.matmul(x, weight, False, False)
        return product if bias is None else product + bias

    def batch_norm(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Norms of 16 bits have weights and statistics of 32."""

        def call(x: Tensor, *args: Any) -> Any:
            if x.dtype != LOW:
                return original(x, *args)
            y, *rest = original(x.astype(FULL), *args)
            return _rounded(y), *rest

        return call


def emulate_amp(monkeypatch: pytest.MonkeyPatch) -> EmulatedAmp:
    """Replace ``paddle.amp.auto_cast`` during a test."""
    amp = EmulatedAmp()
    for name in dir(_C_ops):
        operator = getattr(_C_ops, name)
        if callable(operator) and not name.endswith("_") and name not in UNTOUCHED and name[0] != "_":
            monkeypatch.setattr(_C_ops, name, amp.wrap(name, operator))
    monkeypatch.setattr(_C_ops, "batch_norm_", amp.batch_norm(_C_ops.batch_norm_))
    monkeypatch.setattr(_C_ops, "linear", amp.linear)
    for name in OPERATORS:
        operator = getattr(Tensor, f"__{name}__")
        # Not by their plain name: "mul" in the white list is a matrix product.
        monkeypatch.setattr(Tensor, f"__{name}__", amp.wrap(f"elementwise_{name}", operator))
    monkeypatch.setattr(paddle.amp, "auto_cast", amp.auto_cast)
    return amp


def _rounded(x: Tensor) -> Tensor:
    return x.astype("bfloat16").astype(LOW) if x.dtype in (LOW, FULL) else x


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(item, function) for item in value)
    return value
