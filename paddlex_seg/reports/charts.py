"""Histograms as inline SVG."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.statistics import MEDIUM_BELOW, SMALL_BELOW
from paddlex_seg.reports import markup


@dataclass(frozen=True)
class Bins:
    """Bins of a histogram. Positions on the axis are counted in bins, 0 at the left end."""

    edges: NDArray[np.float64]  # [b + 1]; what lies outside goes to the outermost bins
    names: list[str]  # [b]
    ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]  # dashed lines with a text at their right


def octave_bins(values: Mapping[str, NDArray[np.float64]]) -> Bins:
    """Two bins for each doubling, with COCO's limits of small and medium objects."""
    present = np.concatenate(list(values.values())).clip(min=1)
    low = math.floor(2 * math.log2(present.min()))
    high = max(math.floor(2 * math.log2(present.max())) + 1, low + 4)
    edges = 2.0 ** (np.arange(low, high + 1) / 2)
    limits = [(SMALL_BELOW, "medium"), (MEDIUM_BELOW, "large")]
    marks = [(math.log2(area) - low, name) for area, name in limits]  # log2(area) is 2 log2(side)
    return Bins(
        edges=edges,
        names=[f"{a:.0f} to {b:.0f} pixels" for a, b in zip(edges, edges[1:], strict=False)],
        ticks=[(k - low, markup.number(2 ** (k // 2))) for k in range(low, high + 1) if k % 2 == 0],
        marks=[mark for mark in marks if 0 <= mark[0] < high - low],
    )


def ratio_bins() -> Bins:
    """Two bins for each doubling of the ratio from 1:8 to 8:1, squares in the middle of one."""
    centres = np.arange(-6, 7) / 2
    return Bins(
        edges=2.0 ** (np.arange(-7, 7) / 2 + 0.25),
        names=[f"about {_ratio_name(k)}" for k in centres],
        ticks=[(i + 0.5, _ratio_name(k)) for i, k in enumerate(centres) if k == round(k)],
        marks=[],
    )


def _ratio_name(octaves: float) -> str:
    return f"{2**octaves:.3g}:1" if octaves >= 0 else f"1:{2**-octaves:.3g}"


def count_bins(values: Mapping[str, NDArray[np.int64]]) -> Bins:
    """0, 1, 2, ... or, where there are many, 0, 1, 2, 3-4, 5-8, 9-16, ..."""
    most = int(max(counts.max(initial=0) for counts in values.values()))
    starts = list(range(most + 1))
    if most > 16:
        starts = [0, 1, *(2**k + 1 for k in range(math.ceil(math.log2(most))))]
    starts += [] if len(starts) > 4 else range(len(starts), 5)
    ends = [start - 1 for start in starts[1:]] + [max(most, starts[-1])]
    names = [
        markup.number(a) if a == b else f"{markup.number(a)}–{markup.number(b)}"
        for a, b in zip(starts, ends, strict=True)
    ]
    return Bins(
        edges=np.array([*starts, ends[-1] + 1], np.float64) - 0.5,
        names=[f"{name} objects" for name in names],
        ticks=[(i + 0.5, name) for i, name in enumerate(names)],
        marks=[],
    )


def chart(heading: str, bins: Bins, values: Mapping[str, NDArray[np.generic]], *, unit: str) -> str:
    """A histogram with a bar for each split in each bin; heights are shares of the split."""
    counts = {name: _histogram(items, bins.edges) for name, items in values.items() if len(items)}
    shares = {name: number / number.sum() for name, number in counts.items()}
    top = max((float(share.max()) for share in shares.values()), default=0.0) or 1.0
    left, right, upper, lower = 44.0, 462.0, 22.0, 190.0
    step = (right - left) / (len(bins.edges) - 1)
    bar = step * 0.84 / max(len(counts), 1)
    drawn = []
    for share in (0, top / 2, top):
        y = lower - (lower - upper) * share / top
        drawn.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        drawn.append(f'<text class="y" x="{left - 6}" y="{y + 4:.1f}">{markup.percent(share)}</text>')
    for place, name in bins.ticks:
        drawn.append(f'<text class="x" x="{left + place * step:.1f}" y="{lower + 16}">{name}</text>')
    for place, name in bins.marks:
        x = left + place * step
        drawn.append(f'<path class="mark" d="M{x:.1f} {upper - 12}V{lower}"/>')
        drawn.append(f'<text class="m" x="{x + 4:.1f}" y="{upper - 4}">{name}</text>')
    for colour, (name, number) in zip(markup.COLOURS, counts.items(), strict=False):
        for i in np.flatnonzero(number).tolist():
            height = max((lower - upper) * shares[name][i] / top, 1.0)
            x = left + (i + 0.08) * step + markup.COLOURS.index(colour) * bar
            count = int(number[i])
            tip = f"{markup.text(name)}, {bins.names[i]}: {markup.number(count)} {markup.noun(unit, count)}"
            drawn.append(
                f'<rect class="{colour}" x="{x:.1f}" y="{lower - height:.1f}" width="{bar:.1f}" '
                f'height="{height:.1f}"><title>{tip} ({markup.percent(shares[name][i])})</title></rect>'
            )
    return (
        f'<figure class="chart"><figcaption>{markup.text(heading)}</figcaption>'
        f'<svg viewBox="0 0 480 212" role="img" aria-label="Histogram: {markup.text(heading)}">'
        f"{''.join(drawn)}</svg></figure>"
    )


def _histogram(values: NDArray[np.generic], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    bins = np.searchsorted(edges, values, side="right") - 1
    return np.bincount(bins.clip(0, len(edges) - 2), minlength=len(edges) - 1)


def aspect_ratios(sizes_wh: NDArray[np.generic]) -> NDArray[np.float64]:
    """Width over height of each picture [n, 2] that has a size."""
    sizes = sizes_wh.astype(np.float64)
    sizes = sizes[(sizes > 0).all(axis=1)]
    return sizes[:, 0] / sizes[:, 1]
