"""Reads the detections of any tool from a file in COCO's result format.

That is a list of objects with ``image_id``, ``category_id``, ``score``, and a mask (``segmentation``: an RLE
or polygons), a box (``bbox``: x, y, width, height) or both. The list may be the value of ``annotations`` or
``predictions`` in a COCO document, which lists images and classes of its own: FiftyOne and Datumaro export
predictions so. All problems of a file are collected in one error.
"""

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco.odd_segmentations import explain
from paddlex_seg.data.coco.read import collector_paused, no_json_told, read_text
from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.data.coco.references import ids_by_name
from paddlex_seg.data.coco.segmentations import OddSegmentation, read_segmentation
from paddlex_seg.data.coco.wrong_value import kind_of_value, shown
from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.errors import DatasetError, suggest
from paddlex_seg.masks.rle import are_sound, rle_boxes_xywh, runs_to_rle, segmentation_to_rle
from paddlex_seg.structures import CocoFile, Id, Instances, Rle

_LISTS = ("annotations", "predictions")
_MOST_MESSAGES = 1000  # that are told apart
_BATCH = 100_000  # characters of RLEs that are checked at once


@dataclass(frozen=True)
class ResultFile:
    """The detections of a result file. Scores and boxes are as in the file, in float64."""

    path: Path
    # By image id, for images with detections. Class indices are positions in the categories of the truth.
    instances: dict[Id, Instances]
    has_masks: bool  # False: the file has boxes only, and the instances have no masks
    notes: tuple[str, ...]  # what was read although it is not as the format wants it, one sentence each


def read_results(path: Path, coco: CocoFile) -> ResultFile:
    """Read the detections in ``path`` for the images and classes of ``coco``.

    Ids are those of ``coco``. A number may be text, and text may be the name of an image or a class, if only
    one has this name; a ``file_name`` in a row goes before its ``image_id``. Without ``bbox``, the box is the
    one around the mask. Detections with equal scores stay in the order of the file. Raises UnreadableFile,
    and DatasetError with all problems of the file.
    """
    with collector_paused():
        table = _Table(path, coco)
        text = read_text(path)[0]
        rows = _rows_of_list(text, path) if text.lstrip()[:1] == "[" else _rows_of_document(text, table)
        for position, row in enumerate(rows):
            table.take(position, row)
        return table.result()


_BETWEEN = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
_SPACE = re.compile(r"[ \t\n\r]*")


def _rows_of_list(text: str, path: Path) -> Iterator[Any]:
    """The entries of a JSON list, parsed one after the other, which takes a fraction of the memory."""
    decoder = json.JSONDecoder()
    with no_json_told(path):
        place = _end_of(_SPACE, text, text.index("[") + 1)
        is_end = text[place : place + 1] == "]"
        place += is_end
        while not is_end:
            row, place = decoder.raw_decode(text, place)
            yield row
            between = _BETWEEN.match(text, place)
            if between is None:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            place, is_end = between.end(), between[1] == "]"
        if _end_of(_SPACE, text, place) < len(text):
            raise json.JSONDecodeError("Extra data", text, place)


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return place if match is None else match.end()


def _rows_of_document(text: str, table: "_Table") -> Iterator[Any]:
    """The rows of a document with a list of them. What it lists beside them explains its ids."""
    with no_json_told(table.path):
        document = json.loads(text)
    lists = [key for key in _LISTS if isinstance(document, dict) and isinstance(document.get(key), list)]
    if not lists:
        found = kind_of_value(document)
        if isinstance(document, dict):
            found += " with the keys " + ", ".join(map(shown, list(document)[:10])) if document else ""
        raise DatasetError(
            f"{table.path}: the file is {found}; expected detections in COCO's result format: a list of "
            "objects with image_id, category_id, score, and segmentation or bbox."
        )
    table.images.listed = _listed(document.get("images"), "file_name")
    table.classes.listed = _listed(document.get("categories"), "name")
    return iter(document[lists[0]])


def _listed(entries: Any, name_key: str) -> dict[Id, str]:
    """The names by id that a result file lists itself."""
    records = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    pairs = ((id_or_none(entry.get("id")), entry.get(name_key)) for entry in records)
    return {id: name for id, name in pairs if id is not None and isinstance(name, str)}


