"""Charts: lines, bars and heat maps as SVG for pages, and the image files of a training run or a check.

Matplotlib draws all charts, without its global state. Equal input gives equal bytes. Names are drawn
literally, not parsed as math or markup. SVG charts use the colours of the style sheet and scale to the width
of the page. Their coordinates are 480 units wide; on a wide screen one unit is one pixel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from paddlex_seg.fonts import line_mask
from paddlex_seg.reports.chart_svg import DOT_RADIUS, NUM_SERIES, RC, colour, figure_to_svg
from paddlex_seg.reports.text import legible, number, percent, shorten
from paddlex_seg.visualize import label_text

Scale = Literal["linear", "log"]

_WIDTH, _LEFT, _RIGHT = 480, 52.0, 456.0  # width of an SVG, left and right edge of its plot area
_UPPER, _LOWER = 30.0, 190.0
_DIGIT, _TEXT = 6.6, 11.5  # width of a digit and font size, as in the style sheet
_LONGEST_NAME = 240  # pixels of a class name in `draw_histogram`, which is 600 pixels high
_MAX_DOTS = 60  # a curve with more points is drawn without dots
_DASHES: tuple[Any, ...] = ("solid", (0, (6, 3)), (0, (2, 2)))  # for curves 0..7, 8..15, 16..23


class Curve(NamedTuple):
    """A line through n points with ascending ``x``; n may be 0. A ``y`` that is not finite makes a gap."""

    name: str
    x: NDArray[np.float64]  # [n]
    y: NDArray[np.float64]  # [n]


@dataclass(frozen=True)
class Mark:
    """A vertical dashed line with a text, at position ``x``."""

    x: float
    name: str


@dataclass(frozen=True)
class Bars:
    """One bar of this series in each of the b slots of a chart. A bar of height 0 is not drawn."""

    name: str
    heights: NDArray[np.float64]  # [b]
    tips: Sequence[str]  # [b], tooltip of each bar


class Swatch(NamedTuple):
    """The legend entry of a series."""

    name: str
    css: str  # CSS classes


@dataclass(frozen=True)
class Chart:
    """A chart for a page."""

    heading: str
    svg: Markup
    legend: tuple[Swatch, ...] = ()


# ---- Lines


@matplotlib.rc_context(RC)
def line_chart(
    heading: str,
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    whole_x: bool = False,
    marks: Sequence[Mark] = (),
    with_legend: bool = True,
) -> Chart:
    """Curves in one chart. Values outside ``y_range`` are drawn at its edge.

    By default the ranges are computed from the curves; see `value_range` for y. On a log axis, values <= 0
    are left out. whole_x: x has integer ticks, such as steps.
    """
    x_low, x_high = x_range or _span([curve.x for curve in curves], x_scale)
    low, high = y_range or value_range(curves, y_scale)
    x_ticks, y_ticks = _ticks(x_low, x_high, x_scale, 6, whole_x), _ticks(low, high, y_scale, 5)
    left = _left_of(y_ticks, bool(y_label))
    figure, axes = _area(226, left=left, right=_RIGHT, upper=_UPPER, lower=_LOWER)
    axes.set(xscale=x_scale, yscale=y_scale, xlim=(x_low, x_high), ylim=(low, high))
    _draw_ticks(axes, x_ticks, y_ticks)
    _draw_labels(axes, x_label, y_label, left=left)
    _draw_marks(axes, marks, rise=26)
    tips: dict[str, Sequence[str]] = {}
    for i, curve in enumerate(curves):
        visible = _visible(curve, (x_low, x_high), (low, high), x_scale, y_scale)
        tips |= _draw_curve(axes, i, curve, visible, x_label)
    svg = figure_to_svg(figure, label=f"Curve: {heading}", tips=tips)
    return Chart(heading, svg, swatches([curve.name for curve in curves]) if with_legend else ())


def value_range(curves: Sequence[Curve], scale: Scale = "linear") -> tuple[float, float]:
    """The range of the y axis. Single outliers may lie outside; a linear range includes 0."""
    if scale == "log":
        return _span([curve.y for curve in curves], scale)
    low = -axis_top([curve._replace(y=-curve.y) for curve in curves])
    has_negative = any((curve.y < 0).any() for curve in curves)
    has_positive = any((curve.y > 0).any() for curve in curves)
    return (low if has_negative else 0.0), (axis_top(curves) if has_positive or not has_negative else 0.0)


def axis_top(curves: Sequence[Curve]) -> float:
    """The upper end of a y axis that starts at 0. Single outliers may lie above it."""
    values = np.concatenate([np.zeros(0), *(curve.y for curve in curves)])
    values = values[np.isfinite(values)]
    highest = float(values.max(initial=0.0))
    if highest <= 0:
        return 1.0
    usual = 2 * float(np.quantile(values, 0.98))
    return usual if 0 < usual < highest else 1.02 * highest


def swatches(names: Sequence[str]) -> tuple[Swatch, ...]:
    """The legend entries of series, in drawing order."""
    return tuple(Swatch(name, f"{_series(i)} dash{_dash(i)}") for i, name in enumerate(names))


def _series(i: int) -> str:
    return f"s{i % NUM_SERIES}"


def _dash(i: int) -> int:
    return i // NUM_SERIES % len(_DASHES)


def _span(values: Sequence[NDArray[np.float64]], scale: Scale) -> tuple[float, float]:
    joined = np.concatenate([np.zeros(0), *values])
    joined = joined[np.isfinite(joined) & ((joined > 0) | (scale == "linear"))]
    if not len(joined):
        return (0.0, 1.0) if scale == "linear" else (0.1, 1.0)
    low, high = float(joined.min()), float(joined.max())
    if low < high:
        return low, high
    return (low, low + 1) if scale == "linear" else (low / 2, low * 2)


def _visible(
    curve: Curve, x_range: tuple[float, float], y_range: tuple[float, float], x_scale: Scale, y_scale: Scale
) -> NDArray[np.float64]:
    """[k, 3]: x, drawn y and true y of the points within the x range; drawn y is NaN at a gap."""
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    drawn = np.where(np.isfinite(y) & ((y > 0) | (y_scale == "linear")), y.clip(*y_range), np.nan)
    inside = (x >= x_range[0]) & (x <= x_range[1]) & ((x > 0) | (x_scale == "linear"))
    return np.stack([x, drawn, y], axis=1)[inside]


def _draw_curve(
    axes: Axes, i: int, curve: Curve, points: NDArray[np.float64], x_label: str
) -> dict[str, list[str]]:
    """Draw the curve. Returns the tooltips of its dots by gid."""
    x, y, values = points.T
    name = _series(i)
    if np.isfinite(y).any():
        (line,) = axes.plot(x, y, color=colour(name), linewidth=1.6, linestyle=_DASHES[_dash(i)])
        line.set(clip_on=False, gid=f"line {name}")
    shown = np.isfinite(y)
    if len(points) > _MAX_DOTS or not shown.any():
        return {}
    (dots,) = axes.plot(x[shown], y[shown], "o", color=colour(name), markersize=2 * DOT_RADIUS)
    dots.set(clip_on=False, markeredgewidth=0, gid=f"{name}|curve {i}")
    places = zip(x[shown].tolist(), values[shown].tolist(), strict=True)
    tips = [f"{shorten(curve.name)}, {x_label} {_number(x)}: {y:.4g}" for x, y in places]
    return {f"{name}|curve {i}": tips}


# ---- Bars


@matplotlib.rc_context(RC)
def bar_chart(
    heading: str,
    series: Sequence[Bars],
    *,
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[Mark] = (),
    y_text: Callable[[float], str] = percent,
) -> Chart:
    """Bars of several series, side by side in each slot.

    The x axis counts slots: slot i is from x = i to i + 1. ticks: (x, text) pairs. y_text: formats a height
    for the y axis. Each bar is at least one pixel high.
    """
    places = max((len(bars.heights) for bars in series), default=0) or 1
    heights = np.concatenate([np.zeros(0), *(bars.heights for bars in series)])
    low, high = float(heights.min(initial=0.0)), float(heights.max(initial=0.0))
    high = high if high > 0 or low < 0 else 1.0
    values = [0, high / 2, high] if low == 0 else [tick for tick, _ in _ticks(low, high, "linear", 5)]
    y_ticks = [(value, y_text(value)) for value in values]
    figure, axes = _area(
        212, left=max(44.0, _left_of(y_ticks, False) - 8), right=462.0, upper=22.0, lower=190.0
    )
    axes.set(xlim=(0, places), ylim=(low, high))
    _draw_ticks(axes, ticks, y_ticks)
    _draw_marks(axes, marks, rise=12)
    drawn = [i for i, bars in enumerate(series) if bars.heights.any()]
    width = 0.84 / max(len(drawn), 1)
    least = (high - low) / 168  # a pixel
    tips: dict[str, Sequence[str]] = {}
    for turn, i in enumerate(drawn):
        there = np.flatnonzero(series[i].heights)
        exact = series[i].heights[there]
        shown = np.sign(exact) * np.abs(exact).clip(min=least)
        starts = there + 0.08 + turn * width
        rectangles = axes.bar(starts, shown, width, align="edge", color=colour(_series(i)))
        for place, rectangle in zip(there.tolist(), rectangles, strict=True):
            gid = f"{_series(i)}|bar {i} {place}"
            rectangle.set(clip_on=False, gid=gid)
            tips[gid] = [series[i].tips[place]]
    svg = figure_to_svg(figure, label=f"Histogram: {heading}", tips=tips)
    return Chart(heading, svg, swatches([bars.name for bars in series]))


# ---- Heat maps


@matplotlib.rc_context(RC)
def heat_map(
    heading: str,
    values: NDArray[np.float64],
    *,
    side: float = 260.0,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    value_text: Callable[[float], str] = percent,
) -> Chart:
    """Values [h, w] as colours from 0 to their maximum, with a colour scale below.

    side: width of the map in pixels; cells are square. rows, columns: names of the h rows and w columns of a
    matrix. Without names the map is smoothed, as for positions in an image.
    """
    top = float(values.max(initial=0.0)) or 1.0
    left = 8 + _DIGIT * min(max(map(len, rows), default=0), 24) if rows else 0.0
    under = 10 + _DIGIT * min(max(map(len, columns), default=0), 24) if columns else 0.0
    height = side * values.shape[0] / values.shape[1]
    figure, axes = _area(
        math.ceil(height + under + 20),
        *(left, left + side, 0.0, height),
        width=math.ceil(left + side),
    )
    axes.imshow(values, cmap="viridis", vmin=0, vmax=top, interpolation="none", aspect="auto")
    _draw_ticks(axes, [(i, shorten(name, 24)) for i, name in enumerate(columns)], [], turned=True)
    _draw_ticks(axes, None, [(i, shorten(name, 24)) for i, name in enumerate(rows)], with_grid=False)
    _draw_scale(figure, value_text(0.0), value_text(top), right=left + side)
    is_matrix = bool(rows or columns)
    svg = figure_to_svg(figure, label=f"Heat map: {heading}", tips={}, is_crisp=is_matrix)
    return Chart(heading, svg)


def _draw_scale(figure: Figure, low: str, high: str, *, right: float) -> None:
    """Draw the colour scale at the lower right, 90 pixels wide, between the texts ``low`` and ``high``."""
    width, height = (72 * float(length) for length in figure.get_size_inches())
    end = right - 8 - _DIGIT * len(high)
    axes = figure.add_axes(((end - 90) / width, 2 / height, 90 / width, 10 / height))
    axes.set_axis_off()
    axes.imshow(np.arange(256)[None], cmap="viridis", interpolation="none", aspect="auto")
    style: dict[str, Any] = {"color": colour("muted"), "fontsize": _TEXT, "verticalalignment": "center"}
    figure.text((end - 95) / width, 7 / height, low, ha="right", gid="y", **style)
    figure.text((end + 5) / width, 7 / height, high, ha="left", gid="m", **style)


# ---- Parts of all SVG charts

_Ticks = Sequence[tuple[float, str]]  # position, text


def _area(
    height: int, left: float, right: float, upper: float, lower: float, *, width: int = _WIDTH
) -> tuple[Figure, Axes]:
    """A figure of this size, with axes between these edges, in pixels from the upper left corner."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    box = (left / width, 1 - lower / height, (right - left) / width, (lower - upper) / height)
    axes = figure.add_axes(box, frameon=False)
    axes.tick_params(which="both", length=0, labelsize=_TEXT, labelcolor=colour("muted"))
    axes.set_axisbelow(True)
    return figure, axes


