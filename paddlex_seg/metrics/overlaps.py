"""All detections and objects of a data set in flat arrays, and every pair of them that overlaps.

This is the table that all metrics use: it is measured once for masks and once for boxes, image by image. The
IoU is pycocotools' own, so that matching at a threshold decides as pycocotools does, to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco.numbers import (
    ObjectNumbers,
    crowd_flags,
    file_areas,
    file_boxes,
    object_numbers,
)
from paddlex_seg.data.coco.read import collector_paused
from paddlex_seg.masks.rle import annotation_to_rle, box_overlaps, mask_overlaps, rle_areas
from paddlex_seg.structures import CocoFile, Id, Instances, Rle

OverlapKind = Literal["segm", "bbox", "boundary"]

_Ints = NDArray[np.int32]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The n annotated objects of a file as they are evaluated, in file order."""

    masks: tuple[Rle, ...]
    boxes_xywh: _Floats  # [n, 4]
    areas: _Floats  # [n]
    numbers: ObjectNumbers  # which boxes and areas are not those of the file

    @property
    def differs_from_file(self) -> bool:
        """Whether a box or an area in the file does not fit its mask, so that the mask's is used."""
        return bool(self.numbers.box_is_replaced.any() or self.numbers.area_is_replaced.any())


@dataclass(frozen=True)
class Found:
    """The D detections of a data set, sorted by image; those of an image in the order of its `Instances`."""

    image: _Ints  # [D], position in `Overlaps.image_ids`
    class_index: _Ints  # [D], position in `Overlaps.category_ids`
    position: _Ints  # [D], position in the `Instances` of the image
    score: _Floats  # [D]
    area: _Floats  # [D], in pixels; of the box if boxes are compared
    rank: _Ints  # [D], 0 for the best score of its class in its image; equal scores in the order given
    order: NDArray[np.int64]  # [D], by class, the best score first; equal scores by image, then by rank


@dataclass(frozen=True)
class Objects:
    """The G annotated objects of a data set, sorted by image; those of an image in file order."""

    image: _Ints  # [G], position in `Overlaps.image_ids`
    class_index: _Ints  # [G], position in `Overlaps.category_ids`
    position: _Ints  # [G], position in the annotations of the file
    area: _Floats  # [G], in pixels
    is_crowd: NDArray[np.bool_]  # [G]


@dataclass(frozen=True)
class Overlaps:
    """The detections and objects of a data set, and the P pairs of an image whose IoU is above 0.

    A pair may have two classes. With a crowd, the IoU is the part of the detection that is inside the crowd,
    as in COCO. Images and categories are in the order of their ids: COCO's evaluation breaks ties in this
    order.
    """

    kind: OverlapKind
    image_ids: tuple[Id, ...]
    category_ids: tuple[Id, ...]
    found: Found
    objects: Objects
    pair_found: _Ints  # [P], sorted, then by pair_object
    pair_object: _Ints  # [P]
    pair_iou: _Floats  # [P], above 0


def in_order(ids: Sequence[Id]) -> tuple[Id, ...]:
    """Ids in the order of COCO's evaluation. Numbers come before text."""
    return tuple(sorted(ids, key=lambda id: (isinstance(id, str), id)))


@collector_paused()
def truth_of(coco: CocoFile) -> Truth:
    """The objects of ``coco``.

    Boxes and areas that do not fit the masks are those of the masks, see `data.coco.numbers`.
    """
    sizes = {image.id: (image.height, image.width) for image in coco.images}
    masks = tuple(annotation_to_rle(item, *sizes[item.image_id]) for item in coco.annotations)
    numbers = object_numbers(coco.annotations, masks)
    return Truth(masks, numbers.boxes_xywh, numbers.areas, numbers)


def truth_as_in_file(coco: CocoFile, truth: Truth) -> Truth:
    """``truth`` with the boxes and areas of the file, as far as it has them."""
    boxes, areas = file_boxes(coco.annotations), file_areas(coco.annotations)
    return replace(
        truth,
        boxes_xywh=np.where(np.isnan(boxes), truth.boxes_xywh, boxes),
        areas=np.where(np.isnan(areas), truth.areas, areas),
    )


