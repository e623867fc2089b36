"""The objects of images as rows of a table, and the table as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from paddlex_seg.masks.measures import measure
from paddlex_seg.structures import Instances

HEADER = (
    *("image", "page", "id", "class_id", "class", "score", "x1", "y1", "x2", "y2"),
    *("area", "centre_x", "centre_y", "orientation", "contour_length"),
)
"""The columns. ``page`` counts from 0, ``id`` from 1 in each image, as in the image of numbers of `id_masks`.

Lengths are pixels, ``orientation`` is in degrees; `masks.measures.measure` says how they are measured.
"""
_TEXTS = tuple(HEADER.index(name) for name in ("image", "class"))
# A spreadsheet takes a cell that begins like this for a formula, which may start programs.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def table_rows(
    instances: Instances,
    labels: Sequence[str],
    *,
    input_path: str | None,
    page_index: int | None,
    save_name: str,
) -> list[list[str]]:
    """One row for each object, with the columns of `HEADER`. What does not apply is empty."""
    rows = []
    for i, mask in enumerate(instances.masks):
        found, class_id = measure(mask), int(instances.class_ids[i])
        centre = ("", "") if found.centre_xy is None else (f"{value:.2f}" for value in found.centre_xy)
        rows.append(
            [
                save_name if input_path is None else input_path,
                "" if page_index is None else str(page_index),
                *(str(i + 1), str(class_id), labels[class_id], f"{instances.scores[i]:.4f}"),
                *(f"{edge:.2f}" for edge in instances.boxes_xyxy[i]),
                *(str(found.area), *centre),
                "" if found.orientation is None else f"{found.orientation:.2f}",
                f"{found.contour_length:.2f}",
            ]
        )
    return rows


def csv_bytes(rows: Iterable[Sequence[str]], header: bool = True) -> bytes:
    """The content of a CSV file: `HEADER`, then the rows; or without ``header`` what is appended to one.

    It is UTF-8 with a mark at the beginning, without which Excel misreads names in other scripts. A text
    that a spreadsheet would take for a formula, such as a class ``=1+1``, gets a ``'`` in front.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if header:
        writer.writerow(HEADER)
    writer.writerows(map(_without_formulas, rows))
    return text.getvalue().encode("utf-8-sig" if header else "utf-8", errors="backslashreplace")


def _without_formulas(row: Sequence[str]) -> list[str]:
    return [without_formula(cell) if column in _TEXTS else cell for column, cell in enumerate(row)]


def without_formula(text: str) -> str:
    """The text for a cell of a CSV file, with a ``'`` in front if a spreadsheet would compute it."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
