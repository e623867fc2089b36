"""The numbers of a paper: how each family of models is fed and trained.

What the user's YAML does not say comes from here. Lengths are relative to the run, so that every schedule
follows ``Train.epochs_iters``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Literal

import cv2

from paddlex_seg.data.samples.transforms import (
    LargeScaleJitter,
    Policy,
    RandomCrop,
    RandomDistort,
    RandomExpand,
    RandomFlip,
    RandomResize,
    Resize,
)
from paddlex_seg.errors import ConfigError
from paddlex_seg.structures import PreprocessSpec

# Height and width of the network input; where images keep their shape, limits of its short and long side.
ImageSize = tuple[int, int]


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
    """Moving average of the weights; see `training.ema.Ema` for the kinds."""

    decay: float
    kind: Literal["threshold", "normal", "exponential"]
    skip: tuple[str, ...] = ()  # parameters taken as they are
    skip_frozen: bool = False  # so are all that are not trained


@dataclass(frozen=True)
class SmallerInputs:
    """Each training batch draws one of ``factors`` on the input size, up to a fraction of the run."""

    until: float
    factors: tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """How a model is fed and trained."""

    image_size: ImageSize
    preprocess: Callable[[ImageSize], PreprocessSpec]  # of evaluation
    policies: tuple[Policy, ...]  # training augmentation, before the resize
    resizes: Callable[[ImageSize], tuple[Policy, ...]]  # each training batch takes one, drawn at random
    decay: CosineDecay | PiecewiseDecay  # of the learning rate after the warm-up
    growth: tuple[SmallerInputs, ...] = ()  # by ascending ``until``; after the last, inputs are whole
    mosaic_prob: float = 0.0
    optimizer: Literal["momentum", "adamw"] = "momentum"
    momentum: float = 0.9
    weight_decay: float = 0.0  # an L2 term with momentum, decoupled with AdamW
    clip_norm: float | None = None  # limit of the gradient's global norm
    warmup_start: float = 0.0  # fraction of the learning rate at the first step
    ema: EmaRecipe | None = None
    usual_learning_rate: float | None = None  # where the model's configuration has one for another recipe

    def input_size(self, wanted: int | ImageSize | None) -> ImageSize:
        """The input size of a run with this ``Train.image_size``. Raises ConfigError where it does not fit.

        One number is the side of a square, or where images keep their shape, the limit of the short side;
        that of the long side is then larger by as much as in ``image_size``.
        """
        if wanted is None:
            return self.image_size
        if self.preprocess(self.image_size).keep_ratio:
            if isinstance(wanted, int):
                short, long = self.image_size
                return wanted, int(wanted * long / short + 0.5)
            return min(wanted), max(wanted)
        size_hw = (wanted, wanted) if isinstance(wanted, int) else wanted
        if any(side % 32 for side in size_hw):  # the coarsest stride
            raise ConfigError(
                f"Train.image_size: found {wanted}; this model takes inputs of exactly that size, so that "
                "height and width must be multiples of 32, such as 640 or [480, 640]."
            )
        return size_hw

    def resizes_at(self, image_size: ImageSize, progress: float) -> tuple[Policy, ...]:
        """The resizes to draw from after this fraction of the run."""
        for stage in self.growth:
            if progress < stage.until:
                sizes = (_scaled_size(image_size, factor) for factor in stage.factors)
                return tuple(resize for size in sizes for resize in self.resizes(size))
        return self.resizes(image_size)

    def input_pixels_at(self, progress: float) -> float:
        """Pixels of an input after this fraction of the run, on average, over those of a whole one."""
        for stage in self.growth:
            if progress < stage.until:
                return sum(factor**2 for factor in stage.factors) / len(stage.factors)
        return 1.0


def _stretched(image_size: ImageSize) -> PreprocessSpec:
    return PreprocessSpec(size_hw=image_size)


def _one_size(image_size: ImageSize) -> tuple[Resize, ...]:
    return (Resize(image_size),)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB values 0..1


def _fitted(image_size: ImageSize) -> PreprocessSpec:
    return PreprocessSpec(image_size, keep_ratio=True, mean=IMAGENET_MEAN, std=IMAGENET_STD, pad_stride=32)


def _fitted_unpadded(image_size: ImageSize) -> PreprocessSpec:
    """For a network of one stride, without a pyramid whose levels must match."""
    return replace(_fitted(image_size), pad_stride=0)


def _fitted_in_floats(image_size: ImageSize) -> PreprocessSpec:
    return replace(_fitted(image_size), interpolation=cv2.INTER_LINEAR, normalize_first=True)


def _one_fitted_size(image_size: ImageSize) -> tuple[Resize, ...]:
    return (Resize(image_size, keep_ratio=True),)


def _one_fitted_size_linear(image_size: ImageSize) -> tuple[Resize, ...]:
    return (Resize(image_size, keep_ratio=True, interpolation=cv2.INTER_LINEAR),)


SHORT_SIDES = (640, 672, 704, 736, 768, 800)  # for a limit of 800 pixels


def _random_short_sides(image_size: ImageSize) -> tuple[RandomResize, ...]:
    """Every sample draws a limit of its short side, from four fifths of the run's to all of it."""
    short, long = image_size
    return (RandomResize(tuple((int(short * side / 800 + 0.5), long) for side in SHORT_SIDES)),)