@collector_paused()
def measure_overlaps(
    coco: CocoFile,
    results: Mapping[Id, Instances],
    category_ids: Sequence[Id],
    kind: Literal["segm", "bbox"] = "segm",
    *,
    truth: Truth | None = None,
    across_classes: bool = True,
) -> Overlaps:
    """The detections ``results`` (by image id) beside the objects of ``coco``.

    category_ids: the category id of each class index of ``results``. Detections of a category that the file
    does not list are left out. An image that is missing in ``results`` has no detections. truth: `truth_of`
    the file, if it is there already. across_classes: also measure pairs of two classes, which AP does not
    need; masks then take a third longer.
    """
    truth = truth_of(coco) if truth is None else truth
    image_ids = in_order([image.id for image in coco.images])
    categories = in_order([category.id for category in coco.categories])
    class_of = {id: index for index, id in enumerate(categories)}
    class_of_result = np.array([class_of.get(id, -1) for id in category_ids], np.int32)
    objects, starts = _objects(coco, truth, image_ids, class_of)
    parts: list[tuple[NDArray, ...]] = []
    pairs: list[tuple[NDArray, ...]] = []
    num_found = 0
    for image, image_id in enumerate(image_ids):
        found = results.get(image_id)
        if found is None or not len(found):
            continue
        classes = class_of_result[found.class_ids]
        kept = np.flatnonzero(classes >= 0)
        own = slice(starts[image], starts[image + 1])
        first = _Part(kept, classes[kept])
        second = _Part(objects.position[own], objects.class_index[own], objects.is_crowd[own])
        if kind == "segm":
            areas = rle_areas([found.masks[row] for row in kept.tolist()])
            measured = _mask_pairs(found, truth, first, second, across_classes)
        else:
            boxes = _boxes_xywh(found)[kept]
            areas = boxes[:, 2] * boxes[:, 3]
            measured = _box_pairs(boxes, truth, first, second, across_classes)
        rows, columns, iou = measured
        pairs.append((rows + num_found, columns + starts[image], iou))
        parts.append((np.full(len(kept), image), classes[kept], kept, found.scores[kept], areas))
        num_found += len(kept)
    pair_found, pair_object, pair_iou = _joined(pairs, (np.int32, np.int32, np.float64))
    return Overlaps(
        kind=kind,
        image_ids=image_ids,
        category_ids=categories,
        found=_ranked(*_joined(parts, (np.int32, np.int32, np.int32, np.float64, np.float64))),
        objects=objects,
        pair_found=pair_found,
        pair_object=pair_object,
        pair_iou=pair_iou,
    )


class _Part(NamedTuple):
    """The detections or objects of one image."""

    position: NDArray[np.integer]  # in its `Instances` or in the file
    class_index: NDArray[np.int32]
    is_crowd: NDArray[np.bool_] = np.zeros(0, bool)


def _mask_pairs(
    found: Instances, truth: Truth, first: _Part, second: _Part, across_classes: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Rows in ``first`` and ``second`` of the masks that overlap, sorted, and their IoU."""
    masks = [found.masks[row] for row in first.position.tolist()]
    others = [truth.masks[row] for row in second.position.tolist()]
    if across_classes:
        return _positive(mask_overlaps(masks, others, second.is_crowd))
    iou = np.zeros((len(masks), len(others)))
    rows_of, columns_of, is_crowd = _by_class(first), _by_class(second), second.is_crowd.tolist()
    for k in rows_of.keys() & columns_of.keys():
        rows, columns = rows_of[k], columns_of[k]
        iou[np.array(rows)[:, None], columns] = mask_overlaps(
            [masks[row] for row in rows],
            [others[column] for column in columns],
            [is_crowd[column] for column in columns],
        )
    return _positive(iou)


def _by_class(part: _Part) -> dict[int, list[int]]:
    rows_of: dict[int, list[int]] = {}
    for row, k in enumerate(part.class_index.tolist()):
        rows_of.setdefault(k, []).append(row)
    return rows_of


def _box_pairs(
    boxes: _Floats, truth: Truth, first: _Part, second: _Part, across_classes: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """As `_mask_pairs`, of the boxes."""
    iou = box_overlaps(boxes, truth.boxes_xywh[second.position], second.is_crowd)
    if not across_classes:
        iou[first.class_index[:, None] != second.class_index[None, :]] = 0
    return _positive(iou)


def _positive(iou: _Floats) -> tuple[NDArray, NDArray, NDArray]:
    rows, columns = np.nonzero(iou > 0)
    return rows, columns, iou[rows, columns]


def _ranked(image: _Ints, class_index: _Ints, position: _Ints, score: _Floats, area: _Floats) -> Found:
    order = np.lexsort((-score, class_index, image))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(image[order]) != 0) | (np.diff(class_index[order]) != 0)
    starts = np.flatnonzero(new)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return Found(
        image=image,
        class_index=class_index,
        position=position,
        score=score,
        area=area,
        rank=rank,
        order=np.lexsort((rank, image, -score, class_index)),
    )


def _objects(
    coco: CocoFile, truth: Truth, image_ids: Sequence[Id], class_of: Mapping[Id, int]
) -> tuple[Objects, NDArray[np.int64]]:
    """The objects by image, and where those of each image start, [images + 1]."""
    place = {id: index for index, id in enumerate(image_ids)}
    images = np.array([place[item.image_id] for item in coco.annotations], np.int32)
    classes = np.array([class_of[item.category_id] for item in coco.annotations], np.int32)
    order = np.argsort(images, kind="stable")
    starts = np.searchsorted(images[order], np.arange(len(image_ids) + 1))
    crowds = crowd_flags(coco.annotations)[order]
    return (
        Objects(images[order], classes[order], order.astype(np.int32), truth.areas[order], crowds),
        starts,
    )


def _joined(parts: Sequence[tuple[NDArray, ...]], types: Sequence[type]) -> list[NDArray]:
    """The columns of all parts, one below the other."""
    return [
        np.concatenate([np.zeros(0, kind), *(part[i] for part in parts)], dtype=kind, casting="unsafe")
        for i, kind in enumerate(types)
    ]


def _boxes_xywh(found: Instances) -> _Floats:
    if found.boxes_xywh is not None:
        return found.boxes_xywh
    boxes = found.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
