"""Bilinear interpolation of maps at points.

Points are (x, y) as fractions of the width and height of the map: (0, 0) is the top left corner of the top
left pixel. Outside of a map values are 0. Results equal ``F.grid_sample(..., align_corners=False)``, but its
CPU kernel takes several times as long (benchmarks/training_step.py).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor
from paddle.autograd import PyLayer

from paddlex_seg.cores import num_usable_cores

MAX_THREADS = 8  # more threads only wait for each other
ROWS_AT_ONCE = 8  # rows of points: with fewer, NumPy calls cost more; more do not fit in the CPU cache


class RandomPoints:
    """``num_points`` random points for each of ``num_rows`` maps; x and y are uniform in 0..1.

    Rows can be generated one at a time, so that not all points must be in memory together.
    """

    def __init__(self, num_rows: int, num_points: int) -> None:
        self.num_rows, self.num_points = num_rows, num_points
        self._seed = paddle.randint(0, 2**31 - 1, [1]).item()

    def row(self, row: int) -> NDArray[np.float32]:
        """The points of one row, float32 [2, num_points]. Every call returns the same points."""
        generator = np.random.default_rng([self._seed, row])  # three times as fast as Paddle's generator
        return generator.random((2, self.num_points), dtype=np.float32)

    def all(self) -> Tensor:
        """The points of all rows, float32 [num_rows, 2, num_points]."""
        if paddle.get_device() != "cpu":
            return paddle.rand([self.num_rows, 2, self.num_points])
        points = np.empty((self.num_rows, 2, self.num_points), np.float32)
        for row in range(self.num_rows):
            points[row] = self.row(row)
        return paddle.to_tensor(points)


def bilinear_taps(points: Tensor, size_wh: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each point and their interpolation weights; 0 for pixels outside of the map.

    points: [..., 2]; size_wh: float32, whole numbers, with a shape that broadcasts with points. Returns the
    positions of the pixels in the flattened map, int64 [..., 4], and weights [..., 4]. The weights have a
    gradient. For a point that is not finite, positions are valid and weights are not finite.
    """
    position = points * size_wh - 0.5
    corner = position.detach().floor()
    fraction = position - corner
    last = size_wh - 1
    last_index = (size_wh[..., 0] * size_wh[..., 1]).astype("int64") - 1
    indices, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            pixel = corner + paddle.to_tensor([dx, dy], dtype="float32")
            nearest = paddle.minimum(pixel.clip(min=0), last)
            is_inside = (nearest == pixel).all(-1).astype(points.dtype)
            along_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
            along_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
            index = (nearest[..., 1] * size_wh[..., 0] + nearest[..., 0]).astype("int64")
            indices.append(paddle.minimum(index.clip(min=0), last_index))
            weights.append(along_x * along_y * is_inside)
    return paddle.stack(indices, axis=-1), paddle.stack(weights, axis=-1)


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """The features at points. features: [B, C, h, w]; points: [B, 2, P]; returns [B, P, C]."""
    batch, channels, height, width = features.shape
    index, weight = bilinear_taps(
        points.transpose([0, 2, 1]), paddle.to_tensor([width, height], dtype="float32")
    )
    rows = features.flatten(2).transpose([0, 2, 1]).reshape([-1, channels])
    index = index + paddle.arange(batch).reshape([-1, 1, 1]) * (height * width)
    taps = rows.gather(index.flatten()).reshape([*index.shape, channels])
    return (taps * weight.unsqueeze(-1)).sum(axis=2)


def sample_masks(masks: Tensor, points: Tensor, mask_of_row: Tensor | None = None) -> Tensor:
    """The values of masks at points: float32 [n, P].

    masks: [m, h, w], float or uint8; points: float32 [n, 2, P], x and y in 0..1; mask_of_row: int64 [n], the
    mask of each row of points. Without mask_of_row, m = n and row i belongs to mask i. Float masks get a
    gradient only without mask_of_row.
    """
    if not masks.place.is_cpu_place():
        chosen = masks if mask_of_row is None else masks.gather(mask_of_row)
        chosen = chosen.astype("float32").unsqueeze(1)
        grid = 2 * points.transpose([0, 2, 1]).unsqueeze(1) - 1
        return F.grid_sample(chosen, grid, align_corners=False).squeeze([1, 2])
    if mask_of_row is None:
        return _SampleMasks.apply(masks, points)
    return paddle.to_tensor(_sample_rows(masks.numpy(), points.numpy(), mask_of_row.numpy()))


@paddle.no_grad()
def uncertain_points(logits: Tensor, candidates: RandomPoints, count: int) -> Tensor:
    """The ``count`` candidate points of each mask with the logit nearest to 0, in arbitrary order.

    logits: [n, h, w]; returns [n, 2, count]. Source: A. Kirillov et al., "PointRend",
    https://arxiv.org/abs/1912.08193, section 3.1.
    """
    if not logits.place.is_cpu_place():
        points = candidates.all()
        chosen = paddle.topk(sample_masks(logits, points).abs(), count, axis=1, largest=False)[1]
        return paddle.take_along_axis(points, chosen.unsqueeze(1).expand([-1, 2, -1]), axis=2)
    maps = logits.numpy()
    chosen_points = np.empty((len(maps), 2, count), np.float32)

    def choose(rows: NDArray[np.intp]) -> None:
        points = np.stack([candidates.row(row) for row in rows])
        distances = np.abs(_sample_block(maps, points, rows))
        for row, own_points, distance in zip(rows, points, distances, strict=True):
            chosen_points[row] = own_points[:, np.argpartition(distance, count - 1)[:count]]

    _for_blocks(choose, np.arange(len(maps)))
    return paddle.to_tensor(chosen_points)


