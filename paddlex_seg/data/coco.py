"""COCO files, the pictures they list and the masks they hold: the only reader and writer of the format.

A data set is a folder with ``images/`` and ``annotations/instance_train.json`` and ``instance_val.json``.
"""

import json
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, Instances, Rle


@dataclass(frozen=True)
class DatasetPaths:
    """Where the parts of a data set lie. The JSON files may not exist yet, before a conversion."""

    root: Path
    image_dir: Path
    train_json: Path
    val_json: Path


def dataset_paths(dataset_dir: Path) -> DatasetPaths:
    """The parts of the data set in ``dataset_dir``, or in the one folder right below it that has ``images/``.

    Raises DatasetError when there is no such folder or more than one.
    """
    root = _dataset_root(dataset_dir)
    annotations = root / "annotations"
    return DatasetPaths(
        root=root,
        image_dir=root / "images",
        train_json=annotations / "instance_train.json",
        val_json=annotations / "instance_val.json",
    )


def read_coco(path: Path) -> CocoFile:
    """The annotation file at ``path`` (UTF-8). ``bbox``, ``area`` and ``iscrowd`` may be absent.

    File names come back with forward slashes. Raises DatasetError with every structural problem of the file:
    no JSON, missing keys, wrong kinds of values, duplicate ids, references to nothing, broken segmentations.
    """
    document = _load_document(path)
    problems: list[str] = []
    entries = {key: _entries(document, key, problems) for key in ("images", "categories", "annotations")}
    images = _read_images(entries["images"], problems)
    categories = _read_categories(entries["categories"], problems)
    annotations = _read_annotations(entries["annotations"], problems)
    for kind, records in (("image", images), ("category", categories), ("annotation", annotations)):
        problems += _duplicate_ids(kind, records)
    # A broken record would also show up as a missing target of every reference to it.
    if not problems:
        problems += _dangling_references(images, annotations, categories)
        problems += _misfitting_rles(images, annotations)
    if problems:
        raise DatasetError(summarize_problems(str(path), problems))
    return CocoFile(
        path=path,
        images=tuple(images),
        annotations=tuple(annotations),
        categories=tuple(categories),
        extra={key: value for key, value in document.items() if key not in entries},
    )


def write_coco(coco: CocoFile, path: Path) -> None:
    """Write ``coco`` to ``path``, all or nothing. ``read_coco`` gives back what it holds, except its path.

    RLE counts that are bytes in memory are written, and read back, as text.
    """
    document = {
        **coco.extra,
        "images": [vars(record) for record in coco.images],
        "annotations": [_annotation_entry(annotation) for annotation in coco.annotations],
        "categories": [vars(category) for category in coco.categories],
    }
    _replace_text(path, json.dumps(document, ensure_ascii=False, allow_nan=False))


def same_categories(train: CocoFile, val: CocoFile) -> None:
    """Nothing, when both files list the same ids and names in the same order.

    Raises DatasetError saying how they differ: a class index is a position in this list, so that with another
    order or other names a class would be evaluated against the masks of a different one.
    """
    expected_in, found_in = train.path.name, val.path.name
    names, other_names = _id_to_name(train.categories), _id_to_name(val.categories)
    lists = [(names, found_in, other_names), (other_names, expected_in, names)]
    differences = [
        f"{place} lacks category {id} ({owners[id]})"
        for owners, place, others in lists
        for id in owners
        if id not in others
    ]
    differences += [
        f"category {id} is {names[id]!r} in {expected_in} and {other_names[id]!r} in {found_in}"
        for id in names
        if id in other_names and names[id] != other_names[id]
    ]
    if not differences and list(names) != list(other_names):
        differences = [
            f"the order of the ids is {list(names)} in {expected_in} and {list(other_names)} in {found_in}"
        ]
    if differences:
        where = f"categories of {expected_in} and {found_in} (both need the same list)"
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


