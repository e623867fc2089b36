"""A folder of suspicious images for LabelMe, and what a person changed in it.

`write_review` writes each image with a suspect, and beside it a LabelMe file with its labels as they are and
with proposals of the model. A proposal has the flag ``proposal`` and a label that begins with `Review.mark`,
such as ``?bolt``. A person accepts it by taking the mark away; a proposal that keeps it is dropped.
``review.json`` lists the suspects, and says what was written where.

`read_edits` compares the files with the annotation file. A shape names its annotation under the key
``annotation_id``, and a proposal its suspect under ``proposal``; LabelMe keeps both. Where another tool does
not, shapes that are as before still find their annotation by what they look like.
"""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from paddlex_seg.data.coco.categories import listed_name
from paddlex_seg.data.coco.read import UnreadableFile, load_document
from paddlex_seg.data.coco.write import annotation_entry
from paddlex_seg.data.findings import Finding, summarize_problems
from paddlex_seg.data.formats.assembly import SourceObject
from paddlex_seg.data.formats.labelme.labels import LabelReader
from paddlex_seg.data.formats.labelme.shapes import read_shapes
from paddlex_seg.data.formats.labelme.write import annotation_shapes, labelme_text, polygon_shapes
from paddlex_seg.data.formats.target_files import annotations_by_image
from paddlex_seg.data.images import image_path, load_image
from paddlex_seg.errors import DatasetError, suggest
from paddlex_seg.evaluation.label_review import SUSPECT_NAMES, Suspect
from paddlex_seg.files.atomic import link_or_copy, write_bytes
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.images import encode_image
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import fresh_folder
from paddlex_seg.inference.outputs.labelme import is_shown
from paddlex_seg.masks.polygons import rle_to_polygons
from paddlex_seg.masks.rle import annotation_to_rle, rle_area, rle_box_xywh, segmentation_to_json
from paddlex_seg.structures import Annotation, Bands, CocoFile, Id, ImageRecord, Instances

REVIEW_FILE = "review.json"
FOLDER = "label_review"
_MARK = "?"


# ---- writing


def write_review(
    folder: Path,
    coco: CocoFile,
    results: Mapping[Id, Instances],
    suspects: Sequence[Suspect],
    *,
    image_dir: Path | None,
    bands: Bands | None = None,
) -> list[str]:
    """Write the folder. An old one is kept as ``.bak``. Returns the names of images that are missing in it.

    suspects: as `review_labels` ranks them. The number in a file's name is the rank of its image.
    """
    records = {record.id: record for record in coco.images}
    of_image = annotations_by_image(coco)
    names = {category.id: category.name for category in coco.categories}
    mark = _MARK
    while any(name.startswith(mark) for name in names.values()):
        mark += _MARK
    ranked: dict[Id, list[tuple[int, Suspect]]] = {}
    for rank, suspect in enumerate(suspects, start=1):
        ranked.setdefault(suspect.image_id, []).append((rank, suspect))
    files: dict[Id, str] = {}
    rows, missing = [], []
    with fresh_folder(folder) as new:
        for number, (id, own) in enumerate(ranked.items(), start=1):
            record = records[id]
            stem = f"{number:04d}_{_plain_stem(record.file_name)}"
            shapes = list(_shapes(record, of_image[id], results.get(id), own, names, mark))
            image = _place_image(new, stem, record, image_dir, bands)
            if image is None:
                missing.append(record.file_name)
            text = labelme_text(
                shapes,
                image_path=image or PurePosixPath(record.file_name).name,
                size_hw=(record.height, record.width),
            )
            path = new / f"{stem}.json"
            write_bytes(path, text.encode("utf-8", "backslashreplace"))
            files[id] = path.name
            written = list(
                dict.fromkeys(shape["annotation_id"] for shape in shapes if "annotation_id" in shape)
            )
            rows.append(
                {"file": path.name, "image_id": id, "annotation_ids": written, "sha256": sha256_of(path)}
            )
        content = {
            "annotations": str(coco.path.absolute()),
            "sha256": [sha256_of(coco.path)],
            "mark": mark,
            "images": rows,
            "suspects": [
                {
                    "rank": rank,
                    "kind": one.kind,
                    "score": one.score,
                    "file": files[one.image_id],
                    "file_name": records[one.image_id].file_name,
                    "image_id": one.image_id,
                    "annotation_id": one.annotation_id,
                    "other_id": one.other_id,
                    "label": one.label,
                    "proposal": one.proposal,
                    "reason": one.reason,
                }
                for rank, one in enumerate(suspects, start=1)
            ],
        }
        write_json(new / REVIEW_FILE, content)
    return missing


