"""Notices masks of numbers whose values were smoothed, such as by a bilinear resize.

Smoothing puts new values along the edges, from one number to the next. They look like numbers of objects.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from paddlex_seg.data.formats.mask_images import IdMap, MaskPixels, distinct
from paddlex_seg.errors import DatasetError

_THICK = 3  # pixels; a value that smoothing made is thinner than this across an edge


class SmoothedMask(DatasetError):
    """A mask of numbers that was smoothed, so that its values along edges mean nothing."""


def expect_sharp(mask: MaskPixels, path: Path) -> None:
    """Raises SmoothedMask if the numbers of a mask were changed by JPEG or by smoothing."""
    if mask.is_jpeg:
        raise SmoothedMask(f"{path}: the mask was saved as JPEG, which changes its numbers")
    rows, columns = _count_edges(mask.values), _count_edges(mask.values.T)
    edges = _Edges(*(sum(counts) for counts in zip(rows, columns, strict=True)))
    if _is_smoothed(mask.values, edges):
        raise SmoothedMask(
            f"{path}: the values change gradually along the edges, at {edges.gradual} of "
            f"{sum(edges)} places, as smoothing makes them"
        )


def cut_at_half(values: IdMap) -> IdMap | None:
    """A smoothed mask with one object number, sharp again: pixels of half the number or more are the object.

    None if this is not the only reading: several numbers have an area, something lies apart from the area of
    the number, or only one value lies between, which may be a number of its own.
    """
    solid = np.unique(values[_is_solid(values) & (values > 0)])
    if len(solid) != 1 or values.max() != solid[0] or len(distinct(values)) <= 3:
        return None
    number = int(solid[0])
    pieces, count = ndimage.label(values > 0, structure=np.ones((3, 3)))
    if ndimage.maximum(values, pieces, np.arange(1, count + 1)).min() < number:
        return None
    return np.where(2 * values.astype(np.int64) >= number, number, 0)


class _Edges(NamedTuple):
    """Places where, in a row of pixels, one thick run of equal values is followed by one of another value.

    Edges that smoothing cannot change do not count, such as of 1 on 0. Small objects on a background do not
    count either: there, both thick runs have the same value.
    """

    direct: int  # one thick run ends at the other
    gradual: int  # in between is a thin run of a value above the one and below the other, see `_on_the_way`
    other: int  # in between are other thin runs


def _is_smoothed(values: IdMap, edges: _Edges) -> bool:
    """Whether most edges are gradual; or some are, and half of the numbers are nowhere thick.

    The second happens if a resize to a smaller size hit some edges exactly. Thin objects between others are
    not taken for it: they are gradual in one place and not in another.
    """
    if edges.gradual > edges.direct + edges.other:
        return True
    if edges.gradual < max(0.1 * edges.direct, 4 * edges.other, 1):
        return False
    numbers = set(distinct(values)) - {0}
    thin = numbers - set(np.unique(values[_is_solid(values)]).tolist())
    return 2 * len(thin) >= len(numbers) and len(thin) > 1


def _count_edges(values: IdMap) -> _Edges:
    flat = values.ravel()
    is_start = np.ones(flat.size, bool)
    is_start[1:] = flat[1:] != flat[:-1]
    is_start[:: values.shape[1]] = True
    starts = np.flatnonzero(is_start)
    is_thick = np.diff(np.append(starts, flat.size)) >= _THICK
    thick = np.flatnonzero(is_thick)
    if len(thick) < 2:
        return _Edges(0, 0, 0)
    rows, numbers = starts[thick] // values.shape[1], flat[starts[thick]]
    low, high = np.minimum(numbers[1:], numbers[:-1]), np.maximum(numbers[1:], numbers[:-1])
    is_edge = (rows[1:] == rows[:-1]) & (high - low > 1)
    num_direct = (is_edge & (np.diff(thick) == 1)).sum()
    thin = np.flatnonzero(~is_thick)
    pair = np.cumsum(is_thick)[thin] - 1  # the two thick runs around it
    inside = (pair >= 0) & (pair < len(is_edge))
    thin, pair = thin[inside], pair[inside]
    number = flat[starts[thin]]
    is_between = is_edge[pair] & (low[pair] < number) & (number < high[pair])
    is_between &= _on_the_way(pair, number == numbers[pair], number == numbers[pair + 1])
    num_gradual = len(np.unique(pair[is_between]))
    return _Edges(int(num_direct), num_gradual, int(is_edge.sum() - num_direct - num_gradual))


def _on_the_way(pair: NDArray[Any], is_first: NDArray[Any], is_second: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of T thin runs is past all of the first thick run's value, and before the second's.

    Smoothing goes from one value to the other. The border of 255 around an object of VOC lies before it.
    pair: the place [T], ascending. is_first, is_second: whether the run has the value of that thick run.
    """
    places = np.arange(len(pair))
    last_first = np.full(pair.max(initial=-1) + 1, -1)
    first_second = np.full_like(last_first, len(pair))
    np.maximum.at(last_first, pair[is_first], places[is_first])
    np.minimum.at(first_second, pair[is_second], places[is_second])
    return (last_first[pair] < places) & (places < first_second[pair])


def _is_solid(values: IdMap) -> NDArray[np.bool_]:
    """True [H, W] where all pixels around have the same value."""
    highest, lowest = (
        extreme(values, size=_THICK, mode="nearest")
        for extreme in (ndimage.maximum_filter, ndimage.minimum_filter)
    )
    return highest == lowest
