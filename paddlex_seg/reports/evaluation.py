"""The page of an evaluation as one HTML file: what costs most AP, figures, curves, slices, images, labels.

The file works offline, and without scripts too: those only sort tables and move enlarged images. Its size is
limited for any data set: by the numbers of images below, and by the bytes of each in `cases` and `drawings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.reports.cases import MASK_LEGEND, image_case, review_crop
from paddlex_seg.reports.charts import Chart, Curve, Mark, line_chart
from paddlex_seg.reports.evaluation_records import (
    Calibration,
    ClassRow,
    Confusion,
    CountRow,
    ErrorCost,
    EvaluationPage,
    Line,
    ReliabilityBin,
    ScoreRow,
    SliceRow,
)
from paddlex_seg.reports.page import render_page
from paddlex_seg.reports.sortable import (
    Cell,
    Column,
    Table,
    bar_cell,
    count_cell,
    figure_cell,
    interval_cell,
    make_table,
    name_cell,
)
from paddlex_seg.reports.text import NOTHING, counted, percent, shorten
from paddlex_seg.structures import Bands

STYLES, SCRIPTS = ("page.css", "evaluation.css"), ("tables.js", "layers.js")
"""The style sheets and scripts of this page and of that of a comparison."""

_MAX_WORST, _MAX_BEST, _MAX_CROPS = 12, 6, 40
_MAX_CLASSES = 12  # with the lowest AP, and as many of the most frequent; the other ones can be unfolded
_MAX_ROWS = 2000  # of a table
_MAX_SLICES = 30  # values of one slice
_MAX_POINTS = 250  # of a curve
_MAX_LINES = 8  # of a chart
_UNIT = (0.0, 1.0)
_MAX_CONFUSED = 18  # classes of the matrix; the others are one
_MAX_PAIRS = 12  # of classes that are confused most


def write_evaluation_page(
    path: Path, page: EvaluationPage, *, image_dir: Path | None = None, bands: Bands | None = None
) -> None:
    """Write the page to ``path`` atomically. It is smaller than 15 MB.

    image_dir: None if there are no image files; only masks are drawn then. bands: how images are read. Images
    are opened one after the other.
    """
    shown = (*page.worst[:_MAX_WORST], *page.best[:_MAX_BEST])
    cases = [image_case(i, image, image_dir, bands) for i, image in enumerate(shown)]
    num_worst = len(page.worst[:_MAX_WORST])
    first_classes, all_classes = class_tables(page.classes)
    values = {
        "page": page,
        "errors": _error_bars(page.errors),
        "scores": _score_table(page.scores),
        "first_classes": first_classes,
        "all_classes": all_classes,
        "curves": _curve_charts(page),
        "confusion": None if page.confusion is None else _matrix(page.confusion),
        "calibration": None if page.calibration is None else _reliability(page.calibration),
        "counts": _count_table(page.counts),
        "slices": _slice_tables(page.slices),
        "worst": cases[:num_worst],
        "best": cases[num_worst:],
        "mask_legend": MASK_LEGEND,
        "crops": [review_crop(item, image_dir, bands) for item in page.suspicions[:_MAX_CROPS]],
        "num_suspicions": max(page.num_suspicions or 0, len(page.suspicions)),
    }
    html = render_page("evaluation.html.jinja", styles=STYLES, scripts=SCRIPTS, **values)
    write_bytes(path, html)


# ---- Errors and figures


@dataclass(frozen=True)
class _ErrorBar:
    cost: ErrorCost
    width: float  # percent of the longest bar


def _error_bars(errors: Sequence[ErrorCost]) -> list[_ErrorBar]:
    """The errors, the most expensive first."""
    top = max([error.ap_cost for error in errors], default=0) or 1.0
    ordered = sorted(errors, key=lambda error: -error.ap_cost)
    return [_ErrorBar(error, round(100 * max(error.ap_cost, 0) / top, 1)) for error in ordered]


def _score_table(scores: Sequence[ScoreRow]) -> Table:
    columns = [
        Column("Figure", is_number=False),
        Column("Meaning", is_number=False),
        Column("Masks"),
        Column("95 %", tip="95 % interval of the masks"),
        Column("Boxes"),
    ]
    rows = [
        [
            name_cell(row.name),
            Cell(shorten(row.meaning)),
            figure_cell(row.mask),
            interval_cell(row.mask_interval),
            figure_cell(row.box),
        ]
        for row in scores
    ]
    return make_table("COCO's figures", columns, rows)


def class_tables(classes: Sequence[ClassRow]) -> tuple[Table | None, Table]:
    """The worst and most frequent classes if there are many, and all classes."""
    everything = _class_table("All classes", classes[:_MAX_ROWS])
    if len(classes) <= 2 * _MAX_CLASSES:
        return None, everything
    with_ap = [i for i, row in enumerate(classes) if row.ap is not None]
    worst = sorted(with_ap, key=lambda i: classes[i].ap or 0.0)[:_MAX_CLASSES]
    frequent = sorted(range(len(classes)), key=lambda i: -classes[i].objects)[:_MAX_CLASSES]
    chosen = [classes[i] for i in dict.fromkeys([*worst, *frequent])]
    return _class_table("Worst and most frequent classes", chosen), everything


def _class_table(caption: str, classes: Sequence[ClassRow]) -> Table:
    columns = [
        Column("Class", is_number=False),
        Column("Objects"),
        Column("AP"),
        Column("95 %", tip="95 % interval of AP, sorted by its width"),
        Column("AP50"),
        Column("Box AP"),
        Column("Boundary AP"),
        Column("Found", tip="Detections of any score"),
        Column("Best score", tip="The score threshold with the highest F1"),
        Column("Precision", tip="At the best score threshold"),
        Column("Recall", tip="At the best score threshold"),
        Column("F1", tip="At the best score threshold"),
    ]
    rows = [
        [
            name_cell(row.name),
            count_cell(row.objects),
            bar_cell(row.ap, row.interval),
            interval_cell(row.interval),
            *(figure_cell(value) for value in (row.ap50, row.box_ap, row.boundary_ap)),
            count_cell(row.detections),
            *(figure_cell(value) for value in (row.threshold, row.precision, row.recall, row.f1)),
        ]
        for row in classes
    ]
    return make_table(caption, columns, rows)


def _count_table(counts: Sequence[CountRow]) -> Table:
    columns = [
        Column("Class", is_number=False),
        Column("Objects"),
        Column("Found"),
        Column("Too many or few", tip="Detections minus objects, mean over images"),
        Column("Count error", tip="Absolute difference of detections and objects, mean over images"),
        Column("Area too large or small", tip="Relative error of the area, mean over matched objects"),
        Column("Area error", tip="Absolute relative error of the area, mean over matched objects"),
    ]
    rows = [
        [
            name_cell(row.name),
            count_cell(row.objects),
            count_cell(row.detections),
            _coarse(row.mean_error, "+.2f"),
            _coarse(row.mean_absolute_error, ".2f"),
            _coarse(row.area_error, "+.0%"),
            _coarse(row.area_absolute_error, ".0%"),
        ]
        for row in counts[:_MAX_ROWS]
    ]
    return make_table("Count and area errors", columns, rows)


def _coarse(value: float | None, form: str) -> Cell:
    if value is None:
        return Cell(NOTHING)
    text = f"{value:{form}}".replace("-", "\u2212").replace("%", "\u202f%")
    return Cell(text if any(digit in text for digit in "123456789") else text.lstrip("+\u2212"), value)


def _slice_tables(slices: Sequence[SliceRow]) -> list[tuple[str, Table, int]]:
    """The name of each slice, its table, and how many of its values are not listed."""
    columns = [
        Column("Value", is_number=False),
        Column("AP"),
        Column("95 %", tip="95 % interval of AP, sorted by its width"),
        Column("Images"),
        Column("Objects"),
    ]
    groups: dict[str, list[SliceRow]] = {}
    for row in slices:
        groups.setdefault(row.slice, []).append(row)
    return [
        (
            name,
            make_table(
                name,
                columns,
                [
                    [
                        name_cell(row.value),
                        bar_cell(row.ap, row.interval),
                        interval_cell(row.interval),
                        count_cell(row.images),
                        count_cell(row.objects),
                    ]
                    for row in rows[:_MAX_SLICES]
                ],
            ),
            max(0, len(rows) - _MAX_SLICES),
        )
        for name, rows in groups.items()
    ]


# ---- Curves


def _curve_charts(page: EvaluationPage) -> list[Chart]:
    charts = []
    if page.precision_recall:
        lines = [_curve(line) for line in page.precision_recall[:_MAX_LINES]]
        charts.append(
            line_chart("Precision over recall", lines, x_label="recall", x_range=_UNIT, y_range=_UNIT)
        )
    if page.over_score:
        best = page.best_threshold
        charts.append(
            line_chart(
                "F1, precision and recall over the score",
                [_curve(line) for line in page.over_score[:_MAX_LINES]],
                x_label="score threshold",
                x_range=_UNIT,
                y_range=_UNIT,
                marks=[] if best is None else [Mark(best, f"best F1 at {best:.2f}")],
            )
        )
    return charts


def _curve(line: Line) -> Curve:
    """The line with few points, among them its first and last."""
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    if len(x) > _MAX_POINTS:
        chosen = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).round().astype(int))
        x, y = x[chosen], y[chosen]
    return Curve(line.name, x, y)


@dataclass(frozen=True)
class _Reliability:
    error: float | None
    chart: Chart
    bins: Table


def _reliability(calibration: Calibration) -> _Reliability:
    known = [
        (bin.mean_score, bin.share_right)
        for bin in calibration.bins
        if bin.mean_score is not None and bin.share_right is not None
    ]
    x, y = np.array(known, np.float64).reshape(-1, 2).T
    ends = np.array([0.0, 1.0])
    chart = line_chart(
        "Right detections over the score",
        [Curve("measured", x, y), Curve("scores that mean what they say", ends, ends)],
        x_label="score",
        x_range=_UNIT,
        y_range=_UNIT,
    )
    columns = [
        Column("Scores", is_number=False),
        Column("Detections"),
        Column("Mean score"),
        Column("Right"),
    ]
    return _Reliability(
        calibration.error,
        chart,
        make_table("Calibration", columns, [_bin_row(bin) for bin in calibration.bins]),
    )


def _bin_row(bin: ReliabilityBin) -> list[Cell]:
    span = Cell(f"{bin.low:.2f}–{bin.high:.2f}")
    return [span, count_cell(bin.count), figure_cell(bin.mean_score), figure_cell(bin.share_right)]


# ---- Confusion


@dataclass(frozen=True)
class _Square:
    count: int
    share: float  # of the row, 0..1
    is_right: bool
    tip: str


@dataclass(frozen=True)
class _Matrix:
    columns: list[str]
    rows: list[tuple[str, list[_Square]]]
    pairs: list[str]  # what is confused most, in words
    setting: str
    left_out: int  # classes that are joined


def _matrix(confusion: Confusion) -> _Matrix:
    """The matrix of the classes that are confused most; the others are joined to one."""
    counts = np.asarray(confusion.counts, np.int64)
    names = [shorten(name, 30) for name in confusion.names]
    pairs = _confused_pairs(counts, names)
    joined = max(0, len(names) - _MAX_CONFUSED)
    if joined:
        counts, names = _join_classes(counts, names, joined)
    totals = counts.sum(axis=1)
    columns = [*names, "nothing"]
    rows = []
    for i, row_name in enumerate([*names, "no object"]):
        shares = counts[i] / max(int(totals[i]), 1)
        squares = [
            _Square(count, share, i == j, f"{row_name}, found as {columns[j]}: {percent(share)}")
            for j, (count, share) in enumerate(zip(counts[i].tolist(), shares.tolist(), strict=True))
        ]
        rows.append((row_name, squares))
    score = (
        "the best score threshold of each class"
        if confusion.score_threshold is None
        else f"score {confusion.score_threshold:.2f}"
    )
    return _Matrix(columns, rows, pairs, f"IoU {confusion.iou_threshold:.2f}, {score}", joined)


def _confused_pairs(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    classes = len(names)
    wrong = counts[:classes, :classes] * (1 - np.eye(classes, dtype=np.int64))
    totals = counts[:classes].sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_PAIRS]
    places = [divmod(int(flat), classes) for flat in order]
    return [
        f"{names[i]} found as {names[j]}: {wrong[i, j]} of {counted(int(totals[i]), 'object')}"
        f" ({percent(wrong[i, j] / totals[i])})"
        for i, j in places
        if wrong[i, j] > 0
    ]


def _join_classes(counts: np.ndarray, names: Sequence[str], joined: int) -> tuple[np.ndarray, list[str]]:
    """The classes with most mistakes between classes, in their order, and one more of all others."""
    classes = len(names)
    between = counts[:classes, :classes] * (1 - np.eye(classes, dtype=np.int64))
    mistakes = between.sum(axis=0) + between.sum(axis=1)
    most = np.lexsort((-counts[:classes].sum(axis=1), -mistakes))[: classes - joined]
    group = np.full(classes + 1, len(most))
    group[np.sort(most)] = np.arange(len(most))
    group[classes] = len(most) + 1
    small = np.zeros((len(most) + 2,) * 2, np.int64)
    np.add.at(small, (group[:, None], group[None, :]), counts)
    return small, [*(names[i] for i in np.sort(most)), f"{joined} other classes"]