def _shapes(
    record: ImageRecord,
    annotations: Sequence[Annotation],
    found: Instances | None,
    suspects: Sequence[tuple[int, Suspect]],
    names: Mapping[Id, str],
    mark: str,
) -> Iterator[dict[str, Any]]:
    """The labels of an image as they are, and the proposals."""
    notes = {one.annotation_id: _note(rank, one) for rank, one in suspects if one.annotation_id is not None}
    by_id = {annotation.id: annotation for annotation in annotations}
    group = 1
    for annotation in annotations:
        yield from annotation_shapes(
            annotation,
            record,
            names[annotation.category_id],
            group,
            description=notes.get(annotation.id, ""),
            annotation_id=annotation.id,
        )
        group += 1
    for rank, one in suspects:
        label = f"{mark}{one.proposal}"
        more: dict[str, Any] = {
            "description": _note(rank, one),
            "proposal": rank,
            "flags": {"proposal": True},
        }
        if one.kind == "wrong_class" and one.annotation_id is not None:
            annotation = by_id[one.annotation_id]  # only its class is in doubt
            yield from annotation_shapes(annotation, record, label, group, **more)
        elif one.kind in ("missed", "loose_mask") and found is not None and one.position is not None:
            polygons = rle_to_polygons(found.masks[one.position])
            yield from polygon_shapes(label, polygons, group if len(polygons) > 1 else None, **more)
        group += 1


def _note(rank: int, suspect: Suspect) -> str:
    return f"{rank}. {SUSPECT_NAMES[suspect.kind]} ({suspect.score:.2f}): {suspect.reason}"


def _place_image(
    folder: Path, stem: str, record: ImageRecord, image_dir: Path | None, bands: Bands | None
) -> str | None:
    """Put the image beside its LabelMe file, as LabelMe can show it. Returns its name; None if missing."""
    if image_dir is None:
        return None
    try:
        source = image_path(image_dir, record.file_name)
        pixels = load_image(source, (record.height, record.width), bands)
    except DatasetError:
        return None
    if is_shown(source, pixels):
        name = f"{stem}{source.suffix}"
        link_or_copy(source, folder / name)
    else:
        name = f"{stem}.png"
        write_bytes(folder / name, encode_image(Image.fromarray(pixels), ".png", compress_level=1))
    return name


def _plain_stem(file_name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(file_name.replace("\\", "/")).stem)[:50]


# ---- reading back


@dataclass
class Edits:
    """What changes in the annotation file, for `edit_annotations`."""

    changed: dict[Id, dict[str, Any] | None] = field(default_factory=dict)  # None: removed
    added: list[dict[str, Any]] = field(default_factory=list)
    review: dict[str, Any] = field(default_factory=dict)  # the content of review.json that goes with it
    num_read: int = 0  # files that a person changed
    num_removed: int = 0  # files that are gone, whose images stay as they are


def read_edits(folder: Path, coco: CocoFile) -> Edits:
    """What a person changed in the folder. Raises DatasetError, with all problems, if any."""
    review = _read_review(folder / REVIEW_FILE)
    if sha256_of(coco.path) not in review["sha256"]:
        raise DatasetError(
            f"{coco.path}: this file is not the one that was reviewed in {folder}, or something else has "
            "changed it since. Run the review again, or give the reviewed file, which was "
            f"{review['annotations']}."
        )
    records = {record.id: record for record in coco.images}
    of_image = annotations_by_image(coco)
    edits, problems = Edits(review=review), list[str]()
    new_ids = _new_ids(coco)
    for row in review["images"]:
        path = folder / row["file"]
        if not path.is_file():
            edits.num_removed += 1
            continue
        if sha256_of(path) == row["sha256"]:
            continue
        edits.num_read += 1
        record = records[row["image_id"]]
        known = {id for id in row["annotation_ids"]}
        reader = _ImageReader(record, of_image[record.id], coco, known, review)
        try:
            shapes = load_document(path)["shapes"]
            if not isinstance(shapes, list):
                raise TypeError
        except UnreadableFile as error:
            problems.append(str(error))
            continue
        except (KeyError, TypeError):
            problems.append(f"{row['file']}: no LabelMe file; expected an object with a list 'shapes'")
            continue
        reader.read(shapes)
        problems += [f"{row['file']}: {problem}" for problem in reader.problems]
        edits.changed |= reader.changed
        for annotation in reader.added:
            id = next(new_ids)
            edits.added.append(annotation_entry(replace(annotation, id=id)))
            row["annotation_ids"].append(id)
    if problems:
        raise DatasetError(summarize_problems(f"{folder}, nothing was changed", problems))
    return edits


