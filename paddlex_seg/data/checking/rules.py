"""Rules that check one split.

Each rule checks one aspect, reads nothing from disk, and adds its findings to a log. All findings are listed
in `findings.KINDS`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.frames import SWAPPED, Verdict, size_problem
from paddlex_seg.data.checking.mask_problems import (
    area_problems,
    box_problems,
    empty_masks,
    repeated_annotations,
)
from paddlex_seg.data.checking.measures import Measures
from paddlex_seg.data.checking.other_readings import OtherReadings, other_readings
from paddlex_seg.data.coco.categories import names_alike
from paddlex_seg.data.coco.read import ParsedCoco
from paddlex_seg.data.findings import FindingLog
from paddlex_seg.data.image_facts import ImageFacts
from paddlex_seg.structures import CocoFile, Id, ImageRecord


@dataclass(frozen=True)
class Split:
    """The input of a rule: the valid records of an annotation file, mask measures, and image facts."""

    parsed: ParsedCoco
    measures: Measures
    facts: Mapping[Id, ImageFacts]  # by image id
    frames: Mapping[Id, Verdict]  # by image id, where it is in question; see `label_frames`

    @property
    def coco(self) -> CocoFile:
        """The valid records."""
        return self.parsed.coco

    def ids_of(self, row: int) -> dict[str, Any]:
        """Image and annotation id of an annotation, for a finding."""
        item = self.coco.annotations[row]
        return {"image_id": item.image_id, "annotation_id": item.id}


def splits_are_not_empty(split: Split, log: FindingLog) -> None:
    """A split must have images and annotations."""
    unreadable = log.counts["json_missing"] or log.counts["json_unreadable"] or log.counts["json_top_level"]
    if unreadable or log.counts["key_missing"]:
        return
    if not split.coco.images and not log.counts["image_entry_invalid"]:
        log.add("split_without_images", "the file lists no images")
    elif split.coco.images and not split.parsed.annotated_image_ids:
        log.add("split_without_annotations", "the file has no annotations")


def images_are_usable(split: Split, log: FindingLog) -> None:
    """Each listed image is inside the image folder, exists, is complete, and has a usual pixel format."""
    for record in split.coco.images:
        facts = split.facts[record.id]
        if facts.problem is not None:
            log.add(facts.problem, facts.message, image_id=record.id, hint=facts.hint)
        for trait in facts.traits:
            log.add(trait, f"{record.file_name} {_trait_text(trait, facts)}", image_id=record.id)


def _trait_text(trait: str, facts: ImageFacts) -> str:
    if trait == "image_bands_dropped" and facts.num_bands is not None:
        first = 4 if facts.num_bands > 3 else 2
        dropped = f"bands {first} to {facts.num_bands} are" if facts.num_bands > first else f"band {first} is"
        return f"has {facts.num_bands} bands; {dropped} dropped"
    if trait == "image_16bit" and facts.values is not None:
        low, high = facts.values
        dark = "; without Global.bands they become almost black" if high < _DARK else ""
        return f"has 16 bits per channel, with values {low:,} to {high:,} of 65,535{dark}"
    return _TRAIT_TEXTS[trait]


_DARK = 65536 // 4  # a 16-bit image without such values has none of 64 or more with 8 bits
_TRAIT_TEXTS = {
    "image_16bit": "has 16 bits per channel",
    "image_bands_dropped": "has more than 3 bands",
    "image_bands_flat": "is of almost one colour with the bands and values of the setting",
    "image_cmyk": "is a CMYK image",
    "image_animated": "has several frames",
    "image_alpha": "has an alpha channel",
}


def images_have_the_listed_size(split: Split, log: FindingLog) -> None:
    """The listed size is that of the image file, and that of the image on which the labels were made."""
    for record in split.coco.images:
        found = size_problem(record, split.facts[record.id], split.frames.get(record.id))
        if found is not None:
            log.add(*found, image_id=record.id)


def file_names_are_plain(split: Split, log: FindingLog) -> None:
    """An image is listed once, and other tools can read its name."""
    first: dict[str, ImageRecord] = {}
    for record in split.coco.images:
        name = record.file_name
        if first.setdefault(name, record) is not record:
            message = f"{name} is already listed as image {first[name].id}"
            log.add("file_name_duplicate", message, image_id=record.id)
        if " " in name:
            log.add("file_name_space", f"{name!r} contains spaces", image_id=record.id)
        if not name.isascii():
            log.add("file_name_non_ascii", f"{name!r} contains non-ASCII characters", image_id=record.id)


def images_have_objects(split: Split, log: FindingLog) -> None:
    """An image has at least one object, and at most the 100 objects that COCO evaluation can match."""
    if not split.parsed.annotated_image_ids:
        return  # the whole split has a finding already
    counts = np.bincount(
        split.measures.image_rows[~split.measures.is_crowd], minlength=len(split.coco.images)
    )
    for record, count in zip(split.coco.images, counts.tolist(), strict=True):
        if count > 100:
            message = f"{record.file_name} has {count} objects"
            log.add("image_many_objects", message, image_id=record.id)
        elif count == 0 and record.id not in split.parsed.annotated_image_ids:
            log.add("image_without_objects", f"{record.file_name} has no annotation", image_id=record.id)


def category_names_are_unique(split: Split, log: FindingLog) -> None:
    """Results cannot distinguish two classes of the same name, nor people two that only look different."""
    for name, count in Counter(category.name for category in split.coco.categories).items():
        if count > 1:
            log.add("category_name_duplicate", f"{count} categories have the name {name!r}")
    for names in names_alike(category.name for category in split.coco.categories):
        listed = " and ".join([", ".join(map(repr, names[:-1])), repr(names[-1])])
        log.add("category_names_alike", f"{listed} differ only in blanks, case or the form of characters")


def polygons_enclose_something(split: Split, log: FindingLog) -> None:
    """Each polygon encloses an area inside its image, in pixels, and does not cross itself."""
    measures = split.measures
    other = other_readings(split.coco, measures)
    _report_other_readings(split, log, other)
    is_other = other.rows
    flat = measures.has_flat_part & ~is_other
    _each(split, log, "polygon_zero_area", flat, lambda row: "has a polygon without area")
    _each(split, log, "polygon_self_intersecting", measures.crosses_itself, lambda row: "crosses itself")
    readable = ~is_other & ~_on_swapped_images(split)
    empty = empty_masks(split.coco, measures) & readable
    if len(empty) and empty.all():
        log.add("split_without_annotations", f"none of its {len(empty)} masks is larger than a pixel")
    _each(split, log, "mask_empty", empty, lambda row: f"covers no pixel {_place(measures, row)}")
    outside = (measures.reach_outside > 1) & readable & ~empty & ~measures.is_flat
    _each(
        split,
        log,
        "polygon_outside",
        outside,
        lambda row: (
            f"extends {measures.reach_outside[row]:.1f} pixels beyond its image {_place(measures, row)}"
        ),
    )


def _report_other_readings(split: Split, log: FindingLog, other: OtherReadings) -> None:
    measures = split.measures
    _each(
        split,
        log,
        "coordinates_normalised",
        other.normalised,
        lambda row: f"coordinates look normalised {_place(measures, row)}",
    )
    _each(
        split,
        log,
        "coordinates_percent",
        other.percent,
        lambda row: f"coordinates are in percent of the image {_place(measures, row)}, its box is in pixels",
    )
    for row, odd in other.odd.items():
        log.add(odd.code, f"segmentation {odd.message}", **split.ids_of(row))


def _on_swapped_images(split: Split) -> NDArray[np.bool_]:
    """Flags [n] of masks whose image has width and height exchanged: they are not what is wrong."""
    swapped = np.zeros(len(split.coco.images), bool)
    for row, record in enumerate(split.coco.images):
        if record.id in split.frames:
            found = size_problem(record, split.facts[record.id], split.frames[record.id])
            swapped[row] = found is not None and found[0] in SWAPPED
    return swapped[split.measures.image_rows]


def boxes_fit_the_masks(split: Split, log: FindingLog) -> None:
    """Boxes fit the masks: other tools crop, filter and sample by box, and this toolkit draws it."""
    found = box_problems(split.coco, split.measures)
    boxes = split.measures.file_boxes_xywh
    absent = found["bbox_missing"] & ~_unusable(split, "bbox_missing")
    _each(split, log, "bbox_missing", absent, lambda row: "has no bbox")
    _each(
        split,
        log,
        "bbox_negative",
        found["bbox_negative"],
        lambda row: f"bbox {_box(boxes[row])} has a negative size",
    )
    _each(split, log, "bbox_zero", found["bbox_zero"], lambda row: f"bbox {_box(boxes[row])} has zero size")
    _each(
        split,
        log,
        "bbox_mismatch",
        found["bbox_mismatch"],
        lambda row: (
            f"bbox is {_box(boxes[row])}, the box of the mask is "
            f"{_box(_xyxy_to_xywh(split.measures.cut_outlines_xyxy[row]))}"
        ),
    )
    _once(split, log, "bbox_rounded", found["bbox_rounded"], "are small, and their bbox is a few pixels off")


def areas_fit_the_masks(split: Split, log: FindingLog) -> None:
    """Areas fit the masks: evaluation uses them to sort objects into small, medium and large."""
    found, areas = area_problems(split.coco, split.measures)
    file_areas = split.measures.file_areas
    absent = found["area_missing"] & ~_unusable(split, "area_missing")
    _each(split, log, "area_missing", absent, lambda row: "has no area")
    _each(
        split,
        log,
        "area_mismatch",
        found["area_mismatch"],
        lambda row: f"area is {file_areas[row]:g}, the area of the mask is {areas[row]:g}",
    )
    _once(split, log, "area_of_box", found["area_of_box"], "have the area of their box")
    _once(split, log, "area_rounded", found["area_rounded"], "are small, and their area is a few pixels off")


def crowds_are_reported(split: Split, log: FindingLog) -> None:
    """Report crowd annotations: they are not used for training, so others must be left."""
    is_crowd = split.measures.is_crowd
    if len(is_crowd) and is_crowd.all():
        log.add("split_all_crowd", f"all its {len(is_crowd)} annotations have iscrowd 1")
    _each(split, log, "crowd", is_crowd, lambda row: "is a crowd")


def objects_are_annotated_once(split: Split, log: FindingLog) -> None:
    """Each object is annotated once: a model can match only one of two equal annotations."""
    for row, first in sorted(repeated_annotations(split.coco, split.measures).items()):
        other = split.coco.annotations[first].id
        message = f"has the same image, class and mask as annotation {other}"
        log.add("annotation_duplicate", message, **split.ids_of(row))


def _each(
    split: Split,
    log: FindingLog,
    code: str,
    flags: NDArray[np.bool_],
    message: Callable[[int], str],
) -> None:
    log.add_many(code, np.flatnonzero(flags).tolist(), lambda row: (message(row), split.ids_of(row)))


def _once(split: Split, log: FindingLog, code: str, flags: NDArray[np.bool_], message: str) -> None:
    """One finding for all annotations, at the first one: tools write all of them in the same way."""
    rows = np.flatnonzero(flags)
    if len(rows):
        message = f"{len(rows)} of {len(flags)} annotations {message}; this is the first one"
        log.add(code, message, **split.ids_of(int(rows[0])))


def _unusable(split: Split, code: str) -> NDArray[np.bool_]:
    """Flags [n] of annotations that have this finding since they were read."""
    reported = split.parsed.unusable[code]
    if not reported:
        return np.zeros(len(split.coco.annotations), bool)
    return np.array([position in reported for position in split.parsed.positions], bool)


def _place(measures: Measures, row: int) -> str:
    height, width = measures.image_hw[row]
    x1, y1, x2, y2 = measures.outlines_xyxy[row]
    return f"(x {x1:g} to {x2:g} of {width:g}, y {y1:g} to {y2:g} of {height:g})"


def _box(xywh: Sequence[float] | NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in np.round(xywh, 2)) + "]"


def _xyxy_to_xywh(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box[:2], box[2:] - box[:2]])


RULES: tuple[Callable[[Split, FindingLog], None], ...] = (
    splits_are_not_empty,
    images_are_usable,
    images_have_the_listed_size,
    file_names_are_plain,
    images_have_objects,
    category_names_are_unique,
    polygons_enclose_something,
    boxes_fit_the_masks,
    areas_fit_the_masks,
    crowds_are_reported,
    objects_are_annotated_once,
)