BATCH_SIDES = (480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800)  # for an input of 640 pixels
BATCH_INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_LINEAR,  # officially INTER_AREA, which the one warp of our geometry does not have
    cv2.INTER_LANCZOS4,
)


def _many_sizes(image_size: ImageSize) -> tuple[Resize, ...]:
    """Three quarters to five quarters of the input size."""
    sizes = [_scaled_size(image_size, Fraction(side, 640)) for side in BATCH_SIDES]
    return tuple(
        Resize(size, interpolation=interpolation)
        for size, interpolation in product(sizes, BATCH_INTERPOLATIONS)
    )


def _scaled_size(image_size: ImageSize, factor: float | Fraction) -> ImageSize:
    """In multiples of 32, the coarsest stride; halves of 32 are rounded up."""
    height, width = (max(1, int(side * factor / 32 + 0.5)) * 32 for side in image_size)
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
MASK_RCNN = Recipe(
    image_size=(800, 1333),
    preprocess=_fitted,
    policies=(RandomFlip(),),
    resizes=_random_short_sides,
    decay=PiecewiseDecay(milestones=(8 / 12, 11 / 12), factors=(0.1, 0.01)),
    weight_decay=1e-4,
    warmup_start=0.001,
)
MASK_RCNN_C4 = replace(MASK_RCNN, preprocess=_fitted_unpadded)
MASK_RCNN_RESNEXT = replace(MASK_RCNN, warmup_start=0.1)  # its milestones, 16 and 22 of 24, are the same
MASK_RCNN_SSLD = replace(
    MASK_RCNN,
    decay=PiecewiseDecay(milestones=(12 / 24, 22 / 24), factors=(0.1, 0.01)),
    warmup_start=0.1,
)
CASCADE_MASK_RCNN = replace(MASK_RCNN, clip_norm=35.0)
SOLOV2 = replace(
    MASK_RCNN,
    preprocess=_fitted_in_floats,
    resizes=_one_fitted_size_linear,
    warmup_start=0.0,
)

# From random weights, on the few hundred images and steps of a first try. The official settings never do
# that, and those of PP-YOLOE_seg hardly learn anything in such a run: docs/results.md has the comparison.
# Inputs that grow (M. Tan and Q. Le, "EfficientNetV2", https://arxiv.org/abs/2104.00298, section 4) buy more
# epochs of the same time.
PP_YOLOE_SEG_SCRATCH = replace(
    PP_YOLOE_SEG,
    policies=(RandomDistort(), LargeScaleJitter(scale=(0.9, 1.6), prob=0.5), RandomFlip()),
    growth=(SmallerInputs(until=0.3, factors=(0.7, 0.8)), SmallerInputs(until=0.65, factors=(0.8, 0.9))),
    mosaic_prob=0.6,
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
MASK_RCNN_SCRATCH = replace(
    MASK_RCNN,
    policies=(RandomDistort(), RandomFlip()),
    resizes=_one_fitted_size,
    decay=CosineDecay(),
    optimizer="adamw",
    clip_norm=10.0,
    usual_learning_rate=3e-4,
)
MASK_RCNN_C4_SCRATCH = replace(MASK_RCNN_SCRATCH, preprocess=MASK_RCNN_C4.preprocess)
SOLOV2_SCRATCH = replace(
    MASK_RCNN_SCRATCH,
    preprocess=SOLOV2.preprocess,
    resizes=SOLOV2.resizes,
    warmup_start=SOLOV2.warmup_start,
)
