"""COCO files and the masks they hold: the only reader and writer of the format.

A data set is a folder with ``images/`` and ``annotations/instance_train.json`` and ``instance_val.json``.
"""

import gc
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_tools

from paddlex_seg.data.findings import Finding, FindingLog, finding
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import recover, replace_file
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, Instances, Rle

_Record = TypeVar("_Record", ImageRecord, Category)


@dataclass(frozen=True)
class DatasetPaths:
    """Where the parts of a data set lie. The JSON files may not exist yet, before a conversion."""

    root: Path
    image_dir: Path
    train_json: Path
    val_json: Path
    test_json: Path  # optional: pictures that are kept apart


def dataset_paths(dataset_dir: Path) -> DatasetPaths:
    """The parts of the data set in ``dataset_dir``, or in the one folder right below it that has ``images/``.

    What a killed conversion or split began there is completed first. Raises DatasetError when there is no
    such folder or more than one.
    """
    root = _dataset_root(dataset_dir)
    recover(root)
    annotations = root / "annotations"
    return DatasetPaths(
        root=root,
        image_dir=root / "images",
        train_json=annotations / "instance_train.json",
        val_json=annotations / "instance_val.json",
        test_json=annotations / "instance_test.json",
    )


@dataclass(frozen=True)
class ParsedCoco:
    """An annotation file read record by record: the sound ones, and what is wrong with the others."""

    coco: CocoFile
    log: FindingLog  # errors of single records, and warnings about file names
    positions: Sequence[int]  # of each of ``coco.annotations`` in the list of the file
    # What all records name, broken ones included: a picture whose only mask is broken has an object.
    annotated_image_ids: frozenset[int]
    used_category_ids: frozenset[int]


def parse_coco(document: Any, path: Path) -> ParsedCoco:
    """The records of what `load_document` gave. Nothing is raised: every problem is a finding.

    ``bbox``, ``area`` and ``iscrowd`` may be absent. File names come back with forward slashes. Of two
    records with one id, the first one counts. The list of annotations in ``document`` is emptied on the way,
    so that two forms of a large file need not fit into memory.
    """
    log = FindingLog(path.name)
    if not isinstance(document, dict):
        log.add("json_top_level", f"the top level is a {type(document).__name__}, not an object")
        document = {"images": [], "categories": [], "annotations": []}
    entries = {key: _entries(document, key, log) for key in ("images", "categories", "annotations")}
    images = _first_of_each_id("image", _read_images(entries["images"], log), log)
    categories = _first_of_each_id("category", _read_categories(entries["categories"], log), log)
    image_ids, category_ids = (_ids(entries[key]) for key in ("images", "categories"))
    annotated, used = (_ids(entries["annotations"], key) for key in ("image_id", "category_id"))
    annotations, positions = _read_annotations(entries["annotations"], log)
    usable = frozenset(category.id for category in categories)
    keep = _sound_references(annotations, images, image_ids, category_ids, usable, log)
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
        annotated_image_ids=annotated,
        used_category_ids=used,
    )


def read_coco(path: Path) -> CocoFile:
    """The annotation file at ``path`` (UTF-8), in which every record is sound.

    Raises DatasetError with every structural problem of the file: no JSON, missing keys, wrong kinds of
    values, duplicate ids, references to nothing, broken segmentations.
    """
    parsed = parse_coco(load_document(path), path)
    problems = [_in_file(finding) for finding in parsed.log.kept if finding.severity == "error"]
    if problems:
        count = parsed.log.num_errors
        raise DatasetError(summarize_problems(str(path), problems, count=count))
    return parsed.coco


