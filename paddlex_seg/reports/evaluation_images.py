"""Which images of an evaluation a page shows, and what is drawn in them, from the match table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.metrics.matching import Matching
from paddlex_seg.metrics.overlaps import Overlaps
from paddlex_seg.reports.evaluation_records import ComparedImage, DrawnImage, DrawnMask
from paddlex_seg.structures import CocoFile, Id, Instances

NUM_WORST, NUM_BEST = 12, 6
_TOUCHES = 0.1  # IoU from which a false detection means an object, as in TIDE


@dataclass(frozen=True)
class ImageMistakes:
    """What is right and wrong in each of n images, in file order."""

    image_ids: tuple[Id, ...]  # n
    right: NDArray[np.int64]  # [n], objects that are found
    missed: NDArray[np.int64]  # [n], objects that are not
    false: NDArray[np.int64]  # [n], detections of no object

    @property
    def f1(self) -> NDArray[np.float64]:
        """[n], 0..1; NaN for an image without objects and detections."""
        total = 2 * self.right + self.missed + self.false
        return np.where(total > 0, 2 * self.right / np.maximum(total, 1), np.nan)


def count_mistakes(
    coco: CocoFile,
    overlaps: Overlaps,
    matching: Matching,
    score_thresholds: float | NDArray[np.floating] = 0.0,
    *,
    at: int = 0,
) -> ImageMistakes:
    """The mistakes of the detections whose score reaches the threshold.

    score_thresholds: one for all classes, or [K]. at: position of the IoU threshold in ``matching``.
    """
    is_used = _is_used(overlaps, score_thresholds)
    is_right, is_false = matching.is_right[at] & is_used, matching.is_wrong[at] & is_used
    images = len(overlaps.image_ids)
    right = np.bincount(overlaps.found.image[is_right], minlength=images)
    false = np.bincount(overlaps.found.image[is_false], minlength=images)
    objects = np.bincount(overlaps.objects.image[~matching.object_is_ignored], minlength=images)
    place = {id: i for i, id in enumerate(overlaps.image_ids)}
    order = np.array([place[image.id] for image in coco.images], np.int64)
    ids = tuple(image.id for image in coco.images)
    return ImageMistakes(ids, right[order], (objects - right)[order], false[order])


def choose_images(
    mistakes: ImageMistakes, *, num_worst: int = NUM_WORST, num_best: int = NUM_BEST
) -> tuple[tuple[Id, ...], tuple[Id, ...]]:
    """The worst and the best images.

    The worst have the highest number of mistakes times (1 - F1): many mistakes, and little that is right. The
    best have the highest F1; of equal ones those with most objects. Images that are equal stand in file
    order. No image is in both, and an image without any object and detection is in neither.
    """
    f1 = np.nan_to_num(mistakes.f1, nan=1.0)
    cost = (mistakes.missed + mistakes.false) * (1 - f1)
    worst = [i for i in np.argsort(-cost, kind="stable").tolist() if cost[i] > 0][:num_worst]
    best_first = np.lexsort((-mistakes.right, -f1)).tolist()
    best = [i for i in best_first if mistakes.right[i] and i not in worst][:num_best]
    worst_ids, best_ids = (tuple(mistakes.image_ids[i] for i in rows) for rows in (worst, best))
    return worst_ids, best_ids


def drawn_images(
    image_ids: Sequence[Id],
    coco: CocoFile,
    results: Mapping[Id, Instances],
    overlaps: Overlaps,
    matching: Matching,
    score_thresholds: float | NDArray[np.floating] = 0.0,
    *,
    at: int = 0,
) -> tuple[DrawnImage, ...]:
    """These images with their objects and with the detections whose score reaches the threshold.

    score_thresholds, at: as in `count_mistakes`.
    """
    mistakes = count_mistakes(coco, overlaps, matching, score_thresholds, at=at)
    f1 = dict(zip(mistakes.image_ids, mistakes.f1.tolist(), strict=True))
    view = _View(coco, results, overlaps, matching, _is_used(overlaps, score_thresholds), at)
    records = {image.id: image for image in coco.images}
    place = {id: i for i, id in enumerate(overlaps.image_ids)}
    return tuple(
        DrawnImage(
            records[id].file_name,
            records[id].width,
            records[id].height,
            truth=view.truth(place[id], (records[id].height, records[id].width)),
            found=view.found(place[id], id),
            score=None if np.isnan(f1[id]) else f1[id],
        )
        for id in image_ids
    )


def compared_images(models: Sequence[Sequence[DrawnImage]]) -> tuple[ComparedImage, ...]:
    """The same images as several models see them. models: `drawn_images` of each model.

    An object that only some models miss is drawn as found.
    """
    return tuple(
        ComparedImage(
            views[0].file_name,
            views[0].width,
            views[0].height,
            truth=tuple(
                replace(same[0], state=_state_of_all([item.state for item in same]), note="")
                for same in zip(*(view.truth for view in views), strict=True)
            ),
            found=tuple(view.found for view in views),
            scores=tuple(view.score for view in views),
        )
        for views in zip(*models, strict=True)
    )


def _state_of_all(
    states: Sequence[Literal["right", "wrong", "ignored"]],
) -> Literal["right", "wrong", "ignored"]:
    return "right" if "right" in states else states[0]


def _is_used(overlaps: Overlaps, score_thresholds: float | NDArray[np.floating]) -> NDArray[np.bool_]:
    """[D]: whether the score of a detection reaches the threshold of its class."""
    limits = np.broadcast_to(np.asarray(score_thresholds, np.float64), len(overlaps.category_ids))
    return overlaps.found.score >= limits[overlaps.found.class_index]


class _View:
    """The objects and detections of single images, with what is said about each."""

    def __init__(
        self,
        coco: CocoFile,
        results: Mapping[Id, Instances],
        overlaps: Overlaps,
        matching: Matching,
        is_used: NDArray[np.bool_],
        at: int,
    ) -> None:
        self._coco, self._results, self._overlaps = coco, results, overlaps
        self._threshold = float(matching.thresholds[at])
        self._is_used, self._object_of = is_used, matching.object_of[at]
        self._is_right = matching.is_right[at] & is_used
        self._is_ignored = matching.is_ignored[at] | ~matching.is_counted
        self._object_is_ignored = matching.object_is_ignored
        names = {category.id: category.name for category in coco.categories}
        self._names = [names[id] for id in overlaps.category_ids]
        self._is_found = np.zeros(len(overlaps.objects.area), bool)
        self._is_found[self._object_of[self._is_right]] = True

    def truth(self, image: int, size_hw: tuple[int, int]) -> tuple[DrawnMask, ...]:
        """The objects of an image, in file order. image: position in `Overlaps.image_ids`."""
        objects = self._overlaps.objects
        drawn = []
        for g in _rows(objects.image, image):
            is_ignored, is_found = bool(self._object_is_ignored[g]), bool(self._is_found[g])
            annotation = self._coco.annotations[objects.position[g]]
            drawn.append(
                DrawnMask(
                    annotation_to_rle(annotation, *size_hw),
                    self._names[objects.class_index[g]],
                    "ignored" if is_ignored else "right" if is_found else "wrong",
                    note=self._fate(g) if not is_ignored and not is_found else "",
                )
            )
        return tuple(drawn)

    def found(self, image: int, image_id: Id) -> tuple[DrawnMask, ...]:
        """The detections of an image, the best score first."""
        found = self._overlaps.found
        rows = [d for d in _rows(found.image, image) if self._is_used[d]]
        return tuple(
            DrawnMask(
                self._results[image_id].masks[found.position[d]],
                self._names[found.class_index[d]],
                "ignored" if self._is_ignored[d] else "right" if self._is_right[d] else "wrong",
                score=float(found.score[d]),
                note=self._reason(d),
            )
            for d in sorted(rows, key=lambda d: -found.score[d])
        )

    def _reason(self, d: int) -> str:
        """What a detection overlaps most."""
        overlaps = self._overlaps
        start, end = np.searchsorted(overlaps.pair_found, (d, d + 1))
        objects, ious = overlaps.pair_object[start:end], overlaps.pair_iou[start:end]
        if self._is_right[d]:
            return f"IoU {ious[objects == self._object_of[d]][0]:.2f}"
        if self._is_ignored[d]:
            return ""
        if not len(ious) or ious.max() < _TOUCHES:
            return "no object here"
        best = objects[ious.argmax()]
        class_index = overlaps.objects.class_index[best]
        if class_index != overlaps.found.class_index[d]:
            return f"the object is {self._names[class_index]}, IoU {ious.max():.2f}"
        if ious.max() >= self._threshold:
            return f"another detection of this object is better, IoU {ious.max():.2f}"
        return f"IoU {ious.max():.2f}"

    def _fate(self, g: int) -> str:
        """What was found in the place of a missed object."""
        overlaps = self._overlaps
        there = (overlaps.pair_object == g) & self._is_used[overlaps.pair_found]
        if not there.any() or overlaps.pair_iou[there].max() < _TOUCHES:
            return "nothing found here"
        best = np.flatnonzero(there)[overlaps.pair_iou[there].argmax()]
        name = self._names[overlaps.found.class_index[overlaps.pair_found[best]]]
        return f"found: {name}, IoU {overlaps.pair_iou[best]:.2f}"


def _rows(images: NDArray[np.int32], image: int) -> list[int]:
    """The rows of an image; ``images`` is sorted."""
    start, end = np.searchsorted(images, (image, image + 1)).tolist()
    return list(range(start, end))
