"""Tables that a reader sorts by a click on a column; without scripts they stay in the order given."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from paddlex_seg.reports.text import NOTHING, figure, interval, number, shorten, signed


@dataclass(frozen=True)
class RangeBar:
    """A value and its interval as a dot and a line; all in percent of the width of the cell."""

    dot: float
    start: float
    length: float
    zero: float | None = None  # where to mark 0; None: at the left edge, without a mark
    css: str = ""  # "good", "error": the sign of a difference that is sure


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    sort: float | None = None  # what a column of numbers is sorted by; None comes last
    bar: RangeBar | None = None


class Column(NamedTuple):
    """A column of a table. It is left out if no row has a text for it."""

    name: str
    is_number: bool = True
    tip: str = ""


@dataclass(frozen=True)
class Table:
    """The columns and rows of a table. caption: its name for screen readers."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def make_table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table without the columns that have nothing to show."""
    kept = [
        i
        for i in range(len(columns))
        if not columns[i].is_number or any(row[i].text not in ("", NOTHING) for row in rows)
    ]
    return Table(
        shorten(caption),
        tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
    )


def name_cell(name: str) -> Cell:
    """A name of the user."""
    return Cell(shorten(name, 80))


def count_cell(count: int | None) -> Cell:
    """A count; a dash for None."""
    return Cell(NOTHING, None) if count is None else Cell(number(count), float(count))


def figure_cell(value: float | None) -> Cell:
    """A figure with three decimals."""
    return Cell(figure(value), _finite(value))


def signed_cell(value: float | None) -> Cell:
    """A difference with its sign."""
    return Cell(signed(value), _finite(value))


def interval_cell(ends: tuple[float, float] | None) -> Cell:
    """An interval, sorted by its width."""
    text = interval(ends)
    return Cell(text, ends[1] - ends[0] if ends is not None and text else None)


def bar_cell(value: float | None, ends: tuple[float, float] | None, *, top: float = 1.0) -> Cell:
    """A figure from 0 to ``top`` with a bar of its interval."""
    known = _finite(value)
    if known is None:
        return figure_cell(None)
    low, high = ends if ends is not None and interval(ends) else (known, known)
    start, dot, end = (100 * min(max(place / top, 0.0), 1.0) for place in (low, known, high))
    return Cell(figure(known), known, RangeBar(round(dot, 1), round(start, 1), round(end - start, 1)))


def difference_cell(value: float | None, ends: tuple[float, float] | None, *, reach: float) -> Cell:
    """A difference with a bar of its interval, from -``reach`` to ``reach``; sure if 0 is outside."""
    known = _finite(value)
    if known is None:
        return signed_cell(None)
    low, high = ends if ends is not None and interval(ends) else (known, known)
    start, dot, end = (50 + 50 * min(max(place / reach, -1.0), 1.0) for place in (low, known, high))
    css = "" if ends is None or low <= 0 <= high else "good" if known > 0 else "error"
    bar = RangeBar(round(dot, 1), round(start, 1), round(end - start, 1), zero=50.0, css=css)
    return Cell(signed(known), known, bar)


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
