"""Questions about labels as LabelMe files, and the answers of a person read back.

Each object of an image becomes its shapes. A question about it stands in its label, such as ``nut ?bolt``,
and an object without a label becomes a shape with only a question, ``?bolt``. A question that is left alone
changes nothing. Which object a shape is of stands under the key `KEY` of the shape, which LabelMe keeps.
"""

import base64
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from paddlex_seg.data.findings import Finding
from paddlex_seg.data.formats.labelme.labels import LabelReader
from paddlex_seg.data.formats.labelme.shapes import read_shapes
from paddlex_seg.data.formats.labelme.write import mask_shape, polygon_shapes
from paddlex_seg.data.images import DECODER_ERRORS
from paddlex_seg.masks.polygons import rle_to_polygons
from paddlex_seg.masks.rle import (
    annotation_to_rle,
    rle_area,
    rle_to_mask,
    segmentation_to_json,
    segmentation_to_rle,
)
from paddlex_seg.structures import Annotation, Id, ImageRecord

KEY = "review_shape"
_MOST_PARTS = 50  # polygons of an object; one with more becomes a mask


@dataclass(frozen=True)
class Question:
    """What is asked about an object. ``polygons``: the proposal of a model, if there is one to accept."""

    number: int
    kind: str  # becomes a flag of the shapes
    text: str  # for the description
    annotation_id: Id | None  # None: about an object without a label
    asked: str  # what stands behind the mark in the label of the object
    proposal: str = ""  # class
    polygons: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class WrittenShape:
    """A shape as it was written, to see what a person changed."""

    label: str
    drawn: str  # fingerprint of its outline or mask
    annotation_id: Id | None  # the object; of a proposal, the object that it replaces
    name: str | None = None  # class of the object; None: a proposal
    question: int | None = None  # of a proposal, its number


@dataclass(frozen=True)
class Corrected:
    """An object after the review. None means: as it was."""

    annotation_id: Id | None  # None: a new object
    label: str | None
    segmentation: list[list[float]] | Mapping[str, Any] | None
    iscrowd: bool = False
    key: str = ""  # of a new object: the same for the same drawing


@dataclass
class Answers:
    """What a person made of the objects of an image."""

    objects: list[Corrected] = field(default_factory=list)
    num_accepted: int = 0
    num_dropped: int = 0
    problems: list[str] = field(default_factory=list)  # ends of sentences about the file


def question_mark(names: Sequence[str]) -> str:
    """The mark of a question: as many ``?`` as no class name contains."""
    mark = "?"
    while any(mark in name for name in names):
        mark += "?"
    return mark


def shapes_to_review(
    annotations: Sequence[Annotation],
    record: ImageRecord,
    label_of_id: Mapping[Id, str],
    questions: Sequence[Question],
    mark: str,
) -> tuple[list[dict[str, Any]], list[WrittenShape]]:
    """The shapes of an image with questions. Proposals come last, so that they are drawn on top.

    Polygons stay as they are. An RLE becomes polygons, for editing; a crowd stays a mask.
    """
    of_annotation = {one.annotation_id: one for one in questions if one.annotation_id is not None}
    shapes: list[dict[str, Any]] = []
    written: list[WrittenShape] = []
    next_group = 1

    def add(
        parts: list[dict[str, Any]], id: Id | None, name: str | None = None, number: int | None = None
    ) -> None:
        nonlocal next_group
        for shape in parts:
            shape["group_id"] = next_group if len(parts) > 1 else None
            shape[KEY] = len(written)
            shapes.append(shape)
            written.append(WrittenShape(shape["label"], fingerprint(shape), id, name, number))
        next_group += len(parts) > 1

    for annotation in annotations:
        label = name = label_of_id[annotation.category_id]
        question = of_annotation.get(annotation.id)
        if question is not None:
            label = f"{label} {mark}{question.asked}"
        parts = _shapes_of(annotation, record, label)
        add([_marked(shape, question) for shape in parts], annotation.id, name)
    for question in questions:
        if question.polygons:
            parts = polygon_shapes(f"{mark}{question.proposal}", question.polygons, None)
            add([_marked(shape, question) for shape in parts], question.annotation_id, number=question.number)
    return shapes, written


def _marked(shape: dict[str, Any], question: Question | None) -> dict[str, Any]:
    if question is None:
        return shape
    return {**shape, "description": question.text, "flags": {**shape["flags"], question.kind: True}}


def _shapes_of(annotation: Annotation, record: ImageRecord, label: str) -> list[dict[str, Any]]:
    if not isinstance(annotation.segmentation, Mapping) and not annotation.iscrowd:
        return polygon_shapes(label, annotation.segmentation, None)
    rle = annotation_to_rle(annotation, record.height, record.width)
    polygons = [] if annotation.iscrowd else rle_to_polygons(rle)
    if 0 < len(polygons) <= _MOST_PARTS:
        return polygon_shapes(label, polygons, None)
    mask = rle_to_mask(rle)
    return [mask_shape(label, mask, annotation.iscrowd)] if mask.any() else []