def _read_review(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist: there is no review to apply. Run Global.mode=label_review first without "
            "LabelReview.apply, and with the same Global.output."
        )
    try:
        review = load_document(path)
        kinds: dict[str, Any] = {
            "annotations": str,
            "sha256": list,
            "mark": str,
            "images": list,
            "suspects": list,
        }
        rows: dict[str, Any] = {"file": str, "image_id": int | str, "annotation_ids": list, "sha256": str}
        if all(isinstance(review[key], kind) for key, kind in kinds.items()) and all(
            isinstance(row[key], kind) for row in review["images"] for key, kind in rows.items()
        ):
            return dict(review)
    except (UnreadableFile, KeyError, TypeError):
        pass
    raise DatasetError(f"{path} is damaged. Run the review again; the LabelMe files here are kept as .bak.")


def _new_ids(coco: CocoFile) -> Iterator[Id]:
    taken = {annotation.id for annotation in coco.annotations}
    numbers = [id for id in taken if isinstance(id, int)]
    is_text, number = bool(taken) and not numbers, max(numbers, default=len(taken))
    while True:
        number += 1
        id: Id = str(number) if is_text else number
        if id not in taken:
            yield id


class _ImageReader:
    """Compares the shapes of an image with its annotations."""

    def __init__(
        self,
        record: ImageRecord,
        annotations: Sequence[Annotation],
        coco: CocoFile,
        known: set[Id],
        review: Mapping[str, Any],
    ) -> None:
        self._record, self._known, self._mark = record, known, review["mark"]
        self._suspects = review["suspects"]
        self._annotations = {annotation.id: annotation for annotation in annotations}
        self._names = {category.id: category.name for category in coco.categories}
        self._file = coco.path.name
        self._objects = {id: self._object_of(annotation) for id, annotation in self._annotations.items()}
        self.problems: list[str] = []
        self.changed: dict[Id, dict[str, Any] | None] = {}
        self.added: list[Annotation] = []

    def read(self, shapes: Sequence[Any]) -> None:
        """Find out what changed. Fills ``changed``, ``added`` and ``problems``."""
        drawn, proposals = self._drawn(shapes)
        own: dict[Id, SourceObject] = {}
        free: list[SourceObject] = []
        for id, objects in drawn.items():
            if id is None or id not in self._annotations:
                free += objects
                continue
            before = _meaning(self._objects[id])
            same = next((n for n, one in enumerate(objects) if _meaning(one) == before), 0)
            own[id] = objects.pop(same)
            free += objects  # copies of its shape
        for suspect, one in proposals:
            id = suspect["annotation_id"]
            if id is None or id not in self._annotations:
                free.append(one)
            elif suspect["kind"] == "wrong_class" and id in own:
                own[id] = replace(own[id], label=one.label)
            else:
                own[id] = one
        # Shapes that look like an annotation are that annotation: those of a tool that drops unknown keys,
        # and those that an earlier run has added.
        unclaimed = {
            _meaning(one): id for id, one in self._objects.items() if one is not None and id not in own
        }
        for one in free:
            id = unclaimed.pop(_meaning(one), None)
            if id is None:
                self._add(one)
            else:
                own[id] = one
        for id, before_object in self._objects.items():
            if id in own:
                self._compare(id, own[id])
            elif id in self._known and before_object is not None:
                self.changed[id] = None

    def _drawn(
        self, shapes: Sequence[Any]
    ) -> tuple[dict[Id | None, list[SourceObject]], list[tuple[dict[str, Any], SourceObject]]]:
        """The objects by the annotation that they name, and the accepted proposals."""
        groups: dict[Hashable, list[dict[str, Any]]] = {}
        accepted: dict[int, list[dict[str, Any]]] = {}
        for number, shape in enumerate(shapes, start=1):
            if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
                self.problems.append(f"shape {number} has no label; expected the name of a class")
                continue
            proposal, group, label = shape.get("proposal"), shape.get("group_id"), shape["label"]
            if isinstance(proposal, int) and 0 < proposal <= len(self._suspects):
                accepted.setdefault(proposal, []).append(shape)
            elif not label.strip().startswith(self._mark):
                key = ("alone", number) if group is None else (label, str(group))
                groups.setdefault(key, []).append(shape)
        drawn: dict[Id | None, list[SourceObject]] = {}
        for members in groups.values():
            one = self._object(members, members[0]["label"])
            if one is not None:
                ids = (shape.get("annotation_id") for shape in members)
                id = next((id for id in ids if isinstance(id, int | str) and id in self._annotations), None)
                drawn.setdefault(id, []).append(one)
        proposals = []
        for number, members in accepted.items():
            labels = {one["label"] for one in members if not one["label"].strip().startswith(self._mark)}
            if not labels:
                continue  # a proposal that nobody accepted
            if len(labels) > 1:
                self.problems.append(f"the parts of proposal {number} have several classes")
                continue
            one = self._object(members, labels.pop())
            if one is not None:
                proposals.append((self._suspects[number - 1], one))
        return drawn, proposals

    def _object(self, shapes: Sequence[Mapping[str, Any]], label: str) -> SourceObject | None:
        """The object that shapes draw together; None after a problem."""
        names = list(self._names.values())
        name = listed_name(label, names) or listed_name(label.strip(), names)
        if name is None:
            known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            self.problems.append(
                f"a shape has the label {label!r}; {self._file} lists {known}.{suggest(label, names)}"
            )
            return None
        findings: list[Finding] = []
        same = [{**shape, "label": "object", "group_id": 1} for shape in shapes]
        size_hw = (self._record.height, self._record.width)
        objects = list(read_shapes(same, size_hw, self._file, LabelReader(None), findings))
        if findings or not objects:
            self.problems += [finding.message.replace("(object, ", f"({name}, ") for finding in findings]
            return None
        return replace(objects[0], label=name)

    def _object_of(self, annotation: Annotation) -> SourceObject | None:
        """An annotation as it comes back from a file that nobody changed; None if it has no shape."""
        shapes = annotation_shapes(annotation, self._record, "object", 1)
        size_hw = (self._record.height, self._record.width)
        objects = list(read_shapes(shapes, size_hw, self._file, LabelReader(None), []))
        return replace(objects[0], label=self._names[annotation.category_id]) if objects else None

    def _compare(self, id: Id, one: SourceObject) -> None:
        before = self._objects[id]
        assert before is not None
        change: dict[str, Any] = {}
        if one.label != before.label:
            change["category_id"] = self._category_id(one.label)
        if one.iscrowd != before.iscrowd:
            change["iscrowd"] = int(one.iscrowd)
        if _shape_of(one) != _shape_of(before):
            new = self._annotation(one)
            change |= {
                key: value
                for key, value in annotation_entry(new).items()
                if key in ("segmentation", "bbox", "area")
            }
        if change:
            self.changed[id] = change

    def _add(self, one: SourceObject) -> None:
        self.added.append(self._annotation(one))

    def _annotation(self, one: SourceObject) -> Annotation:
        new = Annotation(
            id=0,
            image_id=self._record.id,
            category_id=self._category_id(one.label),
            segmentation=segmentation_to_json(one.segmentation),
            iscrowd=one.iscrowd,
        )
        mask = annotation_to_rle(new, self._record.height, self._record.width)
        if not rle_area(mask):
            self.problems.append(f"a shape of {one.label!r} covers no pixel of the image; delete it")
        left, top, width, height = rle_box_xywh(mask).tolist()
        return replace(new, bbox_xywh=(left, top, width, height), area=rle_area(mask))

    def _category_id(self, name: str) -> Id:
        return next(id for id, own in self._names.items() if own == name)


def _meaning(one: SourceObject | None) -> Hashable:
    """What two objects have in common if nobody changed one of them."""
    return None if one is None else (one.label, one.iscrowd, _shape_of(one))


def _shape_of(one: SourceObject) -> Hashable:
    mask = one.segmentation
    return tuple(map(tuple, mask)) if isinstance(mask, list) else (tuple(mask["size"]), mask["counts"])
