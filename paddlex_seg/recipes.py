"""The numbers of a paper: how each family of models is fed and trained.

What the user's YAML does not say comes from here. Lengths are relative to the run, so that every schedule
follows ``Train.epochs_iters``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import cv2

from paddlex_seg.data.transforms import Policy, RandomCrop, RandomDistort, RandomExpand, RandomFlip, Resize
from paddlex_seg.structures import PreprocessSpec

ImageSize = tuple[int, int]  # height, width of the network input


@dataclass(frozen=True)
class CosineDecay:
    """The learning rate falls along half a cosine, to 0 where that ends."""

    stretch: float = 1.0  # length of the cosine over the length of the run


@dataclass(frozen=True)
class PiecewiseDecay:
    """From ``milestones[i]`` on, ``factors[i]`` times the learning rate; without milestones, a constant."""

    milestones: tuple[float, ...] = ()  # fractions of the run, ascending
    factors: tuple[float, ...] = ()


@dataclass(frozen=True)
class EmaRecipe:
    """Moving average of the weights; see `engine.ema.Ema` for the kinds."""

    decay: float
    kind: Literal["threshold", "normal", "exponential"]
    skip: tuple[str, ...] = ()  # parameters taken as they are
    skip_frozen: bool = False  # so are all that are not trained


@dataclass(frozen=True)
class Recipe:
    """How a model is fed and trained."""

    image_size: ImageSize
    preprocess: Callable[[ImageSize], PreprocessSpec]  # of evaluation
    policies: tuple[Policy, ...]  # training augmentation, before the resize
    resizes: Callable[[ImageSize], tuple[Policy, ...]]  # each training batch draws one of them
    decay: CosineDecay | PiecewiseDecay  # of the learning rate after the warm-up
    optimizer: Literal["momentum", "adamw"] = "momentum"
    momentum: float = 0.9
    weight_decay: float = 0.0  # an L2 term with momentum, decoupled with AdamW
    clip_norm: float | None = None  # limit of the gradient's global norm
    warmup_start: float = 0.0  # fraction of the learning rate at the first step
    ema: EmaRecipe | None = None


def _stretched(image_size: ImageSize) -> PreprocessSpec:
    return PreprocessSpec(size_hw=image_size)


def _one_size(image_size: ImageSize) -> tuple[Resize, ...]:
    return (Resize(image_size),)


BATCH_SIDES = (480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800)  # for an input of 640 pixels
BATCH_INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_LINEAR,  # officially INTER_AREA, which the one warp of our geometry does not have
    cv2.INTER_LANCZOS4,
)


def _many_sizes(image_size: ImageSize) -> tuple[Resize, ...]:
    """Three quarters to five quarters of the input size, in multiples of 32, the coarsest stride."""
    sizes = [_scaled_size(image_size, side) for side in BATCH_SIDES]
    return tuple(
        Resize(size, interpolation=interpolation)
        for size, interpolation in product(sizes, BATCH_INTERPOLATIONS)
    )


def _scaled_size(image_size: ImageSize, batch_side: int) -> ImageSize:
    height, width = (int(side * batch_side / (640 * 32) + 0.5) * 32 for side in image_size)
    return height, width


# The official settings, for training that starts from official weights.
PP_YOLOE_SEG = Recipe(
    image_size=(640, 640),
    preprocess=_stretched,
    policies=(RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip()),
    resizes=_one_size,
    decay=CosineDecay(stretch=96 / 80),  # the official run stops after 80 epochs of a cosine of 96 epochs
    weight_decay=5e-4,
    ema=EmaRecipe(decay=0.9998, kind="threshold", skip=("proj_conv.weight",)),
)
MASK_RT_DETR = Recipe(
    image_size=(640, 640),
    preprocess=_stretched,
    policies=(RandomDistort(prob=0.8), RandomExpand(), RandomCrop(prob=0.8), RandomFlip()),
    resizes=_many_sizes,
    decay=PiecewiseDecay(),
    optimizer="adamw",
    weight_decay=1e-4,
    clip_norm=0.1,
    warmup_start=0.001,
    ema=EmaRecipe(decay=0.9999, kind="exponential", skip_frozen=True),
)

# From random weights, on the few hundred pictures and steps of a first try. The official settings never do
# that, and those of PP-YOLOE_seg hardly learn anything in such a run: docs/results.md has the comparison.
PP_YOLOE_SEG_SCRATCH = replace(
    PP_YOLOE_SEG,
    policies=(RandomDistort(), RandomFlip()),
    decay=CosineDecay(),
    optimizer="adamw",
    clip_norm=10.0,
)
MASK_RT_DETR_SCRATCH = replace(
    MASK_RT_DETR,
    policies=(RandomDistort(), RandomFlip()),
    resizes=_one_size,
    decay=CosineDecay(),
    ema=EmaRecipe(decay=0.9998, kind="threshold", skip_frozen=True),
)