def load_document(path: Path) -> Any:
    """What the JSON file holds. Raises UnreadableFile, which says by its code what is wrong."""
    try:
        with _collector_paused():
            return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UnreadableFile(path, "json_missing", "the file does not exist") from None
    except OSError as error:
        raise UnreadableFile(path, "json_unreadable", f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(path, "json_unreadable", f"not UTF-8 (byte {error.start})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnreadableFile(path, "json_unreadable", f"not JSON ({error})") from error


class UnreadableFile(DatasetError):
    """An annotation file that cannot be read at all."""

    def __init__(self, path: Path, code: str, message: str) -> None:
        self.finding = finding(code, path.name, message)
        super().__init__(f"{path}: {message}. {self.finding.hint}")


def write_coco(coco: CocoFile, path: Path) -> None:
    """Write ``coco`` to ``path``, all or nothing. ``read_coco`` gives back what it holds, except its path.

    RLE counts that are bytes in memory are written, and read back, as text.
    """
    replace_file(path, coco_to_json(coco).encode())


def coco_to_json(coco: CocoFile) -> str:
    """The text of the annotation file."""
    document = {
        **coco.extra,
        "images": [asdict(record) for record in coco.images],
        "annotations": [_annotation_entry(annotation) for annotation in coco.annotations],
        "categories": [asdict(category) for category in coco.categories],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def category_differences(train: CocoFile, other: CocoFile) -> list[tuple[str, str]]:
    """How the categories of two files differ: the code of a finding and its message, for each difference.

    Ids, names and order must agree: a class index is a position in this list, so that with another order or
    other names a class would be evaluated against the masks of a different one.
    """
    expected_in, found_in = train.path.name, other.path.name
    names, other_names = _id_to_name(train.categories), _id_to_name(other.categories)
    lists = [(names, found_in, other_names), (other_names, expected_in, names)]
    differences = [
        ("categories_differ_ids", f"{place} lacks category {id} ({owners[id]})")
        for owners, place, others in lists
        for id in owners
        if id not in others
    ]
    differences += [
        (
            "categories_differ_names",
            f"category {id} is {names[id]!r} in {expected_in} and {other_names[id]!r} in {found_in}",
        )
        for id in names
        if id in other_names and names[id] != other_names[id]
    ]
    if not differences and list(names) != list(other_names):
        order = (
            f"the order of the ids is {list(names)} in {expected_in} and {list(other_names)} in {found_in}"
        )
        differences = [("categories_differ_order", order)]
    return differences


def segmentation_to_json(
    segmentation: list[list[float]] | Mapping[str, Any],
) -> list[list[float]] | dict[str, Any]:
    """The segmentation as a file holds it: counts of an RLE that are bytes become text."""
    if not isinstance(segmentation, Mapping):
        return segmentation
    counts = segmentation["counts"]
    return {**segmentation, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def same_categories(train: CocoFile, val: CocoFile) -> None:
    """Nothing, when both files list the same ids and names in the same order; else raises DatasetError."""
    differences = [message for _, message in category_differences(train, val)]
    if differences:
        where = f"categories of {train.path.name} and {val.path.name} (both need the same list)"
        raise DatasetError(summarize_problems(where, differences))


def annotation_to_rle(annotation: Annotation, height: int, width: int) -> Rle:
    """The mask of ``annotation`` in a picture of that size in pixels: the union of its polygons, or its RLE.

    Holes of an RLE stay. Raises DatasetError when an RLE is of another size than the picture.
    """
    segmentation = annotation.segmentation
    if not isinstance(segmentation, Mapping):
        return mask_tools.merge(mask_tools.frPyObjects(segmentation, height, width))
    if list(segmentation["size"]) != [height, width]:
        raise DatasetError(
            f"annotation {annotation.id}: its RLE is of size {list(segmentation['size'])} (height, width), "
            f"but the picture is {[height, width]}. Correct the size of the picture or redraw the mask."
        )
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_tools.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=counts.encode("ascii") if isinstance(counts, str) else counts)


def annotations_to_instances(
    annotations: Sequence[Annotation], record: ImageRecord, categories: Sequence[Category]
) -> Instances:
    """The annotated objects of one picture, in file order, with score 1.

    The box is the file's where it has one, so that a drawing shows the file as it is, else the mask's.
    """
    class_of_id = {category.id: index for index, category in enumerate(categories)}
    masks = tuple(annotation_to_rle(item, record.height, record.width) for item in annotations)
    boxes = [item.bbox_xywh or mask_tools.toBbox(mask) for item, mask in zip(annotations, masks, strict=True)]
    boxes_xywh = np.array(boxes, np.float32).reshape(-1, 4)
    return Instances(
        size_hw=(record.height, record.width),
        class_ids=np.array([class_of_id[item.category_id] for item in annotations], np.int64),
        scores=np.ones(len(annotations), np.float32),
        boxes_xyxy=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1),
        masks=masks,
    )


def mask_to_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons ``[x1, y1, x2, y2, ...]`` around the pieces of ``mask`` [H, W], near the edges of its pixels.

    Holes are filled (a polygon has none) and pieces smaller than 3x3 pixels left out: keep an RLE for those.
    """
    scale = 4  # contours run through pixel centres; on a finer grid these lie close to the edges
    fine = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in contours:
        outline = cv2.approxPolyDP(contour, epsilon=0.6 * scale, closed=True)
        if len(outline) >= 3 and cv2.contourArea(contour) >= 9 * (scale - 1) ** 2:
            corners = np.round((outline.reshape(-1).astype(np.float64) + 0.5) / scale, 2)
            polygons.append(corners.tolist())
    return sorted(polygons)


def summarize_problems(
    where: str, problems: Sequence[str], *, count: int | None = None, shown: int = 20
) -> str:
    """One message for many problems: the first ones in full, and how many more of ``count`` there are."""
    count = len(problems) if count is None else count
    more = count - min(shown, len(problems))
    lines = [f"{where}: {count} problem{'s' if count > 1 else ''}", *problems[:shown]]
    return "\n  ".join(lines + [f"... and {more} more"] * (more > 0))


def _dataset_root(dataset_dir: Path) -> Path:
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: there is no such folder. Set Global.dataset_dir to the data set.")
    if (dataset_dir / "images").is_dir():
        return dataset_dir
    nested = sorted(child for child in dataset_dir.iterdir() if (child / "images").is_dir())
    if not nested:
        raise DatasetError(
            f"{dataset_dir}: no folder 'images' in it or right below it. Expected images/ and annotations/."
        )
    if len(nested) > 1:
        names = ", ".join(child.name for child in nested)
        raise DatasetError(
            f"{dataset_dir}: several data sets in it ({names}). Set Global.dataset_dir to one of them."
        )
    return nested[0]


def _in_file(item: Finding) -> str:
    record = (
        f"annotation {item.annotation_id}: "
        if item.annotation_id is not None
        else f"image {item.image_id}: "
        if item.image_id is not None
        else ""
    )
    return f"{record}{item.message}. {item.hint}"


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without Python's search for reference cycles, which takes longer than the reading of a large file."""
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
        found = f"is a {type(entries).__name__}" if key in document else "is missing"
        log.add("key_missing", f"the key {key!r} {found}; expected a list")
        return []
    return entries


def _ids(entries: Iterable[Any], key: str = "id") -> frozenset[int]:
    """The whole numbers under ``key``, of broken records too."""
    values = (_id_or_none(entry.get(key)) for entry in entries if isinstance(entry, dict))
    return frozenset(value for value in values if value is not None)


def _read_images(entries: Sequence[Any], log: FindingLog) -> list[ImageRecord]:
    images = []
    for position, entry in enumerate(entries):
        values = _read_entry("image", position, entry, _IMAGE_FIELDS, {}, log)
        if values is None:
            continue
        raw = values["file_name"]
        if "\\" in raw:
            values["file_name"] = raw.replace("\\", "/")
            log.add("file_name_backslash", f"{raw!r} has back-slashes", image_id=values["id"])
        images.append(ImageRecord(**values))
    return images


def _read_categories(entries: Sequence[Any], log: FindingLog) -> list[Category]:
    rows = (
        _read_entry("category", position, entry, _CATEGORY_FIELDS, _CATEGORY_OPTIONS, log)
        for position, entry in enumerate(entries)
    )
    return [Category(**values) for values in rows if values is not None]


def _read_annotations(entries: list[Any], log: FindingLog) -> tuple[list[Annotation], list[int]]:
    """The sound annotations and their places in ``entries``, which is emptied."""
    annotations, positions = [], []
    with _collector_paused():
        for position, entry in enumerate(entries):
            entries[position] = None
            values = _read_entry("annotation", position, entry, _ANNOTATION_FIELDS, _ANNOTATION_OPTIONS, log)
            if values is not None:
                annotations.append(Annotation(bbox_xywh=values.pop("bbox", None), **values))
                positions.append(position)
    return annotations, positions


_Reader = Callable[[Any], Any]


class _Wrong(Exception):
    """A value is not what the format asks for; the text says what is wrong or what was expected."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code  # None: that of the record


def _read_entry(
    kind: str,
    position: int,
    entry: Any,
    needed: Mapping[str, _Reader],
    optional: Mapping[str, _Reader],
    log: FindingLog,
) -> dict[str, Any] | None:
    """The values of a record, or None and findings that say what is wrong with it."""
    if not isinstance(entry, dict):
        log.add(f"{kind}_entry_invalid", f"{kind} at position {position} is not an object")
        return None
    values: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for readers, may_be_absent in ((needed, False), (optional, True)):
        for key, read in readers.items():
            value = entry.get(key, _ABSENT)
            if value is _ABSENT or (value is None and may_be_absent):
                if not may_be_absent:
                    code = "segmentation_missing" if key == "segmentation" else f"{kind}_entry_invalid"
                    wrong.append((code, f"the key {key!r} is missing"))
                continue
            try:
                values[key] = read(value)
            except _Wrong as error:
                wrong.append((error.code or f"{kind}_entry_invalid", f"{key} {error}"))
    for code, text in wrong:
        _log_broken_entry(kind, position, entry, code, text, log)
    return None if wrong else values


_ABSENT = object()


def _log_broken_entry(
    kind: str, position: int, entry: Mapping[str, Any], code: str, text: str, log: FindingLog
) -> None:
    id = _id_or_none(entry.get("id"))
    if kind == "annotation":
        image_id = _id_or_none(entry.get("image_id"))
        place = "" if id is not None else f"annotation at position {position}: "
        log.add(code, place + text, image_id=image_id, annotation_id=id)
    elif kind == "image" and id is not None:
        log.add(code, text, image_id=id)
    else:
        name = f"{kind} at position {position}" if id is None else f"{kind} {id}"
        log.add(code, f"{name}: {text}")


def _id_or_none(value: Any) -> int | None:
    return int(value) if type(value) is int or _is_whole_float(value) else None


def _is_whole_float(value: Any) -> bool:
    return type(value) is float and value.is_integer()


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if _is_whole_float(value):
        return int(value)
    raise _Wrong(f"is {_shown(value)}; expected a whole number")


def _positive(value: Any) -> int:
    number = _whole(value)
    if number <= 0:
        raise _Wrong(f"is {value!r}; expected at least 1 pixel")
    return number


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Wrong(f"is {_shown(value)}; expected a number")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"is {_shown(value)}; expected text")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can name half a character, which no file can hold
        raise _Wrong(f"is {_shown(value)}, which is no text in UTF-8") from None
    return value


def _text(value: Any) -> str:
    if not _any_text(value).strip():
        raise _Wrong("is empty")
    return value


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise _Wrong(f"is {_shown(value)}; expected 0 or 1")
    return bool(value)


def _box(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise _Wrong(f"is {_shown(value)}; expected [x, y, width, height]")
    return tuple(_number(number) for number in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _segmentation(value: Any) -> list[list[float]] | dict[str, Any]:
    if isinstance(value, list) and value:
        for part in value:
            _check_polygon(part)
        return value
    if isinstance(value, dict):
        return _rle_mapping(value)
    if isinstance(value, list):
        raise _Wrong("is empty", "segmentation_empty")
    if value is None:
        raise _Wrong("is null", "segmentation_missing")
    raise _Wrong(
        f"is a {type(value).__name__}; expected a list of polygons or an RLE", "segmentation_invalid"
    )


# Far beyond any picture; rasterising an edge takes memory in proportion to its length.
_MAX_COORDINATE = 1e6


def _check_polygon(part: Any) -> None:
    if not isinstance(part, list):
        flat = type(part) in (int, float)
        raise _Wrong(
            f"holds a {type(part).__name__}; expected a list of polygons, each a list [x1, y1, x2, y2, ...]",
            "polygon_flat_list" if flat else "segmentation_invalid",
        )
    if len(part) % 2:
        raise _Wrong(f"has a polygon of {len(part)} numbers; expected an even count", "polygon_odd")
    if len(part) < 6:
        raise _Wrong(
            f"has a polygon of {len(part)} numbers; a polygon has three points, or more",
            "polygon_too_few_points",
        )
    if not set(map(type, part)) <= {int, float}:
        raise _Wrong("has a polygon with values that are not numbers", "polygon_nan")
    # A sum is infinite or NaN if one of its terms is; min and max overlook NaN.
    if not math.isfinite(sum(part)) or max(part) > _MAX_COORDINATE or min(part) < -_MAX_COORDINATE:
        raise _Wrong(
            "has a polygon with values that are not pixel coordinates (infinite, NaN or beyond a million)",
            "polygon_nan",
        )


def _rle_mapping(value: dict[str, Any]) -> dict[str, Any]:
    size, counts = value.get("size"), value.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or any(type(side) is not int or side < 1 for side in size)
    ):
        raise _Wrong(f"is an RLE of size {_shown(size)}; expected [height, width]", "rle_damaged")
    runs = _run_lengths(counts)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise _Wrong(
            f"is an RLE whose runs cover {runs.sum()} pixels; its size has {size[0] * size[1]}", "rle_damaged"
        )
    return value


def _run_lengths(counts: Any) -> NDArray[np.int64]:
    """The runs of an RLE. A wrong sum would make pycocotools write outside the mask: nothing is assumed."""
    if isinstance(counts, list):
        if not set(map(type, counts)) <= {int} or any(not 0 <= run < 2**32 for run in counts):
            raise _Wrong("is an RLE with counts that are not whole numbers of pixels", "rle_damaged")
        return np.array(counts, np.int64)
    if not isinstance(counts, str) or not counts:
        raise _Wrong(
            f"is an RLE with counts of type {type(counts).__name__}; expected a list or text", "rle_damaged"
        )
    if not counts.isascii():
        raise _Wrong("is an RLE whose text is damaged", "rle_damaged")
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise _Wrong("is an RLE whose text is damaged", "rle_damaged")
    return _decode_runs(codes)


def _decode_runs(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """COCO's code: 5 bits a character, lowest first, and one for more to come.

    From the fourth run on, a number is the difference to the run two places before.
    """
    ends = (codes & 32) == 0
    starts = np.flatnonzero(np.concatenate([[True], ends[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:  # 35 bits: more than any picture has pixels
        raise _Wrong("is an RLE whose text is damaged", "rle_damaged")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


_IMAGE_FIELDS: dict[str, _Reader] = {
    "id": _whole,
    "file_name": _text,
    "width": _positive,
    "height": _positive,
}
_CATEGORY_FIELDS: dict[str, _Reader] = {"id": _whole, "name": _text}
_CATEGORY_OPTIONS: dict[str, _Reader] = {"supercategory": _any_text}
_ANNOTATION_FIELDS: dict[str, _Reader] = {
    "id": _whole,
    "image_id": _whole,
    "category_id": _whole,
    "segmentation": _segmentation,
}
_ANNOTATION_OPTIONS: dict[str, _Reader] = {"bbox": _box, "area": _number, "iscrowd": _flag}


def _first_of_each_id(kind: str, records: Sequence[_Record], log: FindingLog) -> list[_Record]:
    first: dict[int, _Record] = {}
    for record in records:
        if first.setdefault(record.id, record) is not record:
            image_id = record.id if kind == "image" else None
            name = "" if kind == "image" else f"{kind} {record.id}: "
            log.add(f"{kind}_id_duplicate", f"{name}the id is used more than once", image_id=image_id)
    return list(first.values())


def _sound_references(
    annotations: Sequence[Annotation],
    images: Sequence[ImageRecord],
    image_ids: frozenset[int],
    category_ids: frozenset[int],
    usable_category_ids: frozenset[int],
    log: FindingLog,
) -> list[int]:
    """The places of the annotations whose id is their own, and which belong to a picture and to a category.

    A reference to a broken record is no finding of its own, but the annotation cannot be used either.
    """
    size_of_id = {image.id: [image.height, image.width] for image in images}
    listed = ", ".join(map(str, sorted(category_ids)[:20])) or "none"
    seen: set[int] = set()
    keep = []
    for index, item in enumerate(annotations):
        ids: dict[str, Any] = {"image_id": item.image_id, "annotation_id": item.id}
        sound = item.image_id in size_of_id and item.category_id in usable_category_ids
        if item.id in seen:
            log.add("annotation_id_duplicate", "the id is used more than once", **ids)
            sound = False
        seen.add(item.id)
        if item.image_id not in image_ids:
            log.add("image_id_dangling", f"no image has the id {item.image_id}", **ids)
        if item.category_id not in category_ids:
            log.add(
                "category_id_dangling",
                f"uses category {item.category_id}, but the file lists {listed}",
                **ids,
            )
            sound = False
        if sound and isinstance(item.segmentation, Mapping):
            sound = item.segmentation["size"] == size_of_id[item.image_id]
            if not sound:
                log.add(
                    "rle_size_mismatch",
                    f"its RLE is of size {item.segmentation['size']} (height, width), "
                    f"but image {item.image_id} is {size_of_id[item.image_id]}",
                    **ids,
                )
        if sound:
            keep.append(index)
    return keep


def _annotation_entry(annotation: Annotation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": annotation.id,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "segmentation": segmentation_to_json(annotation.segmentation),
        "iscrowd": int(annotation.iscrowd),
    }
    if annotation.bbox_xywh is not None:
        entry["bbox"] = list(annotation.bbox_xywh)
    if annotation.area is not None:
        entry["area"] = annotation.area
    return entry


def _id_to_name(categories: Sequence[Category]) -> dict[int, str]:
    return {category.id: category.name for category in categories}
