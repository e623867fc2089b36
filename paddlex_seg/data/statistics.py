"""Numbers that describe a data set: classes, object sizes, pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.structures import CocoFile


@dataclass(frozen=True)
class SplitShapes:
    """What the masks of a split measure; row i belongs to ``coco.annotations[i]``."""

    coco: CocoFile
    areas: NDArray[np.float64]  # [n], pixels
    boxes_xywh: NDArray[np.float64]  # [n, 4], around the masks, pixels; all 0 where a mask is empty


Shapes = Mapping[str, SplitShapes]  # by name of the split: train, val