class _SampleMasks(PyLayer):
    """``sample_masks`` with one row of points per mask. Computes the gradient of the masks."""

    @staticmethod
    def forward(ctx: Any, masks: Tensor, points: Tensor) -> Tensor:
        ctx.saved = (masks.shape, points)
        return paddle.to_tensor(_sample_rows(masks.numpy(), points.numpy(), np.arange(len(masks))))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        shape, points = ctx.saved
        gradients, all_points = gradient.numpy(), points.numpy()
        total = np.empty(shape, np.float32)

        def spread(rows: NDArray[np.intp]) -> None:
            total[rows] = _spread_block(gradients[rows], all_points[rows], shape[1:])

        _for_blocks(spread, np.arange(shape[0]))
        return paddle.to_tensor(total), None


def _sample_rows(
    maps: NDArray, points: NDArray[np.float32], map_of_row: NDArray[np.integer]
) -> NDArray[np.float32]:
    """maps: [m, h, w], of any type; points: [n, 2, P]; map_of_row: [n]; returns [n, P]."""
    values = np.empty((len(points), points.shape[2]), np.float32)

    def sample(rows: NDArray[np.intp]) -> None:
        values[rows] = _sample_block(maps, points[rows], map_of_row[rows])

    _for_blocks(sample, np.argsort(map_of_row, kind="stable"))  # so that a block contains few maps
    return values


def _sample_block(
    maps: NDArray, points: NDArray[np.float32], map_of_row: NDArray[np.integer]
) -> NDArray[np.float32]:
    """maps: [m, h, w]; points: [k, 2, P]; map_of_row: [k]; returns [k, P]."""
    used, number = np.unique(map_of_row, return_inverse=True)
    index, x, y = _padded_position(points, maps.shape[1:], number)
    flat = np.pad(maps[used], ((0, 0), (1, 1), (1, 1))).ravel()  # a border of zeros avoids special cases
    width = maps.shape[2] + 2

    def tap(offset: int) -> NDArray[np.float32]:
        # No index is out of range. With mode "clip", several threads can run take() at the same time.
        return flat[offset:].take(index, mode="clip").astype(np.float32, copy=False)

    upper, lower = _blend(tap(0), tap(1), x), _blend(tap(width), tap(width + 1), x)
    return _blend(upper, lower, y)


def _spread_block(
    gradient: NDArray[np.float32], points: NDArray[np.float32], size_hw: Sequence[int]
) -> NDArray[np.float32]:
    """The gradient of ``_sample_block`` where each row has its own map: gradient [k, P] to [k, h, w]."""
    num_maps, height, width = len(points), size_hw[0] + 2, size_hw[1] + 2
    index, x, y = _padded_position(points, size_hw, np.arange(num_maps))
    lower = gradient * y
    upper = gradient - lower
    lower_right, upper_right = lower * x, upper * x
    weights = (upper - upper_right, upper_right, lower - lower_right, lower_right)
    taps = (index, index + 1, index + width, index + width + 1)
    size = num_maps * height * width
    padded = np.bincount(np.concatenate(taps, axis=None), np.concatenate(weights, axis=None), minlength=size)
    return padded.reshape(num_maps, height, width)[:, 1:-1, 1:-1].astype(np.float32)


def _padded_position(
    points: NDArray[np.float32], size_hw: Sequence[int], map_of_row: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Index of the upper left pixel of each point in flattened maps with a border of 1, and the distance in x
    and y from this pixel to the point.

    points: [k, 2, P]; map_of_row: [k]; returns three [k, P].
    """
    height, width = size_hw
    x, y = points[:, 0] * np.float32(width), points[:, 1] * np.float32(height)
    x += np.float32(0.5)
    y += np.float32(0.5)
    left, top = x.astype(np.int32), y.astype(np.int32)
    np.subtract(x, left, out=x, casting="same_kind")
    np.subtract(y, top, out=y, casting="same_kind")
    top *= np.int32(width + 2)
    top += left
    first_pixel = map_of_row.astype(np.intp) * ((height + 2) * (width + 2))
    return top + first_pixel[:, None], x, y


def _blend(
    first: NDArray[np.float32], second: NDArray[np.float32], fraction: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``first`` at fraction 0, ``second`` at 1. Overwrites both."""
    second -= first
    second *= fraction
    first += second
    return first


def _for_blocks(work: Callable[[NDArray[np.intp]], None], rows: NDArray[np.intp]) -> None:
    """Call ``work`` with blocks of ``rows`` in several threads. Exceptions are raised here."""
    blocks = [rows[begin : begin + ROWS_AT_ONCE] for begin in range(0, len(rows), ROWS_AT_ONCE)]
    with ThreadPoolExecutor(min(num_usable_cores(), MAX_THREADS)) as threads:
        for _ in threads.map(work, blocks):
            pass
