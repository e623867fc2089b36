"""Data types shared by the packages of the toolkit.

Importing this module loads neither Paddle nor OpenCV. Boxes are ``xyxy`` in pixels unless a name says
otherwise; (0, 0) is the top left corner of the top left pixel. Sizes are ``(height, width)``.
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

Id = int | str
"""The id of a record, as in the user's file: a whole number of any size, or text.

Ids name records in messages, results and written files. Arrays, and libraries that compute, get positions
instead, because an id may have 128 bits.
"""

NO_EXTRA: Mapping[str, Any] = {}
"""The ``extra`` of all records without other keys. It is shared, to save memory."""


def _no_extra() -> Mapping[str, Any]:
    return NO_EXTRA


MaskFrame = Literal["box", "image", "image_uncut", "image_logits", "original"]
"""The kind of masks in ``Detections.mask``. It decides how they are pasted to the original image.

``"box"``: probabilities inside the box. ``"image"``: probabilities of the whole (padded) network input, to be
set to 0 outside the box. ``"image_uncut"``: the same, but not cut at the box. ``"image_logits"``: logits of
the whole network input, which has no padding; not cut at the box. ``"original"``: 0 and 1 at the size of the
original image. Only official exported graphs give ``"original"``, networks do not.
"""


BackendName = Literal["paddle", "onnxruntime", "openvino"]
"""What runs an exported model."""

BackendChoice = Literal["paddle", "onnxruntime", "openvino", "auto"]
"""A backend, or ``auto`` for the fastest one that is installed and certified."""

Precision = Literal["f32", "bf16", "int8"]
"""How an exported model computes. Only ``f32`` gives the detections of the network in memory."""

RunMode = Literal["paddle", "mkldnn", "trt_fp32", "trt_fp16"]
"""How Paddle Inference runs a graph: its own kernels, oneDNN on the CPU, or TensorRT on a GPU."""


BANDS_FILE = "bands.yaml"
"""A file of a data set, beside ``images/``: how its images are read, with the keys of ``Global.bands``."""


Polygons = tuple[NDArray[np.float64], ...]
"""The polygons of one object, each [k, 2] xy with k >= 3. The object is their union."""


class Rle(TypedDict):
    """A binary mask of a whole image in COCO's compressed run-length encoding, column by column."""

    size: list[int]  # height, width
    counts: bytes


