"""The images that certificates are made with. The package has them; ``stored/SOURCE.md`` lists them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.images import load_image

FOLDER = Path(__file__).parent / "stored"
# The photographs come first: they make the batch of models with inputs of one size.
NAMES = ("circuit_board", "person", "satellite", "drawn_scene", "drawn_colours", "drawn_shapes")
# One photograph and one drawn image: for a graph that differs from a certified one only in pasting masks.
FEW = ("person", "drawn_scene")


@dataclass(frozen=True)
class StoredInput:
    """An image: its name, and uint8 [H, W, 3], RGB."""

    name: str
    image: NDArray[np.uint8]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the pixels."""
        return hashlib.sha256(self.image.tobytes()).hexdigest()


def stored_inputs() -> tuple[StoredInput, ...]:
    """All stored images, in the order of `NAMES`."""
    return tuple(StoredInput(name, load_image(FOLDER / f"{name}.png")) for name in NAMES)
