"""The words that the rooms of the toolkit share: one type for each thing that crosses a room's border.

Importing this module loads neither Paddle nor OpenCV. Boxes are ``xyxy`` in pixels, where (0, 0) is the top
left corner of the top left pixel, unless a name says otherwise. Sizes are ``(height, width)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from paddle import Tensor

MaskFrame = Literal["box", "image", "image_uncut", "image_logits", "original"]
"""What a row of ``Detections.mask`` holds, which decides how it is pasted to the original image.

``"box"``: probabilities inside its box. ``"image"``: probabilities of the whole (padded) network input, which
count inside the box only. ``"image_uncut"``: the same, and the box does not cut them. ``"image_logits"``:
logits of the whole network input, which is not padded; the box does not cut them. ``"original"``: 0 and 1 at
the size of the original image, as official exported graphs paste them; no network has it.
"""


Polygons = tuple[NDArray[np.float64], ...]
"""The parts of one object, [k, 2] xy each, three corners or more; their union is the object."""


class Rle(TypedDict):
    """A binary mask of a whole image in COCO's compressed run-length encoding, column by column."""

    size: list[int]  # height, width
    counts: bytes


@dataclass(frozen=True)
class Category:
    """A class as the data set names it. Its class index is its position in the list of the train file."""

    id: int
    name: str
    supercategory: str = ""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as the annotation file lists it."""

    id: int
    file_name: str  # relative to the image folder, with forward slashes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated object.

    ``segmentation`` is as in the file: a list of polygons ``[x1, y1, x2, y2, ...]`` or an RLE mapping,
    compressed or not. ``bbox_xywh`` and ``area`` are as in the file too, and None where the file has none.
    """

    id: int
    image_id: int
    category_id: int
    segmentation: list[list[float]] | Mapping[str, Any]
    bbox_xywh: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: bool = False


