"""The way back of mode label_review: what a person corrected in LabelMe, into the COCO annotation file."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from paddlex_seg.data.coco.edit import AnnotationFile
from paddlex_seg.data.coco.read import load_document
from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.data.formats.labelme.review import Answers, Corrected, Reviewed, WrittenShape, read_answers
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import publish, recover
from paddlex_seg.masks.rle import rle_area, rle_box_xywh, segmentation_to_rle
from paddlex_seg.structures import Id

LOGGER = logging.getLogger(__name__)
REVIEW = "review.json"


@dataclass
class _Image:
    """An image of a review."""

    file: str
    sha256: str
    image_id: Id
    name: str
    reviewed: Reviewed
    base: dict[Id, str]  # the records of its annotations when the review was made
    applied: list[str] = field(default_factory=list)  # what records earlier runs gave it, as hashes


def apply_corrections(folder: Path) -> dict[str, Any]:
    """Write the corrections in a folder of mode label_review into the annotation file that was reviewed.

    Only images whose LabelMe file was changed are touched, and of these only objects that were changed. The
    old annotation file is kept as ``.bak``. To apply a folder twice is the same as once. Raises DatasetError
    with all problems of all files; nothing is written then.
    """
    content = _read_review(folder)
    path = Path(content["annotations"])
    if not path.is_file():
        raise DatasetError(
            f"{path}: the annotation file of the review does not exist. If it was moved, correct the path "
            f"under 'annotations' in {folder / REVIEW}."
        )
    root = _root_of(path)
    recover(root)
    apply = _Apply(folder, content, AnnotationFile(path))
    records = apply.records()
    if apply.problems:
        problems = [*apply.problems, "Nothing was written."]
        raise DatasetError(summarize_problems(str(folder), problems, count=len(apply.problems)))
    if records:
        new = apply.file.with_records(records)
        # First what is about to be: when the run is killed in between, another one completes it.
        write_json(folder / REVIEW, content, indent=1)
        publish(root, {path: new})
    counts = {name: apply.counts[name] for name in COUNTS}
    if records:
        text = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
        LOGGER.info("%s: corrected in %d images (%s).", path, len(records), text)
    else:
        LOGGER.info("%s: nothing to change.", path)
    return {
        "annotations": str(path),
        "images_changed": len(records),
        **counts,
        "files_removed": apply.removed,
    }


COUNTS = ("added", "deleted", "renamed", "redrawn", "proposals_accepted", "proposals_dropped")


class _Apply:
    """One reading of a folder. ``content`` of its review is completed by what is applied."""

    def __init__(self, folder: Path, content: dict[str, Any], file: AnnotationFile) -> None:
        self.folder, self.file, self._content = folder, file, content
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.removed = 0
        self._category_of_name = {one.name: one.id for one in reversed(file.coco.categories)}
        self._images_there = {one.id for one in file.coco.images}
        self._given: dict[str, Id] = content["given"]
        self._taken = {*file.ids, *self._given.values()}
        self._taken |= {id for entry in content["images"] for id in _ids_of(entry["annotations"])}

    def records(self) -> dict[Id, dict[Id, str]]:
        """The records of the images that change. What is wrong is added to ``problems``."""
        records = {}
        listed = set()
        for entry in self._content["images"]:
            image = _image_of(entry)
            listed.add(image.file)
            path = self.folder / image.file
            if not path.is_file():
                self.removed += 1
                continue
            if sha256_of(path) == image.sha256 and not image.applied:
                continue
            wanted = self._records_of(image, path)
            if wanted is None:
                continue
            now = self.file.of_image(image.image_id)
            if now == wanted or self._is_refused(image, now, wanted):
                continue
            records[image.image_id] = wanted
            entry["applied"] = [*image.applied, _hash(wanted)]
        others = sorted(path.name for path in self.folder.glob("*.json"))
        self.problems += [
            f"{name}: the file is of no image of this review. Move it out of the folder."
            for name in others
            if name not in listed and name != REVIEW
        ]
        return records

    def _is_refused(self, image: _Image, now: Mapping[Id, str], wanted: Mapping[Id, str]) -> bool:
        """Whether the annotations of an image are not those that a person saw, which is a problem."""
        if _hash(now) in (_hash(image.base), *image.applied):
            return False
        if list(wanted.items()) == list(image.base.items()):  # nothing was corrected
            return True
        if image.image_id not in self._images_there:
            what = "is no longer in it"
        else:
            what = "has other annotations now than when the review was made"
        self.problems.append(
            f"{image.file}: image {image.name} of {self.file.coco.path.name} {what}. Make a new review, or "
            "undo that change."
        )
        return True

    def _records_of(self, image: _Image, path: Path) -> dict[Id, str] | None:
        """The records of an image as corrected; None with problems."""
        answers = self._read(image, path)
        self.problems += [f"{image.file}: {text.rstrip('.')}." for text in answers.problems]
        if answers.problems:
            return None
        shown = {one.annotation_id for one in image.reviewed.shapes if one.question is None}
        of_id = {one.annotation_id: one for one in answers.objects if one.annotation_id is not None}
        records: dict[Id, str] = {}
        for id, text in image.base.items():
            one = of_id.get(id)
            if one is not None:
                records[id] = self._changed(text, one, image)
            elif id not in shown:  # it has no pixel to show
                records[id] = text
        number_of_key: Counter[str] = Counter()
        new = [one for one in answers.objects if one.annotation_id is None]
        for one in new:
            number_of_key[one.key] += 1
            id = self._give(f"{image.file}:{one.key}:{number_of_key[one.key]}")
            records[id] = self._new(id, one, image)
        self.counts["added"] += len(new)
        self.counts["deleted"] += len(image.base) - sum(id in records for id in image.base)
        self.counts["proposals_accepted"] += answers.num_accepted
        self.counts["proposals_dropped"] += answers.num_dropped
        return records

    def _read(self, image: _Image, path: Path) -> Answers:
        try:
            document = load_document(path)
        except DatasetError as error:
            return Answers(problems=[str(error).removeprefix(f"{path}: ")])
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            return Answers(problems=["the file has no list 'shapes', so it is not a LabelMe file"])
        named = str(document.get("imagePath")).replace("\\", "/")
        if PurePosixPath(named).name not in _names_of(image):
            text = f"its imagePath is {named!r}, but in this review the file is for {image.name}. Restore it"
            return Answers(problems=[text])
        names = list(self._category_of_name)
        return read_answers(document["shapes"], image.reviewed, names, self._content["mark"], image.file)

    def _changed(self, text: str, one: Corrected, image: _Image) -> str:
        if one.label is None and one.segmentation is None:
            return text
        entry = json.loads(text)
        new = None if one.label is None else self._category_of_name[one.label]
        if new not in (None, id_or_none(entry["category_id"])):
            entry["category_id"] = new
            self.counts["renamed"] += 1
        if one.segmentation is not None:
            entry |= _measured(one, image)
            self.counts["redrawn"] += 1
        return json.dumps(entry, ensure_ascii=False)

    def _new(self, id: Id, one: Corrected, image: _Image) -> str:
        assert one.label is not None
        entry = {
            "id": id,
            "image_id": image.image_id,
            "category_id": self._category_of_name[one.label],
            **_measured(one, image),
            "iscrowd": int(one.iscrowd),
        }
        return json.dumps(entry, ensure_ascii=False)

    def _give(self, key: str) -> Id:
        """A new id of the kind that the file has. The same object gets the same id in every run."""
        if key not in self._given:
            numbers = [id for id in self._taken if isinstance(id, int)]
            if numbers or not self._taken:
                number = max(numbers, default=0) + 1
                self._given[key] = str(number) if self.file.has_text_ids else number
                self._taken.add(number)
            else:
                count = 1
                while f"review-{count}" in self._taken:
                    count += 1
                self._given[key] = f"review-{count}"
                self._taken.add(f"review-{count}")
        return self._given[key]


def _measured(one: Corrected, image: _Image) -> dict[str, Any]:
    assert one.segmentation is not None
    mask = segmentation_to_rle(one.segmentation, image.reviewed.size_hw)
    return {
        "segmentation": one.segmentation,
        "bbox": rle_box_xywh(mask).tolist(),
        "area": rle_area(mask),
    }


def _names_of(image: _Image) -> set[str]:
    """The names that imagePath may have: of the image, and of its link in the folder."""
    original = PurePosixPath(image.name.replace("\\", "/"))
    return {original.name, f"{image.file.removesuffix('.json')}{original.suffix}"}


def _root_of(path: Path) -> Path:
    """The folder of the data set that an annotation file is in, or the folder of the file."""
    root = path.parent.parent
    return root if path.parent.name == "annotations" and (root / "images").is_dir() else path.parent


def _read_review(folder: Path) -> dict[str, Any]:
    """The content of ``review.json``. Raises DatasetError when it is not as this toolkit writes it."""
    path = folder / REVIEW
    if not path.is_file():
        raise DatasetError(
            f"LabelReview.apply: {folder} has no {REVIEW}. Expected a folder that mode label_review wrote, "
            "such as output/label_review."
        )
    content = load_document(path)
    try:
        if content["version"] != 1:
            raise ValueError(f"version {content['version']!r}")
        for entry in content["images"]:
            _image_of(entry)
        for key, kind in (("annotations", str), ("mark", str), ("given", dict)):
            if not isinstance(content[key], kind):
                raise TypeError(key)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{path}: not as mode label_review writes it ({type(error).__name__}: {error}). Restore the "
            "file, or make a new review."
        ) from error
    return dict(content)


def _image_of(entry: Mapping[str, Any]) -> _Image:
    height, width = entry["size_hw"]
    proposals = {int(number): polygons for number, polygons in entry["proposals"].items()}
    shapes = [WrittenShape(**shape) for shape in entry["shapes"]]
    return _Image(
        file=str(entry["file"]),
        sha256=entry["sha256"],
        image_id=entry["image_id"],
        name=str(entry["image"]),
        reviewed=Reviewed((height, width), shapes, proposals),
        base=dict(zip(_ids_of(entry["annotations"]), entry["annotations"], strict=True)),
        applied=list(entry["applied"]),
    )


def _ids_of(texts: list[str]) -> list[Id]:
    ids = [id_or_none(json.loads(text)["id"]) for text in texts]
    return [id for id in ids if id is not None]


def _hash(records: Mapping[Id, str]) -> str:
    return hashlib.sha256("\n".join(records.values()).encode("utf-8", "backslashreplace")).hexdigest()
