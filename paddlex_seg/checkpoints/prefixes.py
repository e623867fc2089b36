"""Leaves out what wrappers put before the names of tensors: ``module.``, ``_layers.``, ``student.`` ..."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray
from paddle import Tensor

from paddlex_seg.checkpoints.names import find_takers

NAME = re.compile(r"[\w.]+")  # the state of an optimizer has other characters, as in optimizer/velocity|...
MOST_PARTS = 3  # of a prefix, as in module.model.student.
LEAST_SHARE = 0.2  # of the entries of a file that have the same prefix
AVERAGED = ("ema", "teacher")  # moving averages, which are what is evaluated

Weights = Mapping[str, NDArray[Any]]


def without_prefix(tensors: Mapping[str, Tensor], weights: Weights) -> tuple[Weights, str]:
    """The entries of a weight file without the prefix that keeps them from fitting a network, and a note.

    Entries are grouped by what their names begin with. A group fits when most of its entries, which do not
    fit as they are, find a tensor of the network without the prefix. The group that fits most tensors is
    taken. Of groups that fit equally well, it is the one without prefix, then a moving average. The other
    groups that fit are left out. The note says so; it is empty when all entries are returned unchanged.
    """
    takers = find_takers(tensors, weights)
    if len(takers) == len(weights):
        return weights, ""
    groups = _groups(weights, takers)
    scores = {prefix: _count_fitting(tensors, group) for prefix, group in groups.items()}
    fitting = [prefix for prefix, group in groups.items() if 2 * scores[prefix] >= len(group)]
    if not fitting:
        return weights, ""
    best = max(fitting, key=lambda prefix: (scores[prefix], any(name in prefix for name in AVERAGED)))
    if _count_fitting(tensors, weights) >= scores[best]:
        best = ""
    others = [prefix for prefix in fitting if prefix != best and not best.startswith(prefix)]
    unused = [prefix for prefix in others if not _is_nested(prefix, [best, *others])]
    left_out = (*unused, *([best] if best else []))
    rest = {name: array for name, array in weights.items() if not name.startswith(left_out)}
    return {**rest, **groups.get(best, {})}, _note(best, unused, groups)


def _is_nested(prefix: str, others: Iterable[str]) -> bool:
    """Whether the entries of a prefix have one of the other prefixes, too. A prefix is no other of itself."""
    return any(other and other != prefix and prefix.startswith(other) for other in others)


def _groups(weights: Weights, takers: Mapping[str, Any]) -> dict[str, Weights]:
    """The entries of each common prefix, without it, where none of them fits with it."""
    counts: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        counts.update(
            ".".join(parts[:length]) + "." for length in range(1, min(MOST_PARTS, len(parts) - 1) + 1)
        )
    common = [
        prefix
        for prefix, count in counts.items()
        if LEAST_SHARE * len(weights) <= count and NAME.fullmatch(prefix)
    ]
    return {
        prefix: {
            name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)
        }
        for prefix in common
        if not any(name.startswith(prefix) for name in takers)
    }


def _count_fitting(tensors: Mapping[str, Tensor], weights: Weights) -> int:
    """The number of entries that fit one tensor by name and shape."""
    takers = find_takers(tensors, weights)
    return sum(
        len({id(tensors[name]) for name in names}) == 1
        and tensors[names[0]].shape == list(weights[entry].shape)
        for entry, names in takers.items()
    )


def _note(best: str, unused: list[str], groups: Mapping[str, Weights]) -> str:
    if not best:
        used = "the entries without prefix are used"
    else:
        used = f"the {len(groups[best])} entries that begin with {best} are used, without this prefix"
    others = ", ".join(f"the {len(groups[prefix])} that begin with {prefix}" for prefix in unused)
    return f"{used}; not used: {others}" if others else used