def fingerprint(shape: Mapping[str, Any]) -> str:
    """The same for shapes with the same corners, to 0.01 pixels, and the same mask.

    LabelMe leaves out corners that repeat the first one, so they do not count.
    """
    points, mask = shape.get("points"), shape.get("mask")
    try:
        corners = [[round(float(value), 2) + 0.0 for value in point] for point in points or ()]
    except (TypeError, ValueError):
        return _hash(repr(points))  # unusable; reading it says why
    corners = corners[:1] + [corner for corner in corners[1:] if corner != corners[0]]
    return _hash(json.dumps([shape.get("shape_type") or "polygon", corners, _pixels(mask)]))


def _pixels(mask: Any) -> str:
    if not isinstance(mask, str) or not mask:
        return ""
    try:
        with Image.open(io.BytesIO(base64.b64decode(mask))) as image:
            inside = np.asarray(image) != 0
    except (*DECODER_ERRORS, Image.DecompressionBombError):
        return mask
    return _hash(repr(inside.shape) + np.packbits(inside).tobytes().hex())


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


# ---- the way back


@dataclass(frozen=True)
class _Seen:
    """A shape of an edited file."""

    content: Mapping[str, Any]
    name: str | None  # class; None: a proposal that was not renamed
    is_renamed: bool
    is_moved: bool
    written: WrittenShape | None = None
    place: int | None = None  # in the list of written shapes

    @property
    def question(self) -> int | None:
        return None if self.written is None else self.written.question

    @property
    def annotation_id(self) -> Id | None:
        return None if self.written is None else self.written.annotation_id


@dataclass(frozen=True)
class Reviewed:
    """An image with questions, as it was written."""

    size_hw: tuple[int, int]
    shapes: Sequence[WrittenShape]
    proposals: Mapping[int, list[list[float]]]  # polygons by the number of the question

    def places(self, annotation_id: Id) -> list[int]:
        """Where the shapes of an object are in ``shapes``."""
        return [
            place
            for place, one in enumerate(self.shapes)
            if one.question is None and one.annotation_id == annotation_id
        ]

    def places_of_proposal(self, number: int) -> list[int]:
        """Where the shapes of a proposal are in ``shapes``."""
        return [place for place, one in enumerate(self.shapes) if one.question == number]


def read_answers(
    shapes: Sequence[Any], reviewed: Reviewed, names: Sequence[str], mark: str, file: str
) -> Answers:
    """The objects of an image after a person edited its shapes; `docs/label_review.md` has the rules.

    An object of ``reviewed`` that is not among the results was deleted. With problems, there are no objects.
    """
    answers = Answers()
    seen = list(_see(shapes, reviewed, names, mark, file, answers.problems))
    accepted = _accepted(seen, answers)
    own: dict[Id, list[_Seen]] = defaultdict(list)
    for one in seen:
        if one.question is None and one.annotation_id is not None:
            own[one.annotation_id].append(one)
    replaced = {one.annotation_id for one in accepted} - {None}
    answers.problems += _torn(own)
    answers.problems += [
        f"the proposal for {shapes[0].content['label']!r} was accepted, and that label was changed, too. "
        "Keep one of the two"
        for id, shapes in own.items()
        if id in replaced and any(one.is_renamed or one.is_moved for one in shapes)
    ]
    if answers.problems:
        return answers
    rest = [one for one in seen if one.question is None and one.annotation_id not in replaced]
    claimed: set[Id] = set()
    for group in _groups([*rest, *accepted]):
        origin = next(
            (id for one in group if (id := one.annotation_id) is not None and id not in claimed), None
        )
        if origin is not None:
            claimed.add(origin)
        object = _correct(group, origin, reviewed, names, file, answers.problems)
        answers.objects += [] if object is None else [object]
    return answers


