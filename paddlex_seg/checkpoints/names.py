"""Match the entries of a weight file to a network's tensors, and the classes of the file to its classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from paddle import Tensor

from paddlex_seg.structures import Category


def match_classes(categories: Sequence[Category], source_categories: Sequence[Category]) -> dict[int, int]:
    """The class index in the source by class index, for each class whose name exists in the source.

    An exact match of names comes before a match that ignores capitals, spaces and underscores.
    """
    exact, alike = {}, {}
    for index, category in reversed(list(enumerate(source_categories))):  # the first of equal names wins
        exact[category.name] = alike[_plain(category.name)] = index
    found = (exact.get(item.name, alike.get(_plain(item.name))) for item in categories)
    return {index: other for index, other in enumerate(found) if other is not None}


def _plain(name: str) -> str:
    return "".join(name.replace("_", " ").split()).casefold()


def find_takers(tensors: Mapping[str, Tensor], weights: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the network's tensors that match each entry of a weight file.

    A tensor matches the entry of its own name. Otherwise it matches the longest entry that its name ends with
    after a dot, unless that entry is the full name of another tensor. An entry can match several tensors.
    """
    takers: dict[str, list[str]] = {}
    for name in tensors:
        parts = name.split(".")
        endings = (".".join(parts[start:]) for start in range(len(parts)))
        entry = next((ending for ending in endings if ending in weights), None)
        if entry is not None and (entry == name or entry not in tensors):
            takers.setdefault(entry, []).append(name)
    return takers
