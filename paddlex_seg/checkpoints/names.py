"""Names in weight files: which entry is for which tensor of a network, and which class for which class."""

from collections.abc import Mapping, Sequence
from typing import Any

from paddle import Tensor

from paddlex_seg.structures import Category


def match_classes(categories: Sequence[Category], source_categories: Sequence[Category]) -> dict[int, int]:
    """For each class that has a namesake in the source, its index and that of the namesake.

    A name that is the same to the letter goes before one that differs in capitals, spaces and underscores.
    """
    exact, alike = {}, {}
    for index, category in reversed(list(enumerate(source_categories))):  # of several the first one
        exact[category.name] = alike[_plain(category.name)] = index
    found = (exact.get(item.name, alike.get(_plain(item.name))) for item in categories)
    return {index: other for index, other in enumerate(found) if other is not None}


def _plain(name: str) -> str:
    return "".join(name.replace("_", " ").split()).casefold()


def find_takers(tensors: Mapping[str, Tensor], weights: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each entry of a weight file, the names of the network's tensors that want it.

    A tensor wants the entry of its own name, else the one with the longest ending of it after a dot, which is
    no other tensor's own name. An entry that several want is for all of them here.
    """
    takers: dict[str, list[str]] = {}
    for name in tensors:
        parts = name.split(".")
        endings = (".".join(parts[start:]) for start in range(len(parts)))
        entry = next((ending for ending in endings if ending in weights), None)
        if entry is not None and (entry == name or entry not in tensors):
            takers.setdefault(entry, []).append(name)
    return takers
