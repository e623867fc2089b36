"""The numbers of a paper: how each family of models is fed and trained.

What the user's YAML does not say comes from here. Lengths are relative to the run, so that every schedule
follows ``Train.epochs_iters``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from paddlex_seg.data.transforms import Policy, RandomCrop, RandomDistort, RandomExpand, RandomFlip, Resize
from paddlex_seg.structures import PreprocessSpec


@dataclass(frozen=True)
class EmaRecipe:
    """Moving average of the weights; see `engine.ema.Ema` for the kinds."""

    decay: float
    kind: Literal["threshold", "normal", "exponential"]
    skip: tuple[str, ...] = ()  # parameters taken as they are


@dataclass(frozen=True)
class Recipe:
    """How a model is fed and trained."""

    image_size: tuple[int, int]  # height, width of the network input
    preprocess: Callable[[tuple[int, int]], PreprocessSpec]  # image size -> evaluation preprocessing
    policies: Callable[[tuple[int, int]], tuple[Policy, ...]]  # image size -> training augmentation
    optimizer: Literal["momentum", "adamw"] = "momentum"
    momentum: float = 0.9
    weight_decay: float = 0.0  # an L2 term with momentum, decoupled with AdamW
    clip_norm: float | None = None  # limit of the gradient's global norm
    cosine_stretch: float = 1.2  # length of the cosine over the length of the run
    warmup_start: float = 0.0  # fraction of the learning rate at the first step
    ema: EmaRecipe | None = None


def _pp_yoloe_seg_preprocess(image_size: tuple[int, int]) -> PreprocessSpec:
    return PreprocessSpec(size_hw=image_size)


def _pp_yoloe_seg_policies(image_size: tuple[int, int]) -> tuple[Policy, ...]:
    return (RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip(), Resize(image_size))


def _gentle_policies(image_size: tuple[int, int]) -> tuple[Policy, ...]:
    return (RandomDistort(), RandomFlip(), Resize(image_size))


# The official settings, for training that starts from official weights.
PP_YOLOE_SEG = Recipe(
    image_size=(640, 640),
    preprocess=_pp_yoloe_seg_preprocess,
    policies=_pp_yoloe_seg_policies,
    weight_decay=5e-4,
    cosine_stretch=96 / 80,  # the official run stops after 80 epochs of a cosine that is 96 epochs long
    ema=EmaRecipe(decay=0.9998, kind="threshold", skip=("proj_conv.weight",)),
)

# From random weights, on the few hundred pictures and steps of a first try. The official settings never do
# that, and hardly learn anything in such a run: docs/results.md has the comparison.
PP_YOLOE_SEG_SCRATCH = replace(
    PP_YOLOE_SEG,
    policies=_gentle_policies,
    optimizer="adamw",
    clip_norm=10.0,
    cosine_stretch=1.0,
)
