"""The only reader of COCO files. It returns the valid records, and findings about the invalid ones."""

import gc
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from paddlex_seg.data.coco.odd_segmentations import explain
from paddlex_seg.data.coco.other_content import other_content
from paddlex_seg.data.coco.records import (
    ANNOTATION_FIELDS,
    ANNOTATION_OPTIONS,
    CATEGORY_FIELDS,
    CATEGORY_OPTIONS,
    IMAGE_FIELDS,
    id_or_none,
    read_entry,
)
from paddlex_seg.data.coco.references import meant_ids
from paddlex_seg.data.coco.segmentations import read_segmentation, sound_rles
from paddlex_seg.data.coco.wrong_value import kind_of_value
from paddlex_seg.data.findings import Finding, FindingLog, finding, summarize_problems
from paddlex_seg.data.text_files import decode
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord

_Record = TypeVar("_Record", ImageRecord, Category)


@dataclass(frozen=True)
class ParsedCoco:
    """The valid records of an annotation file, and findings about the invalid ones."""

    coco: CocoFile
    log: FindingLog  # errors of single records, and warnings about file names
    positions: Sequence[int]  # for each of ``coco.annotations``, its position in the list in the file
    # From all records, also invalid ones: an image whose only mask is invalid still counts as annotated.
    annotated_image_ids: frozenset[Id]
    used_category_ids: frozenset[Id]
    # Positions in the file of annotations whose box or area cannot be used and was read as missing, by the
    # code of the finding in ``log``.
    unusable: Mapping[str, frozenset[int]]
    turned_rle_image_ids: frozenset[Id]  # images with an RLE whose height and width are exchanged
    file_names: frozenset[str]  # of all images, also of invalid records


def parse_coco(document: Any, path: Path) -> ParsedCoco:
    """The records of a JSON document from `load_document`. Problems become findings; nothing is raised.

    ``bbox``, ``area`` and ``iscrowd`` may be absent; a box or an area that is no number is read as absent.
    Ids may be whole numbers of any size, or text. File names are returned with forward slashes. If two
    records have the same id, the first one is used. The list of annotations in ``document`` is emptied to
    save memory.
    """
    log = FindingLog(path.name)
    other = other_content(document)
    if other is not None:
        log.add("json_top_level", other)
        document = {"images": [], "categories": [], "annotations": []}
    entries = {key: _entries(document, key, log) for key in ("images", "categories", "annotations")}
    images = _first_of_each_id("image", _read_images(entries["images"], log), log)
    categories = _first_of_each_id("category", _read_categories(entries["categories"], log), log)
    image_ids, category_ids = (_ids(entries[key]) for key in ("images", "categories"))
    annotated, used = (_ids(entries["annotations"], key) for key in ("image_id", "category_id"))
    meant_images = meant_ids(annotated - image_ids, entries["images"], "file_name")
    meant_categories = meant_ids(used - category_ids, entries["categories"], "name")
    sizes_hw = {image.id: (image.height, image.width) for image in images}
    annotations, positions, unusable = _read_annotations(entries["annotations"], sizes_hw, log)
    usable = frozenset(category.id for category in categories)
    meant = (meant_images, meant_categories)
    keep, turned = _valid_references(annotations, sizes_hw, image_ids, category_ids, usable, meant, log)
    return ParsedCoco(
        coco=CocoFile(
            path=path,
            images=tuple(images),
            annotations=tuple(annotations[i] for i in keep),
            categories=tuple(categories),
            extra={key: value for key, value in document.items() if key not in entries},
        ),
        log=log,
        positions=[positions[i] for i in keep],
        annotated_image_ids=annotated.union(meant_images.values()),
        used_category_ids=used.union(meant_categories.values()),
        unusable=unusable,
        turned_rle_image_ids=turned,
        file_names=frozenset(_file_names(entries["images"])),
    )


def parse_file(path: Path) -> ParsedCoco:
    """`parse_coco` of the file at ``path``. Raises UnreadableFile when it is not a JSON file."""
    document, about_encoding = load_with_encoding(path)
    parsed = parse_coco(document, path)
    if about_encoding is not None:
        parsed.log.add(*about_encoding)
    return parsed


def read_coco(path: Path) -> CocoFile:
    """Read the annotation file at ``path``. All records must be valid.

    Raises DatasetError that lists the structural problems of the file: invalid JSON, missing keys, wrong
    types, duplicate ids, ids that are not listed, invalid segmentations.
    """
    parsed = parse_file(path)
    problems = [_problem_text(finding) for finding in parsed.log.kept if finding.severity == "error"]
    if problems:
        count = parsed.log.num_errors
        raise DatasetError(summarize_problems(str(path), problems, count=count))
    return parsed.coco


