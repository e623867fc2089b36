"""The optimizer of a recipe, which parameters it trains, and how fast each of them."""

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
    """Stop the training of the parameters that the patterns name, before the optimizer is built.

    A pattern is the name of a parameter or of a module, which stands for all below it (``backbone``,
    ``backbone.stages.0``); ``*``, ``?`` and ``[...]`` are wildcards, also across dots. Batch norms without a
    parameter left to train keep their running statistics, too, whatever mode the model is put in.

    Returns the names of the tensors that trained before and do not change any more, statistics included:
    a moving average is to leave them out (``Ema(skip=...)``). Raises ConfigError, and changes nothing, when
    a pattern fits no parameter or nothing would be left to train.
    """
    parameters = _parameters(model)
    matched = {name for pattern in patterns for name in _matching(pattern, parameters, config_key)}
    frozen = {name: parameters[name] for name in matched if not parameters[name].stop_gradient}
    left = {id(parameter) for parameter in parameters.values() if not parameter.stop_gradient}
    if not left - {id(parameter) for parameter in frozen.values()}:
        raise ConfigError(
            f"{config_key}: {', '.join(patterns)} would freeze all of the model, so that there is nothing to "
            f"train. Leave out at least one of its parts: {', '.join(_parts(parameters))}."
        )
    for parameter in frozen.values():
        parameter.stop_gradient = True
    still = {id(parameter) for parameter in frozen.values()} | _fix_statistics(model)
    return tuple(name for name, tensor in model.state_dict().items() if id(tensor) in still)


def scale_learning_rates(
    model: nn.Layer, factors: Mapping[str, float], *, config_key: str = "Train.lr_factors"
) -> None:
    """Multiply the learning-rate factors of the parameters that each pattern names.

    Patterns are those of `freeze`. Where several fit a parameter, the longest one alone counts, of equally
    long ones the later: ``{"backbone": 0.1, "backbone.stages.3": 0.5}`` gives the last stage 0.5. The factor
    comes on top of what the parameter has already, such as 0.1 for the backbone of Mask-RT-DETR.

    Raises ConfigError, and changes nothing, when a pattern fits no parameter, or none that trains, and for
    factors that are not above 0.
    """
    parameters = _parameters(model)
    chosen: dict[str, float] = {}
    for pattern, factor in sorted(factors.items(), key=lambda item: len(item[0])):  # the longest one last
        if not 0 < factor < math.inf:
            raise ConfigError(
                f"{config_key}: found {factor:g} for {pattern!r}, expected a number above 0. To keep weights "
                f"as they are, name them in Train.freeze."
            )
        names = _matching(pattern, parameters, config_key)
        if all(parameters[name].stop_gradient for name in names):
            raise ConfigError(
                f"{config_key}: nothing that {pattern!r} fits is trained, so that a factor has no effect. "
                f"Leave it out."
            )
        chosen |= dict.fromkeys(names, factor)
    # A tensor can stand under two names.
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


def _parameters(model: nn.Layer) -> dict[str, Tensor]:
    """The parameters under all of their names in the state dict, without running statistics, which Paddle
    lists among them.
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
            f"{config_key}: {pattern!r} fits no parameter of the model.{hint} Its parts are "
            f"{', '.join(_parts(names))}; a name stands for all below it, and * for anything."
        )
    return found


def _parts(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _fix_statistics(model: nn.Layer) -> set[int]:
    """Have norms that learn nothing more keep their statistics; gives back the ids of these."""
    fixed: set[int] = set()
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D) and not layer._use_global_stats:
            if layer.weight.stop_gradient and layer.bias.stop_gradient:
                layer._use_global_stats = True  # as eval() would do, but train() does not undo it
                fixed |= {id(layer._mean), id(layer._variance)}
    return fixed
