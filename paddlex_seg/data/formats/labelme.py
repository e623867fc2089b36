"""LabelMe: one JSON file of shapes for each picture.

The reader takes files of all versions, from those without ``version`` and ``shape_type`` on. The writer loses
nothing: what polygons cannot hold becomes a shape of type ``mask``.
"""

import base64
import binascii
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry import LineString, Polygon

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import (
    SourceObject,
    SourcePicture,
    assemble_splits,
    labels_in_order,
)
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.outlines import join_rings
from paddlex_seg.data.formats.source_files import (
    IGNORED_LABELS,
    SPLITS,
    PictureNames,
    agreed_size,
    decode_text,
    embedded_size,
    files_below,
    picture_sizes,
    read_class_names,
    read_split_lists,
)
from paddlex_seg.data.formats.target_files import (
    annotations_by_image,
    class_names,
    inside_name,
    place_picture,
    unused,
    write_lines,
)
from paddlex_seg.data.images import DECODER_ERRORS, IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, merge_rles, polygons_to_rle, rle_to_mask
from paddlex_seg.structures import Annotation, CocoFile, ImageRecord, Rle

VERSION = "5.5.0"  # the LabelMe whose form of file is written


def read_labelme(root: Path) -> Conversion:
    """The data set in ``root``: pictures in ``images/``, LabelMe files anywhere, lists and classes if there.

    ``train_anno_list.txt`` (``val_``, ``test_``) name the files of a split, one path below ``root`` a line.
    ``label.txt`` gives the classes and their order; without it, they come in the order of first appearance.
    Raises DatasetError when there is no LabelMe file at all.
    """
    findings: list[Finding] = []
    names_of_split = read_split_lists({split: root / f"{split}_anno_list.txt" for split in SPLITS})
    listed = bool(names_of_split)
    if not listed:
        names_of_split = {ALL: _scan(root)}
    drafts = _read_drafts(root, names_of_split, listed, findings)
    if not drafts and not findings:
        raise DatasetError(
            f"{root}: no LabelMe file in it. Expected *.json files with the key 'shapes', usually in "
            "annotations/, and the pictures in images/."
        )
    names = PictureNames(root)
    known = read_class_names(root)
    pictures = _finish_drafts(root, drafts, names, known, findings)
    splits = {
        split: [pictures[name] for name in members if name in pictures]
        for split, members in names_of_split.items()
    }
    return Conversion(
        splits=assemble_splits(root, splits, labels_in_order(splits) if known is None else known),
        findings=tuple(findings),
        pictures=names.to_place,
        list_lines={picture.file_name: name for name, picture in pictures.items()},
    )


def write_labelme(splits: Mapping[str, CocoFile], image_dir: Path, folder: Path) -> list[Finding]:
    """Write the data set into ``folder``: pictures, LabelMe files, lists of the splits, and ``label.txt``.

    A polygon stays one; several of an object share a ``group_id``; an RLE becomes a mask, and so does a crowd
    region, with the flag ``iscrowd``. ``read_labelme`` gives the same objects back.
    """
    findings: list[Finding] = []
    taken: set[PurePosixPath] = set()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for split, coco in splits.items():
        of_image, lines = annotations_by_image(coco), []
        label_of_id = {category.id: category.name for category in coco.categories}
        for record in coco.images:
            inside = inside_name(record)
            missing = place_picture(record, image_dir, folder / "images" / inside, coco.path.name)
            findings += missing
            if missing:
                continue
            name = "annotations" / unused(inside.with_suffix(".json"), taken)
            shapes = _shapes(of_image[record.id], record, label_of_id, coco.path.name, findings)
            _write_document(folder / name, f"{'../' * (len(name.parts) - 1)}images/{inside}", record, shapes)
            lines.append(str(name))
        if split != ALL:
            write_lines(folder / f"{split}_anno_list.txt", lines)
    write_lines(folder / "label.txt", class_names(list(splits.values())))
    return findings