@dataclass(frozen=True)
class CocoFile:
    """A COCO annotation file in memory: the only form in which a data set travels through the toolkit."""

    path: Path
    images: tuple[ImageRecord, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    extra: Mapping[str, Any] = field(
        default_factory=dict
    )  # info, licenses and whatever else stood at the top level


@dataclass(frozen=True)
class PreprocessSpec:
    """How an image becomes the network's input, in evaluation, prediction and service alike.

    ``interpolation`` is OpenCV's number (1 linear, 2 cubic). With ``keep_ratio`` the image fits into
    ``size_hw`` taken as (short side, long side) limits. ``mean`` and ``std`` apply to values in [0, 1], RGB.
    ``pad_stride`` > 0 pads the right and bottom with zeros to a multiple of it.
    """

    size_hw: tuple[int, int]
    keep_ratio: bool = False
    interpolation: int = 2
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_stride: int = 0
    normalize_first: bool = False


class Target(NamedTuple):
    """The objects of one training image, in pixels of the network input. n may be 0."""

    boxes_xyxy: Tensor  # float32 [n, 4]
    class_ids: Tensor  # int64 [n], 0-based class index
    masks: Tensor  # uint8 [n, H, W], 0 or 1
    # Per object, where polygons say the same as its mask; None where only the mask is exact: it has holes, or
    # the object is cut. An empty tuple where nothing is known of polygons.
    polygons: tuple[Polygons | None, ...] = ()


class JoinedTotals(Protocol):
    """What a loss asks instead of dividing by a number of its own batch; `ops.joined_batch` answers."""

    num_calls: int  # how often it was asked
    share: float  # of this batch among the images of its process, 0..1

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor without gradient over the joined batch."""

    def maximum(self, value: int) -> int:
        """The largest value in the joined batch."""

    def own_part(self, total: Tensor) -> Tensor:
        """What a sum over this batch is divided by, where the sum over the joined batch is by ``total``."""

    def normalizer(self, value: Tensor) -> Tensor:
        """``own_part`` of the total of ``value``, at least 1."""

    def share_of_mean(self, count: int) -> Tensor:
        """What a mean over ``count`` items is multiplied by, to have the mean over the joined batch."""


class Batch(NamedTuple):
    """What a model trains on."""

    image: Tensor  # float32 [B, 3, H, W], normalised, padded at the right and bottom
    im_shape: Tensor  # float32 [B, 2], height and width before padding
    scale_factor: Tensor  # float32 [B, 2], im_shape / size of the original image
    targets: list[Target]
    joined: JoinedTotals


class Detections(NamedTuple):
    """What a model found in a batch; image b owns ``bbox_num[b]`` of the N rows, in order. N may be 0."""

    bbox: Tensor  # float32 [N, 6]: class index, score, x1, y1, x2, y2 in pixels of the original image
    bbox_num: Tensor  # int32 [B]
    mask: Tensor  # float32 [N, h, w] at network resolution, probabilities or logits, see MaskFrame


class DetectionArrays(NamedTuple):
    """`Detections` as NumPy arrays: what a `Backend` gives back. Every row is a detection; N may be 0."""

    bbox: NDArray[np.float32]  # [N, 6]: class index, score, x1, y1, x2, y2 in pixels of the original image
    bbox_num: NDArray[np.integer]  # [B]: rows of each image
    # float32 [N, h, w] as MaskFrame says; with "original" integers [N, H, W] of the largest original image
    mask: NDArray[Any]


class Backend(Protocol):
    """What finds objects in a batch, whatever computes it: a network in memory or an exported graph.

    Evaluation and prediction know nothing else of a model.
    """

    @property
    def mask_frame(self) -> MaskFrame:
        """What the masks hold, which decides how they are pasted."""

    @property
    def preprocess(self) -> PreprocessSpec:
        """How an image becomes the input."""

    def __call__(
        self,
        image: NDArray[np.float32],
        im_shape: NDArray[np.float32],
        scale_factor: NDArray[np.float32],
    ) -> DetectionArrays:
        """Detections of a batch of images whose inputs have one size.

        image: float32 [B, 3, H, W], normalised, padded at the right and bottom; im_shape: float32 [B, 2],
        height and width before padding; scale_factor: float32 [B, 2], im_shape over the size of the original
        image.
        """


@dataclass(frozen=True)
class Instances:
    """What was found in one image, best score first, in pixels of the original image. N may be 0."""

    size_hw: tuple[int, int]
    class_ids: NDArray[np.int64]  # [N], 0-based class index
    scores: NDArray[np.float32]  # [N], 0..1
    boxes_xyxy: NDArray[np.float32]  # [N, 4]
    masks: tuple[Rle, ...]  # N of them, each of the whole image

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_threshold: float) -> Instances:
        """Those with a score greater than ``score_threshold``."""
        keep = np.flatnonzero(self.scores > score_threshold)
        return Instances(
            size_hw=self.size_hw,
            class_ids=self.class_ids[keep],
            scores=self.scores[keep],
            boxes_xyxy=self.boxes_xyxy[keep],
            masks=tuple(self.masks[i] for i in keep),
        )


@dataclass(frozen=True)
class RateChange:
    """A step from which on the learning rate is another one."""

    step: int  # counted from 0
    epoch: int  # the one that the step is in, counted from 1
    learning_rate: float


@dataclass(frozen=True)
class ScheduleReport:
    """What a schedule comes to in a run. Steps are counted from 0, epochs from 1."""

    kind: str  # "cosine", "piecewise" or "constant"
    base_learning_rate: float
    first_learning_rate: float
    final_learning_rate: float  # of the last step
    epochs: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int  # after capping
    asked_warmup_steps: int
    milestones: tuple[RateChange, ...]  # those within the run
    learning_rates: tuple[tuple[int, float], ...]  # step, rate: with straight lines between, the curve

    def lines(self) -> list[str]:
        """The schedule in words, for the log."""
        text = [
            f"Schedule: {self.epochs} epochs of {self.steps_per_epoch} steps, {self.total_steps} in all.",
            f"Learning rate: {self._warmup_text()}{self._decay_text()}",
        ]
        if self.warmup_steps < self.asked_warmup_steps:
            text.append(
                f"Warm-up is {self.warmup_steps} steps instead of {self.asked_warmup_steps}, "
                "a third of the run: the run is short."
            )
        return text

    def _warmup_text(self) -> str:
        if not self.warmup_steps:
            return f"{self.base_learning_rate:g} from the first step"
        return (
            f"from {self.first_learning_rate:g} up to {self.base_learning_rate:g} "
            f"in the first {self.warmup_steps} steps (warm-up)"
        )

    def _decay_text(self) -> str:
        if self.kind == "cosine":
            return f", then along a cosine to {self.final_learning_rate:.3g} at the last step."
        changes = [
            f"{change.learning_rate:g} from step {change.step} (epoch {change.epoch})"
            for change in self.milestones
        ]
        return ", then " + ", ".join(changes) + "." if changes else ", then constant."
