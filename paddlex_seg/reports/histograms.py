"""The bins and bar charts of data set histograms."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.statistics import MEDIUM_BELOW, SMALL_BELOW
from paddlex_seg.reports.charts import Bars, Chart, Mark, bar_chart
from paddlex_seg.reports.text import counted, number, percent


@dataclass(frozen=True)
class Bins:
    """The b bins of a histogram. Positions on the x axis are in bins, 0 is the left end."""

    edges: NDArray[np.float64]  # [b + 1]; values outside are counted in the first or last bin
    names: list[str]  # [b]
    ticks: list[tuple[float, str]]
    marks: list[Mark]


def octave_bins(values: Mapping[str, NDArray[np.float64]]) -> Bins:
    """Two bins per factor of 2. Marks show COCO's limits of small and medium objects."""
    present = np.concatenate(list(values.values())).clip(min=1)
    low = math.floor(2 * math.log2(present.min()))
    high = max(math.floor(2 * math.log2(present.max())) + 1, low + 4)
    edges = 2.0 ** (np.arange(low, high + 1) / 2)
    limits = [(SMALL_BELOW, "medium"), (MEDIUM_BELOW, "large")]
    marks = [Mark(math.log2(area) - low, name) for area, name in limits]  # log2(area) is 2 log2(side)
    return Bins(
        edges=edges,
        names=[f"{a:.0f} to {b:.0f} pixels" for a, b in zip(edges, edges[1:], strict=False)],
        ticks=[(k - low, number(2 ** (k // 2))) for k in range(low, high + 1) if k % 2 == 0],
        marks=[mark for mark in marks if 0 <= mark.x < high - low],
    )


def ratio_bins() -> Bins:
    """Two bins per factor of 2, from 1:8 to 8:1. Ratio 1:1 is in the middle of a bin."""
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
    """Bins 0, 1, 2, ... or, if the largest count is above 16: 0, 1, 2, 3-4, 5-8, 9-16, ..."""
    most = int(max(counts.max(initial=0) for counts in values.values()))
    starts = list(range(most + 1))
    if most > 16:
        starts = [0, 1, *(2**k + 1 for k in range(math.ceil(math.log2(most))))]
    starts += [] if len(starts) > 4 else range(len(starts), 5)
    ends = [start - 1 for start in starts[1:]] + [max(most, starts[-1])]
    names = [number(a) if a == b else f"{number(a)}–{number(b)}" for a, b in zip(starts, ends, strict=True)]
    return Bins(
        edges=np.array([*starts, ends[-1] + 1], np.float64) - 0.5,
        names=[f"{name} objects" for name in names],
        ticks=[(i + 0.5, name) for i, name in enumerate(names)],
        marks=[],
    )


def histogram(heading: str, bins: Bins, values: Mapping[str, NDArray[np.generic]], *, unit: str) -> Chart:
    """A bar chart with one bar per split and bin. Heights are shares of the split. unit: singular noun."""
    return bar_chart(
        heading,
        [_bars(name, bins, items, unit) for name, items in values.items()],
        ticks=bins.ticks,
        marks=bins.marks,
    )


def _bars(name: str, bins: Bins, values: NDArray[np.generic], unit: str) -> Bars:
    counts = _histogram(values, bins.edges)
    shares = counts / max(counts.sum(), 1)
    tips = [
        f"{name}, {bin_name}: {counted(count, unit)} ({percent(share)})"
        for bin_name, count, share in zip(bins.names, counts.tolist(), shares.tolist(), strict=True)
    ]
    return Bars(name, shares, tips)


def _histogram(values: NDArray[np.generic], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    bins = np.searchsorted(edges, values, side="right") - 1
    return np.bincount(bins.clip(0, len(edges) - 2), minlength=len(edges) - 1)


def aspect_ratios(sizes_wh: NDArray[np.generic]) -> NDArray[np.float64]:
    """Width / height of each size in ``sizes_wh`` [n, 2]. Sizes with a zero are left out."""
    sizes = sizes_wh.astype(np.float64)
    sizes = sizes[(sizes > 0).all(axis=1)]
    return sizes[:, 0] / sizes[:, 1]