def _ticks(low: float, high: float, scale: Scale, at_most: int, whole: bool = False) -> _Ticks:
    """Ticks at round numbers from ``low`` to ``high``."""
    if scale == "log":
        places = np.asarray(LogLocator(numticks=at_most).tick_values(low, high))
        if np.count_nonzero((places >= low) & (places <= high)) < 2:
            places = np.asarray(LogLocator(subs=(1, 2, 5), numticks=100).tick_values(low, high))
    else:
        locator = MaxNLocator(at_most, steps=[1, 2, 5, 10], integer=whole)
        places = np.asarray(locator.tick_values(low, high))
    margin = 1e-9 * (high - low)
    inside = [float(place) for place in places if low - margin <= place <= high + margin]
    return [(place, _number(place) if whole else f"{place:.4g}") for place in inside]


def _number(value: float) -> str:
    return number(round(value)) if value == round(value) else f"{value:.4g}"


def _left_of(y_ticks: _Ticks, has_label: bool) -> float:
    """The left edge of the axes that leaves room for the tick labels of the y axis."""
    longest = max((len(text) for _, text in y_ticks), default=0)
    return max(_LEFT, 14 + _DIGIT * longest) + (16 if has_label else 0)


def _draw_ticks(
    axes: Axes, x_ticks: _Ticks | None, y_ticks: _Ticks, *, with_grid: bool = True, turned: bool = False
) -> None:
    """Draw tick labels on both axes, and a grid line per y tick. x_ticks None: keep the x axis as it is."""
    if x_ticks is not None:
        axes.set_xticks([place for place, _ in x_ticks], [legible(text) for _, text in x_ticks])
        for label in axes.get_xticklabels():
            label.set_gid("x")
            if turned:
                label.set(rotation=90, rotation_mode="anchor", ha="right", va="center", gid="y")
    axes.set_yticks([place for place, _ in y_ticks], [legible(text) for _, text in y_ticks])
    for label in axes.get_yticklabels():
        label.set_gid("y")
    axes.minorticks_off()
    axes.tick_params(axis="x", pad=7)
    axes.tick_params(axis="y", pad=6)
    if with_grid and y_ticks:
        axes.yaxis.grid(True, color=colour("line"), linewidth=1)
        for line in axes.get_ygridlines():
            line.set(clip_on=False, gid="grid")