@dataclass(frozen=True)
class Category:
    """A class of the data set. Its class index is its position in the categories of the train file."""

    id: Id
    name: str
    supercategory: str = ""
    extra: Mapping[str, Any] = field(default_factory=_no_extra, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as listed in the annotation file."""

    id: Id
    file_name: str  # relative to the image folder, with forward slashes
    width: int
    height: int
    extra: Mapping[str, Any] = field(default_factory=_no_extra, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated object.

    ``segmentation`` is as in the file: a list of polygons ``[x1, y1, x2, y2, ...]`` or an RLE mapping,
    compressed or not. ``bbox_xywh`` and ``area`` are as in the file too; None if the file has none that can
    be used. Use them through `data.coco.numbers`, because they may not fit the mask. ``extra``: all other
    keys of the record; images and categories have it too.
    """

    id: Id
    image_id: Id
    category_id: Id
    segmentation: list[list[float]] | Mapping[str, Any]
    bbox_xywh: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: bool = False
    extra: Mapping[str, Any] = field(default_factory=_no_extra, hash=False, repr=False)


@dataclass(frozen=True)
class CocoFile:
    """A COCO annotation file in memory. All code of the toolkit uses data sets in this form."""

    path: Path
    images: tuple[ImageRecord, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)  # info, licenses and all other top-level keys


@dataclass(frozen=True)
class Bands:
    """Which bands of an image become red, green and blue, and how their values become 0..255.

    Bands are counted from 1, as in GDAL and QGIS. Exactly one of ``range`` and ``stretch`` is set. ``range``:
    the values (low, high) that become 0 and 255, for red, green and blue. ``stretch``: the same as two
    percentiles, measured in each image and band over the pixels with data. ``nodata``: the value of pixels
    without data; None: the one that the file states, if any. NaN and infinite values are never data. Raises
    ValueError for values that make no sense.
    """

    red: int
    green: int
    blue: int
    range: tuple[tuple[float, float], ...] | None = None
    stretch: tuple[float, float] | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if min(self.numbers) < 1:
            raise ValueError("bands are counted from 1")
        if (self.range is None) == (self.stretch is None):
            raise ValueError("expected one of range and stretch")
        pairs = self.range if self.range is not None else ((self.stretch or (0.0, 0.0)),)
        if self.range is not None and len(self.range) != 3:
            raise ValueError("range: expected [low, high], or three of them for red, green and blue")
        if not all(len(pair) == 2 and pair[0] < pair[1] for pair in pairs):
            raise ValueError("expected [low, high] with low below high")
        if self.stretch is not None and not 0 <= self.stretch[0] < self.stretch[1] <= 100:
            raise ValueError("stretch: expected two percentiles from 0 to 100, such as [2, 98]")

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The bands of red, green and blue."""
        return self.red, self.green, self.blue

    def __str__(self) -> str:
        if self.range is None:
            values = "stretch " + "..".join(f"{value:g}" for value in self.stretch or ())
        else:
            values = "range " + ", ".join(dict.fromkeys(f"{low:g}..{high:g}" for low, high in self.range))
        nodata = "" if self.nodata is None else f", nodata {self.nodata:g}"
        return f"red {self.red}, green {self.green}, blue {self.blue}, {values}{nodata}"


@dataclass(frozen=True)
class PreprocessSpec:
    """How an image is converted to the network input, in evaluation, prediction and deployment.

    ``interpolation`` is OpenCV's number (1 linear, 2 cubic). With ``keep_ratio``, ``size_hw`` means the
    limits (short side, long side), and the image is resized to fit. ``mean`` and ``std`` are for RGB values
    in [0, 1]. ``pad_stride`` > 0: pad right and bottom with zeros to a multiple of it. ``bands``: how an
    image file is read as RGB; None: as any image.
    """

    size_hw: tuple[int, int]
    keep_ratio: bool = False
    interpolation: int = 2
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_stride: int = 0
    normalize_first: bool = False
    bands: Bands | None = None


class Target(NamedTuple):
    """The objects of one training image, in pixels of the network input. n may be 0."""

    boxes_xyxy: Tensor  # float32 [n, 4]
    class_ids: Tensor  # int64 [n], 0-based class index
    masks: Tensor  # uint8 [n, H, W], 0 or 1
    # Per object: its polygons if they are as exact as the mask; None if only the mask is exact, such as for a
    # mask with holes or a cut object. An empty tuple if polygons are not available at all.
    polygons: tuple[Polygons | None, ...] = ()


class JoinedTotals(Protocol):
    """Gives a loss its normalisers over the joined batch: all processes and all parts of a split batch.

    A loss must use it instead of dividing by a number of its own batch. Implemented in `ops.joined_batch`.
    """

    num_calls: int  # number of calls so far
    share: float  # fraction (0..1) of the images of this process that are in this batch

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor without gradient over the joined batch."""

    def maximum(self, value: int) -> int:
        """The largest value in the joined batch."""

    def own_part(self, total: Tensor) -> Tensor:
        """The divisor for a sum over this batch, if ``total`` is the divisor for the joined batch."""

    def normalizer(self, value: Tensor) -> Tensor:
        """``own_part`` of the total of ``value``; the total is at least 1."""

    def share_of_mean(self, count: int) -> Tensor:
        """The factor for a mean over ``count`` items that makes it a mean over the joined batch."""


class Batch(NamedTuple):
    """A training batch of B images."""

    image: Tensor  # float32 [B, 3, H, W], normalised, padded at the right and bottom
    im_shape: Tensor  # float32 [B, 2], height and width before padding
    scale_factor: Tensor  # float32 [B, 2], im_shape / size of the original image
    targets: list[Target]
    joined: JoinedTotals


class Detections(NamedTuple):
    """The detections of a batch. The N rows are ordered by image; image b has ``bbox_num[b]``. N may be 0."""

    bbox: Tensor  # float32 [N, 6]: class index, score, x1, y1, x2, y2 in pixels of the original image
    bbox_num: Tensor  # int32 [B]
    mask: Tensor  # float32 [N, h, w] at network resolution, probabilities or logits, see MaskFrame


class DetectionArrays(NamedTuple):
    """`Detections` as NumPy arrays, returned by a `Backend`. There are no filler rows; N may be 0."""

    bbox: NDArray[np.float32]  # [N, 6]: class index, score, x1, y1, x2, y2 in pixels of the original image
    bbox_num: NDArray[np.integer]  # [B]: rows of each image
    # float32 [N, h, w], see MaskFrame; for "original" integers [N, H, W], size of the largest original image
    mask: NDArray[Any]


class Backend(Protocol):
    """Runs a model on a batch: a network in memory or an exported graph.

    Evaluation and prediction use models only through this interface.
    """

    @property
    def mask_frame(self) -> MaskFrame:
        """The kind of masks, which decides how they are pasted."""

    @property
    def preprocess(self) -> PreprocessSpec:
        """How an image is converted to the network input."""

    def __call__(
        self,
        image: NDArray[np.float32],
        im_shape: NDArray[np.float32],
        scale_factor: NDArray[np.float32],
    ) -> DetectionArrays:
        """The detections of a batch of network inputs of the same size.

        image: float32 [B, 3, H, W], normalised, padded at the right and bottom; im_shape: float32 [B, 2],
        height and width before padding; scale_factor: float32 [B, 2], im_shape / size of the original image.
        """


@dataclass(frozen=True)
class Instances:
    """The N instances of one image, best score first, in pixels of the original image. N may be 0.

    Scores and boxes from a result file are float64.
    """

    size_hw: tuple[int, int]
    class_ids: NDArray[np.int64]  # [N], 0-based class index
    scores: NDArray[np.float32]  # [N], 0..1
    boxes_xyxy: NDArray[np.float32]  # [N, 4]
    masks: tuple[Rle, ...]  # N masks of the whole image; none if they are from a file that has only boxes
    # float64 [N, 4], of a result file: as xyxy, width and height would be rounded. None: as boxes_xyxy.
    boxes_xywh: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_threshold: float) -> Instances:
        """The instances with a score greater than ``score_threshold``."""
        return self.take(np.flatnonzero(self.scores > score_threshold))

    def take(self, keep: NDArray[np.integer]) -> Instances:
        """The instances at these positions."""
        return Instances(
            size_hw=self.size_hw,
            class_ids=self.class_ids[keep],
            scores=self.scores[keep],
            boxes_xyxy=self.boxes_xyxy[keep],
            masks=tuple(self.masks[i] for i in keep) if self.masks else (),
            boxes_xywh=None if self.boxes_xywh is None else self.boxes_xywh[keep],
        )


