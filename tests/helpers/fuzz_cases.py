"""A data set in some format, still in memory, and the ways to damage it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from fuzz_scenes import Found, Scene, SceneImage, Thing, found_of

Label = Literal["lossless", "ambiguous", "lossy"]
_Item = TypeVar("_Item")


@dataclass
class Source:
    """What all formats have in common: the files, and what is true of the objects.

    ``files`` has the files that are ready, by path below the root. If a finding or a repair says so, objects
    of ``allowed`` may be found too, such as the box of an object of ``truth``, and any object in an image
    whose key is in ``doubtful``.
    """

    scene: Scene
    files: dict[str, bytes] = field(default_factory=dict)
    truth: list[Found] = field(default_factory=list)
    allowed: list[Found] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    may_change: tuple[str, ...] = ()  # endings of files that a conversion in place may replace
    splits_are_kept: bool = True  # False: the source has no splits, so any split is right
    classes_are_kept: bool = True  # False: nothing says what the classes are called
    inside: str = ""  # the data set is this far below the folder that is given

    def __post_init__(self) -> None:
        self.truth = [
            found_of(split, image, thing.label, thing.mask(image.size_hw))
            for split, images in self.scene.splits.items()
            for image in images
            for thing in image.things
        ]
        self.build()

    def build(self) -> None:
        """Fill in the files of the format."""

    def finish(self) -> None:
        """Write what is still structured into ``files``."""

    def write(self, root: Path) -> None:
        """Write all files below ``root``, after `finish`."""
        for name, content in self.files.items():
            path = root / self.inside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        self.files = {new if name == old else name: content for name, content in self.files.items()}

    def relabel(self, old: str, new: str) -> None:
        """A class is called differently: change what is true."""
        self.truth = [
            Found(item.split, item.image, new if item.label == old else item.label, item.mask)
            for item in self.truth
        ]

    def allow_box(self, split: str, image: SceneImage, thing: Thing) -> None:
        """The box of an object may stand for it."""
        self.allowed.append(found_of(split, image, thing.label, thing.box_mask(image.size_hw)))


_Source = TypeVar("_Source", bound=Source)


@dataclass(frozen=True)
class Mutation(Generic[_Source]):
    """A change of a data set, and whether its objects can be recovered after it.

    ``lossless``: exactly, by the one reasonable reading. ``ambiguous``: there are two readings. ``lossy``:
    information is gone. ``apply`` changes the source. It returns False if it has nothing to change.
    """

    name: str
    label: Label
    apply: Callable[[_Source, random.Random], Any]

    def __repr__(self) -> str:
        return self.name


class Mutations(Generic[_Source]):
    """The mutations of a format, collected by a decorator: ``@MUTATIONS.lossless``."""

    def __init__(self) -> None:
        self.all: list[Mutation[_Source]] = []

    def of(self, label: Label) -> list[Mutation[_Source]]:
        """The mutations of this kind."""
        return [mutation for mutation in self.all if mutation.label == label]

    def add(self, label: Label, name: str, apply: Callable[[_Source, random.Random], Any]) -> None:
        """Add a mutation."""
        assert name not in {mutation.name for mutation in self.all}, name
        self.all.append(Mutation(name, label, apply))

    def _decorator(
        self, label: Label, apply: Callable[[_Source, random.Random], Any]
    ) -> Callable[[_Source, random.Random], Any]:
        self.add(label, apply.__name__.strip("_"), apply)
        return apply

    def lossless(self, apply: Callable[[_Source, random.Random], Any]) -> Any:
        """Add a mutation after which all objects can be recovered."""
        return self._decorator("lossless", apply)

    def ambiguous(self, apply: Callable[[_Source, random.Random], Any]) -> Any:
        """Add a mutation after which two readings are possible."""
        return self._decorator("ambiguous", apply)

    def lossy(self, apply: Callable[[_Source, random.Random], Any]) -> Any:
        """Add a mutation that destroys information."""
        return self._decorator("lossy", apply)


def some(rng: random.Random, items: Sequence[_Item]) -> list[_Item]:
    """One of the items, or all of them, or a few; none only of none."""
    if not items:
        return []
    way = rng.randrange(3)
    if way == 0:
        return [rng.choice(items)]
    return list(items) if way == 1 else [item for item in items if rng.random() < 0.5] or [items[0]]
