"""What the pages of an evaluation and of a comparison show, as plain values.

Every number may be None and every tuple empty: the page then leaves that part out or says that there is
nothing. Names of classes, files and slices are text as the user wrote it; the pages escape and shorten it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.structures import Rle


class Interval(NamedTuple):
    """An interval that holds the value with 95 % confidence."""

    low: float
    high: float


class Fact(NamedTuple):
    """What was evaluated: "Weights", "output/best_model"."""

    name: str
    value: str


class Tile(NamedTuple):
    """A figure at the top of the page, 0..1."""

    name: str  # "Mask AP"
    value: float | None
    interval: Interval | None = None


class ScoreRow(NamedTuple):
    """One of COCO's figures, 0..1."""

    name: str  # "AP50"
    meaning: str  # "IoU 0.50"
    mask: float | None
    box: float | None = None
    mask_interval: Interval | None = None


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class. threshold: the score at which F1 is highest; precision, recall, f1 there."""

    name: str
    objects: int
    detections: int
    ap: float | None = None
    interval: Interval | None = None
    ap50: float | None = None
    box_ap: float | None = None
    boundary_ap: float | None = None
    threshold: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class Line:
    """A curve of n points with ascending x. The page thins it; n may be any number."""

    name: str
    x: NDArray[np.floating]  # [n]
    y: NDArray[np.floating]  # [n]


@dataclass(frozen=True)
class Confusion:
    """Objects and detections of K classes at one score threshold and one IoU.

    counts: [K + 1, K + 1]; the row is the class of the object, the column that of the detection. The last row
    holds detections without an object, the last column objects without a detection.
    """

    names: tuple[str, ...]  # K
    counts: NDArray[np.integer]
    score_threshold: float | None = None  # None: one for each class
    iou_threshold: float = 0.5


@dataclass(frozen=True)
class ErrorCost:
    """An error of TIDE: the AP that a model without it would gain, and how often it occurs."""

    name: str  # "Missed objects"
    ap_cost: float  # 0..1
    count: int | None
    meaning: str  # "No detection touches the object."


@dataclass(frozen=True)
class ReliabilityBin:
    """Detections with a score from ``low`` to ``high``."""

    low: float
    high: float
    count: int
    mean_score: float | None
    share_right: float | None  # 0..1


@dataclass(frozen=True)
class Calibration:
    """How well scores agree with the share of right detections. error: expected calibration error, 0..1."""

    error: float | None
    bins: tuple[ReliabilityBin, ...]


class CountRow(NamedTuple):
    """How many objects are found, and how large they are, in a class or in all."""

    name: str
    objects: int
    detections: int
    mean_error: float | None  # detections - objects, mean over images
    mean_absolute_error: float | None
    area_error: float | None = None  # (area found - area annotated) / area annotated, mean; 0.1 is 10 % more
    area_absolute_error: float | None = None


class SliceRow(NamedTuple):
    """A part of the data set: the images, or the objects, with one value of a property."""

    slice: str  # "Brightness"
    value: str  # "darkest quarter"
    images: int
    objects: int | None
    ap: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class DrawnMask:
    """An annotated object or a detection, of the whole image.

    state: "right" for an object and a detection that belong to each other, "wrong" for a missed object or a
    false detection, "ignored" for what counts as neither.
    """

    mask: Rle
    name: str  # of the class
    state: Literal["right", "wrong", "ignored"] = "right"
    score: float | None = None  # None: an annotated object
    note: str = ""  # "IoU 0.83", "this is a scratch"


@dataclass(frozen=True)
class DrawnImage:
    """An image with its objects and detections. score: F1 of the image, 0..1."""

    file_name: str
    width: int
    height: int
    truth: tuple[DrawnMask, ...]
    found: tuple[DrawnMask, ...]
    score: float | None = None


@dataclass(frozen=True)
class Suspicion:
    """A label that may be wrong. score: 0..1, the higher the more suspicious.

    truth: the label; None if one is missing. proposal: what the model found there; None if nothing.
    """

    kind: str  # "missed object"
    score: float
    file_name: str
    width: int
    height: int
    reason: str
    truth: DrawnMask | None = None
    proposal: DrawnMask | None = None


@dataclass(frozen=True)
class EvaluationPage:
    """An evaluation. verdict: sentences; the first one is the headline, such as what costs most AP."""

    title: str
    verdict: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    tiles: tuple[Tile, ...] = ()
    errors: tuple[ErrorCost, ...] = ()
    scores: tuple[ScoreRow, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    precision_recall: tuple[Line, ...] = ()  # precision over recall; the first 8 are drawn
    over_score: tuple[Line, ...] = ()  # F1, precision and recall
    best_threshold: float | None = None  # of F1 over all classes
    confusion: Confusion | None = None
    calibration: Calibration | None = None
    counts: tuple[CountRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    worst: tuple[DrawnImage, ...] = ()
    best: tuple[DrawnImage, ...] = ()
    image_threshold: float | None = None  # detections with a lower score are not drawn
    suspicions: tuple[Suspicion, ...] = ()
    num_suspicions: int | None = None  # in all, if `suspicions` has only the first
    notes: tuple[str, ...] = ()


class Difference(NamedTuple):
    """A model's figure minus that of the first model, on the same images."""

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class ModelColumn:
    """A model of a comparison, and the figures that stand at the top."""

    name: str
    facts: tuple[Fact, ...] = ()
    ap: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class ComparedRow:
    """A figure of M models: a score, the AP of a class, or the AP of a slice.

    values: [M]. differences: [M - 1], of all models but the first.
    """

    name: str
    values: tuple[float | None, ...]
    differences: tuple[Difference, ...] = ()
    objects: int | None = None
    group: str = ""  # name of the slice that ``name`` is a value of


@dataclass(frozen=True)
class ComparedImage:
    """An image with what M models found in it. scores: F1 of each, 0..1."""

    file_name: str
    width: int
    height: int
    truth: tuple[DrawnMask, ...]
    found: tuple[tuple[DrawnMask, ...], ...]  # [M]
    scores: tuple[float | None, ...] = ()  # [M]


@dataclass(frozen=True)
class ComparisonPage:
    """A comparison of M models on the same images. The first model is what the others are compared with."""

    title: str
    models: tuple[ModelColumn, ...]  # M
    verdict: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    scores: tuple[ComparedRow, ...] = ()
    classes: tuple[ComparedRow, ...] = ()
    slices: tuple[ComparedRow, ...] = ()
    better: tuple[ComparedImage, ...] = ()  # those that gained most, the last model against the first
    worse: tuple[ComparedImage, ...] = ()
    image_threshold: float | None = None
    notes: tuple[str, ...] = ()
