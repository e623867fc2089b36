"""Notices masks of numbers that probably show classes: one number covers several separate pieces."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.mask_images import IdMap
from paddlex_seg.masks.rle import rle_boxes_xywh
from paddlex_seg.structures import Rle

_ENOUGH = 2000  # objects in masks of several numbers; after these, such masks are not looked at
_BINARY = {1, 255}  # values of masks with one foreground value


def num_large_pieces(mask: NDArray[np.bool_]) -> int:
    """Number of connected pieces of a mask that have at least a tenth of the pixels of its largest piece."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())[1:]
    return int((areas >= 0.1 * areas.max()).sum()) if areas.size else 0


class PieceCount:
    """Counts the pieces of the objects in all masks of numbers of a data set."""

    def __init__(self) -> None:
        self._num_numbers = 0
        self._values: set[int] = set()
        self._num_masks = 0
        self._in_pieces: list[tuple[str, int]] = []  # mask and number of pieces of each such number

    def add(self, mask: str, ids: IdMap, rles: Mapping[int, Rle]) -> None:
        """Count the objects ``rles`` of the mask ``ids``."""
        self._num_masks += 1
        self._values.update(rles)
        if len(rles) > 1 and self._num_numbers >= _ENOUGH:
            return
        for number, box in zip(rles, rle_boxes_xywh(list(rles.values())).tolist(), strict=True):
            x, y, width, height = (int(value) for value in box)
            count = num_large_pieces(ids[y : y + height, x : x + width] == number)
            self._num_numbers += 1
            if count > 1:
                self._in_pieces.append((mask, count))

    def findings(self, folder: str) -> Iterator[Finding]:
        """A finding if all masks have one value, or if most numbers cover several pieces."""
        if not self._in_pieces:
            return
        mask, count = self._in_pieces[0]
        if len(self._values) == 1 and self._values <= _BINARY:
            message = (
                f"{len(self._in_pieces)} of {self._num_masks} masks have one value and several pieces, which "
                f"became one object; the first is {mask}: one value, {min(self._values)}, {count} pieces"
            )
            yield finding("mask_several_pieces", mask, message)
        elif len(self._in_pieces) > self._num_numbers / 2:
            message = (
                f"{len(self._in_pieces)} of {self._num_numbers} object numbers cover several pieces each, so "
                f"they may be classes; the first is in {mask}: {count} pieces"
            )
            yield finding("mask_several_pieces", folder, message)
