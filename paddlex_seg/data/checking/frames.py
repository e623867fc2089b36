"""Which way round the labels of an image were made: on the stored pixels, or on the upright image.

An EXIF orientation asks to turn an image. Some tools do it, others do not, and width and height in an
annotation file may be those of either. A mask that fits inside only one of the two tells. If all masks of a
data set fit both ways, the edges in some images are compared with the outlines of their masks. Images in the
same situation are judged together, because one tool treats them alike.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.measures import Measures
from paddlex_seg.data.coco.read import ParsedCoco
from paddlex_seg.data.image_facts import ImageFacts
from paddlex_seg.data.images import gray_both_ways, image_path
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.polygons import mask_to_polygons
from paddlex_seg.masks.rle import annotation_to_rle, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord

Frame = Literal["stored", "upright"]

# What the listed size is, for images whose size alone does not tell how the labels were made:
# - "stored", "upright": the size of one of the two, and the two differ.
# - "same": that of both, and the orientation turns or flips the image nevertheless.
# - "swapped": width and height are exchanged, and no orientation explains it. Then "upright" means the image
#   turned by a quarter.
Situation = Literal["stored", "upright", "same", "swapped"]


@dataclass(frozen=True)
class Verdict:
    """How the labels of an image were made. ``text`` says how that is known, with ``{frame}`` for it."""

    frame: Frame
    text: str

    def __str__(self) -> str:
        return self.text.format(frame=self.frame)


@dataclass(frozen=True)
class Part:
    """One annotation file of a data set, and the measures of its masks."""

    parsed: ParsedCoco
    measures: Measures

    @property
    def coco(self) -> CocoFile:
        """The valid records."""
        return self.parsed.coco


def label_frames(
    image_dir: Path, parts: Sequence[Part], facts: Mapping[str, ImageFacts]
) -> list[dict[Id, Verdict]]:
    """For each part, the verdicts by image id. Images in no such `Situation`, and unclear ones, have none.

    facts: by file name. Reads up to 50 images of a situation that the masks leave open.
    """
    verdicts: list[dict[Id, Verdict]] = [{} for _ in parts]
    odd = [
        {r.id: s for r in part.coco.images if (s := situation_of(r, facts[r.file_name])) is not None}
        for part in parts
    ]
    votes: dict[Situation, Counter[Frame]] = {}
    for part, situations, found in zip(parts, odd, verdicts, strict=True):
        for image_id, frame in _frames_that_fit(part, situations, facts) if situations else ():
            found[image_id] = Verdict(frame, "its masks fit only in the {frame} image")
            votes.setdefault(situations[image_id], Counter())[frame] += 1
    for situation in dict.fromkeys(s for situations in odd for s in situations.values()):
        common = _winner(votes.get(situation, Counter()))
        text = "its masks belong to the {frame} image, like those of the other images"
        open_images = [
            (place, image_id)
            for place, situations in enumerate(odd)
            for image_id, s in situations.items()
            if s == situation and image_id not in verdicts[place]
        ]
        if situation not in votes and situation != "swapped":
            common = _frame_of_edges(image_dir, parts, open_images)
            text = "the outlines of its masks are edges in the {frame} image"
        if common is not None:
            for place, image_id in open_images:
                verdicts[place][image_id] = Verdict(common, text)
    return verdicts


def situation_of(record: ImageRecord, fact: ImageFacts) -> Situation | None:
    """The situation of an image; None if its size leaves no question open."""
    listed, stored, shown = (record.height, record.width), fact.stored_hw, fact.shown_hw
    if stored is None or shown is None:
        return None
    if stored == shown:
        if listed == stored:
            return None if fact.orientation in _NO_TURN else "same"
        return "swapped" if listed == stored[::-1] else None
    return "stored" if listed == stored else "upright" if listed == shown else None


_NO_TURN = (0, 1)  # 0 is not defined; readers treat it as 1
_MARGIN = 1.0  # pixels that a mask may lie outside its image
_SAMPLE = 50  # images whose edges are measured
_MASKS_OF_IMAGE = 30
# Smallest mean ratio of edges under the outlines, for several images that agree. On photographs with careful
# labels (COCO and two others, turned in four ways) it was 1.9 to 3.9.
_CLEAR = math.log(1.5)
_CLEAR_ALONE = math.log(3)  # for one image


def _frames_that_fit(
    part: Part, situations: Mapping[Id, Situation], facts: Mapping[str, ImageFacts]
) -> Iterator[tuple[Id, Frame]]:
    """The images whose masks all fit in one of the two frames, and at least one does not fit in the other."""
    images = part.coco.images
    stored = np.zeros((len(images), 2))
    listed = np.zeros((len(images), 2))
    is_open = np.zeros(len(images), bool)
    for row, record in enumerate(images):
        if situations.get(record.id) in ("stored", "upright", "swapped"):
            stored[row] = facts[record.file_name].stored_hw
            listed[row] = record.height, record.width
            is_open[row] = True
    rows = np.flatnonzero(is_open[part.measures.image_rows])
    owners = part.measures.image_rows[rows]
    outlines = part.measures.outlines_xyxy[rows]
    is_rle = part.measures.is_rle[rows]  # the size of an RLE is the listed one: it fits in this frame only
    as_listed = (stored == listed).all(axis=1)[owners]
    fits_stored = np.where(is_rle, as_listed, _inside(outlines, stored[owners]))
    fits_turned = np.where(is_rle, ~as_listed, _inside(outlines, stored[owners, ::-1]))
    for_stored = set(owners[fits_stored & ~fits_turned].tolist())
    for_upright = set(owners[fits_turned & ~fits_stored].tolist())
    for row, record in enumerate(images):
        if is_open[row] and record.id in part.parsed.turned_rle_image_ids:
            (for_upright if (stored[row] == listed[row]).all() else for_stored).add(row)
    for row in sorted(for_stored ^ for_upright):
        yield images[row].id, "stored" if row in for_stored else "upright"


def _inside(outlines_xyxy: NDArray[np.float64], size_hw: NDArray[np.float64]) -> NDArray[np.bool_]:
    room = np.column_stack([outlines_xyxy[:, :2], size_hw[:, ::-1] - outlines_xyxy[:, 2:]])
    return np.all(room >= -_MARGIN, axis=1)


def _winner(votes: Counter[Frame]) -> Frame | None:
    """The frame of all images, or of 20 times as many as have the other; None if there is no such frame."""
    ranked = votes.most_common()
    clear = ranked and (len(ranked) == 1 or ranked[0][1] >= 20 * ranked[1][1])
    return ranked[0][0] if clear else None


def _frame_of_edges(image_dir: Path, parts: Sequence[Part], images: Sequence[tuple[int, Id]]) -> Frame | None:
    """The frame in which the masks of a sample of ``images`` (part, image id) lie on edges of the image."""
    chosen = {images[i] for i in np.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).astype(int)}
    masks: dict[tuple[int, Id], list[Annotation]] = {}
    for place in {place for place, _ in chosen}:
        for item in parts[place].coco.annotations:
            if (place, item.image_id) in chosen and not item.iscrowd:
                masks.setdefault((place, item.image_id), []).append(item)
    ratios = [
        ratio
        for place, record in (
            (place, record) for place, part in enumerate(parts) for record in part.coco.images
        )
        if (place, record.id) in masks
        and abs(ratio := _edge_ratio(image_dir, record, masks[place, record.id])) > 0.05
    ]
    if not ratios:
        return None
    mean = float(np.mean(ratios))
    against = sum(abs(ratio) for ratio in ratios if (ratio > 0) != (mean > 0)) / np.abs(ratios).sum()
    is_clear = abs(mean) >= (_CLEAR if len(ratios) > 1 else _CLEAR_ALONE) and against <= 0.1
    return ("upright" if mean > 0 else "stored") if is_clear else None


def _edge_ratio(image_dir: Path, record: ImageRecord, items: Sequence[Annotation]) -> float:
    """Logarithm of the strength of edges under the outlines in the upright image, divided by that in the
    stored one; 0 if it cannot be measured.
    """
    try:
        frames = gray_both_ways(image_path(image_dir, record.file_name))
    except DatasetError:
        return 0.0
    polygons = [
        part
        for item in items[:_MASKS_OF_IMAGE]
        for part in (
            item.segmentation
            if isinstance(item.segmentation, list)
            else mask_to_polygons(rle_to_mask(annotation_to_rle(item, record.height, record.width)) > 0)
        )
    ]
    stored, upright = (_edges_under(polygons, frame.pixels, frame.scale_xy) for frame in frames)
    return math.log(upright / stored) if stored and upright else 0.0


def _edges_under(
    polygons: Sequence[Sequence[float]], gray: NDArray[np.uint8], scale_xy: tuple[float, float]
) -> float | None:
    """Mean gradient under the outlines, plus a tenth of that of the image; None for less than 20 points."""
    across, down = (cv2.Sobel(gray, cv2.CV_32F, dx, dy) for dx, dy in ((1, 0), (0, 1)))
    strength = cv2.dilate(cv2.magnitude(across, down), np.ones((3, 3)))  # outlines are a pixel off at times
    height, width = gray.shape
    outlines = [_along(np.reshape(polygon, (-1, 2)) * scale_xy) for polygon in polygons]
    points = np.concatenate([np.zeros((0, 2)), *outlines])
    columns, rows = np.floor(points).astype(int).T
    inside = (columns >= 0) & (rows >= 0) & (columns < width) & (rows < height)
    if inside.sum() < 20:
        return None
    return float(strength[rows[inside], columns[inside]].mean() + strength.mean() / 10 + 1e-6)


def _along(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [n, 2] along the closed polygon, a pixel apart, at most 2,000."""
    closed = np.concatenate([corners, corners[:1]])
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    places = np.linspace(0, lengths[-1], min(2000, int(lengths[-1]) + 1), endpoint=False)
    return np.stack([np.interp(places, lengths, closed[:, axis]) for axis in (0, 1)], axis=1)


