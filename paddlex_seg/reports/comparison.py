"""The page of a comparison of models as one HTML file: what got better and worse, and whether that is sure.

It works as the page of an evaluation does, see `evaluation`.
"""

from collections.abc import Sequence
from pathlib import Path

from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.reports.cases import MASK_LEGEND, compared_case
from paddlex_seg.reports.evaluation import SCRIPTS, STYLES
from paddlex_seg.reports.evaluation_records import ComparedRow, ComparisonPage
from paddlex_seg.reports.page import render_page
from paddlex_seg.reports.sortable import (
    Cell,
    Column,
    Table,
    count_cell,
    difference_cell,
    figure_cell,
    make_table,
    name_cell,
)
from paddlex_seg.reports.text import interval, shorten
from paddlex_seg.structures import Bands

_MAX_IMAGES = 8  # that got better, and as many that got worse
_MAX_ROWS = 2000  # of a table
_LEAST_REACH = 0.02  # AP; the bars of differences reach at least so far


def write_comparison_page(
    path: Path, page: ComparisonPage, *, image_dir: Path | None = None, bands: Bands | None = None
) -> None:
    """Write the page to ``path`` atomically; image_dir and bands as in `write_evaluation_page`."""
    names = [model.name for model in page.models]
    better, worse = page.better[:_MAX_IMAGES], page.worse[:_MAX_IMAGES]
    cases = [compared_case(i, image, names, image_dir, bands) for i, image in enumerate((*worse, *better))]
    groups: dict[str, list[ComparedRow]] = {}
    for row in page.slices:
        groups.setdefault(row.group, []).append(row)
    html = render_page(
        "comparison.html.jinja",
        styles=STYLES,
        scripts=SCRIPTS,
        page=page,
        scores=_table("Figures", "Figure", page.scores, names),
        classes=_table("Classes", "Class", page.classes[:_MAX_ROWS], names),
        slices=[(name, _table(name, "Value", rows[:_MAX_ROWS], names)) for name, rows in groups.items()],
        worse=cases[: len(worse)],
        better=cases[len(worse) :],
        mask_legend=MASK_LEGEND,
    )
    write_bytes(path, html)


def _table(caption: str, first: str, rows: Sequence[ComparedRow], names: Sequence[str]) -> Table:
    """A row per class, slice or figure; differences and their intervals come first."""
    columns = [Column(first, is_number=False)]
    for name in names[1:]:
        other = f" of {shorten(name, 40)}" if len(names) > 2 else ""
        columns += [
            Column(f"Difference{other}", tip=f"{name} minus {names[0]}"),
            Column("95 %", tip="95 % interval of the difference, sorted by its lower end"),
        ]
    columns += [*(Column(shorten(name, 40)) for name in names), Column("Objects")]
    return make_table(caption, columns, [_cells(row, _reach(rows)) for row in rows])


def _cells(row: ComparedRow, reach: float) -> list[Cell]:
    cells = [name_cell(row.name)]
    for difference in row.differences:
        ends = difference.interval
        cells += [
            difference_cell(difference.value, ends, reach=reach),
            Cell(interval(ends, True), None if ends is None else ends.low),
        ]
    return [*cells, *(figure_cell(value) for value in row.values), count_cell(row.objects)]


def _reach(rows: Sequence[ComparedRow]) -> float:
    """The largest difference or end of an interval."""
    known = [difference for row in rows for difference in row.differences if difference.value is not None]
    ends = [abs(end) for difference in known for end in difference.interval or (difference.value or 0.0,)]
    return max([_LEAST_REACH, *ends])
