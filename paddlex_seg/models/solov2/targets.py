"""Assignment of objects to grid cells.

An object is assigned to every level whose size range contains its size (ranges overlap). On a level, take the
box shrunk to 20 % and centred at the centre of mass of the mask: the object is assigned to the cells that
this box touches, at most 3x3. Shapes: B images, L grid cells of all levels, n objects of one image, P pairs
of a cell and an object.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from paddle import Tensor

from paddlex_seg.models.solov2.head import GRID_SIZES
from paddlex_seg.structures import Target

SIZE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))  # per level, pixels, ends included
MIDDLE = 0.2  # size of the shrunk box as a fraction of the box
STRIDE = 4  # of predicted and target masks
FIRST_CELLS = (0, *np.cumsum(np.square(GRID_SIZES)).tolist())  # index of the first cell of each level, then L


class ImageTargets(NamedTuple):
    """The objects assigned to the cells of one image."""

    cells: NDArray[np.int64]  # [P], position in the L cells; repeated if several objects share a cell
    objects: NDArray[np.int64]  # [P], position in the objects of the image
    class_of_cell: NDArray[np.int64]  # [L], 0-based class index, or -1


def assign_cells(target: Target) -> ImageTargets:
    """Assign the objects of an image to cells. Objects with an empty mask get no cell."""
    height, width = target.masks.shape[1:]
    class_of_cell = np.full(FIRST_CELLS[-1], -1, np.int64)
    centers = _centers_of_mass(target.masks)  # [n, 2] y, x; NaN for an empty mask
    boxes = target.boxes_xyxy.numpy()
    size_xy = boxes[:, 2:] - boxes[:, :2]
    half_yx = (0.5 * size_xy * np.float32(MIDDLE))[:, ::-1].astype(np.float64)
    size = np.sqrt(size_xy[:, 0] * size_xy[:, 1])
    class_ids = target.class_ids.numpy()
    cells, objects = [], []
    for grid_size, first_cell, (smallest, largest) in zip(
        GRID_SIZES, FIRST_CELLS[:-1], SIZE_RANGES, strict=True
    ):
        chosen = np.flatnonzero((size >= smallest) & (size <= largest) & ~np.isnan(centers[:, 0]))
        first, last = _middle_cells(centers[chosen], half_yx[chosen], (height, width), grid_size)
        for j, (top, left), (bottom, right) in zip(chosen, first, last, strict=True):
            rows, columns = np.arange(top, bottom + 1), np.arange(left, right + 1)
            found = first_cell + (rows[:, None] * grid_size + columns).ravel()
            class_of_cell[found] = class_ids[j]  # the last object wins, as in PaddleDetection
            cells.append(found)
            objects.append(np.full(len(found), j))
    none = np.empty(0, np.int64)
    return ImageTargets(np.concatenate([none, *cells]), np.concatenate([none, *objects]), class_of_cell)


def shrink_masks(masks: Tensor) -> Tensor:
    """Masks at stride 4, uint8 [n, H/4, W/4]: 1 where at least two of the middle 2x2 of 4x4 pixels are 1.

    This equals a linear resize with halves rounded up.
    """
    upper, lower = masks[:, 1::STRIDE], masks[:, 2::STRIDE]
    count = upper[:, :, 1::STRIDE] + upper[:, :, 2::STRIDE] + lower[:, :, 1::STRIDE] + lower[:, :, 2::STRIDE]
    return (count >= 2).astype("uint8")


def _centers_of_mass(masks: Tensor) -> NDArray[np.float64]:
    """Centre of mass (y, x) of each mask [n, H, W] in pixel indices, [n, 2]; NaN for an empty mask."""
    centers = []
    for other_axis in (2, 1):
        line = masks.sum(axis=other_axis, dtype="int64").numpy().astype(np.float64)  # [n, H], then [n, W]
        with np.errstate(invalid="ignore"):
            centers.append(line @ np.arange(line.shape[1]) / line.sum(axis=1))
    return np.stack(centers, axis=1)


def _middle_cells(
    centers: NDArray[np.float64],
    half_sizes: NDArray[np.float64],
    size_hw: Sequence[int],
    grid_size: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last (row, column) [n, 2] of the cells that the shrunk boxes touch, at most one cell from the
    cell of the centre.

    centers, half_sizes: [n, 2], y and x in pixels.
    """

    def cell_of(position: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.floor_divide(position / size_hw, 1 / grid_size).astype(np.int64)

    center = cell_of(centers)
    first = np.maximum(np.maximum(cell_of(centers - half_sizes), 0), center - 1)
    last = np.minimum(np.minimum(cell_of(centers + half_sizes), grid_size - 1), center + 1)
    return first, last