def size_problem(record: ImageRecord, fact: ImageFacts, verdict: Verdict | None) -> tuple[str, str] | None:
    """Code and message of what is wrong with the listed size; None if all is well.

    The codes in `SWAPPED` mean that width and height have to be exchanged.
    """
    stored, shown = fact.stored_hw, fact.shown_hw
    if stored is None or shown is None:
        return None
    name, listed = record.file_name, (record.height, record.width)
    situation = situation_of(record, fact)
    if situation == "swapped" and (verdict is None or verdict.frame == "stored"):
        message = f"{name} is {_by(shown)} pixels (width x height), not {_by(listed)}: these are swapped"
        return "image_size_swapped", message
    if situation == "swapped":
        message = (
            f"{name} is {_by(shown)} pixels (width x height), and its annotations fit only an image of "
            f"{_by(listed)}: it was turned after they were made"
        )
        return "image_size_mismatch", message
    if situation is None:
        if listed in (stored, shown):
            return None
        message = f"{name} is {_by(shown)} pixels (width x height), not {_by(listed)}{_factor(listed, shown)}"
        return "image_size_mismatch", message
    turned = f"{name} has EXIF orientation {fact.orientation}"
    if verdict is None:
        if situation == "upright":
            return None
        size = f"{_by(listed)} is listed" if situation == "stored" else "its size is the same both ways"
        return "image_exif_unclear", f"{turned}, {size}, and its annotations fit both ways"
    made = f"{turned}, and {verdict}"
    if situation == "same":
        return None if verdict.frame == "upright" else (TURNED, made)
    if situation != verdict.frame:
        return "image_exif_swapped", f"{made}, but {_by(listed)} is the size of the {situation} image"
    return ("image_exif_frame", f"{made}; it is used as stored") if situation == "stored" else None


SWAPPED = ("image_size_swapped", "image_exif_swapped")
TURNED = "image_exif_turned"  # the annotations have to be turned as the image is


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"


def _factor(listed: tuple[int, int], real: tuple[int, int]) -> str:
    """The end of a message about a listed size that is the real one, enlarged or reduced."""
    factor = max(listed) / max(real)
    if abs(factor - 1) > 0.05 and all(
        abs(side * factor - other) <= 1 for side, other in zip(real, listed, strict=True)
    ):
        return f", {factor:.4g} times as large: the annotations may belong to a resized image"
    return ""
