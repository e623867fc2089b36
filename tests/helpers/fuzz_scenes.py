"""Small data sets whose objects are known exactly, pixel by pixel, before any file is written.

An image is divided into cells of 16 x 16 pixels. A cell holds at most one object, which keeps one pixel away
from the border of its cell. So objects never touch, and every format can hold them.
"""

import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_tools

CELL = 16
Shape = Literal["rectangle", "corner", "hole", "parts"]
Ring = list[tuple[int, int]]  # corners (x, y) in pixels, not closed
Mask = NDArray[np.bool_]  # [H, W]


@dataclass(frozen=True)
class Thing:
    """One object: its class, its outlines, and the pixels that it covers."""

    label: str
    shape: Shape
    left: int
    top: int
    width: int  # 7..14
    height: int

    @property
    def rings(self) -> list[Ring]:
        """The outlines: of an object with a hole, the second one is that of the hole."""
        x, y, w, h = self.left, self.top, self.width, self.height
        if self.shape == "corner":  # an L
            a, b = w // 2, h // 2
            return [[(x, y), (x + w, y), (x + w, y + b), (x + a, y + b), (x + a, y + h), (x, y + h)]]
        if self.shape == "hole":
            return [_box(x, y, w, h), _box(x + 2, y + 2, w - 4, h - 4)]
        if self.shape == "parts":
            return [_box(x, y, w // 2 - 1, h), _box(x + w // 2 + 1, y + 1, w - w // 2 - 1, h - 1)]
        return [_box(x, y, w, h)]

    def mask(self, size_hw: tuple[int, int]) -> Mask:
        """The pixels of the object, drawn without any polygon."""
        x, y, w, h = self.left, self.top, self.width, self.height
        mask = np.zeros(size_hw, bool)
        mask[y : y + h, x : x + w] = True
        if self.shape == "corner":
            mask[y + h // 2 : y + h, x + w // 2 : x + w] = False
        elif self.shape == "hole":
            mask[y + 2 : y + h - 2, x + 2 : x + w - 2] = False
        elif self.shape == "parts":
            mask[y : y + h, x + w // 2 - 1 : x + w // 2 + 1] = False
            mask[y, x + w // 2 + 1 : x + w] = False
        return mask

    def box_mask(self, size_hw: tuple[int, int]) -> Mask:
        """The pixels of the box around the object."""
        return replace(self, shape="rectangle").mask(size_hw)

    @property
    def box(self) -> list[int]:
        """left, top, width, height."""
        return [self.left, self.top, self.width, self.height]


def _box(x: int, y: int, w: int, h: int) -> Ring:
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def joined(rings: list[Ring]) -> Ring:
    """One outline through all rings, over bridges that are passed in both directions."""
    way = list(rings[0])
    for ring in rings[1:]:
        way = [way[0], *ring, ring[0], *way]
    return way


@dataclass(frozen=True)
class SceneImage:
    """An image with its objects."""

    name: str  # without ending, may be in a folder: cam1/train_0
    width: int
    height: int
    seed: int
    things: tuple[Thing, ...]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @cached_property
    def png(self) -> bytes:
        """The image file: coloured noise like no other."""
        return encode_png(self.seed, self.width, self.height)

    @cached_property
    def key(self) -> str:
        """What tells the image from all others, whatever its file is called."""
        return image_key(self.png)


@dataclass(frozen=True)
class Scene:
    """The images of each split."""

    labels: tuple[str, ...]
    splits: dict[str, tuple[SceneImage, ...]]

    @property
    def images(self) -> list[SceneImage]:
        """The images of all splits."""
        return [image for images in self.splits.values() for image in images]


@dataclass(frozen=True, order=True)
class Found:
    """An object as it is told from others: where it is, what it is, which pixels it has."""

    split: str
    image: str
    label: str
    mask: bytes = field(repr=False)
    is_crowd: bool = False

    def as_crowd(self) -> "Found":
        """The same as a crowd region."""
        return replace(self, is_crowd=True)


def found_of(split: str, image: SceneImage, label: str, mask: Mask) -> Found:
    """The object of this class with these pixels."""
    return Found(split, image.key, label, np.packbits(mask).tobytes())


def encode_png(seed: int, width: int, height: int) -> bytes:
    """A PNG of coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8))).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def image_key(content: bytes) -> str:
    """Some of the pixels of an image file, as text."""
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return f"{pixels.shape[1]}x{pixels.shape[0]} {pixels[::4, ::4].tobytes()[:24].hex()}"


def compressed(mask: Mask) -> dict[str, object]:
    """The mask as COCO's compressed RLE."""
    rle = mask_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def uncompressed(mask: Mask) -> dict[str, object]:
    """The mask as COCO's list of runs."""
    flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
    borders = np.flatnonzero(np.diff(flat.astype(int)))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], borders])).tolist()}


# ---- strategies

LABELS = (("bolt", "nut", "pin"), ("screw head", "Übermaß", "pin"), ("螺母", "垫圈", "bolt"))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A data set of 2 to 6 images. Every class has objects in train; each split has an object."""
    names = draw(st.sampled_from(LABELS))
    labels = names[: draw(st.integers(1, 3))]
    folder = draw(st.sampled_from(["", "", "cam1/"]))
    seed = draw(st.integers(0, 2**16))
    splits = {}
    for split in ("train", "val"):
        images: list[SceneImage] = []
        for number in range(draw(st.integers(1, 3))):
            width, height = draw(st.sampled_from([(48, 32), (32, 48), (64, 32), (32, 32)]))
            # The first image of train has an object of each class, the first of val has one object or more.
            least = (len(labels) if split == "train" else 1) if number == 0 else 0
            images.append(
                SceneImage(
                    name=f"{folder}{split}_{number}",
                    width=width,
                    height=height,
                    seed=seed + 7 * len(images) + (split == "val") * 1000,
                    things=draw(_things(labels, width, height, least)),
                )
            )
        splits[split] = tuple(images)
    return Scene(labels=labels, splits=splits)


@st.composite
def _things(
    draw: st.DrawFn, labels: tuple[str, ...], width: int, height: int, least: int
) -> tuple[Thing, ...]:
    cells = [(x, y) for y in range(0, height, CELL) for x in range(0, width, CELL)]
    count = draw(st.integers(least, min(len(cells), 3)))
    things = []
    for number, (x, y) in enumerate(draw(st.permutations(cells))[:count]):
        w, h = draw(st.integers(7, 13)), draw(st.integers(7, 13))
        things.append(
            Thing(
                label=labels[number] if number < least else draw(st.sampled_from(labels)),
                shape=draw(st.sampled_from(["rectangle", "corner", "hole", "parts"])),
                left=x + 1 + draw(st.integers(0, 13 - w)),
                top=y + 1 + draw(st.integers(0, 13 - h)),
                width=w,
                height=h,
            )
        )
    return tuple(things)
