"""Line charts as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paddlex_seg.reports import markup
from paddlex_seg.visualize import Curve, axis_top

_LEFT, _RIGHT, _UPPER, _LOWER = 52.0, 456.0, 30.0, 190.0  # of the area of the curves
_MAX_DOTS = 60  # a curve of more points is a line without dots


@dataclass(frozen=True)
class Mark:
    """A dashed line with a text, across the chart at a place of the x axis."""

    x: float
    name: str


def line_chart(
    heading: str,
    curves: Sequence[Curve],
    *,
    x_range: tuple[float, float],
    x_unit: str,
    marks: Sequence[Mark] = (),
    y_top: float | None = None,
    with_legend: bool = True,
) -> str:
    """Curves in one chart, in the colours of the style sheet; values are at least 0.

    x_unit: "step" or "epoch", in the singular. y_top: the end of the y axis, `axis_top` of the curves unless
    told; what is higher is drawn at the upper edge.
    """
    low, high = x_range
    top = y_top or axis_top(curves)
    across = (_RIGHT - _LEFT) / max(high - low, 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - low) * across, _LOWER - (_LOWER - _UPPER) * min(y / top, 1.0)

    drawn = []
    for value in _ticks(0.0, top, at_most=5):
        y = place(low, value)[1]
        drawn.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
        drawn.append(f'<text class="y" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:.4g}</text>')
    for value in _ticks(low, high, at_most=6, whole=True):
        x = place(value, 0)[0]
        drawn.append(f'<text class="x" x="{x:.1f}" y="{_LOWER + 16}">{markup.number(round(value))}</text>')
    drawn += _marks(marks, [place(mark.x, 0)[0] for mark in marks])
    for i, curve in enumerate(curves):
        points = [place(x, y) for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True)]
        colour = markup.COLOURS[i % len(markup.COLOURS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawn.append(f'<path class="line {colour}" d="M{path}"/>' if points else "")
        if len(points) <= _MAX_DOTS:
            drawn += _dots(curve, points, colour, x_unit)
    legend = markup.legend([curve.name for curve in curves]) if curves and with_legend else ""
    return (
        f'<figure class="chart"><figcaption>{markup.text(heading)}</figcaption>{legend}'
        f'<svg viewBox="0 0 480 226" role="img" aria-label="Curve: {markup.text(heading)}">'
        f'{"".join(drawn)}<text class="x" x="{(_LEFT + _RIGHT) / 2}" y="{_LOWER + 33}">{x_unit}</text>'
        f"</svg></figure>"
    )


def _dots(curve: Curve, points: Sequence[tuple[float, float]], colour: str, x_unit: str) -> list[str]:
    tips = [
        f"{markup.text(curve.name)}, {x_unit} {x:g}: {y:.4g}" for x, y in zip(curve.x, curve.y, strict=True)
    ]
    return [
        f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{tip}</title></circle>'
        for (x, y), tip in zip(points, tips, strict=True)
    ]


def _marks(marks: Sequence[Mark], places: Sequence[float]) -> list[str]:
    """Names of neighbours stand at two heights, since they may be longer than the gap between them."""
    drawn = []
    for i, (mark, x) in enumerate(zip(marks, places, strict=True)):
        right = x > (_LEFT + _RIGHT) / 2
        end, side = (' text-anchor="end"', -4) if right else ("", 4)
        drawn.append(f'<path class="mark" d="M{x:.1f} 4V{_LOWER}"/>')
        name = markup.text(mark.name, 40)
        drawn.append(f'<text class="m" x="{x + side:.1f}" y="{12 + 12 * (i % 2)}"{end}>{name}</text>')
    return drawn


def _ticks(low: float, high: float, *, at_most: int, whole: bool = False) -> list[float]:
    """Round numbers from ``low`` to ``high``."""
    step = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= step)
    if whole:
        step = max(1.0, round(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]
