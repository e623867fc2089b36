"""Masks in COCO's run-length encoding (RLE): the only place that calls pycocotools.

An `Rle` is a binary mask of a whole image, compressed, column by column. Polygons are lists or arrays
``x1, y1, x2, y2, ...`` of three points or more, in pixels; sizes are (height, width).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Rle

Polygon = Sequence[float] | NDArray[np.floating]


# ---- to and from pixels, polygons and runs


def mask_to_rle(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Rle:
    """The encoding of ``mask`` [H, W], which holds 0 and 1."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def rle_to_mask(rle: Rle) -> NDArray[np.uint8]:
    """The mask [H, W] of 0 and 1, in memory column by column."""
    return coco_mask.decode(rle)


def polygons_to_rle(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> Rle:
    """The union of ``polygons``, one or more, in an image of that size."""
    return coco_mask.merge(polygons_to_rles(polygons, size_hw))


def polygons_to_rles(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> list[Rle]:
    """A mask for each of ``polygons``, one or more, in an image of that size."""
    return coco_mask.frPyObjects(list(polygons), *size_hw)


def runs_to_rle(runs: Sequence[int], size_hw: tuple[int, int]) -> Rle:
    """The mask of COCO's uncompressed counts: lengths in pixels, the first one of background.

    They must sum to height times width: pycocotools writes outside the mask otherwise.
    """
    return coco_mask.frPyObjects({"size": list(size_hw), "counts": list(runs)}, *size_hw)


def mask_to_runs(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed counts of ``mask`` [H, W]: column by column, the first run is of background."""
    values = np.concatenate([[False], mask.ravel(order="F")])
    borders = np.flatnonzero(values[1:] != values[:-1])
    return np.diff(np.concatenate([[0], borders, [mask.size]])).tolist()


def merge_rles(masks: Sequence[Rle]) -> Rle:
    """The union of masks of one size."""
    return coco_mask.merge(list(masks))


# ---- measures


def rle_area(rle: Rle) -> int:
    """How many pixels the mask covers."""
    return int(coco_mask.area(rle))


def rle_areas(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """How many pixels each mask covers, [N]."""
    # One by one: of a list of more than 255, pycocotools makes an error with newer versions of NumPy.
    return np.array([coco_mask.area(mask) for mask in masks], float)


def rle_box_xywh(rle: Rle) -> NDArray[np.float64]:
    """The box [4] around all pixels of the mask: left, top, width and height; all 0 for an empty one."""
    return coco_mask.toBbox(rle)


def rle_boxes_xywh(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """The box around all pixels of each mask, [N, 4]; see `rle_box_xywh`."""
    return coco_mask.toBbox(list(masks)).reshape(-1, 4) if len(masks) else np.zeros((0, 4))


def rle_iou(rle: Rle, other: Rle) -> float:
    """Intersection over union of two masks of one size, 0..1."""
    return float(coco_mask.iou([rle], [other], [0])[0, 0])


# ---- to and from files


def rle_to_json(rle: Rle | Mapping[str, Any]) -> dict[str, Any]:
    """The RLE as a file holds it: counts that are bytes become text, all else stays."""
    counts = rle["counts"]
    return {**rle, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def rle_from_json(entry: Mapping[str, Any]) -> Rle:
    """The RLE of what a file holds: counts as text, or uncompressed as a list, or bytes already."""
    height, width = entry["size"]
    counts = entry["counts"]
    if isinstance(counts, list):
        return runs_to_rle(counts, (height, width))
    return Rle(size=[height, width], counts=counts.encode("ascii") if isinstance(counts, str) else counts)


def segmentation_to_json(
    segmentation: list[list[float]] | Rle | Mapping[str, Any],
) -> list[list[float]] | dict[str, Any]:
    """The segmentation as a file holds it: polygons as they are, an RLE by `rle_to_json`."""
    return rle_to_json(segmentation) if isinstance(segmentation, Mapping) else segmentation


def annotation_to_rle(annotation: Annotation, height: int, width: int) -> Rle:
    """The mask of ``annotation`` in an image of that size in pixels: the union of its polygons, or its RLE.

    Holes of an RLE stay. Raises DatasetError when an RLE is of another size than the image.
    """
    segmentation = annotation.segmentation
    if not isinstance(segmentation, Mapping):
        return polygons_to_rle(segmentation, (height, width))
    if list(segmentation["size"]) != [height, width]:
        raise DatasetError(
            f"annotation {annotation.id}: its RLE is of size {list(segmentation['size'])} (height, width), "
            f"but the image is {[height, width]}. Correct the size of the image or redraw the mask."
        )
    return rle_from_json(segmentation)


def run_lengths(counts: Any) -> NDArray[np.int64]:
    """The runs that ``counts`` of an RLE in a file stand for: a list of them, or COCO's text.

    Nothing is assumed of ``counts``. Raises ValueError, whose text follows on "an RLE ...". The sum of the
    runs, and whether they are negative, is for the caller to check.
    """
    if isinstance(counts, list):
        if not set(map(type, counts)) <= {int} or any(not 0 <= run < 2**32 for run in counts):
            raise ValueError("with counts that are not whole numbers of pixels")
        return np.array(counts, np.int64)
    if not isinstance(counts, str) or not counts:
        raise ValueError(f"with counts of type {type(counts).__name__}; expected a list or text")
    if not counts.isascii():
        raise ValueError("whose text is damaged")
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("whose text is damaged")
    return _decode_runs(codes)


def _decode_runs(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """COCO's code: 5 bits a character, lowest first, and one for more to come.

    From the fourth run on, a number is the difference to the run two places before.
    """
    ends = (codes & 32) == 0
    starts = np.flatnonzero(np.concatenate([[True], ends[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:  # 35 bits: more than any image has pixels
        raise ValueError("whose text is damaged")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