def _draw_labels(axes: Axes, x_label: str, y_label: str, *, left: float) -> None:
    style: dict[str, Any] = {"color": colour("muted"), "fontsize": _TEXT, "annotation_clip": False}
    axes.annotate(
        legible(x_label), (0.5, 0), (0, -33), "axes fraction", "offset points", ha="center", gid="x", **style
    )
    if y_label:
        axes.annotate(
            *(legible(y_label), (0, 0.5), (14 - left, 0), "axes fraction", "offset points"),
            rotation=90, rotation_mode="anchor", ha="center", gid="x", **style,
        )  # fmt: skip


def _draw_marks(axes: Axes, marks: Sequence[Mark], *, rise: int) -> None:
    """Draw marks. Names alternate between two heights, because neighbouring names could overlap.

    rise: how far the lines extend above the axes, pixels.
    """
    across = axes.get_xaxis_transform()
    low, high = axes.get_xlim()
    for i, mark in enumerate(marks):
        (line,) = axes.plot([mark.x, mark.x], [0, 1 + rise / axes.bbox.height], transform=across)
        line.set(color=colour("muted"), linewidth=1, linestyle=(0, (3, 3)), clip_on=False, gid="mark")
        is_right = mark.x > (low + high) / 2
        offset = (-4 if is_right else 4, max(4, rise - 8 - 12 * (i % 2)))
        name = axes.annotate(legible(shorten(mark.name, 40)), (mark.x, 1), offset, across, "offset points")
        name.set(ha="right" if is_right else "left", color=colour("muted"), fontsize=_TEXT, gid="m")
        name.set_annotation_clip(False)