def _see(
    shapes: Sequence[Any],
    reviewed: Reviewed,
    names: Sequence[str],
    mark: str,
    file: str,
    problems: list[str],
) -> Iterator[_Seen]:
    """The shapes with what they were. One without the key is known by its label and drawing."""
    reader, written = LabelReader(names), reviewed.shapes
    keys = {shape.get(KEY) for shape in shapes if isinstance(shape, dict) and type(shape.get(KEY)) is int}
    by_content: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, one in enumerate(written):
        if i not in keys:
            by_content[one.label.strip(), one.drawn].append(i)
    for number, shape in enumerate(shapes, start=1):
        try:
            label = reader.label(shape, file)
        except ValueError as error:
            problems.append(f"shape {number} {error}")
            continue
        drawn = fingerprint(shape)
        place: int | None = shape.get(KEY)
        if type(place) is not int or not 0 <= place < len(written):
            same = by_content[str(shape["label"]).strip(), drawn]
            place = same.pop(0) if same else None
        if place is None:
            was, is_moved, is_renamed = None, True, True
        else:
            was = written[place]
            is_moved, is_renamed = drawn != was.drawn, str(shape["label"]).strip() != was.label.strip()
        if was is not None and not is_renamed:
            yield _Seen(shape, was.name, False, is_moved, was, place)
        elif label in names:
            # Back to the class that it had, without the question, is no change.
            is_other = was is None or label != was.name
            yield _Seen(shape, label, is_other, is_moved, was, place)
        else:
            hint = f" To accept a proposal, rename it to {label.split(mark)[-1]!r}." if mark in label else ""
            problems.append(
                f"shape {number} has the label {shorten(label)!r}, which is no class. The classes are "
                f"{', '.join(repr(shorten(name)) for name in list(names)[:20])}.{hint}"
            )


def shorten(text: str) -> str:
    """The text, of at most 60 characters."""
    return text if len(text) <= 60 else f"{text[:59]}…"


def _accepted(seen: Sequence[_Seen], answers: Answers) -> list[_Seen]:
    """The shapes of proposals that were renamed to a class. One renamed part accepts the others, too."""
    parts: dict[int, list[_Seen]] = defaultdict(list)
    for one in seen:
        if one.question is not None:
            parts[one.question].append(one)
    accepted: list[_Seen] = []
    for number, shapes in parts.items():
        classes = sorted({one.name for one in shapes if one.name is not None})
        if len(classes) > 1:
            text = " and ".join(map(repr, classes))
            problem = f"parts of proposal {number} were renamed to {text}. An object has one class"
            answers.problems.append(problem)
        elif classes:
            accepted += [replace(one, name=classes[0], is_renamed=True) for one in shapes]
            answers.num_accepted += 1
    answers.num_dropped = len(parts) - answers.num_accepted
    return accepted


def _torn(own: Mapping[Id, Sequence[_Seen]]) -> Iterator[str]:
    """Problems of objects of which some parts were renamed and others were not."""
    for shapes in own.values():
        names: dict[str, set[str | None]] = defaultdict(set)
        for one in shapes:
            if one.content.get("group_id") is not None:
                names[str(one.content["group_id"])].add(one.name)
        for group, classes in names.items():
            if len(classes) > 1:
                text = " and ".join(sorted(repr(name) for name in classes))
                yield (
                    f"parts of one object, with the group_id {group}, now have the labels {text}. Give all "
                    "parts the same label, or parts of separate objects separate group_ids"
                )


def _groups(seen: Sequence[_Seen]) -> list[list[_Seen]]:
    """The shapes of each object: those with the same class and ``group_id``, as LabelMe means it."""
    groups: dict[Any, list[_Seen]] = defaultdict(list)
    for number, one in enumerate(seen):
        group_id = one.content.get("group_id")
        groups[("alone", number) if group_id is None else (one.name, str(group_id))].append(one)
    return list(groups.values())


def _correct(
    group: Sequence[_Seen],
    origin: Id | None,
    reviewed: Reviewed,
    names: Sequence[str],
    file: str,
    problems: list[str],
) -> Corrected | None:
    """The object of these shapes; None if there is none, which is a problem."""
    name = group[0].name
    assert name is not None
    label = name if origin is None or any(one.is_renamed for one in group) else None
    places = sorted(one.place for one in group if one.place is not None)
    key = _hash(json.dumps([name, *sorted(fingerprint(one.content) for one in group)]))
    if len(places) == len(group) and not any(one.is_moved for one in group):
        number = group[0].question
        if number is not None and places == reviewed.places_of_proposal(number):
            # Not as in the file: LabelMe leaves out corners that repeat the first one, such as at holes.
            return Corrected(origin, label, reviewed.proposals[number], key=key)
        if number is None and origin is not None and places == reviewed.places(origin):
            return Corrected(origin, label, None)
    findings: list[Finding] = []
    shapes = [{**one.content, "label": name, "group_id": 1} for one in group]
    drawn = list(read_shapes(shapes, reviewed.size_hw, file, LabelReader(names), findings))
    wrong = [one.message for one in findings if one.severity == "error" or not drawn]
    if drawn and not rle_area(segmentation_to_rle(drawn[0].segmentation, reviewed.size_hw)):
        wrong.append("it covers no pixel of the image")
    if wrong or not drawn:
        text = "; ".join(re.sub(r"^shape \d+ ", "a shape ", one) for one in wrong) or "it cannot be read"
        problems.append(
            f"an object {shorten(name)!r} has no mask: {text}. Draw it again, or leave the shape out"
        )
        return None
    return Corrected(origin, label, segmentation_to_json(drawn[0].segmentation), drawn[0].iscrowd, key)
