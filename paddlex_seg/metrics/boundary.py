"""Boundary IoU: how well the outlines of two masks agree, whatever their size.

Paper: B. Cheng, R. Girshick, P. Dollar, A. Berg, A. Kirillov, "Boundary IoU: Improving Object-Centric Image
Segmentation Evaluation", CVPR 2021, https://arxiv.org/abs/2103.16562. The boundary G_d of a mask G are its
pixels that are at most d from its outline; pixels behind the border of the image are not in the mask. Then

    boundary IoU = |G_d and P_d| / |G_d or P_d|

d is 2 % of the diagonal of the image. Boundary AP is COCO's AP with min(mask IoU, boundary IoU) for each
pair, and the plain overlap for crowds.

faster-coco-eval 1.8.0 is followed where programs differ: the distance is that of a square, so G_d is G less
its erosion with a square of 2 d + 1 pixels; and d is rounded to whole pixels, halves down, and at least 1.
(The authors' program rounds halves to the even number.) Only in images whose shorter side has at most 2 d
pixels, one 25th of the longer one, is it not followed: there it loses pixels, while a mask is all boundary.

Masks are cut out before they are eroded, so that time and memory depend on the objects, not on the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import rle_boxes_xywh, rle_cutouts
from paddlex_seg.metrics.matching import IOU_THRESHOLDS
from paddlex_seg.metrics.overlaps import Overlaps, Truth, truth_of
from paddlex_seg.structures import CocoFile, Id, Instances, Rle

RATIO = 0.02
_MOST_PAIRS, _MOST_PIXELS = 128, 1 << 25  # at a time: few fit the cache

_Floats = NDArray[np.float64]
_Boundary = tuple[int, int, NDArray[np.bool_], int]  # left, top, pixels [w, h], how many of them are set


def boundary_width(size_hw: Sequence[int]) -> int:
    """The distance d for an image of this size, in pixels."""
    exact = RATIO * float(np.hypot(size_hw[0], size_hw[1]))
    return max(1, int(np.floor(exact + 0.5 - 1e-10)))


def boundary_iou(mask: Rle, other: Rle) -> float:
    """The boundary IoU of two masks of the same image, 0..1; 0 if a mask has no pixels."""
    return float(boundary_ious([mask], [other])[0])


def boundary_ious(masks: Sequence[Rle], others: Sequence[Rle]) -> _Floats:
    """[P]: the boundary IoU of each mask with the other one at the same position, see `boundary_iou`.

    A mask that is in several pairs is eroded once, if it is the same object and the pairs are close together.
    """
    values = [np.zeros(0)]
    for start in range(0, len(masks), _MOST_PAIRS):
        part = slice(start, start + _MOST_PAIRS)
        values += _within_memory(masks[part], others[part])
    return np.concatenate(values)


def boundary_overlaps(
    overlaps: Overlaps, coco: CocoFile, results: Mapping[Id, Instances], *, truth: Truth | None = None
) -> Overlaps:
    """The table of masks with the smaller one of mask IoU and boundary IoU, for boundary AP.

    It has only what AP needs: pairs of one class whose mask IoU is at least 0.5. overlaps: of masks, of these
    results. truth: `overlaps.truth_of` the file, if it is there already.
    """
    found, objects = overlaps.found, overlaps.objects
    is_kept = (found.class_index[overlaps.pair_found] == objects.class_index[overlaps.pair_object]) & (
        overlaps.pair_iou >= IOU_THRESHOLDS[0]
    )
    pair_found, pair_object = overlaps.pair_found[is_kept], overlaps.pair_object[is_kept]
    iou = overlaps.pair_iou[is_kept].copy()
    # The pairs of an object are beside each other, so that its mask is eroded once.
    order = np.argsort(pair_object, kind="stable")
    order = order[~objects.is_crowd[pair_object[order]]]
    object_masks = (truth_of(coco) if truth is None else truth).masks
    masks = [
        results[overlaps.image_ids[image]].masks[position]
        for image, position in zip(
            found.image[pair_found[order]].tolist(), found.position[pair_found[order]].tolist(), strict=True
        )
    ]
    others = [object_masks[position] for position in objects.position[pair_object[order]].tolist()]
    iou[order] = np.minimum(iou[order], boundary_ious(masks, others))
    is_positive = iou > 0
    return replace(
        overlaps,
        kind="boundary",
        pair_found=pair_found[is_positive],
        pair_object=pair_object[is_positive],
        pair_iou=iou[is_positive],
    )


def _within_memory(masks: Sequence[Rle], others: Sequence[Rle]) -> list[_Floats]:
    """The boundary IoUs of pairs, in parts whose masks fit the memory."""
    distinct = list({id(mask): mask for mask in (*masks, *others)}.values())
    if len(masks) > 1 and rle_boxes_xywh(distinct)[:, 2:].prod(axis=1).sum() > _MOST_PIXELS:
        middle = len(masks) // 2
        return [
            *_within_memory(masks[:middle], others[:middle]),
            *_within_memory(masks[middle:], others[middle:]),
        ]
    boundaries = {id(mask): one for mask, one in zip(distinct, _boundaries(distinct), strict=True)}
    return [
        np.array(
            [
                _iou(boundaries[id(mask)], boundaries[id(other)])
                for mask, other in zip(masks, others, strict=True)
            ]
        )
    ]


def _boundaries(masks: Sequence[Rle]) -> list[_Boundary]:
    boundaries = []
    kernels: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for mask, (left, top, pixels) in zip(masks, rle_cutouts(masks), strict=True):
        size = (mask["size"][0], mask["size"][1])
        if size not in kernels:
            kernels[size] = np.ones((2 * boundary_width(size) + 1,) * 2, np.uint8)
        height, width = pixels.shape
        # In the way round that they are in memory. OpenCV needs three times as long for the pixels that are
        # left over when it takes 16 at a time, so there are none.
        padded = np.zeros((width, -(-height // 16) * 16), np.uint8)
        padded[:, :height] = pixels.T
        if padded.size:
            inside = cv2.erode(padded, kernels[size], borderType=cv2.BORDER_CONSTANT, borderValue=0)
            np.subtract(padded, inside, out=padded)
        boundary = padded.view(bool)
        boundaries.append((left, top, boundary, int(np.count_nonzero(boundary))))
    return boundaries


def _iou(first: _Boundary, second: _Boundary) -> float:
    left, top, pixels, number = first
    other_left, other_top, other, other_number = second
    x1, y1 = max(left, other_left), max(top, other_top)
    x2 = min(left + pixels.shape[0], other_left + other.shape[0])
    y2 = min(top + pixels.shape[1], other_top + other.shape[1])
    if x1 >= x2 or y1 >= y2:
        return 0.0
    shared = np.count_nonzero(
        pixels[x1 - left : x2 - left, y1 - top : y2 - top]
        & other[x1 - other_left : x2 - other_left, y1 - other_top : y2 - other_top]
    )
    return shared / (number + other_number - shared) if shared else 0.0
