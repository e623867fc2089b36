"""Compares models on the same images: what is better or worse, and whether that is more than chance.

The difference of two models is measured on the same resamples of the images (a paired bootstrap, see
`metrics.bootstrap`): what makes an image hard for both is no difference. It is sure if its 95 % interval does
not hold 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.evaluation.slices import LEAST_OBJECTS, ImageSlice, Slice, SliceTables
from paddlex_seg.metrics.bootstrap import (
    Interval,
    Weights,
    interval,
    mean_of_classes,
    precision_of_resamples,
    resample_weights,
)
from paddlex_seg.metrics.curves import curves
from paddlex_seg.metrics.matching import (
    Matching,
    average_precision,
    match,
    mean_of_defined,
    num_objects,
)
from paddlex_seg.metrics.overlaps import Overlaps, Truth, measure_overlaps, truth_of
from paddlex_seg.reports.evaluation_images import (
    ImageMistakes,
    compared_images,
    count_mistakes,
    drawn_images,
)
from paddlex_seg.reports.evaluation_records import ComparedImage, DrawnImage
from paddlex_seg.structures import CocoFile, Id, Instances

_Floats = NDArray[np.float64]
LEAST_IMAGES = 8  # with objects of a class or slice: with fewer, resamples hardly differ, and say nothing
# Of each slice, whose intervals need not be as fine: there are many, and each takes as long as the whole.
_SLICE_RESAMPLES, _LEAST_RESAMPLES = 200, 100
_SLICE_WORK = 20_000_000  # resamples x detections
_MOST_LINES, _WIDTH = 20, 16  # of classes in the log, and of a model's column
MOST_IMAGES = 100  # in the result file, of those that got better and of those that got worse


@dataclass(frozen=True)
class Model:
    """What a model found."""

    name: str
    results: Mapping[Id, Instances]  # by image id
    category_ids: Sequence[Id]  # of each class index
    has_masks: bool = True
    score_threshold: float | None = None  # that the results were cut at; None: they were not


@dataclass(frozen=True)
class Difference:
    """A model's figure minus that of the first model; None where a figure is missing."""

    value: float | None
    interval: Interval | None = None

    @property
    def is_sure(self) -> bool:
        """Whether it is more than chance."""
        return self.interval is not None and not self.interval.has(0)


@dataclass(frozen=True)
class Row:
    """A figure of M models: values [M], and the differences [M - 1] of all but the first."""

    group: str
    name: str
    objects: int | None
    values: tuple[float | None, ...]
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        own = asdict(self)
        for entry, difference in zip(own["differences"], self.differences, strict=True):
            entry["more_than_chance"] = difference.is_sure
        return own


