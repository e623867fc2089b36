"""Masks in COCO's run-length encoding (RLE). This is the only module that calls pycocotools.

An `Rle` is the compressed binary mask of a whole image, column by column. Polygons are lists or arrays
``x1, y1, x2, y2, ...`` of three points or more, in pixels. Sizes are (height, width).
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Rle

Polygon = Sequence[float] | NDArray[np.floating]


# ---- conversion to and from pixels, polygons and runs


def mask_to_rle(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Rle:
    """The RLE of ``mask`` [H, W] of 0 and 1."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def rle_to_mask(rle: Rle) -> NDArray[np.uint8]:
    """The mask [H, W] of 0 and 1, in column-major (Fortran) order."""
    return coco_mask.decode(rle)


def rle_window(rle: Rle, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The part of the mask in a box of whole pixels, as 0 and 1 in [y2 - y1, x2 - x1].

    Time and memory depend on the size of the box, not on that of the image. The box must be inside the image.
    """
    left, top, right, bottom = box_xyxy
    columns, tops, bottoms = _pieces(rle, box_xyxy)
    changes = np.zeros((right - left, bottom - top + 1), np.int8)
    np.add.at(changes, (columns, tops), 1)
    np.subtract.at(changes, (columns, bottoms), 1)
    return np.ascontiguousarray(changes[:, :-1].cumsum(axis=1, dtype=np.int8).view(np.uint8).T)


def rle_cutouts(masks: Sequence[Rle]) -> list[tuple[int, int, NDArray[np.uint8]]]:
    """The pixels of each mask in the box around it: left, top and [h, w] of 0 and 1, in column-major order.

    The masks may have several sizes. One without pixels gives 0, 0 and an array without pixels. Time and
    memory depend on the boxes, not on the images. All masks together are much faster than one by one.
    """
    if not masks:
        return []
    numbers, runs = _runs_of_all([mask["counts"] for mask in masks])
    owner = np.repeat(np.arange(len(masks)), numbers)
    first = np.cumsum(numbers) - numbers
    ends = _sums_of_parts(runs, numbers)
    is_one = ((np.arange(len(runs)) - first[owner]) % 2 == 1) & (runs > 0)
    owner, ends, length = owner[is_one], ends[is_one], runs[is_one]
    height = np.array([mask["size"][0] for mask in masks])[owner]
    column, row = np.divmod(ends - length, height)
    last_column, last_row = np.divmod(ends - 1, height)
    is_long = column < last_column  # a run over several columns has all rows of some
    boxes = np.zeros((len(masks), 4), np.int64)
    seen, start = np.unique(owner, return_index=True)
    if len(seen):
        boxes[seen, 0] = np.minimum.reduceat(column, start)
        boxes[seen, 1] = np.minimum.reduceat(np.where(is_long, 0, row), start)
        boxes[seen, 2] = np.maximum.reduceat(last_column, start) + 1
        boxes[seen, 3] = np.maximum.reduceat(np.where(is_long, height - 1, last_row), start) + 1
    width_of, height_of = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    places = np.append(0, np.cumsum(width_of * height_of))
    begins = places[owner] + (column - boxes[owner, 0]) * height_of[owner] + row - boxes[owner, 1]
    # Runs of 0 and 1 in turn. A cumulative sum of the changes would take five times as long.
    borders = np.append(np.stack([begins, begins + length], axis=1).ravel(), places[-1])
    values = np.zeros(len(borders), np.uint8)
    values[1::2] = 1
    pixels = np.repeat(values, np.diff(borders, prepend=0))
    return [
        (left, top, pixels[place : place + w * h].reshape(w, h).T)
        for (left, top), place, w, h in zip(
            boxes[:, :2].tolist(), places.tolist(), width_of.tolist(), height_of.tolist(), strict=False
        )
    ]


def _runs_of_all(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many runs each of some compressed counts has, and the runs of all, see `_decode_runs`."""
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    runs = _numbers(codes, ends)
    numbers = np.diff(np.searchsorted(ends, np.cumsum([len(text) for text in texts])), prepend=0)
    place = np.arange(len(runs)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    odd, even = place % 2 == 1, (place % 2 == 0) & (place > 0)
    runs[odd] = _sums_of_parts(runs[odd], numbers // 2)
    runs[even] = _sums_of_parts(runs[even], (numbers - 1) // 2)
    return numbers, runs


def _sums_of_parts(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulative sums that start again with each part of the values."""
    sums = np.append(0, np.cumsum(values))
    return sums[1:] - np.repeat(sums[np.cumsum(lengths) - lengths], lengths)


def rle_crop(rle: Rle, box_xyxy: tuple[int, int, int, int]) -> Rle:
    """The RLE of `rle_window`, without its pixels. The box must be inside the image and have a pixel."""
    left, top, right, bottom = box_xyxy
    columns, tops, bottoms = _pieces(rle, box_xyxy)
    seen = tops < bottoms
    starts = columns[seen] * (bottom - top) + tops[seen]
    ends = columns[seen] * (bottom - top) + bottoms[seen]
    # Pieces that touch, at the end of a column and the start of the next, are one run.
    borders = np.ones(len(starts) + 1, bool)
    borders[1:-1] = starts[1:] != ends[:-1]
    size = (right - left) * (bottom - top)
    edges = np.stack([starts[borders[:-1]], ends[borders[1:]]], axis=1).ravel()
    runs = np.diff(edges, prepend=0, append=size)
    return runs_to_rle(runs[:-1] if len(edges) and edges[-1] == size else runs, (bottom - top, right - left))


def _pieces(
    rle: Rle, box_xyxy: tuple[int, int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The runs of 1 in a box, cut into pieces of one column each: column, first row, row after the last.

    All are counted from the corner of the box, in the order of the RLE. A piece may have no row.
    """
    left, top, right, bottom = box_xyxy
    height = rle["size"][0]
    ends = np.cumsum(run_lengths(rle["counts"].decode("ascii")))
    starts, ends = ends[0:-1:2], ends[1::2]  # of the runs of 1, counted through the columns
    seen = (starts < right * height) & (ends > left * height) & (starts < ends)
    starts, ends = starts[seen].clip(left * height), ends[seen].clip(max=right * height)
    first, last = starts // height, (ends - 1) // height
    pieces = last - first + 1
    columns = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces - first, pieces)
    tops = (np.repeat(starts, pieces) - columns * height).clip(top, bottom) - top
    bottoms = (np.repeat(ends, pieces) - columns * height).clip(top, bottom) - top
    return columns - left, tops, bottoms


def polygons_to_rle(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> Rle:
    """The mask of the union of one or more polygons in an image of size ``size_hw``."""
    return coco_mask.merge(polygons_to_rles(polygons, size_hw))


def polygons_to_rles(polygons: Sequence[Polygon], size_hw: tuple[int, int]) -> list[Rle]:
    """The mask of each polygon (one or more) in an image of size ``size_hw``."""
    return coco_mask.frPyObjects(list(polygons), *size_hw)


def runs_to_rle(runs: Sequence[int] | NDArray[np.integer], size_hw: tuple[int, int]) -> Rle:
    """The mask of COCO's uncompressed counts: run lengths in pixels, the first run is background.

    They must sum to height times width. Otherwise pycocotools writes outside the mask's memory.
    """
    return coco_mask.frPyObjects({"size": list(size_hw), "counts": runs}, *size_hw)


def mask_to_runs(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed counts of ``mask`` [H, W]: column by column, the first run is background."""
    values = np.concatenate([[False], mask.ravel(order="F")])
    borders = np.flatnonzero(values[1:] != values[:-1])
    return np.diff(np.concatenate([[0], borders, [mask.size]])).tolist()


def merge_rles(masks: Sequence[Rle]) -> Rle:
    """The union of masks of the same size."""
    return coco_mask.merge(list(masks))


# ---- area, box, IoU


def rle_area(rle: Rle) -> int:
    """The number of pixels of the mask."""
    return int(coco_mask.area(rle))


def rle_areas(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """The number of pixels of each mask, [N]."""
    # In parts: with newer NumPy versions, pycocotools fails for a list of more than 255 masks.
    parts = [coco_mask.area(list(masks[i : i + 255])) for i in range(0, len(masks), 255)]
    return np.concatenate([np.zeros(0), *parts])


def rle_box_xywh(rle: Rle) -> NDArray[np.float64]:
    """The box [4] around all pixels of the mask: left, top, width and height; all 0 for an empty one."""
    return coco_mask.toBbox(rle)


def rle_boxes_xywh(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """The box around all pixels of each mask, [N, 4]; see `rle_box_xywh`."""
    return coco_mask.toBbox(list(masks)).reshape(-1, 4) if len(masks) else np.zeros((0, 4))


def rle_iou(rle: Rle, other: Rle) -> float:
    """Intersection over union of two masks of the same size, 0..1."""
    return float(coco_mask.iou([rle], [other], [0])[0, 0])


def rle_ious(masks: Sequence[Rle], others: Sequence[Rle]) -> NDArray[np.float64]:
    """The IoU of each mask with each other one, [N, M], all of one size; 1 for two masks without pixels."""
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    ious = np.asarray(coco_mask.iou(list(masks), list(others), [0] * len(others)), np.float64)
    empty, other_empty = rle_areas(masks) == 0, rle_areas(others) == 0
    return np.where(empty[:, None] & other_empty[None, :], 1.0, ious)


def mask_overlaps(
    masks: Sequence[Rle], others: Sequence[Rle], is_crowd: Sequence[bool] | NDArray[np.bool_]
) -> NDArray[np.float64]:
    """COCO's IoU of each mask with each other one, [N, M]; 0 for two masks without pixels.

    is_crowd: [M]; with a crowd, it is the part of the mask that is inside the crowd.
    """
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    return np.asarray(coco_mask.iou(list(masks), list(others), [int(one) for one in is_crowd]))


def box_overlaps(
    boxes_xywh: NDArray[np.float64], others_xywh: NDArray[np.float64], is_crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """COCO's IoU of each box with each other one, [N, M]; with a crowd as in `mask_overlaps`."""
    if not len(boxes_xywh) or not len(others_xywh):
        return np.zeros((len(boxes_xywh), len(others_xywh)))
    return np.asarray(coco_mask.iou(boxes_xywh, others_xywh, is_crowd.astype(np.uint8).tolist()))


# ---- conversion to and from JSON


def rle_to_json(rle: Rle | Mapping[str, Any]) -> dict[str, Any]:
    """The RLE for JSON: counts that are bytes are converted to text."""
    counts = rle["counts"]
    return {**rle, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def rle_from_json(entry: Mapping[str, Any]) -> Rle:
    """The RLE of a JSON entry, whose counts are text, an uncompressed list, or bytes."""
    height, width = entry["size"]
    counts = entry["counts"]
    if isinstance(counts, list):
        return runs_to_rle(counts, (height, width))
    return Rle(size=[height, width], counts=counts.encode("ascii") if isinstance(counts, str) else counts)


def segmentation_to_json(
    segmentation: list[list[float]] | Rle | Mapping[str, Any],
) -> list[list[float]] | dict[str, Any]:
    """The segmentation for JSON: polygons unchanged, an RLE converted by `rle_to_json`."""
    return rle_to_json(segmentation) if isinstance(segmentation, Mapping) else segmentation


def segmentation_to_rle(segmentation: list[list[float]] | Mapping[str, Any], size_hw: tuple[int, int]) -> Rle:
    """The mask of polygons in an image of size ``size_hw``, or of an RLE of that size."""
    return (
        rle_from_json(segmentation)
        if isinstance(segmentation, Mapping)
        else polygons_to_rle(segmentation, size_hw)
    )


def annotation_to_rle(annotation: Annotation, height: int, width: int) -> Rle:
    """The mask of ``annotation`` in an image of this size: the union of its polygons, or its RLE.

    Raises DatasetError when the RLE has another size than the image.
    """
    segmentation = annotation.segmentation
    if isinstance(segmentation, Mapping) and list(segmentation["size"]) != [height, width]:
        raise DatasetError(
            f"annotation {annotation.id}: the RLE has size {list(segmentation['size'])} (height, width), but "
            f"the image has size {[height, width]}. Correct the listed image size, or draw the mask again."
        )
    return segmentation_to_rle(segmentation, (height, width))


def run_lengths(counts: Any) -> NDArray[np.int64]:
    """The run lengths of the ``counts`` of an RLE in a file: a list of runs, or COCO's compressed text.

    ``counts`` may be any value. Raises ValueError, whose text continues a sentence that starts with "an RLE".
    The caller must check the sum of the runs and whether they are negative.
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


def are_sound(counts: Sequence[bytes], num_pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each value is COCO's compressed text of a mask of this many pixels, [N].

    This is what `run_lengths` and the sum of the runs say of each text, for all of them at once.
    """
    is_sound = np.array([len(text) > 0 for text in counts], bool)
    for check in (_have_codes, _have_short_numbers):
        texts = list(compress(counts, is_sound))
        if not texts:
            return is_sound
        is_sound[is_sound] = check(texts)
    texts = list(compress(counts, is_sound))
    if texts:
        numbers, runs = _runs_of_all(texts)
        firsts, pixels = np.cumsum(numbers) - numbers, num_pixels[is_sound]
        fits = np.logical_and.reduceat((runs >= 0) & (runs <= np.repeat(pixels, numbers)), firsts)
        is_sound[is_sound] = fits & (np.add.reduceat(runs, firsts) == pixels)
    return is_sound


def _have_codes(texts: Sequence[bytes]) -> NDArray[np.bool_]:
    """Whether each text has only characters of COCO's, and ends with the last one of a number."""
    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)  # those below 48 become large
    ends = np.cumsum([len(text) for text in texts])
    starts = np.append(0, ends[:-1])
    return (np.maximum.reduceat(codes, starts) <= 63) & ((codes[ends - 1] & 32) == 0)


def _have_short_numbers(texts: Sequence[bytes]) -> NDArray[np.bool_]:
    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    ends = np.flatnonzero((codes & 32) == 0)
    is_long = np.diff(ends, prepend=-1) > _MOST_CODES
    are_short = np.ones(len(texts), bool)
    are_short[np.searchsorted(np.cumsum([len(text) for text in texts]), ends[is_long], side="right")] = False
    return are_short


_MOST_CODES = 7  # 35 bits: more than the pixels of any image


def _decode_runs(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Decode COCO's text: 5 bits per character, lowest bits first; the 6th bit says that more follow.

    From the fourth run on, a number is the difference to the run two places before.
    """
    runs = _numbers(codes, np.flatnonzero((codes & 32) == 0))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _numbers(codes: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of COCO's text, as they are written. ends: the place of the last character of each."""
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _MOST_CODES:
        raise ValueError("whose text is damaged")
    starts = ends - lengths + 1
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    return numbers - np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