def load_document(path: Path) -> Any:
    """The content of the JSON file. Raises UnreadableFile, whose finding has a code for the problem.

    The text may be in any encoding of `text_files.decode`, as Windows tools write GBK and UTF-16 too.
    """
    return load_with_encoding(path)[0]


def load_with_encoding(path: Path) -> tuple[Any, tuple[str, str] | None]:
    """`load_document`, and code and message of a finding about the encoding if that is not UTF-8."""
    with collector_paused(), no_json_told(path):
        text, encoding = read_text(path)
        return json.loads(text), _about_encoding(text, encoding)


def read_text(path: Path) -> tuple[str, str]:
    """The text of a JSON file and the name of its encoding. Raises UnreadableFile when it has none."""
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise UnreadableFile(path, "json_missing", "the file does not exist") from None
    except OSError as error:
        raise UnreadableFile(path, "json_unreadable", f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8 (byte {error.start}), and not GB 18030"
        raise UnreadableFile(path, "json_unreadable", message) from error


@contextmanager
def no_json_told(path: Path) -> Iterator[None]:
    """Raise UnreadableFile when what is parsed in the context is not JSON."""
    try:
        yield
    # A ValueError that is no JSONDecodeError is a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(path, "json_unreadable", f"not JSON ({error})") from error


def _about_encoding(text: str, encoding: str) -> tuple[str, str] | None:
    if encoding == "gb18030":
        message = f"the file is not UTF-8, and was read as GBK (GB 18030); a sample of it: {_sample(text)}"
        return "json_encoding_guessed", message
    return None if encoding == "utf-8" else ("json_encoding", f"the file is {encoding.upper()} text")


def _sample(text: str) -> str:
    """Up to three different values of a JSON text that are not ASCII."""
    values: dict[str, None] = {}
    for match in re.finditer(r'[^\x00-\x7f][^"\n]{0,40}', text):
        start = text.rfind('"', max(0, match.start() - 40), match.start()) + 1 or match.start()
        values[text[start : match.end()]] = None
        if len(values) == 3:
            break
    return ", ".join(map(repr, values))


class UnreadableFile(DatasetError):
    """An annotation file that cannot be read at all."""

    def __init__(self, path: Path, code: str, message: str) -> None:
        self.finding = finding(code, path.name, message)
        super().__init__(f"{path}: {message}. {self.finding.hint}")


def _problem_text(item: Finding) -> str:
    record = (
        f"annotation {item.annotation_id}: "
        if item.annotation_id is not None
        else f"image {item.image_id}: "
        if item.image_id is not None
        else ""
    )
    return f"{record}{item.message}. {item.hint}"


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's garbage collector. On a large file, it would take longer than the reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _entries(document: Mapping[str, Any], key: str, log: FindingLog) -> list[Any]:
    entries = document.get(key)
    if not isinstance(entries, list):
        found = f"is {kind_of_value(entries)}" if key in document else "is missing"
        log.add("key_missing", f"the key {key!r} {found}; expected a list")
        return []
    return entries


def _ids(entries: Iterable[Any], key: str = "id") -> frozenset[Id]:
    """The ids under ``key``, also of invalid records."""
    values = (id_or_none(entry.get(key)) for entry in entries if isinstance(entry, dict))
    return frozenset(value for value in values if value is not None)


def _file_names(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if isinstance(name, str):
            yield name.replace("\\", "/")


def _read_images(entries: Sequence[Any], log: FindingLog) -> list[ImageRecord]:
    images = []
    for position, entry in enumerate(entries):
        values = read_entry("image", position, entry, IMAGE_FIELDS, {}, log)
        if values is None:
            continue
        raw = values["file_name"]
        if "\\" in raw:
            values["file_name"] = raw.replace("\\", "/")
            log.add("file_name_backslash", f"{raw!r} contains backslashes", image_id=values["id"])
        images.append(ImageRecord(**values))
    return images


def _read_categories(entries: Sequence[Any], log: FindingLog) -> list[Category]:
    rows = (
        read_entry("category", position, entry, CATEGORY_FIELDS, CATEGORY_OPTIONS, log)
        for position, entry in enumerate(entries)
    )
    return [Category(**values) for values in rows if values is not None]


def _read_annotations(
    entries: list[Any], sizes_hw: Mapping[Id, tuple[int, int]], log: FindingLog
) -> tuple[list[Annotation], list[int], dict[str, frozenset[int]]]:
    """The valid annotations, their positions in ``entries``, and those with an unusable box or area.

    ``entries`` is emptied.
    """
    annotations, positions = [], []
    without_box, without_area = [], []
    sound = sound_rles(entry.get("segmentation") for entry in entries if isinstance(entry, dict))
    needed = {
        **ANNOTATION_FIELDS,
        "segmentation": lambda value: value if id(value) in sound else read_segmentation(value),
    }
    with collector_paused():
        for position, entry in enumerate(entries):
            entries[position] = None
            values = read_entry("annotation", position, entry, needed, ANNOTATION_OPTIONS, log, sizes_hw)
            if values is None:
                continue
            box = values.pop("bbox", _ABSENT)
            if box is None:
                without_box.append(position)
            if values.get("area", _ABSENT) is None:
                without_area.append(position)
            annotations.append(Annotation(bbox_xywh=None if box is _ABSENT else box, **values))
            positions.append(position)
    unusable = {"bbox_missing": frozenset(without_box), "area_missing": frozenset(without_area)}
    return annotations, positions, unusable


_ABSENT: Any = object()


def _first_of_each_id(kind: str, records: Sequence[_Record], log: FindingLog) -> list[_Record]:
    first: dict[Id, _Record] = {}
    for record in records:
        if first.setdefault(record.id, record) is not record:
            image_id = record.id if kind == "image" else None
            name = "" if kind == "image" else f"{kind} {record.id}: "
            owners = " and ".join(map(_name, (first[record.id], record)))
            message = f"{name}the id is used more than once, by {owners}"
            log.add(f"{kind}_id_duplicate", message, image_id=image_id)
    return list(first.values())


def _name(record: ImageRecord | Category) -> str:
    return repr(record.name) if isinstance(record, Category) else record.file_name


def _valid_references(
    annotations: Sequence[Annotation],
    sizes_hw: Mapping[Id, tuple[int, int]],
    image_ids: frozenset[Id],
    category_ids: frozenset[Id],
    usable_category_ids: frozenset[Id],
    meant: tuple[Mapping[Id, Id], Mapping[Id, Id]],
    log: FindingLog,
) -> tuple[list[int], frozenset[Id]]:
    """The positions of annotations with a unique id, a valid image_id and a valid category_id.

    Also the ids of images with an RLE whose height and width are exchanged.

    An annotation of an invalid image or category is dropped without a finding of its own. The invalid record
    has one already.
    """
    listed = ", ".join(map(str, sorted(category_ids, key=_id_order)[:20])) or "none"
    seen: set[Id] = set()
    keep = []
    turned: set[Id] = set()
    for index, item in enumerate(annotations):
        ids: dict[str, Any] = {"image_id": item.image_id, "annotation_id": item.id}
        valid = item.image_id in sizes_hw and item.category_id in usable_category_ids
        if item.id in seen:
            log.add("annotation_id_duplicate", "the id is used more than once", **ids)
            valid = False
        seen.add(item.id)
        if item.image_id not in image_ids:
            message, hint = _with_meaning(
                f"no image has the id {item.image_id}", "image", meant[0].get(item.image_id)
            )
            log.add("image_id_dangling", message, hint=hint, **ids)
        if item.category_id not in category_ids:
            message = f"has category_id {item.category_id}, but the file lists {listed}"
            message, hint = _with_meaning(message, "category", meant[1].get(item.category_id))
            log.add("category_id_dangling", message, hint=hint, **ids)
            valid = False
        if valid and isinstance(item.segmentation, Mapping):
            size = sizes_hw[item.image_id]
            valid = tuple(item.segmentation["size"]) == size
            if not valid:
                record = {"segmentation": item.segmentation, "bbox": item.bbox_xywh, "area": item.area}
                found = explain(record, size)
                log.add(found.code, f"segmentation {found.message}", hint=found.hint, **ids)
                if tuple(item.segmentation["size"]) == size[::-1]:
                    turned.add(item.image_id)
        if valid:
            keep.append(index)
    return keep, frozenset(turned)


def _with_meaning(message: str, kind: str, id: Id | None) -> tuple[str, str | None]:
    """Message and hint about a reference that means the record ``id``."""
    if id is None:
        return message, None
    return (
        f"{message}; {kind} {id} is meant",
        f"Let CheckDataset.fix.enable=True write {kind}_id {id} in a copy.",
    )


def _id_order(id: Id) -> tuple[bool, Id]:
    """A sort key: numbers before text."""
    return isinstance(id, str), id
