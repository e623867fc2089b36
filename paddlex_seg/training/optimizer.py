"""The optimizer of a recipe: which parameters it trains, and their learning-rate factors."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn
from paddle.optimizer import AdamW, Momentum, Optimizer
from paddle.regularizer import L2Decay

from paddlex_seg.errors import ConfigError
from paddlex_seg.training.ema import RUNNING_STATISTICS


def freeze(model: nn.Layer, patterns: Sequence[str], *, config_key: str = "Train.freeze") -> tuple[str, ...]:
    """Freeze the parameters that match the patterns. Call this before the optimizer is built.

    A pattern is the name of a parameter, or of a module with all its parameters (``backbone``,
    ``backbone.stages.0``); ``*``, ``?`` and ``[...]`` are wildcards, also across dots. A batch norm whose
    parameters are all frozen also keeps its running statistics, in training mode as well.

    Returns the names of the newly frozen tensors, running statistics included. The moving average must skip
    them (``Ema(skip=...)``). Raises ConfigError, and changes nothing, when a pattern matches no parameter or
    no trainable parameter would be left.
    """
    parameters = _parameters(model)
    matched = {name for pattern in patterns for name in _matching(pattern, parameters, config_key)}
    frozen = {name: parameters[name] for name in matched if not parameters[name].stop_gradient}
    left = {id(parameter) for parameter in parameters.values() if not parameter.stop_gradient}
    if not left - {id(parameter) for parameter in frozen.values()}:
        raise ConfigError(
            f"{config_key}: {', '.join(patterns)} would freeze all of the model; nothing is left to train. "
            f"Leave at least one of its parts trainable: {', '.join(_parts(parameters))}."
        )
    for parameter in frozen.values():
        parameter.stop_gradient = True
    still = {id(parameter) for parameter in frozen.values()} | _fix_statistics(model)
    return tuple(name for name, tensor in model.state_dict().items() if id(tensor) in still)


def scale_learning_rates(
    model: nn.Layer, factors: Mapping[str, float], *, config_key: str = "Train.lr_factors"
) -> None:
    """Multiply the learning-rate factors of the parameters that match each pattern.

    Patterns work as in `freeze`. When several match a parameter, only the longest one applies, and the last
    one of equal length: ``{"backbone": 0.1, "backbone.stages.3": 0.5}`` gives the last stage 0.5. The factor
    multiplies the one that the parameter already has, such as 0.1 for the backbone of Mask-RT-DETR.

    Raises ConfigError when a pattern matches no trainable parameter, and for factors that are not above 0.
    Then nothing is changed.
    """
    parameters = _parameters(model)
    chosen: dict[str, float] = {}
    for pattern, factor in sorted(factors.items(), key=lambda item: len(item[0])):  # the longest one last
        if not 0 < factor < math.inf:
            raise ConfigError(
                f"{config_key}: found {factor:g} for {pattern!r}, expected a number above 0. To keep weights "
                f"unchanged, list them in Train.freeze."
            )
        names = _matching(pattern, parameters, config_key)
        if all(parameters[name].stop_gradient for name in names):
            raise ConfigError(
                f"{config_key}: all parameters that match {pattern!r} are frozen, so the factor has no "
                f"effect. Remove it."
            )
        chosen |= dict.fromkeys(names, factor)
    # A tensor can have two names.
    by_tensor = {id(parameters[name]): (parameters[name], factor) for name, factor in chosen.items()}
    for parameter, factor in by_tensor.values():
        parameter.optimize_attr["learning_rate"] *= factor


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

    ``kind="momentum"``: ``weight_decay`` is an L2 term in the gradient. A regularizer in a parameter's own
    ParamAttr replaces it. ``kind="adamw"``: ``weight_decay`` is decoupled and acts on every parameter. A
    regularizer in a parameter's own ParamAttr is then added to the gradient. The recipes were trained so.
    Gradients are clipped to the global L2 norm ``clip_norm``. A parameter's own learning-rate factor
    multiplies the learning rate.
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
    """The optimizer's tensors (momenta and the like) keyed by the network's names: ``<parameter>|<kind>``.

    Paddle's own keys contain a counter of the process ("conv2d_7.w_0_velocity_0"). The counter differs in
    another process, and for a second model in the same process.
    """
    kinds = {parameter.name: name for name, parameter in model.named_parameters()}
    state = {}
    for key, tensor in optimizer.state_dict().items():
        owner = next((name for name in kinds if key.startswith(f"{name}_")), None)
        if owner is not None:
            state[f"{kinds[owner]}|{key.removeprefix(f'{owner}_')}"] = tensor
    return state


def load_optimizer_state(optimizer: Optimizer, model: nn.Layer, state: Mapping[str, NDArray]) -> None:
    """Load the tensors that `optimizer_state` returned."""
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    renamed = {}
    for key, array in state.items():
        name, _, kind = key.rpartition("|")
        renamed[f"{names[name]}_{kind}"] = paddle.to_tensor(array)
    optimizer.set_state_dict(renamed)


def _parameters(model: nn.Layer) -> dict[str, Tensor]:
    """The parameters by all of their names in the state dict. Running statistics, which Paddle counts as
    parameters, are excluded.
    """
    own = {id(parameter) for parameter in model.parameters()}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if id(tensor) in own and name.split(".")[-1] not in RUNNING_STATISTICS
    }


def _matching(pattern: str, names: Iterable[str], config_key: str) -> list[str]:
    found = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
    if not found:
        modules = {name.rsplit(".", cut)[0] for name in names for cut in range(1, name.count(".") + 1)}
        near = difflib.get_close_matches(pattern, sorted(modules | set(names)), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(
            f"{config_key}: {pattern!r} matches no parameter of the model.{hint} Its parts are "
            f"{', '.join(_parts(names))}. A name matches everything below it; * matches any text."
        )
    return found


def _parts(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _fix_statistics(model: nn.Layer) -> set[int]:
    """Freeze the running statistics of batch norms whose parameters are all frozen; returns their ids."""
    fixed: set[int] = set()
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D) and not layer._use_global_stats:
            if layer.weight.stop_gradient and layer.bias.stop_gradient:
                layer._use_global_stats = True  # same effect as eval(), but train() does not undo it
                fixed |= {id(layer._mean), id(layer._variance)}
    return fixed
