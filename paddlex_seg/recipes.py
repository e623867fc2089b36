"""Training recipes: input size, augmentation, optimizer and learning rate schedule of each model family.

They set what the user's YAML file does not set. Lengths are fractions of the run, so that every schedule
scales with ``Train.epochs_iters``.
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

# Height and width of the network input. For models that keep the aspect ratio: limits of short and long side.
ImageSize = tuple[int, int]


@dataclass(frozen=True)
class CosineDecay:
    """The learning rate falls to 0 along half a cosine."""

    stretch: float = 1.0  # length of the cosine divided by the length of the run


@dataclass(frozen=True)
class PiecewiseDecay:
    """From ``milestones[i]`` on, the learning rate is times ``factors[i]``. No milestones: constant."""

    milestones: tuple[float, ...] = ()  # fractions of the run, ascending
    factors: tuple[float, ...] = ()


@dataclass(frozen=True)
class EmaRecipe:
    """Moving average of the weights; see `training.ema.Ema` for the kinds."""

    decay: float
    kind: Literal["threshold", "normal", "exponential"]
    skip: tuple[str, ...] = ()  # parameters that are copied, not averaged
    skip_frozen: bool = False  # whether frozen parameters are also copied, not averaged


@dataclass(frozen=True)
class SmallerInputs:
    """A stage with smaller inputs: each training batch multiplies the input size by a random factor."""

    until: float  # end of the stage, as a fraction of the run
    factors: tuple[float, ...]  # each batch draws one of them


@dataclass(frozen=True)
class Recipe:
    """Inputs, augmentation and optimization of a model."""

    image_size: ImageSize
    preprocess: Callable[[ImageSize], PreprocessSpec]  # for evaluation
    policies: tuple[Policy, ...]  # training augmentation, before the resize
    resizes: Callable[[ImageSize], tuple[Policy, ...]]  # each training batch uses a random one of them
    decay: CosineDecay | PiecewiseDecay  # of the learning rate after warm-up
    growth: tuple[SmallerInputs, ...] = ()  # in order of ``until``; afterwards inputs have the full size
    mosaic_prob: float = 0.0
    optimizer: Literal["momentum", "adamw"] = "momentum"
    momentum: float = 0.9
    weight_decay: float = 0.0  # L2 regularization with momentum, decoupled with AdamW
    clip_norm: float | None = None  # maximum global norm of the gradient
    warmup_start: float = 0.0  # learning rate at the first step, as a fraction of the full one
    ema: EmaRecipe | None = None
    # Set if the learning rate in the model's YAML file is meant for another recipe.
    usual_learning_rate: float | None = None

    def input_size(self, wanted: int | ImageSize | None) -> ImageSize:
        """The input size for this ``Train.image_size``. Raises ConfigError if the model does not allow it.

        For models that stretch images, one number is the side of a square. For models that keep the aspect
        ratio, one number is the limit of the short side; the limit of the long side then follows from the
        ratio of the limits in ``image_size``.
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
                f"Train.image_size: found {wanted}; for this model, height and width must be multiples of "
                "32, such as 640 or [480, 640]."
            )
        return size_hw

    def resizes_at(self, image_size: ImageSize, progress: float) -> tuple[Policy, ...]:
        """The resizes that a batch can draw at ``progress``, the finished fraction of the run."""
        for stage in self.growth:
            if progress < stage.until:
                sizes = (_scaled_size(image_size, factor) for factor in stage.factors)
                return tuple(resize for size in sizes for resize in self.resizes(size))
        return self.resizes(image_size)

    def input_pixels_at(self, progress: float) -> float:
        """Mean pixels of an input at ``progress``, as a fraction of the pixels of a full-size input."""
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
    """Without padding, for a network without a feature pyramid, whose levels would need matching sizes."""
    return replace(_fitted(image_size), pad_stride=0)


def _fitted_in_floats(image_size: ImageSize) -> PreprocessSpec:
    return replace(_fitted(image_size), interpolation=cv2.INTER_LINEAR, normalize_first=True)


def _one_fitted_size(image_size: ImageSize) -> tuple[Resize, ...]:
    return (Resize(image_size, keep_ratio=True),)


def _one_fitted_size_linear(image_size: ImageSize) -> tuple[Resize, ...]:
    return (Resize(image_size, keep_ratio=True, interpolation=cv2.INTER_LINEAR),)


SHORT_SIDES = (640, 672, 704, 736, 768, 800)  # if the limit of the short side is 800 pixels


def _random_short_sides(image_size: ImageSize) -> tuple[RandomResize, ...]:
    """Each sample draws a limit of the short side: 80 % to 100 % of the limit in ``image_size``."""
    short, long = image_size
    return (RandomResize(tuple((int(short * side / 800 + 0.5), long) for side in SHORT_SIDES)),)


BATCH_SIDES = (
    480,
    512,
    544,
    576,
    608,
    640,
    640,
    640,
    672,
    704,
    736,
    768,
    800,
)  # if the input size is 640 pixels
BATCH_INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_LINEAR,  # officially INTER_AREA, which OpenCV does not offer for our affine warp
    cv2.INTER_LANCZOS4,
)


def _many_sizes(image_size: ImageSize) -> tuple[Resize, ...]:
    """Sizes from 75 % to 125 % of the input size, each with every interpolation."""
    sizes = [_scaled_size(image_size, Fraction(side, 640)) for side in BATCH_SIDES]
    return tuple(
        Resize(size, interpolation=interpolation)
        for size, interpolation in product(sizes, BATCH_INTERPOLATIONS)
    )


def _scaled_size(image_size: ImageSize, factor: float | Fraction) -> ImageSize:
    """``image_size`` times ``factor``, rounded to multiples of 32, the coarsest stride. Halves round up."""
    height, width = (max(1, int(side * factor / 32 + 0.5)) * 32 for side in image_size)
    return height, width


# The official recipes, for training from official weights.
PP_YOLOE_SEG = Recipe(
    image_size=(640, 640),
    preprocess=_stretched,
    policies=(RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip()),
    resizes=_one_size,
    decay=CosineDecay(stretch=96 / 80),  # officially 80 epochs with a cosine of 96 epochs
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
MASK_RCNN_RESNEXT = replace(MASK_RCNN, warmup_start=0.1)  # milestones 16 and 22 of 24: the same fractions
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

# Recipes for training from random weights, tuned for a few hundred images and steps. The official recipes
# always start from trained weights. The official recipe of PP-YOLOE_seg learns almost nothing in such a short
# run; docs/results.md has the comparison. Inputs that grow during training (M. Tan and Q. Le,
# "EfficientNetV2", https://arxiv.org/abs/2104.00298, section 4) allow more epochs in the same time.
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