class _Records:
    """The images or classes of the annotation file, and which of them a reference means."""

    def __init__(self, records: Sequence[tuple[Id, str]], *, are_files: bool) -> None:
        self.place = {id: place for place, (id, _) in enumerate(records)}
        self.listed: Mapping[Id, str] = {}  # names that the result file has for its own ids
        self._ids_by_name = ids_by_name(records, are_files=are_files)
        self._are_files = are_files

    def find(self, value: Any) -> int | None:
        """The position of the record that ``value`` means; None without a meaning, or with several."""
        id = id_or_none(value)
        if id is None:
            return None
        if type(value) is float and abs(value) > 2**53:  # the last digits are lost, if there were other ones
            near = [other for other in self.place if type(other) is int and _as_float(other) == value]
            return self.place[near[0]] if len(near) == 1 else None
        if id in self.listed:
            return self.named(self.listed[id])
        if not isinstance(value, str) or value in self.place:
            return self.place.get(id)
        return self._only(self.meant_by(value))

    def meant_by(self, text: str) -> set[Id]:
        """The ids that a text may mean that is no id: by number, such as "000012" for 12, or by name."""
        is_number = text.isascii() and text.isdigit() and len(text) <= 100
        ids = {id_or_none(text), int(text)} if is_number else {id_or_none(text)}
        return {id for id in ids if id in self.place} | self._ids_of(text)

    def named(self, name: str) -> int | None:
        """The position of the only record of that name."""
        return self._only(self._ids_of(name))

    def _ids_of(self, name: str) -> set[Id]:
        ids = self._ids_by_name.get(name, set())
        if not ids and self._are_files:
            ids = self._ids_by_name.get(name.replace("\\", "/").rsplit("/", 1)[-1], set())
        return ids

    def _only(self, ids: set[Id]) -> int | None:
        return self.place[next(iter(ids))] if len(ids) == 1 else None


def _as_float(number: int) -> float | None:
    try:
        return float(number)
    except OverflowError:
        return None


@dataclass
class _Count:
    number: int = 0
    first: list[int] = field(default_factory=list)  # positions of the first rows

    def add(self, position: int) -> None:
        self.number += 1
        if len(self.first) < 3:
            self.first.append(position)

    def __str__(self) -> str:
        """Such as ``3 rows (positions 0, 4, 7)``."""
        more = ", ..." if self.number > len(self.first) else ""
        positions = ", ".join(map(str, self.first))
        if self.number == 1:
            return f"the row at position {positions}"
        return f"{self.number} rows (positions {positions}{more})"