# ---- Image files


@matplotlib.rc_context(RC)
def draw_histogram(
    names: Sequence[str], train_counts: Sequence[int], val_counts: Sequence[int]
) -> NDArray[np.uint8]:
    """Annotations per class as bars, train and val side by side. Sorted by train, most frequent class first.

    Returns an image [H, W, 3] RGB.
    """
    order = sorted(range(len(names)), key=lambda i: -train_counts[i])
    places = np.arange(len(names))
    # Agg images can be at most 65536 pixels wide.
    figure = Figure(figsize=(min(max(8.0, len(names) / 5), 500.0), 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.bar(places - 0.2, [train_counts[i] for i in order], width=0.4, label="train")
    axes.bar(places + 0.2, [val_counts[i] for i in order], width=0.4, label="val")
    axes.set_xticks(places, [""] * len(names))
    for place, i in enumerate(order):
        axes.add_artist(_upright_name(label_text(names, i), place, axes, dpi=figure.dpi))
    axes.set_ylabel("annotations")
    axes.legend()
    return _pixels(figure)


def _upright_name(name: str, place: float, axes: Axes, *, dpi: float) -> AnnotationBbox:
    """A name below a place of the x axis, read from bottom to top.

    Drawn by `fonts`, because Matplotlib before 3.11 neither joins letters nor reads collections of fonts.
    """
    line = line_mask([name], size=dpi / 7, max_width=_LONGEST_NAME)
    assert line is not None, "there is room for a few letters"
    grey = 255 - np.rot90(np.asarray(line))
    image = OffsetImage(np.stack([grey] * 3, axis=2), zoom=72 / dpi, interpolation="none")
    across = axes.get_xaxis_transform()
    below: dict[str, Any] = {"xybox": (0, -6), "boxcoords": "offset points", "box_alignment": (0.5, 1.0)}
    return AnnotationBbox(image, (place, 0), xycoords=across, frameon=False, pad=0, **below)


@matplotlib.rc_context(RC)
def draw_curves(losses: Sequence[Curve], scores: Sequence[Curve]) -> NDArray[np.uint8]:
    """Loss over steps on the left, AP (0..1) over epochs on the right, as an image [H, W, 3] RGB."""
    figure = Figure(figsize=(12, 4.5), dpi=120, layout="constrained")
    panels = (("loss", "step", losses, ""), ("AP on the val images", "epoch", scores, "o"))
    for axes, (title, unit, curves, marker) in zip(figure.subplots(1, 2), panels, strict=True):
        for curve in curves:
            axes.plot(curve.x, curve.y, linewidth=1.3, marker=marker, markersize=3)
        axes.set_title(title)
        axes.set_xlabel(unit)
        axes.set_ylim(0, axis_top(curves))
        axes.grid(alpha=0.3)
        if curves:
            _name_lines(axes, [curve.name for curve in curves])
    return _pixels(figure)


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
    """Add the legend. Names are set later: Matplotlib leaves out names that begin with an underscore."""
    legend = axes.legend(axes.get_lines(), [str(i) for i in range(len(names))])
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(legible(name))


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