@dataclass(frozen=True)
class RateChange:
    """A change of the learning rate."""

    step: int  # first step with the new rate, counted from 0
    epoch: int  # epoch of that step, counted from 1
    learning_rate: float


@dataclass(frozen=True)
class ScheduleReport:
    """The effective learning rate schedule of a run. Steps are counted from 0, epochs from 1."""

    kind: str  # "cosine", "piecewise" or "constant"
    base_learning_rate: float
    first_learning_rate: float
    final_learning_rate: float  # of the last step
    epochs: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int  # after capping
    asked_warmup_steps: int  # as configured
    milestones: tuple[RateChange, ...]  # only those within the run
    learning_rates: tuple[tuple[int, float], ...]  # (step, rate) points of the curve; linear in between

    def lines(self) -> list[str]:
        """The schedule as text for the log."""
        text = [
            f"Schedule: {self.epochs} epochs of {self.steps_per_epoch} steps, "
            f"{self.total_steps} steps in total.",
            f"Learning rate: {self._warmup_text()}{self._decay_text()}",
        ]
        if self.warmup_steps < self.asked_warmup_steps:
            text.append(
                f"Warm-up is {self.warmup_steps} steps instead of {self.asked_warmup_steps}, "
                "because it is limited to a third of the run."
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
            return f", then cosine decay to {self.final_learning_rate:.3g} at the last step."
        changes = [
            f"{change.learning_rate:g} from step {change.step} (epoch {change.epoch})"
            for change in self.milestones
        ]
        return ", then " + ", ".join(changes) + "." if changes else ", then constant."