# ---- reading: files


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a LabelMe file says; whether it is sensible, and where the picture lies, is not known yet."""

    shapes: list[Any]
    picture: str  # imagePath with slashes
    embedded: str | None  # imageData
    listed_hw: tuple[int, int] | None


def _scan(root: Path) -> list[str]:
    """All JSON files but those that a conversion to COCO writes."""
    return [name for name in files_below(root, (".json",)) if not _is_coco_name(name)]


def _is_coco_name(name: str) -> bool:
    return PurePosixPath(name).match("annotations/instance_*.json")


def _read_drafts(
    root: Path, names_of_split: dict[str, list[str]], listed: bool, findings: list[Finding]
) -> dict[str, _Draft]:
    """The files by name. Lists lose what could not be read, and other JSON files if nobody listed them."""
    drafts: dict[str, _Draft] = {}
    failed: set[str] = set()
    for split, lines in names_of_split.items():
        names = list(dict.fromkeys(os.path.normpath(line.replace("\\", "/")) for line in lines))
        for name in names:
            if name in drafts or name in failed:
                continue
            try:
                draft = _read_draft(root / name)
            except DatasetError as error:
                findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
                draft = None
            else:
                if draft is None and listed:
                    message = "it has no list 'shapes': not a LabelMe file"
                    findings.append(finding("source_unreadable", name, message))
            if draft is None:
                failed.add(name)
            else:
                drafts[name] = draft
        names_of_split[split] = names
    return drafts


def _read_draft(path: Path) -> _Draft | None:
    """None if the file holds other JSON. Raises DatasetError if it holds none."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DatasetError(f"the file cannot be read ({error.strerror})") from error
    try:
        document = json.loads(content)
    except UnicodeDecodeError:
        document = _parse(decode_text(content, path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON ({error})") from error
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        return None
    picture, embedded = document.get("imagePath"), document.get("imageData")
    return _Draft(
        shapes=document["shapes"],
        picture=picture.replace("\\", "/") if isinstance(picture, str) else "",
        embedded=embedded if isinstance(embedded, str) and embedded else None,
        listed_hw=_listed_size(document.get("imageHeight"), document.get("imageWidth")),
    )


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON ({error})") from error


def _listed_size(height: Any, width: Any) -> tuple[int, int] | None:
    sides = [int(side) for side in (height, width) if type(side) in (int, float) and 0 < side < 1e6]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _finish_drafts(
    root: Path,
    drafts: Mapping[str, _Draft],
    names: PictureNames,
    known: Sequence[str] | None,
    findings: list[Finding],
) -> dict[str, SourcePicture]:
    finder = _PictureFinder(root)
    places = {name: finder.find(name, draft) for name, draft in drafts.items()}
    sizes = picture_sizes(place for place in places.values() if place is not None)
    pictures = {}
    for name, draft in drafts.items():
        place = places[name]
        if place is None and draft.embedded is None:
            message = f"its picture {draft.picture!r} was not found, and none is embedded; it was left out"
            findings.append(finding("image_missing", name, message))
            continue
        try:
            if place is None:
                file_name, size_hw = _embedded_picture(name, draft, names)
            else:
                size_hw = agreed_size(sizes[place], draft.listed_hw, "the size in the file")
                file_name = names.of_file(place)
        except DatasetError as error:
            findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
            continue
        objects = _read_shapes(draft.shapes, size_hw, name, known, findings)
        pictures[name] = SourcePicture(file_name=file_name, size_hw=size_hw, objects=tuple(objects))
    return pictures


def _embedded_picture(name: str, draft: _Draft, names: PictureNames) -> tuple[str, tuple[int, int]]:
    try:
        content = base64.b64decode(draft.embedded or "")
    except (binascii.Error, ValueError) as error:
        raise DatasetError(f"the embedded picture cannot be decoded ({error})") from error
    size, suffix = embedded_size(content)
    size_hw = agreed_size(size, draft.listed_hw, "the size in the file")
    wish = str(PurePosixPath(name.removeprefix("annotations/")).with_suffix(suffix))
    return names.of_bytes(content, wish), size_hw


class _PictureFinder:
    """Finds the picture of a LabelMe file, also when the data set was made on another machine."""

    def __init__(self, root: Path):
        self._root, self._image_dir = str(root), str(root / "images")
        self._stems: dict[str, str] | None = None

    def find(self, name: str, draft: _Draft) -> Path | None:
        """The picture that the file ``name``, relative to the root, is about."""
        for candidate in self._candidates(name, draft.picture):
            if os.path.isfile(candidate):
                return Path(candidate)
        return None

    def _candidates(self, name: str, picture: str) -> Iterator[str]:
        absolute = picture.startswith("/") or picture[1:2] == ":"
        if picture and not absolute:
            yield os.path.normpath(os.path.join(self._root, os.path.dirname(name), picture))
        parts = [part for part in picture.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            yield os.path.join(self._image_dir, *parts[start:])
        stem = os.path.splitext(name)[0].split("/")
        for start in range(len(stem)):
            found = self._by_stem().get("/".join(stem[start:]))
            if found is not None:
                yield os.path.join(self._image_dir, found)
        if absolute:
            yield os.path.normpath(picture)

    def _by_stem(self) -> dict[str, str]:
        if self._stems is None:
            files = files_below(Path(self._image_dir), IMAGE_SUFFIXES)
            self._stems = {os.path.splitext(file)[0]: file for file in reversed(files)}
        return self._stems


# ---- reading: shapes


class _Unfit(Exception):
    """No mask can be made of a shape; ``code`` is that of the finding, the text says why."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Group:
    """The shapes of one object so far."""

    label: str
    polygons: list[list[float]] = field(default_factory=list)
    masks: list[Rle] = field(default_factory=list)
    iscrowd: bool = False


def _read_shapes(
    shapes: Sequence[Any],
    size_hw: tuple[int, int],
    file: str,
    known: Sequence[str] | None,
    findings: list[Finding],
) -> Iterator[SourceObject]:
    """The objects; shapes of one label and ``group_id`` are one, at the place of the first."""
    groups: dict[Any, _Group] = {}
    unknown: dict[str, int] = {}
    for number, shape in enumerate(shapes, start=1):
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip():
            findings.append(finding("shape_unusable", file, f"shape {number} has no label"))
            continue
        label = label.strip()
        if label in IGNORED_LABELS:
            continue
        if known is not None and label not in known:
            unknown[label] = unknown.get(label, 0) + 1
            continue
        try:
            drawn = _draw(shape, size_hw)
        except _Unfit as error:
            message = f"shape {number} ({label}, {shape.get('shape_type') or 'polygon'}) {error}"
            findings.append(finding(error.code, file, message))
            continue
        group_id = shape.get("group_id")
        key = ("alone", number) if group_id is None else (label, str(group_id))
        group = groups.setdefault(key, _Group(label))
        if isinstance(drawn, list):
            group.polygons += drawn
        else:
            group.masks.append(drawn)
        flags = shape.get("flags")
        group.iscrowd |= isinstance(flags, dict) and flags.get("iscrowd") is True
    for label, count in unknown.items():
        findings.append(finding("label_unknown", file, f"{count} shapes have the unlisted label {label!r}"))
    for group in groups.values():
        yield SourceObject(group.label, _unite(group, size_hw), group.iscrowd)


def _unite(group: _Group, size_hw: tuple[int, int]) -> list[list[float]] | Rle:
    if not group.masks:
        return group.polygons
    drawn = [polygons_to_rle(group.polygons, size_hw)] if group.polygons else []
    return merge_rles([*group.masks, *drawn]) if len(group.masks) + len(drawn) > 1 else group.masks[0]


def _draw(shape: Mapping[str, Any], size_hw: tuple[int, int]) -> list[list[float]] | Rle:
    shape_type = shape.get("shape_type") or "polygon"
    draw = _DRAWERS.get(shape_type) if isinstance(shape_type, str) else None
    if draw is None:
        raise _Unfit("shape_unusable", f"is of an unknown type; expected one of {', '.join(_DRAWERS)}")
    return draw(_read_points(shape.get("points")), shape, size_hw)


# Far beyond any picture; rasterising an edge takes memory in proportion to its length.
_MAX_COORDINATE = 1e6


def _read_points(points: Any) -> list[list[float]]:
    if not isinstance(points, list):
        raise _Unfit("shape_unusable", "has no list of points")
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise _Unfit("shape_unusable", f"has a point {point!r}; expected [x, y]")
        for value in point:
            # Not "abs(value) > limit": a comparison with NaN is False.
            if type(value) not in (float, int) or not -_MAX_COORDINATE <= value <= _MAX_COORDINATE:
                raise _Unfit("shape_unusable", f"has a point {point!r}, which is no place in a picture")
    return points


def _draw_polygon(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    if len(points) < 3:
        raise _Unfit("shape_unusable", f"has {len(points)} points; a polygon needs 3 or more")
    return [[value for point in points for value in point]]


def _draw_rectangle(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    if len(points) == 4:
        return _draw_polygon(points, shape, size_hw)
    if len(points) != 2:
        raise _Unfit("shape_unusable", f"has {len(points)} points; expected 2 opposite corners or all 4")
    (x1, y1), (x2, y2) = points
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def _draw_oriented_rectangle(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    if len(points) != 4:
        raise _Unfit("shape_unusable", f"has {len(points)} points; expected 4 corners")
    return _draw_polygon(points, shape, size_hw)


def _draw_circle(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]]:
    """A regular polygon with the area of the disc, whose sides leave the circle by 0.02 pixels at most."""
    if len(points) != 2:
        raise _Unfit("shape_unusable", f"has {len(points)} points; expected the centre and one on the rim")
    (x, y), (rim_x, rim_y) = points
    radius = math.hypot(rim_x - x, rim_y - y)
    if radius == 0:
        raise _Unfit("shape_unusable", "has a radius of 0")
    num_corners = max(16, math.ceil(math.pi / math.sqrt(2 * 0.02 / max(radius, 0.04))))
    step = 2 * math.pi / num_corners
    reach = radius * math.sqrt(step / math.sin(step))
    angles = step * np.arange(num_corners)
    corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)
    return [corners.round(4).ravel().tolist()]


def _draw_line(
    points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]
) -> list[list[float]] | Rle:
    """A line with a width, round at its ends and turns."""
    width = _line_width(shape)
    if width is None:
        raise _Unfit("shape_without_area", "has no line_width")
    if len(points) < 2:
        raise _Unfit("shape_unusable", f"has {len(points)} points; a line needs 2 or more")
    stroke: Polygon = LineString(points).buffer(width / 2, cap_style="round", join_style="round")
    rings = [np.array(ring.coords[:-1]) for ring in (stroke.exterior, *stroke.interiors)]
    polygon = join_rings(rings).round(4).ravel().tolist()
    return [polygon] if len(rings) == 1 else polygons_to_rle([polygon], size_hw)


def _line_width(shape: Mapping[str, Any]) -> float | None:
    for value in (shape.get("line_width"), shape.get("width")):
        if isinstance(value, int | float) and 0 < value <= _MAX_COORDINATE:
            return float(value)
    return None


def _draw_point(points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Rle:
    raise _Unfit("shape_without_area", f"at {points} has no area")


def _draw_mask(points: list[list[float]], shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Rle:
    """The PNG, with its top left pixel at the first point; what lies outside the picture is cut off."""
    if not points:
        raise _Unfit("shape_unusable", "has no points; expected the corners of its box")
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.get("mask") or ""))) as picture:
            inside = np.asarray(picture) != 0
    except (*DECODER_ERRORS, TypeError, Image.DecompressionBombError) as error:
        raise _Unfit("shape_unusable", f"has a mask that is not a PNG in base64 ({error})") from error
    inside = inside if inside.ndim == 2 else inside[..., :3].any(axis=2)
    left, top = (round(value) for value in points[0])
    mask = np.zeros(size_hw, bool)
    seen = inside[max(-top, 0) :, max(-left, 0) :]
    place = mask[max(top, 0) :, max(left, 0) :]
    height, width = min(seen.shape[0], place.shape[0]), min(seen.shape[1], place.shape[1])
    place[:height, :width] = seen[:height, :width]
    return mask_to_rle(mask)


_Drawer = Callable[[list[list[float]], Mapping[str, Any], tuple[int, int]], list[list[float]] | Rle]
_DRAWERS: dict[str, _Drawer] = {
    "polygon": _draw_polygon,
    "rectangle": _draw_rectangle,
    "oriented_rectangle": _draw_oriented_rectangle,
    "rotation": _draw_oriented_rectangle,  # the same, as X-AnyLabeling names it
    "circle": _draw_circle,
    "line": _draw_line,
    "linestrip": _draw_line,
    "mask": _draw_mask,
    "point": _draw_point,
    "points": _draw_point,
}


# ---- writing


def _shapes(
    annotations: Sequence[Annotation],
    record: ImageRecord,
    label_of_id: Mapping[int, str],
    file: str,
    findings: list[Finding],
) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = []
    next_group = 1
    for annotation in annotations:
        blank: dict[str, Any] = {
            "label": label_of_id[annotation.category_id],
            "points": [],
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {"iscrowd": True} if annotation.iscrowd else {},
            "mask": None,
        }
        if isinstance(annotation.segmentation, Mapping) or annotation.iscrowd:
            mask = rle_to_mask(annotation_to_rle(annotation, record.height, record.width))
            if mask.any():
                shapes.append({**blank, "shape_type": "mask", **_mask_entries(mask)})
            else:
                message = "its mask covers no pixel; it was left out"
                findings.append(
                    finding(
                        "mask_approximated", file, message, image_id=record.id, annotation_id=annotation.id
                    )
                )
            continue
        parts = [list(zip(part[0::2], part[1::2], strict=True)) for part in annotation.segmentation]
        group = next_group if len(parts) > 1 else None
        next_group += group is not None
        shapes += [{**blank, "points": points, "group_id": group} for points in parts]
    return shapes


def _mask_entries(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """The inside of the box as a PNG, and the corners of the box, the last pixel included."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = (int(index) for index in (rows[0], rows[-1], columns[0], columns[-1]))
    buffer = io.BytesIO()
    Image.fromarray(mask[top : bottom + 1, left : right + 1] * 255).convert("1").save(buffer, "PNG")
    return {
        "points": [[float(left), float(top)], [float(right), float(bottom)]],
        "mask": base64.b64encode(buffer.getvalue()).decode("ascii"),
    }


def _write_document(path: Path, picture: str, record: ImageRecord, shapes: list[dict[str, Any]]) -> None:
    document: dict[str, Any] = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": picture,
        "imageData": None,
        "imageHeight": record.height,
        "imageWidth": record.width,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False), encoding="utf-8")
