"""Instances drawn for a test, and masks of shapes that are easily lost."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.structures import Instances

Mask = NDArray[np.bool_]


def instances_of(
    masks: Sequence[Mask],
    class_ids: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    size_hw: tuple[int, int] = (60, 80),
) -> Instances:
    """Instances with these masks; the boxes are around the masks, the scores fall from 0.9, unless given."""
    return Instances(
        size_hw=masks[0].shape if masks else size_hw,
        class_ids=np.array(class_ids if class_ids is not None else [0] * len(masks), np.int64),
        scores=np.array(np.linspace(0.9, 0.3, len(masks)) if scores is None else scores, np.float32),
        boxes_xyxy=np.array([box_of(mask) for mask in masks] if boxes is None else boxes, np.float32).reshape(
            -1, 4
        ),
        masks=tuple(mask_to_rle(mask) for mask in masks),
    )


def box_of(mask: Mask) -> list[int]:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def rectangle(box: tuple[int, int, int, int], size_hw: tuple[int, int] = (60, 80)) -> Mask:
    mask = np.zeros(size_hw, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def disc(centre_xy: tuple[float, float], radius: float, size_hw: tuple[int, int] = (60, 80)) -> Mask:
    """The pixels whose centres are inside the circle; (0, 0) is the corner of the first pixel."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    return np.hypot(x - centre_xy[0], y - centre_xy[1]) < radius


def ragged(side: int, size_hw: tuple[int, int], grain: int = 8, seed: int = 0) -> Mask:
    """A blob with a rough outline, holes and crumbs, ``side`` pixels wide, in the middle of the image."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((side // grain + 3,) * 2).astype(np.float32)
    noise = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:side, :side] - side / 2
    mask = np.zeros(size_hw, bool)
    top, left = (size_hw[0] - side) // 2, (size_hw[1] - side) // 2
    mask[top : top + side, left : left + side] = 0.25 * noise + 1 > (x**2 + y**2) / (side**2 / 6)
    return mask


EASILY_LOST: dict[str, Mask] = {
    "disc": disc((40, 30), 20),
    "ring": disc((40, 30), 25) & ~disc((42, 30), 12),
    "two holes, one in a corner": disc((40, 30), 28)
    & ~rectangle((30, 20, 36, 26))
    & ~rectangle((36, 26, 40, 30)),
    "a ring in a ring": disc((40, 30), 28)
    & ~(disc((40, 30), 22) & ~(disc((40, 30), 16) & ~disc((40, 30), 9))),
    "several parts": rectangle((2, 3, 20, 20)) | rectangle((30, 3, 50, 9)) | rectangle((70, 50, 73, 52)),
    "parts that touch at a corner": rectangle((10, 10, 20, 20)) | rectangle((20, 20, 30, 30)),
    "one pixel": rectangle((7, 9, 8, 10)),
    "one pixel in a corner": rectangle((79, 59, 80, 60)),
    "scattered pixels": np.random.default_rng(0).random((60, 80)) < 0.1,
    "a line of one pixel": rectangle((5, 9, 70, 10)),
    "a slanted line": np.eye(60, 80, dtype=bool),
    "at all borders": ~rectangle((10, 10, 70, 50)),
    "at the right and bottom border": rectangle((60, 40, 80, 60)),
    "the whole image": np.ones((60, 80), bool),
    "a ragged blob": ragged(55, (60, 80)),
}