@dataclass(frozen=True)
class ImageChange:
    """F1 of an image, 0..1, by the first and the last model; 1 where nothing is, and nothing was found."""

    image_id: Id
    file_name: str
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """What a comparison of M models found."""

    names: tuple[str, ...]
    kind: Literal["segm", "bbox"]  # boxes if a model has no masks
    figures: tuple[Row, ...]
    classes: tuple[Row, ...]
    slices: tuple[Row, ...]
    intervals: tuple[Interval | None, ...]  # of the AP of each model
    score_thresholds: tuple[float, ...]  # at which F1 of the images is measured, for each model
    better: tuple[ImageChange, ...]  # the most first
    worse: tuple[ImageChange, ...]
    num_images: int
    notes: tuple[str, ...]
    are_thresholds: bool = False  # whether score thresholds are compared, so that F1 decides
    drawn_better: tuple[ComparedImage, ...] = ()  # the first ones, by all models; none without masks
    drawn_worse: tuple[ComparedImage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = {
            key: [row.to_json() for row in getattr(self, key)] for key in ("figures", "classes", "slices")
        }
        return {
            "kind": self.kind,
            **rows,
            "images": {
                "all": self.num_images,
                "num_better": len(self.better),
                "num_worse": len(self.worse),
                "score_thresholds": list(self.score_thresholds),
                "better": [asdict(image) for image in self.better[:MOST_IMAGES]],
                "worse": [asdict(image) for image in self.worse[:MOST_IMAGES]],
            },
            "notes": list(self.notes),
        }

    def table(self) -> str:
        """Figures and classes as lines of text for the log."""
        names = "".join(f"  {_short(name):>{_WIDTH}}" for name in self.names)
        lines = [f"{'':24}{names}"]
        order = sorted(self.classes, key=lambda row: -abs(row.differences[-1].value or 0))
        told = [row for row in self.classes if row in order[:_MOST_LINES]]
        for row in (*self.figures, *told):
            values = "".join(f"  {_cell(value):>{_WIDTH}}" for value in row.values)
            lines.append(f"{_short(row.name, 24):24}{values}  {'; '.join(map(_in_words, row.differences))}")
        if len(told) < len(self.classes):
            lines.append(f"The other {len(self.classes) - len(told)} classes differ less.")
        lines.append(
            f"With {self.names[-1]}, {len(self.better)} of {self.num_images} images are better than with "
            f"{self.names[0]}, and {len(self.worse)} are worse."
        )
        return "\n".join([*lines, *self.notes])

    def verdict(self) -> tuple[str, ...]:
        """What the comparison says, in sentences."""
        first = self.names[0]
        sentences = []
        for place, name in enumerate(self.names[1:]):
            row = self.figures[-1 if self.are_thresholds else 0]
            values, difference = row.values, row.differences[place]
            if difference.value is None:
                sentences.append(f"There are no objects to compare {name} with {first}.")
                continue
            new, old = _cell(values[place + 1]), _cell(values[0])
            text = f"{row.name} {new} instead of {old}, {_in_words(difference)}"
            if difference.value == 0 == len(self.better) == len(self.worse):
                sentences.append(f"{name} and {first} have the same {row.name}, {old}.")
            elif not difference.is_sure:
                sentences.append(f"{name} and {first} do not differ by more than chance: {text}.")
            else:
                word = "better" if difference.value > 0 else "worse"
                sentences.append(f"{name} is {word} than {first}: {text}.")
            for rows, what in ((self.classes, "class"), (self.slices, "slice")):
                sentences += _sure_ones(rows, place, what)
        return tuple(sentences)


def compare(
    coco: CocoFile,
    models: Sequence[Model],
    slices: Sequence[Slice] = (),
    *,
    num_resamples: int = 1000,
    num_drawn: int = 8,
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare two models or more on the annotations of ``coco``; the others are compared with the first.

    num_resamples: 0 gives no intervals, so no difference is sure. A class or slice with objects in fewer than
    `LEAST_IMAGES` images has none either. num_drawn: of the images that got better,
    and of those that got worse.
    """
    truth = truth_of(coco)
    kind: Literal["segm", "bbox"] = "segm" if all(model.has_masks for model in models) else "bbox"
    weights = resample_weights(len(coco.images), num_resamples) if num_resamples else None
    views = [_View(coco, truth, model, kind) for model in models]
    samples = [view.samples(weights) for view in views]
    what = "mask" if kind == "segm" else "box"
    figures = [
        _row("", f"{what} {name}", None, views, samples, select)
        for name, select in (("AP", slice(None)), ("AP50", slice(0, 1)), ("AP75", slice(5, 6)))
    ]
    if kind == "segm":
        boxes = [_View(coco, truth, model, "bbox") for model in models]
        of_boxes = [view.samples(weights) for view in boxes]
        figures.append(_row("", "box AP", None, boxes, of_boxes, slice(None)))
    figures.append(_f1_row(views, weights))
    ap_samples = [None if one is None else mean_of_classes(one.mean(axis=1))[0] for one in samples]
    better, worse = _changes(coco, views)
    drawn = [_drawn(part[:num_drawn], views) if kind == "segm" else () for part in (better, worse)]
    return Comparison(
        names=tuple(model.name for model in models),
        kind=kind,
        figures=tuple(figures),
        classes=tuple(_class_rows(coco, views, samples)),
        slices=tuple(_slice_rows(slices, views, weights)),
        intervals=tuple(None if one is None else interval(one) for one in ap_samples),
        score_thresholds=tuple(view.score_threshold for view in views),
        better=better,
        worse=worse,
        num_images=len(coco.images),
        notes=(*notes, *_missing_images(coco, models)),
        are_thresholds=len({model.score_threshold for model in models}) > 1,
        drawn_better=drawn[0],
        drawn_worse=drawn[1],
    )


class _View:
    """The match table of one model."""

    def __init__(self, coco: CocoFile, truth: Truth, model: Model, kind: Literal["segm", "bbox"]) -> None:
        self._coco, self._truth, self.model = coco, truth, model
        self.overlaps = measure_overlaps(
            coco, model.results, model.category_ids, kind, truth=truth, across_classes=False
        )
        self.matching = match(self.overlaps)
        self.precision = average_precision(self.overlaps, self.matching)

    @cached_property
    def slice_tables(self) -> SliceTables:
        return SliceTables(self._coco, self._truth, self.model.results, self.overlaps)

    @cached_property
    def score_threshold(self) -> float:
        """The one with the best F1 of all classes, or that the results were cut at."""
        if self.model.score_threshold is not None:
            return self.model.score_threshold
        best = curves(self.overlaps, self.matching).all.best
        return 0.0 if best is None else best.threshold

    def samples(self, weights: Weights | None) -> _Floats | None:
        """[B, T, K], see `precision_of_resamples`."""
        return None if weights is None else precision_of_resamples(self.overlaps, self.matching, weights)

    def mistakes(self) -> ImageMistakes:
        return count_mistakes(self._coco, self.overlaps, self.matching, self.score_threshold)

    def drawn(self, image_ids: Sequence[Id]) -> tuple[DrawnImage, ...]:
        table = (self.overlaps, self.matching, self.score_threshold)
        return drawn_images(image_ids, self._coco, self.model.results, *table)


def _row(
    group: str,
    name: str,
    objects: int | None,
    views: Sequence[_View],
    samples: Sequence[_Floats | None],
    thresholds: slice,
) -> Row:
    """A figure of all classes at some of the IoU thresholds."""
    values = [mean_of_defined(view.precision[thresholds]) for view in views]
    resampled = [
        mean_of_classes(one[:, thresholds].mean(axis=1))[0]
        if one is not None and _num_images(view.overlaps, view.matching) >= LEAST_IMAGES
        else None
        for view, one in zip(views, samples, strict=True)
    ]
    return Row(group, name, objects, tuple(values), _differences(values, resampled))


def _f1_row(views: Sequence[_View], weights: Weights | None) -> Row:
    """F1 of all images at IoU 0.5, at the score threshold of each model."""
    values: list[float | None] = []
    resampled: list[_Floats | None] = []
    is_enough = _num_images(views[0].overlaps, views[0].matching) >= LEAST_IMAGES
    for view in views:
        counts = view.mistakes()
        right, wrong = counts.right.astype(np.float64), (counts.missed + counts.false).astype(np.float64)
        has_objects = (counts.right + counts.missed).any()
        values.append(float(2 * right.sum() / (2 * right + wrong).sum()) if has_objects else None)
        if weights is None or not is_enough:
            resampled.append(None)
        else:
            all_of = weights @ (2 * right + wrong)
            own = np.full(len(weights), np.nan)
            resampled.append(np.divide(weights @ (2 * right), all_of, out=own, where=all_of > 0))
    return Row("", "F1 (IoU 0.5)", None, tuple(values), _differences(values, resampled))


def _class_rows(coco: CocoFile, views: Sequence[_View], samples: Sequence[_Floats | None]) -> list[Row]:
    names = {category.id: category.name for category in coco.categories}
    counts = num_objects(views[0].overlaps, views[0].matching).tolist()
    rows = []
    for k, id in enumerate(views[0].overlaps.category_ids):
        values = [mean_of_defined(view.precision[:, :, k]) for view in views]
        is_enough = _num_images(views[0].overlaps, views[0].matching, k) >= LEAST_IMAGES
        resampled = [one[:, :, k].mean(axis=1) if one is not None and is_enough else None for one in samples]
        rows.append(Row("", names[id], counts[k], tuple(values), _differences(values, resampled)))
    return rows


def _slice_rows(slices: Sequence[Slice], views: Sequence[_View], weights: Weights | None) -> list[Row]:
    rows = []
    for part in slices:
        tables = [view.slice_tables.of(part) for view in views]
        objects = int((~tables[0][1].object_is_ignored).sum())
        if objects < LEAST_OBJECTS:
            missing = tuple(Difference(None) for _ in views[1:])
            rows.append(Row(part.group, part.value, objects, (None,) * len(views), missing))
            continue
        values = [mean_of_defined(average_precision(*table)) for table in tables]
        is_enough = _num_images(*tables[0]) >= LEAST_IMAGES
        resampled = [
            _slice_samples(*table, part, weights) if weights is not None and is_enough else None
            for table in tables
        ]
        rows.append(Row(part.group, part.value, objects, tuple(values), _differences(values, resampled)))
    return rows


def _num_images(overlaps: Overlaps, matching: Matching, k: int | None = None) -> int:
    """How many images have objects that count, of a class or of any."""
    counted = ~matching.object_is_ignored
    if k is not None:
        counted &= overlaps.objects.class_index == k
    return len(np.unique(overlaps.objects.image[counted]))


def _slice_samples(overlaps: Overlaps, matching: Matching, part: Slice, weights: Weights) -> _Floats:
    """[B]: the AP of a slice in the first resamples, fewer for many detections."""
    number = int(matching.is_counted.sum()) if isinstance(part, ImageSlice) else len(overlaps.found.score)
    most = min(_SLICE_RESAMPLES, max(_LEAST_RESAMPLES, _SLICE_WORK // max(1, number)))
    samples = precision_of_resamples(overlaps, matching, weights[:most])
    return mean_of_classes(samples.mean(axis=1))[0]


def _differences(
    values: Sequence[float | None], resampled: Sequence[_Floats | None]
) -> tuple[Difference, ...]:
    first, of_first = values[0], resampled[0]
    differences = []
    for value, own in zip(values[1:], resampled[1:], strict=True):
        if value is None or first is None:
            differences.append(Difference(None))
        else:
            within = None if own is None or of_first is None else interval(own - of_first)
            differences.append(Difference(value - first, within))
    return tuple(differences)


def _changes(
    coco: CocoFile, views: Sequence[_View]
) -> tuple[tuple[ImageChange, ...], tuple[ImageChange, ...]]:
    """The images in which the last model is better and those in which it is worse than the first."""
    before, after = (np.nan_to_num(view.mistakes().f1, nan=1.0) for view in (views[0], views[-1]))
    change = after - before

    def listed(order: NDArray[np.int64], is_meant: Callable[[float], bool]) -> tuple[ImageChange, ...]:
        return tuple(
            ImageChange(coco.images[i].id, coco.images[i].file_name, float(before[i]), float(after[i]))
            for i in order.tolist()
            if is_meant(change[i])
        )

    return (
        listed(np.argsort(-change, kind="stable"), lambda value: value > 0),
        listed(np.argsort(change, kind="stable"), lambda value: value < 0),
    )


def _drawn(images: Sequence[ImageChange], views: Sequence[_View]) -> tuple[ComparedImage, ...]:
    ids = [image.image_id for image in images]
    return compared_images([view.drawn(ids) for view in views])


def _missing_images(coco: CocoFile, models: Sequence[Model]) -> list[str]:
    """A note about each model without detections in images in which others have some."""
    found = [{id for id, one in model.results.items() if len(one)} for model in models]
    anywhere = set().union(*found)
    return [
        f"{model.name} has no detections in {len(anywhere - own)} of {len(coco.images)} images in which "
        "other models have some. If it did not see them, leave them out of the annotation file."
        for model, own in zip(models, found, strict=True)
        if anywhere - own
    ]


def _sure_ones(rows: Sequence[Row], place: int, what: str) -> list[str]:
    """A sentence about the rows that got better, and one about those that got worse; the most first."""
    sure = [row for row in rows if row.differences[place].is_sure]
    sentences = []
    for sign, word in ((1, "Better"), (-1, "Worse")):
        gains = [(sign * (row.differences[place].value or 0), row) for row in sure]
        own = [row for gain, row in sorted(gains, key=lambda pair: -pair[0]) if gain > 0]
        if own:
            texts = [f"{f'{row.group}: ' * bool(row.group)}{row.name}" for row in own[:5]]
            more = f" and {len(own) - 5} more" if len(own) > 5 else ""
            plural = {"class": "classes", "slice": "slices"}[what] if len(own) > 1 else what
            sentences.append(f"{word} in {len(own)} {plural}: {', '.join(texts)}{more}.")
    return sentences


def _in_words(difference: Difference) -> str:
    if difference.value is None:
        return ""
    text = f"{difference.value:+.3f}"
    if difference.interval is None:
        return text
    low, high = difference.interval.low, difference.interval.high
    return f"{text} (95 %: {low:+.3f} to {high:+.3f}{', more than chance' if difference.is_sure else ''})"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _short(name: str, most: int = _WIDTH) -> str:
    """The end of a long name, where names differ."""
    return name if len(name) <= most else f"…{name[1 - most :]}"