class _Table:
    """The rows that were read so far, and all problems with them."""

    def __init__(self, path: Path, coco: CocoFile) -> None:
        self.path, self._coco = path, coco
        self.images = _Records([(image.id, image.file_name) for image in coco.images], are_files=True)
        self.classes = _Records([(one.id, one.name) for one in coco.categories], are_files=False)
        # Masks of an image share this list.
        self._sizes = [[image.height, image.width] for image in coco.images]
        self._image, self._class = array("q"), array("q")
        self._score, self._box = array("d"), array("d")
        self._masks: list[Rle | None] = []
        self._num_without_mask = 0
        self._unchecked: list[tuple[int, int, Mapping[str, Any]]] = []  # place in the table, position, row
        self._num_unchecked = 0  # their characters
        self._problems: dict[str, _Count] = {}
        self._num_problems = 0
        self._notes: dict[str, _Count] = {}
        self._bare_masks = _Count()  # rows with a box and an empty mask
        self._missing_masks = _Count()  # rows without a mask

    def take(self, position: int, row: Any) -> None:
        """Read the row at this position."""
        if type(row) is not dict:
            self._problem(position, f"is {kind_of_value(row)}; expected an object with image_id and score")
            return
        image = self._find_image(position, row)
        category = self._find_class(position, row)
        score = row.get("score")
        if type(score) is not float and type(score) is not int or not 0 <= score <= 1:
            self._problem(position, _about_score(row))
            score = None
        box = row.get("bbox")
        numbers = _NO_BOX if box is None or box == [] else self._read_box(position, box)
        if image is None or category is None or score is None or numbers is None:
            return
        self._image.append(image)
        self._class.append(category)
        self._score.append(score)
        self._box.extend(numbers)
        self._masks.append(None)
        self._take_mask(position, row, image)

    def _find_image(self, position: int, row: Mapping[str, Any]) -> int | None:
        value = row.get("image_id")
        if "file_name" not in row and not self.images.listed and (type(value) is int or type(value) is str):
            place = self.images.place.get(value)
            if place is not None:
                return place
        place, name = self.images.find(value), row.get("file_name")
        named = self.images.named(name) if isinstance(name, str) else None
        if named is None:
            named = place
        elif place is not None and place != named:
            self._note(position, "name another image by file_name than by image_id; the name is used")
        if named is None:
            self._problem(position, self._about_id("image", row, self.images))
        return named

    def _find_class(self, position: int, row: Mapping[str, Any]) -> int | None:
        value = row.get("category_id")
        if type(value) is int and not self.classes.listed:
            place = self.classes.place.get(value)
            if place is not None:
                return place
        place = self.classes.find(value)
        if place is None:
            self._problem(position, self._about_id("category", row, self.classes))
        return place

    def _about_id(self, kind: str, row: Mapping[str, Any], records: _Records) -> str:
        key = f"{kind}_id"
        if key not in row:
            return f"has no {key}"
        value = row[key]
        if id_or_none(value) is None:
            return f"has the {key} {shown(value)}; expected a whole number or text"
        name = records.listed.get(id_or_none(value) or 0)
        called = "" if name is None else f", which the file calls {shown(name)}"
        known = [shown(id) for id in list(records.place)[:10]]
        more = ", ..." if len(records.place) > 10 else ""
        hint = ""
        if isinstance(value, str) and name is None:
            if len(records.meant_by(value)) > 1:
                return f"has the {key} {shown(value)}, which may mean several in {self._coco.path.name}"
            hint = suggest(value, map(str, records.place))
        return (
            f"has the {key} {shown(value)}{called}; {self._coco.path.name} lists "
            f"{', '.join(known) or 'none'}{more}.{hint}"
        ).rstrip(".")

    def _read_box(self, position: int, box: Any) -> Sequence[float] | None:
        if type(box) is list and len(box) == 4 and set(map(type, box)) <= _NUMBERS:
            low, *_, high = sorted(box)
            # Sorting does not place NaN, so all are compared by their sum.
            if -_LARGEST <= low and high <= _LARGEST and sum(box) <= 4 * _LARGEST:
                return box
        self._problem(position, f"has the bbox {shown(box)}; expected four numbers [x, y, width, height]")
        return None

    def _take_mask(self, position: int, row: Mapping[str, Any], image: int) -> None:
        place, mask = len(self._masks) - 1, row.get("segmentation")
        if mask is None or mask == []:
            if row.get("bbox") in (None, []):
                self._problem(position, "has neither a segmentation nor a bbox")
            else:
                (self._missing_masks if mask is None else self._bare_masks).add(position)
            return
        if type(mask) is dict and type(mask.get("counts")) is str and mask.get("size") == self._sizes[image]:
            self._unchecked.append((place, position, row))
            self._num_unchecked += len(mask["counts"])
            if self._num_unchecked > _BATCH:
                self._check()
            return
        self._masks[place] = self._read_mask(position, row, image)

    def _check(self) -> None:
        """Check the RLEs that wait for it, and convert them."""
        images = [self._image[place] for place, _, _ in self._unchecked]
        # What is not ASCII is damaged, and is found so in any encoding.
        counts = [
            row["segmentation"]["counts"].encode("utf-8", "surrogatepass") for _, _, row in self._unchecked
        ]
        pixels = np.array([self._sizes[image][0] * self._sizes[image][1] for image in images], np.int64)
        sound = are_sound(counts, pixels).tolist()
        for (place, position, row), image, text, is_sound in zip(
            self._unchecked, images, counts, sound, strict=True
        ):
            if is_sound:
                self._masks[place] = Rle(size=self._sizes[image], counts=text)
            else:
                self._masks[place] = self._read_mask(position, row, image)
        self._unchecked, self._num_unchecked = [], 0

    def _read_mask(self, position: int, row: Mapping[str, Any], image: int) -> Rle | None:
        """The mask of a row in any form; None after a problem."""
        height, width = self._sizes[image]
        try:
            mask = read_segmentation(row["segmentation"])
            if isinstance(mask, dict) and mask["size"] != [height, width]:
                raise OddSegmentation
        except OddSegmentation:
            odd = explain(row, (height, width))
            if odd.repaired is not None:
                self._note(position, f"have a segmentation that {odd.message}; it has only one reading")
                mask = odd.repaired
            elif odd.is_empty:
                self._note(position, f"have a segmentation that {odd.message}; it is read as an empty mask")
                return self._empty(image)
            else:
                self._problem(position, f"has a segmentation that {odd.message}")
                return None
        return segmentation_to_rle(mask, (height, width))

    def _empty(self, image: int) -> Rle:
        height, width = self._sizes[image]
        return runs_to_rle([height * width], (height, width))

    def _problem(self, position: int, message: str) -> None:
        self._num_problems += 1
        if message in self._problems or len(self._problems) < _MOST_MESSAGES:
            self._problems.setdefault(message, _Count()).add(position)

    def _note(self, position: int, message: str) -> None:
        if message in self._notes or len(self._notes) < _MOST_MESSAGES:
            self._notes.setdefault(message, _Count()).add(position)

    def result(self) -> ResultFile:
        """What was read. Raises DatasetError if a row has a problem."""
        if self._unchecked:
            self._check()
        has_masks = any(mask is not None for mask in self._masks) or not self._masks
        if has_masks:
            self._complete_masks()
        if self._problems:
            problems = [
                f"{count} {message if count.number == 1 else _plural(message)}"
                for message, count in self._problems.items()
            ]
            raise DatasetError(summarize_problems(str(self.path), problems, count=self._num_problems))
        notes = [f"{self.path.name}: {count} {text}." for text, count in self._notes.items()]
        if not has_masks:
            notes.append(f"{self.path.name} has boxes only, so there are no figures of masks.")
        return ResultFile(self.path, self._instances(has_masks), has_masks, tuple(notes))

    def _complete_masks(self) -> None:
        """Where other rows have masks, an empty list is a mask without pixels, and no value is a problem."""
        if self._missing_masks.number:
            self._problems["has no segmentation, but other rows have one"] = self._missing_masks
            self._num_problems += self._missing_masks.number
        if self._bare_masks.number:
            self._notes["have an empty segmentation; it is read as a mask without pixels"] = self._bare_masks
        for place, mask in enumerate(self._masks):
            if mask is None:
                self._masks[place] = self._empty(self._image[place])

    def _instances(self, has_masks: bool) -> dict[Id, Instances]:
        image, classes = np.array(self._image, np.int64), np.array(self._class, np.int64)
        score, boxes = np.array(self._score), np.array(self._box).reshape(-1, 4)
        without = np.flatnonzero(np.isnan(boxes[:, 0]))
        for start in range(0, len(without), 10_000):
            part = without[start : start + 10_000]
            boxes[part] = rle_boxes_xywh(
                [mask for i in part.tolist() if (mask := self._masks[i]) is not None]
            )
        order = np.lexsort((-score, image))
        starts = np.flatnonzero(np.diff(image[order], prepend=-1))
        instances: dict[Id, Instances] = {}
        for own in np.split(order, starts[1:]) if len(order) else ():
            record = self._coco.images[image[own[0]]]
            xywh = boxes[own]
            instances[record.id] = Instances(
                size_hw=(record.height, record.width),
                class_ids=classes[own],
                scores=score[own],
                boxes_xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
                masks=tuple(self._masks_at(own)) if has_masks else (),
                boxes_xywh=xywh,
            )
        return instances

    def _masks_at(self, places: NDArray[np.int64]) -> list[Rle]:
        return [mask for place in places.tolist() if (mask := self._masks[place]) is not None]


_NO_BOX = (np.nan,) * 4
_NUMBERS = {int, float}
_LARGEST = 1e15  # products of two such numbers are finite


def _about_score(row: Mapping[str, Any]) -> str:
    if "score" not in row:
        return "has no score; expected a number from 0 to 1. Annotations have none: is this the right file?"
    score = row["score"]
    number = score if type(score) in (int, float) else None
    if number is None or number != number or number in (float("inf"), -float("inf")):
        return f"has the score {shown(score)}; expected a number from 0 to 1"
    return (
        f"has a score {'above 1' if number > 1 else 'below 0'}; expected a number from 0 to 1. Divide "
        "percentages by 100; of logits take the sigmoid, which does not change AP"
    )


def _plural(message: str) -> str:
    first, _, rest = message.partition(" ")
    return f"{({'is': 'are', 'has': 'have'}).get(first, first)} {rest}"