def image_path(image_dir: Path, file_name: str) -> Path:
    """Where the picture ``file_name`` of an annotation file lies; back-slashes count as slashes.

    Raises DatasetError when the name is absolute or leads out of ``image_dir``.
    """
    name = file_name.replace("\\", "/")
    inside = PurePosixPath(os.path.normpath(name or "."))
    absolute = inside.is_absolute() or PureWindowsPath(name).drive
    if absolute or inside.parts[:1] in ((), ("..",)) or "\0" in name:
        raise DatasetError(
            f"file_name {file_name!r} does not name a picture inside {image_dir}. "
            "Give it relative to the folder of the pictures and move the picture there."
        )
    return image_dir / inside


@dataclass(frozen=True)
class PictureSize:
    """Height and width of a picture as its pixels are stored, and as its EXIF orientation wants it shown."""

    stored_hw: tuple[int, int]
    shown_hw: tuple[int, int]


def picture_size(path: Path) -> PictureSize:
    """The sizes in the header of a picture; pixels are not read. Raises DatasetError if it has no header."""
    with _naming(path), Image.open(path) as picture:
        return _size(picture, _orientation(picture))


def load_image(path: Path, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3], RGB, turned as its EXIF orientation says, as labelling tools show it.

    size_hw: the size that the annotations are made for. A picture that has this size only without turning
    stays unturned. Gray, palette and CMYK become RGB, alpha is dropped, 16-bit gray is divided by 257.
    Raises DatasetError when the file is missing, damaged, no picture, too large for Pillow's limit, or of
    another size than ``size_hw`` both ways.
    """
    with _naming(path), Image.open(path) as picture:
        orientation = _orientation(picture)
        size = _size(picture, orientation)
        turn = size_hw is None or size.shown_hw == size_hw
        if not turn and size.stored_hw != size_hw:
            raise DatasetError(
                f"{path}: the picture is {size.shown_hw} (height, width), its annotations say {size_hw}. "
                "Correct the annotation file, or put back the picture that was annotated."
            )
        transpose = _TRANSPOSE_OF_ORIENTATION.get(orientation)
        upright = picture.transpose(transpose) if turn and transpose is not None else picture
        return _to_rgb(upright, path)


def summarize_problems(where: str, problems: Sequence[str], shown: int = 20) -> str:
    """One message for many problems: the first ones in full, and how many more there are."""
    more = len(problems) - shown
    lines = [f"{where}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", *problems[:shown]]
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


def _load_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: the file does not exist. Convert or copy the annotations to it."
        ) from None
    except OSError as error:
        raise DatasetError(f"{path}: the file cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error}). Export the annotations again.") from error
    if not isinstance(document, dict):
        raise DatasetError(
            f"{path}: the top level is a {type(document).__name__}; a COCO annotation file is an object with "
            "the keys images, annotations and categories."
        )
    return document


def _entries(document: Mapping[str, Any], key: str, problems: list[str]) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list):
        found = f"is a {type(entries).__name__}" if key in document else "is missing"
        problems.append(f"the key {key!r} {found}; expected a list")
        return []
    problems += [
        f"{key}[{i}] is not an object" for i, entry in enumerate(entries) if not isinstance(entry, dict)
    ]
    return [entry for entry in entries if isinstance(entry, dict)]


def _read_images(entries: Sequence[dict[str, Any]], problems: list[str]) -> list[ImageRecord]:
    fields = {"id": _whole, "file_name": _file_name, "width": _positive, "height": _positive}
    return [ImageRecord(**values) for values in _valid("image", entries, fields, {}, problems)]


def _read_categories(entries: Sequence[dict[str, Any]], problems: list[str]) -> list[Category]:
    optional = {"supercategory": _any_text}
    return [
        Category(**values)
        for values in _valid("category", entries, {"id": _whole, "name": _text}, optional, problems)
    ]


def _read_annotations(entries: Sequence[dict[str, Any]], problems: list[str]) -> list[Annotation]:
    needed = {"id": _whole, "image_id": _whole, "category_id": _whole, "segmentation": _segmentation}
    optional = {"bbox": _box, "area": _number, "iscrowd": _flag}
    annotations = []
    for values in _valid("annotation", entries, needed, optional, problems):
        bbox = values.pop("bbox", None)
        annotations.append(Annotation(**values, bbox_xywh=bbox))
    return annotations


_Reader = Callable[[Any], Any]


class _Wrong(Exception):
    """A value is not what the format asks for; the text says what is wrong or what was expected."""


def _valid(
    kind: str,
    entries: Sequence[dict[str, Any]],
    needed: Mapping[str, _Reader],
    optional: Mapping[str, _Reader],
    problems: list[str],
) -> Iterator[dict[str, Any]]:
    """The values of the sound entries; what is wrong with the others goes to ``problems``."""
    readers = {**needed, **optional}
    for position, entry in enumerate(entries):
        values = {}
        wrong = [f"the key {key!r} is missing" for key in needed if key not in entry]
        for key, reader in readers.items():
            value = entry.get(key)
            if key not in entry or (value is None and key in optional):
                continue
            try:
                values[key] = reader(value)
            except _Wrong as error:
                wrong.append(f"{key} {error}")
        if wrong:
            where = f"{kind} {entry['id']}" if "id" in entry else f"{kind} at position {position}"
            problems += [f"{where}: {text}" for text in wrong]
        else:
            yield values


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise _Wrong(f"is {value!r}; expected a whole number")


def _positive(value: Any) -> int:
    number = _whole(value)
    if number <= 0:
        raise _Wrong(f"is {value!r}; expected at least 1 pixel")
    return number


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Wrong(f"is {value!r}; expected a number")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"is {value!r}; expected text")
    return value


def _text(value: Any) -> str:
    if not _any_text(value).strip():
        raise _Wrong("is empty")
    return value


def _file_name(value: Any) -> str:
    return _text(value).replace("\\", "/")


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise _Wrong(f"is {value!r}; expected 0 or 1")
    return bool(value)


def _box(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise _Wrong(f"is {value!r}; expected [x, y, width, height]")
    return tuple(_number(number) for number in value)


def _segmentation(value: Any) -> list[list[float]] | dict[str, Any]:
    if isinstance(value, dict):
        return _rle_mapping(value)
    if not isinstance(value, list):
        raise _Wrong(f"is a {type(value).__name__}; expected a list of polygons or an RLE")
    if not value:
        raise _Wrong("is empty; redraw the object or delete the annotation")
    for part in value:
        _check_polygon(part)
    return value


# Far beyond any picture; rasterising an edge takes memory in proportion to its length.
_MAX_COORDINATE = 1e6


def _check_polygon(part: Any) -> None:
    if not isinstance(part, list):
        raise _Wrong(
            f"holds a {type(part).__name__}; expected a list of polygons, each a list [x1, y1, x2, y2, ...]"
        )
    if len(part) < 6 or len(part) % 2:
        raise _Wrong(f"has a polygon of {len(part)} numbers; expected an even count, 6 or more")
    if not set(map(type, part)) <= {int, float}:
        raise _Wrong("has a polygon with values that are not numbers")
    # Not "max(...) > limit": a comparison with NaN is False.
    if not all(-_MAX_COORDINATE <= value <= _MAX_COORDINATE for value in part):
        raise _Wrong(
            "has a polygon with values that are not pixel coordinates (infinite, NaN or beyond a million)"
        )


def _rle_mapping(value: dict[str, Any]) -> dict[str, Any]:
    size, counts = value.get("size"), value.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or any(type(side) is not int or side < 1 for side in size)
    ):
        raise _Wrong(f"is an RLE of size {size!r}; expected [height, width]")
    runs = _run_lengths(counts)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise _Wrong(f"is an RLE whose runs cover {runs.sum()} pixels; its size has {size[0] * size[1]}")
    return value


def _run_lengths(counts: Any) -> NDArray[np.int64]:
    """The runs of an RLE. A wrong sum would make pycocotools write outside the mask: nothing is assumed."""
    if isinstance(counts, list):
        if not set(map(type, counts)) <= {int} or any(not 0 <= run < 2**32 for run in counts):
            raise _Wrong("is an RLE with counts that are not whole numbers of pixels")
        return np.array(counts, np.int64)
    if not isinstance(counts, str) or not counts:
        raise _Wrong(f"is an RLE with counts of type {type(counts).__name__}; expected a list or text")
    if not counts.isascii():
        raise _Wrong("is an RLE whose text is damaged")
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise _Wrong("is an RLE whose text is damaged")
    return _decode_runs(codes)


def _decode_runs(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """COCO's code: 5 bits a character, lowest first, and one for more to come.

    From the fourth run on, a number is the difference to the run two places before.
    """
    ends = (codes & 32) == 0
    starts = np.flatnonzero(np.concatenate([[True], ends[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:  # 35 bits: more than any picture has pixels
        raise _Wrong("is an RLE whose text is damaged")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _duplicate_ids(kind: str, records: Iterable[ImageRecord | Category | Annotation]) -> list[str]:
    seen: set[int] = set()
    twice: dict[int, None] = {}
    for record in records:
        if record.id in seen:
            twice[record.id] = None
        seen.add(record.id)
    return [f"{kind} {id}: the id is used more than once; give each {kind} its own" for id in twice]


def _dangling_references(
    images: Sequence[ImageRecord], annotations: Sequence[Annotation], categories: Sequence[Category]
) -> Iterator[str]:
    image_ids = {image.id for image in images}
    category_ids = {category.id for category in categories}
    listed = ", ".join(map(str, sorted(category_ids)[:20]))
    for item in annotations:
        if item.image_id not in image_ids:
            yield f"annotation {item.id}: no image has the id {item.image_id}; add the image or delete this"
        if item.category_id not in category_ids:
            yield (
                f"annotation {item.id}: uses category {item.category_id}, but the file lists "
                f"{listed or 'none'}; add the category or remap it"
            )


def _misfitting_rles(images: Sequence[ImageRecord], annotations: Sequence[Annotation]) -> Iterator[str]:
    size_of_id = {image.id: [image.height, image.width] for image in images}
    for item in annotations:
        if isinstance(item.segmentation, Mapping) and item.image_id in size_of_id:
            if item.segmentation["size"] != size_of_id[item.image_id]:
                yield (
                    f"annotation {item.id}: its RLE is of size {item.segmentation['size']} (height, width), "
                    f"but image {item.image_id} is {size_of_id[item.image_id]}; correct one of them"
                )


def _annotation_entry(annotation: Annotation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": annotation.id,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "segmentation": _segmentation_entry(annotation.segmentation),
        "iscrowd": int(annotation.iscrowd),
    }
    if annotation.bbox_xywh is not None:
        entry["bbox"] = list(annotation.bbox_xywh)
    if annotation.area is not None:
        entry["area"] = annotation.area
    return entry


def _segmentation_entry(
    segmentation: list[list[float]] | Mapping[str, Any],
) -> list[list[float]] | dict[str, Any]:
    if not isinstance(segmentation, Mapping):
        return segmentation
    counts = segmentation["counts"]
    return {**segmentation, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _replace_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # a temporary file is private to its owner, a data set is not
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _id_to_name(categories: Sequence[Category]) -> dict[int, str]:
    return {category.id: category.name for category in categories}


# What turns a stored picture upright, by its EXIF orientation; 1 is upright already.
_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION_TAG = 0x0112

# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what Pillow raises on a bad picture into a DatasetError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: the picture does not exist. Copy it there or remove it from the list."
        ) from None
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: the picture is too large ({error}). Cut it into tiles.") from error
    except _DECODER_ERRORS as error:
        raise DatasetError(f"{path}: not a readable picture ({error}). Replace or remove it.") from error


def _orientation(picture: Image.Image) -> int:
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # getexif() would decode all pixels of a PNG to look for it behind them
    try:
        return picture.getexif().get(_EXIF_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:  # damaged metadata do not spoil the pixels
        return 1


def _size(picture: Image.Image, orientation: int) -> PictureSize:
    width, height = picture.size
    lies_on_its_side = orientation in (5, 6, 7, 8)
    return PictureSize(
        stored_hw=(height, width), shown_hw=(width, height) if lies_on_its_side else (height, width)
    )


def _to_rgb(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    if picture.mode == "F" or picture.mode.startswith("I"):
        gray = np.asarray(picture)
        if picture.mode == "F" or gray.min() < 0 or gray.max() > 65535:
            raise DatasetError(
                f"{path}: pixels with fractions or outside 0..65535 are not supported. Scale them to 8 bits."
            )
        return np.repeat(np.rint(gray / 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))
