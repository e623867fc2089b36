"""The report of a data set as one HTML file: what was found, what it holds, what it looks like.

The file works offline and from a folder: pictures are embedded, there are no scripts, and whatever comes from
the data set is escaped. Its size is bounded whatever the data set is: see the limits below.
"""

import base64
import html
import io
import math
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from pycocotools import mask as mask_tools

from paddlex_seg.data.coco import annotation_to_rle, annotations_to_instances
from paddlex_seg.data.findings import KINDS, Finding, Severity
from paddlex_seg.data.pictures import image_path, load_image, picture_size
from paddlex_seg.data.statistics import (
    MEDIUM_BELOW,
    SMALL_BELOW,
    Shapes,
    SplitShapes,
    category_positions,
    class_table,
    objects_per_picture,
    picture_positions,
    picture_sizes_wh,
    picture_table,
    position_heat_map,
    size_table,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Category, ImageRecord
from paddlex_seg.visualize import draw_instances

# What bounds the size of the file; all else takes less than 1 MB. Pictures are counted as base64.
_PICTURE_BUDGET_BYTES = 10_000_000
_FINDINGS_BUDGET_BYTES = 3_000_000
_SAMPLE_BYTES, _THUMBNAIL_BYTES = 110_000, 30_000  # of a JPEG, before base64
# What bounds the time: how much is decoded.
_MAX_SAMPLES, _MAX_THUMBNAILS = 24, 80
_MAX_MEGAPIXELS = 200.0  # of samples, and of thumbnails; a JPEG counts a fifth, since it is decoded reduced
_MAX_DRAWN_OBJECTS = 100  # in one picture, the largest

_SAMPLE_SIDE, _THUMBNAIL_SIDE = 480, 260  # longer side, pixels
_SAMPLES_PER_SPLIT, _RARE_SAMPLES = 12, 8
_CARDS_PER_KIND, _LINES_PER_KIND = 12, 100
_CLASSES_SHOWN, _CLASS_ROWS, _SIZES_SHOWN = 20, 1000, 8
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
# Findings about a picture that ask to compare it with its masks; for others the bare picture says more.
_DRAW_ALL_OBJECTS = {"image_exif_frame", "image_exif_unclear", "image_many_objects"}


def write_report(
    path: Path,
    *,
    title: str,
    image_dir: Path,
    shapes: Shapes,
    findings: Sequence[Finding],
    counts: Mapping[str, int],
    passed: bool,
) -> None:
    """Write the report to ``path``, all or nothing; it stays below 15 MB and opens without a network.

    shapes: the sound records of the splits that could be read. findings: may be cut to some of each code.
    counts: how many findings of each code there are in truth. Samples are chosen at random, but the same ones
    in every run. A picture that cannot be read gets a placeholder.
    """
    groups = _group_by_code(findings, counts)
    splits = {name: _Split.of(name, split_shapes) for name, split_shapes in shapes.items()}
    samples = [(split, picture) for split in splits.values() for picture in _choose_samples(split)]
    sample_views = {("sample", i): view for i, view in enumerate(_sample_views(samples))}
    views = _within_limits(sample_views, _MAX_SAMPLES)
    views |= _within_limits(_finding_views(groups, splits), _MAX_THUMBNAILS)
    pictures = _render(views, image_dir)
    sections = [
        _headline(title, groups, splits, passed),
        _findings_section(groups, splits, pictures),
        _samples_section(samples, views, pictures),
        _classes_section(shapes),
        _objects_section(shapes),
        _pictures_section(shapes),
        _positions_section(splits),
    ]
    _replace_file(path, _PAGE.format(title=_text(title), style=_STYLE, body="\n".join(sections)))


# ---- What the data set holds


@dataclass(frozen=True)
class _Split:
    """A split, with the places of its annotations' pictures and classes. -1 stands for none."""

    name: str
    shapes: SplitShapes
    pictures: NDArray[np.int64]  # [n]
    classes: NDArray[np.int64]  # [n]

    @classmethod
    def of(cls, name: str, shapes: SplitShapes) -> "_Split":
        classes = category_positions(shapes.coco, shapes.coco.categories)
        return cls(name, shapes, picture_positions(shapes.coco), classes)

    def rows_of(self, pictures: Sequence[int]) -> dict[int, NDArray[np.int64]]:
        """The rows of the annotations of each of these pictures that have a class."""
        wanted = np.zeros(len(self.shapes.coco.images) + 1, bool)  # the last is that of -1
        wanted[list(pictures)] = True
        wanted[-1] = False
        rows = np.flatnonzero(wanted[self.pictures] & (self.classes >= 0))
        return {picture: rows[self.pictures[rows] == picture] for picture in pictures}


@dataclass(frozen=True)
class _Group:
    """The findings of one code."""

    code: str
    findings: tuple[Finding, ...]
    total: int

    @property
    def severity(self) -> Severity:
        return KINDS[self.code].severity


def _group_by_code(findings: Sequence[Finding], counts: Mapping[str, int]) -> list[_Group]:
    """Errors first, then the most frequent."""
    by_code: dict[str, list[Finding]] = {code: [] for code, count in counts.items() if count}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    groups = [
        _Group(code, tuple(group), max(counts.get(code, 0), len(group))) for code, group in by_code.items()
    ]
    return sorted(groups, key=lambda group: (_SEVERITIES.index(group.severity), -group.total, group.code))


def _choose_samples(split: _Split) -> list[int]:
    """Pictures to show, as places in the list: one of each of the rarest classes, then others at random."""
    rng = np.random.default_rng(0)
    known = (split.pictures >= 0) & (split.classes >= 0)
    pictures, classes = split.pictures[known], split.classes[known]
    frequencies = np.bincount(classes, minlength=len(split.shapes.coco.categories))
    chosen: dict[int, None] = {}
    for rare in [int(i) for i in np.argsort(frequencies, kind="stable") if frequencies[i]][:_RARE_SAMPLES]:
        with_class = pictures[classes == rare]
        if not np.isin(with_class, list(chosen)).any():
            chosen[int(rng.choice(with_class))] = None
    for candidates in (np.unique(pictures), np.arange(len(split.shapes.coco.images))):
        for picture in rng.permutation(candidates).tolist():
            if len(chosen) >= _SAMPLES_PER_SPLIT:
                break
            chosen[picture] = None
    return sorted(chosen)


# ---- Pictures: which, and what is drawn in them


class _Window(NamedTuple):
    """A part of a picture, pixels of the frame that the labels are made for."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class _View:
    """A picture to embed: a part of it, with some of its objects."""

    record: ImageRecord
    window: _Window
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    side: int  # longer side of what is embedded, at most, pixels
    max_bytes: int


_Key = tuple[str, int]  # what a picture is for: "sample" or the code of a finding, and its number there
_Views = dict[_Key, _View]


class _Jpeg(NamedTuple):
    data: bytes
    width: int
    height: int


def _sample_views(samples: Sequence[tuple[_Split, int]]) -> Iterator[_View]:
    rows_of_split = {
        split.name: split.rows_of([place for other, place in samples if other is split])
        for split, _ in samples
    }
    for split, picture in samples:
        rows = rows_of_split[split.name][picture]
        view = _picture_view(split, split.shapes.coco.images[picture], rows)
        yield replace(view, side=_SAMPLE_SIDE, max_bytes=_SAMPLE_BYTES)


def _finding_views(groups: Sequence[_Group], splits: Mapping[str, _Split]) -> _Views:
    """The pictures of the findings that name one: the first of each group, then the second of each, ..."""
    shown = [
        ((group.code, i), group.findings[i])
        for i in range(_CARDS_PER_KIND)
        for group in groups
        if i < len(group.findings) and group.findings[i].image_id is not None
    ]
    views: _Views = {}
    for split in splits.values():
        of_split = [(key, found) for key, found in shown if found.file == split.shapes.coco.path.name]
        views.update(_views_in_split(split, of_split))
    return {key: views[key] for key, _ in shown if key in views}


def _views_in_split(split: _Split, shown: Sequence[tuple[_Key, Finding]]) -> Iterator[tuple[_Key, _View]]:
    if not shown:
        return
    coco = split.shapes.coco
    image_ids = {finding.image_id for _, finding in shown}
    places = {image.id: i for i, image in enumerate(coco.images) if image.id in image_ids}
    annotation_ids = {finding.annotation_id for _, finding in shown}
    rows = {item.id: i for i, item in enumerate(coco.annotations) if item.id in annotation_ids}
    all_rows = split.rows_of(
        [
            places[finding.image_id]
            for _, finding in shown
            if finding.code in _DRAW_ALL_OBJECTS and finding.image_id in places
        ]
    )
    for key, finding in shown:
        place = places.get(finding.image_id) if finding.image_id is not None else None
        if place is None:
            continue
        row = rows.get(finding.annotation_id) if finding.annotation_id is not None else None
        if row is not None and split.pictures[row] == place and split.classes[row] >= 0:
            yield key, _object_view(split, coco.images[place], row)
        else:
            drawn = all_rows[place] if finding.code in _DRAW_ALL_OBJECTS else np.zeros(0, np.int64)
            yield key, _picture_view(split, coco.images[place], drawn)


def _picture_view(split: _Split, record: ImageRecord, rows: NDArray[np.int64]) -> _View:
    largest_first = rows[np.argsort(-split.shapes.areas[rows], kind="stable")]
    return _View(
        record=record,
        window=_Window(0, 0, record.width, record.height),
        annotations=tuple(split.shapes.coco.annotations[row] for row in largest_first[:_MAX_DRAWN_OBJECTS]),
        categories=split.shapes.coco.categories,
        side=_THUMBNAIL_SIDE,
        max_bytes=_THUMBNAIL_BYTES,
    )


def _object_view(split: _Split, record: ImageRecord, row: int) -> _View:
    """The object with its surroundings; a box in the file that lies elsewhere is in the view too."""
    annotation = split.shapes.coco.annotations[row]
    boxes = [tuple(split.shapes.boxes_xywh[row].tolist()), annotation.bbox_xywh]
    window = _window_around([box for box in boxes if box and max(box[2:]) > 0], record)
    view = _picture_view(split, record, np.zeros(0, np.int64))
    return replace(view, window=window, annotations=(annotation,))


def _window_around(boxes_xywh: Sequence[Sequence[float]], record: ImageRecord) -> _Window:
    """The whole picture, or about thrice the boxes where they are small in it."""
    whole = _Window(0, 0, record.width, record.height)
    if not boxes_xywh:
        return whole
    boxes = np.array(boxes_xywh, np.float64)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).clip(0, whole[2:])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = max(3 * float((high - low).max()), 96.0)
    if side >= max(record.width, record.height):
        return whole
    size = np.minimum(side, whole[2:])
    start = ((low + high - size) / 2).clip(0, whole[2:] - size)
    return _Window(*start.tolist(), *size.tolist())


def _within_limits(views: _Views, max_pictures: int) -> _Views:
    """The first of ``views`` that may be decoded."""
    kept: _Views = {}
    megapixels = 0.0
    for key, view in views.items():
        cost = _megapixels(view)
        if len(kept) < max_pictures and megapixels + cost <= _MAX_MEGAPIXELS:
            kept[key] = view
            megapixels += cost
    return kept


def _megapixels(view: _View) -> float:
    """What the picture costs to decode, by its listed size, which may be nonsense."""
    listed = min(view.record.width * view.record.height / 1e6, 100.0)
    return listed / 5 if view.record.file_name.lower().endswith((".jpg", ".jpeg")) else listed


# ---- Pictures: decoding and drawing


def _render(views: _Views, image_dir: Path) -> dict[_Key, str]:
    """An ``src`` and a size for <img> for each view whose picture can be read and that fits the budget.

    The value is empty where the picture cannot be read, and absent where the budget ends.
    """
    largest = max(map(_megapixels, views.values()), default=0)
    workers = 1 if largest > 30 else min(4, os.cpu_count() or 1)  # several large ones could fill the memory
    with ThreadPoolExecutor(workers) as pool:
        jpegs = list(pool.map(lambda view: _draw(view, image_dir), views.values()))
    budget = _Budget(_PICTURE_BUDGET_BYTES)
    rendered: dict[_Key, str] = {}
    for key, jpeg in zip(views, jpegs, strict=True):
        if jpeg is None:
            rendered[key] = ""
            continue
        source = _data_url(jpeg.data, "image/jpeg")
        if budget.take(source):
            rendered[key] = f'src="{source}" width="{jpeg.width}" height="{jpeg.height}"'
    return rendered


def _draw(view: _View, image_dir: Path) -> _Jpeg | None:
    """None where the picture cannot be read."""
    try:
        window, picture, fits = _load_window(view, image_path(image_dir, view.record.file_name))
    except (DatasetError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, IndexError):
        return None
    scale = min(view.side / max(window.width, window.height), 4.0)
    width, height = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    part = (window.x, window.y, window.x + window.width, window.y + window.height)
    small = picture.resize((width, height), Image.Resampling.BILINEAR, box=part, reducing_gap=2.0)
    if fits and view.annotations:
        small = Image.fromarray(_draw_objects(np.asarray(small), view))
    return _Jpeg(_encode_jpeg(small, view.max_bytes), width, height)


def _load_window(view: _View, path: Path) -> tuple[_Window, Image.Image, bool]:
    """The window in pixels of the picture that comes with it, and whether the labels fit the picture.

    The picture is as `load_image` gives it, but may be smaller: JPEG files are decoded at a fraction of their
    size. Where the listed size is not that of the picture, the window is the whole of it.
    """
    record, listed_hw = view.record, (view.record.height, view.record.width)
    size = picture_size(path)
    fits = listed_hw in (size.shown_hw, size.stored_hw)
    turn = not fits or size.shown_hw == listed_hw
    with Image.open(path) as file:
        if isinstance(file, JpegImageFile):
            longest = max(view.window.width, view.window.height) if fits else max(file.size)
            file.draft("RGB", (math.ceil(file.width * view.side / longest), 1))
            picture = (_upright(file) if turn else file).convert("RGB")
        else:
            picture = Image.fromarray(load_image(path, listed_hw if fits else None))
    if not fits:
        return _Window(0, 0, picture.width, picture.height), picture, False
    across, down = picture.width / record.width, picture.height / record.height
    x, y, width, height = view.window
    return _Window(x * across, y * down, width * across, height * down), picture, True


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()  # so that what fails below is not the pixels
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, IndexError, struct.error):  # damaged metadata
        return picture


def _draw_objects(image: NDArray[np.uint8], view: _View) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    small = [_into_window(annotation, view, (width, height)) for annotation in view.annotations]
    record = replace(view.record, width=width, height=height)
    labels = [_shorten(category.name, view.side // 18) for category in view.categories]
    instances = annotations_to_instances(small, record, view.categories)
    return draw_instances(image, instances, labels, show_scores=False)


def _into_window(annotation: Annotation, view: _View, size_wh: tuple[int, int]) -> Annotation:
    """The annotation in a picture that shows the window of ``view`` in the size ``size_wh``."""
    window = view.window
    start, scale = np.array(window[:2]), np.array(size_wh) / window[2:]
    box = annotation.bbox_xywh
    if box is not None:
        x, y = ((np.array(box[:2]) - start) * scale).tolist()
        box = (x, y, box[2] * scale[0], box[3] * scale[1])
    segmentation = annotation.segmentation
    if not isinstance(segmentation, Mapping):
        parts = [((np.reshape(part, (-1, 2)) - start) * scale).reshape(-1).tolist() for part in segmentation]
        return replace(annotation, segmentation=parts, bbox_xywh=box)
    mask = mask_tools.decode(annotation_to_rle(annotation, view.record.height, view.record.width))
    left, top = math.floor(window.x), math.floor(window.y)
    part_of_mask = mask[top : top + math.ceil(window.height), left : left + math.ceil(window.width)]
    small = cv2.resize(part_of_mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) >= 0.5
    rle = mask_tools.encode(np.asfortranarray(small, np.uint8))
    return replace(annotation, segmentation=rle, bbox_xywh=box)


def _encode_jpeg(picture: Image.Image, max_bytes: int) -> bytes:
    """At the best quality that fits; noise may need more than ``max_bytes`` even at the worst."""
    for quality in (82, 60, 40, 20):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= max_bytes:
            break
    return buffer.getvalue()


class _Budget:
    """How many bytes may still be written."""

    def __init__(self, num_bytes: int) -> None:
        self.left = num_bytes

    def take(self, text: str) -> bool:
        size = len(text.encode("utf-8", "replace"))
        if size > self.left:
            return False
        self.left -= size
        return True


# ---- Sections of the page


def _headline(title: str, groups: Sequence[_Group], splits: Mapping[str, _Split], passed: bool) -> str:
    totals = {
        severity: sum(group.total for group in groups if group.severity == severity)
        for severity in _SEVERITIES
    }
    tiles = "".join(
        f'<li class="tile {severity if total else "none"}"><b>{_number(total)}</b> '
        f"{_noun(severity, total)}</li>"
        for severity, total in totals.items()
    )
    verdict = "&#10003; Passed" if passed else "&#10007; Failed"
    rows = [_split_row(split) for split in splits.values()]
    head = ("Split", "Pictures", "Without objects", "Annotations", "Classes used", "Classes listed")
    table = _table(head, rows) if rows else _nothing("No split could be read.")
    return (
        f'<header><p class="muted">Data set report</p><h1>{_text(title)}</h1>\n'
        f'<p class="verdict {"passed" if passed else "failed"}">{verdict}</p>\n'
        f'<ul class="tiles">{tiles}</ul>\n{table}\n{_NAVIGATION}</header><main>'
    )


def _split_row(split: _Split) -> list[str]:
    pictures = objects_per_picture(split.shapes)
    used = len(np.unique(split.classes[split.classes >= 0]))
    numbers = (
        len(pictures),
        int(np.count_nonzero(pictures == 0)),
        len(split.shapes.coco.annotations),
        used,
        len(split.shapes.coco.categories),
    )
    return [_text(split.name), *map(_number, numbers)]


def _findings_section(
    groups: Sequence[_Group], splits: Mapping[str, _Split], pictures: Mapping[_Key, str]
) -> str:
    if not groups:
        return _section("findings", "Findings", _nothing("Nothing was found."))
    overview = _table(
        ("Severity", "Code", "Count", "Meaning"),
        [
            [
                _tag(group.severity),
                f'<a href="#{_text(group.code)}"><code>{_text(group.code)}</code></a>',
                _number(group.total),
                _text(KINDS[group.code].meaning),
            ]
            for group in groups
        ],
        numbers=(2,),
    )
    budget = _Budget(_FINDINGS_BUDGET_BYTES)
    names = _FileNames.of(groups, splits)
    blocks = [_group_block(group, pictures, names, budget) for group in groups]
    return _section("findings", "Findings", overview, *blocks)


class _FileNames(dict[tuple[str, int | None], str]):
    """The pictures that findings name, by annotation file and image id."""

    @classmethod
    def of(cls, groups: Sequence[_Group], splits: Mapping[str, _Split]) -> "_FileNames":
        named = {(found.file, found.image_id) for group in groups for found in group.findings}
        files = {split.shapes.coco.path.name: split.shapes.coco.images for split in splits.values()}
        return cls(
            ((file, image.id), image.file_name)
            for file, images in files.items()
            for image in images
            if (file, image.id) in named
        )


def _group_block(group: _Group, pictures: Mapping[_Key, str], names: _FileNames, budget: _Budget) -> str:
    kind = KINDS[group.code]
    repair = (
        f'<p class="repair">CheckDataset.fix repairs this: {_text(kind.repair)}</p>' if kind.repair else ""
    )
    first, others = group.findings[:_CARDS_PER_KIND], group.findings[_CARDS_PER_KIND:]
    images = [pictures.get((group.code, i)) for i in range(len(first))]
    cards = []
    for finding, image in zip(first, images, strict=True):
        text = _card_text(finding, kind.hint, names)
        if budget.take(text):  # pictures have a budget of their own
            cards.append(f'<li class="card">{_card_picture(finding, image, names)}{text}</li>')
    lines = [
        f"<li>{_where(finding, names)}: {_text(finding.message, 400)}</li>"
        for finding in others[:_LINES_PER_KIND]
    ]
    lines = [line for line in lines if budget.take(line)]
    unshown = group.total - len(cards) - len(lines)
    rest = (
        f'<p class="muted">{_number(unshown)} more of these are not listed here.</p>' if unshown > 0 else ""
    )
    if lines:
        rest = (
            f"<details><summary>{_number(len(lines))} more</summary><ol>{''.join(lines)}</ol>{rest}</details>"
        )
    layout = "cards" if any(image is not None for image in images) else "cards plain"
    grid = f'<ul class="{layout}">{"".join(cards)}</ul>' if cards else ""
    return (
        f'<article class="kind {group.severity}" id="{_text(group.code)}">'
        f"<h3>{_tag(group.severity)} <code>{_text(group.code)}</code> "
        f'<span class="count">&times; {_number(group.total)}</span></h3>'
        f'<p>{_text(kind.meaning)}</p><p class="hint">What to do: {_text(kind.hint)}</p>{repair}'
        f"\n{grid}{rest}</article>"
    )


def _card_picture(finding: Finding, image: str | None, names: _FileNames) -> str:
    if image is None:
        return ""
    name = names.get((finding.file, finding.image_id), "")
    return f'<img {image} alt="{_text(name, 80)}">' if image else _BROKEN


def _card_text(finding: Finding, usual_hint: str, names: _FileNames) -> str:
    hint = "" if finding.hint == usual_hint else f"<p>{_text(finding.hint, 300)}</p>"
    return f'<p>{_text(finding.message, 400)}</p>{hint}<p class="muted">{_where(finding, names)}</p>'


def _where(finding: Finding, names: _FileNames) -> str:
    parts = [_text(finding.file, 80)]
    if finding.image_id is not None:
        name = names.get((finding.file, finding.image_id))
        parts.append(f"image {finding.image_id}" + (f" ({_text(name, 80)})" if name else ""))
    if finding.annotation_id is not None:
        parts.append(f"annotation {finding.annotation_id}")
    return ", ".join(parts)


def _samples_section(
    samples: Sequence[tuple[_Split, int]], views: _Views, pictures: Mapping[_Key, str]
) -> str:
    figures: dict[str, list[str]] = {}
    for i, (split, picture) in enumerate(samples):
        key: _Key = ("sample", i)
        if key in pictures:
            figure = _sample(split, picture, views[key], pictures[key])
            figures.setdefault(split.name, []).append(figure)
    parts = [
        f'<h3>{_text(name)}</h3><div class="samples">{"".join(items)}</div>'
        for name, items in figures.items()
    ]
    note = '<p class="muted">Chosen at random; the rarest classes are among them.</p>'
    return _section("samples", "Samples", *([note, *parts] if parts else [_nothing("No pictures.")]))


def _sample(split: _Split, picture: int, view: _View, image: str) -> str:
    record = view.record
    classes = split.classes[(split.pictures == picture) & (split.classes >= 0)]
    by_class = Counter(classes.tolist())
    names = [
        f"{_number(count)} {_text(view.categories[class_index].name, 40)}"
        for class_index, count in by_class.most_common(6)
    ]
    content = ", ".join(names) or "no objects"
    if len(by_class) > len(names):
        content += (
            f" and {_number(len(by_class) - len(names))} more {_noun('class', len(by_class) - len(names))}"
        )
    drawn = f" The {len(view.annotations)} largest are drawn." if len(classes) > len(view.annotations) else ""
    name = _text(record.file_name, 80)
    shown = f'<img {image} alt="{name}: {content}">' if image else _BROKEN
    return (
        f"<figure>{shown}<figcaption>{content}.{drawn}<br>"
        f'<span class="muted">{name}, {_size(record.width, record.height)}</span></figcaption></figure>'
    )


def _classes_section(shapes: Shapes) -> str:
    table = class_table(shapes)
    if not table:
        return _section("classes", "Classes", _nothing("No classes."))
    present = [split for split in shapes if split in ("train", "val")]  # those that the table knows
    totals = {split: max(sum(row[split] for row in table), 1) for split in present}
    longest = max((row[split] / totals[split] for row in table for split in present), default=0) or 1
    frequent = sorted(table, key=lambda row: -(row["train"] + row["val"]))[:_CLASSES_SHOWN]
    bars = [
        '<div class="bar-name">{}</div><div>{}</div>'.format(
            _text(row["name"], 60),
            "".join(
                f'<div class="bar"><i class="{_COLOURS[i]}" '
                f'style="width:{72 * row[split] / totals[split] / longest:.2f}%"></i>'
                f"<span>{_number(row[split])}</span></div>"
                for i, split in enumerate(present)
            ),
        )
        for row in frequent
    ]
    heading = (
        f"The {_CLASSES_SHOWN} most frequent of {_number(len(table))} classes."
        if len(table) > _CLASSES_SHOWN
        else f"{_number(len(table))} {_noun('class', len(table))}."
    )
    note = f"{heading} The length of a bar is the share of its split's annotations, the number counts them."
    return _section(
        "classes",
        "Classes",
        _legend(present),
        f'<p class="muted">{note}</p>',
        f'<div class="bars">{"".join(bars)}</div>',
        _class_details(table),
    )


def _class_details(table: Sequence[Mapping[str, object]]) -> str:
    keys = {
        "train": "Train annotations",
        "val": "Val annotations",
        "train_images": "Train pictures",
        "val_images": "Val pictures",
    }
    head = ("Id", "Class", *keys.values(), "Median side, px")
    rows = [
        [
            str(row["id"]),
            _text(str(row["name"]), 80),
            *(_number(int(str(row[key]))) for key in keys),
            "&ndash;" if row["median_area"] is None else f"{math.sqrt(float(str(row['median_area']))):.0f}",
        ]
        for row in table[:_CLASS_ROWS]
    ]
    unshown = len(table) - len(rows)
    more = f'<p class="muted">{_number(unshown)} more classes are not listed.</p>' if unshown else ""
    listed = _table(head, rows, numbers=(0, 2, 3, 4, 5, 6))
    return f"<details><summary>All classes</summary>{listed}{more}</details>"


def _objects_section(shapes: Shapes) -> str:
    sides = {name: np.sqrt(split.areas[split.areas > 0]) for name, split in shapes.items()}
    if not any(len(values) for values in sides.values()):
        return _section("objects", "Objects", _nothing("No objects."))
    ratios = {name: _aspect_ratios(split.boxes_xywh[:, 2:]) for name, split in shapes.items()}
    rows = []
    for name, row in size_table(shapes).items():
        total = max(row["small"] + row["medium"] + row["large"], 1)
        shares = [
            f"{_number(row[key])} ({_percent(row[key] / total)})" for key in ("small", "medium", "large")
        ]
        quantiles = [_decimal(row["sqrt_area"][key]) for key in ("min", "p5", "p50", "p95", "max")]
        relative = row["relative_sqrt_area"]["p50"]
        median = "&ndash;" if relative is None else _percent(relative)
        rows.append([_text(name), *shares, *quantiles, median])
    head = (
        "Split", "Small", "Medium", "Large", "Min side", "5 %", "Median", "95 %", "Max", "Median of picture"
    )  # fmt: skip
    note = (
        "Small, medium and large are COCO's: up to 32&times;32 and 96&times;96 pixels of the mask. The side "
        "of an object is the root of its area; the last column is the root of its share of the picture."
    )
    return _section(
        "objects",
        "Objects",
        f'<p class="muted">{note}</p>',
        _table(head, rows),
        _legend(list(shapes)),
        '<div class="charts">',
        _chart("Side of the objects, pixels", _octave_bins(sides), sides, unit="object"),
        _chart("Width : height of the objects' boxes", _ratio_bins(), ratios, unit="object"),
        "</div>",
    )


def _pictures_section(shapes: Shapes) -> str:
    objects = {name: objects_per_picture(split) for name, split in shapes.items()}
    if not any(len(values) for values in objects.values()):
        return _section("pictures", "Pictures", _nothing("No pictures."))
    sizes = {name: picture_sizes_wh(split.coco) for name, split in shapes.items()}
    rows = [
        [
            _text(name),
            *(_spread(row[key]) for key in ("objects_per_picture", "width", "height")),
            _number(row["distinct_sizes"]),
        ]
        for name, row in picture_table(shapes).items()
    ]
    ratios = {name: _aspect_ratios(values) for name, values in sizes.items()}
    head = ("Split", "Objects per picture", "Width, px", "Height, px", "Distinct sizes")
    return _section(
        "pictures",
        "Pictures",
        '<p class="muted">Smallest / median / largest.</p>',
        _table(head, rows),
        _legend(list(shapes)),
        '<div class="charts">',
        _chart("Objects per picture", _count_bins(objects), objects, unit="picture"),
        _chart("Width : height of the pictures", _ratio_bins(), ratios, unit="picture"),
        "</div>",
        _frequent_sizes(sizes),
    )


def _frequent_sizes(sizes: Mapping[str, NDArray[np.int64]]) -> str:
    distinct, inverse = np.unique(np.concatenate(list(sizes.values())), axis=0, return_inverse=True)
    bounds = np.cumsum([0, *(len(values) for values in sizes.values())])
    by_split = [
        np.bincount(inverse.reshape(-1)[start:end], minlength=len(distinct))
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]
    order = np.argsort(-np.sum(by_split, axis=0), kind="stable")
    rows = [
        [_size(*distinct[i].tolist()), *(_number(int(counts[i])) for counts in by_split)]
        for i in order[:_SIZES_SHOWN]
    ]
    if len(order) > _SIZES_SHOWN:
        others = order[_SIZES_SHOWN:]
        label = f"{_number(len(others))} other {_noun('size', len(others))}"
        rows.append([label, *(_number(int(counts[others].sum())) for counts in by_split)])
    return _table(("Picture size", *map(_text, sizes)), rows)


def _positions_section(splits: Mapping[str, _Split]) -> str:
    figures = []
    for name, split in splits.items():
        heat = position_heat_map(split.shapes)
        if heat.max() <= 0:
            continue
        shades = np.rint(heat / heat.max() * 255).astype(np.uint8)
        ramp = np.arange(256, dtype=np.uint8)[None]
        figures.append(
            f'<figure class="heat"><img src="{_shades_to_png(shades)}" width="260" height="260" '
            f'alt="Heat map of {_text(name)}: up to {_percent(heat.max())} of the objects cover one place">'
            f'<figcaption><b>{_text(name)}</b><span class="ramp">0 % '
            f'<img src="{_shades_to_png(ramp)}" width="120" height="10" alt=""> {_percent(heat.max())}'
            "</span></figcaption></figure>"
        )
    note = (
        "All pictures laid over each other, stretched to a square: the share of the objects whose box covers "
        "a place."
    )
    content = [f'<p class="muted">{note}</p>', f'<div class="heats">{"".join(figures)}</div>']
    return (
        _section("positions", "Positions", *(content if figures else [_nothing("No objects.")])) + "</main>"
    )


def _shades_to_png(shades: NDArray[np.uint8]) -> str:
    colours = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG")
    return _data_url(buffer.getvalue(), "image/png")


# ---- Charts


@dataclass(frozen=True)
class _Bins:
    """Bins of a histogram. Positions on the axis are counted in bins, 0 at the left end."""

    edges: NDArray[np.float64]  # [b + 1]; what lies outside goes to the outermost bins
    names: list[str]  # [b]
    ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]  # dashed lines with a text at their right


def _octave_bins(values: Mapping[str, NDArray[np.float64]]) -> _Bins:
    """Two bins for each doubling, with COCO's limits of small and medium objects."""
    present = np.concatenate(list(values.values())).clip(min=1)
    low = math.floor(2 * math.log2(present.min()))
    high = max(math.floor(2 * math.log2(present.max())) + 1, low + 4)
    edges = 2.0 ** (np.arange(low, high + 1) / 2)
    limits = [(SMALL_BELOW, "medium"), (MEDIUM_BELOW, "large")]
    marks = [(math.log2(area) - low, name) for area, name in limits]  # log2(area) is 2 log2(side)
    return _Bins(
        edges=edges,
        names=[f"{a:.0f} to {b:.0f} pixels" for a, b in zip(edges, edges[1:], strict=False)],
        ticks=[(k - low, _number(2 ** (k // 2))) for k in range(low, high + 1) if k % 2 == 0],
        marks=[mark for mark in marks if 0 <= mark[0] < high - low],
    )


def _ratio_bins() -> _Bins:
    """Two bins for each doubling of the ratio from 1:8 to 8:1, squares in the middle of one."""
    centres = np.arange(-6, 7) / 2
    return _Bins(
        edges=2.0 ** (np.arange(-7, 7) / 2 + 0.25),
        names=[f"about {_ratio_name(k)}" for k in centres],
        ticks=[(i + 0.5, _ratio_name(k)) for i, k in enumerate(centres) if k == round(k)],
        marks=[],
    )


def _ratio_name(octaves: float) -> str:
    return f"{2**octaves:.3g}:1" if octaves >= 0 else f"1:{2**-octaves:.3g}"


def _count_bins(values: Mapping[str, NDArray[np.int64]]) -> _Bins:
    """0, 1, 2, ... or, where there are many, 0, 1, 2, 3-4, 5-8, 9-16, ..."""
    most = int(max(counts.max(initial=0) for counts in values.values()))
    starts = list(range(most + 1))
    if most > 16:
        starts = [0, 1, *(2**k + 1 for k in range(math.ceil(math.log2(most))))]
    starts += [] if len(starts) > 4 else range(len(starts), 5)
    ends = [start - 1 for start in starts[1:]] + [max(most, starts[-1])]
    names = [
        _number(a) if a == b else f"{_number(a)}–{_number(b)}" for a, b in zip(starts, ends, strict=True)
    ]
    return _Bins(
        edges=np.array([*starts, ends[-1] + 1], np.float64) - 0.5,
        names=[f"{name} objects" for name in names],
        ticks=[(i + 0.5, name) for i, name in enumerate(names)],
        marks=[],
    )


def _chart(heading: str, bins: _Bins, values: Mapping[str, NDArray[np.generic]], *, unit: str) -> str:
    """A histogram with a bar for each split in each bin; heights are shares of the split."""
    counts = {name: _histogram(items, bins.edges) for name, items in values.items() if len(items)}
    shares = {name: number / number.sum() for name, number in counts.items()}
    top = max((float(share.max()) for share in shares.values()), default=0.0) or 1.0
    left, right, upper, lower = 44.0, 462.0, 22.0, 190.0
    step = (right - left) / (len(bins.edges) - 1)
    bar = step * 0.84 / max(len(counts), 1)
    drawn = []
    for share in (0, top / 2, top):
        y = lower - (lower - upper) * share / top
        drawn.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        drawn.append(f'<text class="y" x="{left - 6}" y="{y + 4:.1f}">{_percent(share)}</text>')
    for place, name in bins.ticks:
        drawn.append(f'<text class="x" x="{left + place * step:.1f}" y="{lower + 16}">{name}</text>')
    for place, name in bins.marks:
        x = left + place * step
        drawn.append(f'<path class="mark" d="M{x:.1f} {upper - 12}V{lower}"/>')
        drawn.append(f'<text class="m" x="{x + 4:.1f}" y="{upper - 4}">{name}</text>')
    for colour, (name, number) in zip(_COLOURS, counts.items(), strict=False):
        for i in np.flatnonzero(number).tolist():
            height = max((lower - upper) * shares[name][i] / top, 1.0)
            x = left + (i + 0.08) * step + _COLOURS.index(colour) * bar
            tip = f"{_text(name)}, {bins.names[i]}: {_number(int(number[i]))} {_noun(unit, int(number[i]))}"
            drawn.append(
                f'<rect class="{colour}" x="{x:.1f}" y="{lower - height:.1f}" width="{bar:.1f}" '
                f'height="{height:.1f}"><title>{tip} ({_percent(shares[name][i])})</title></rect>'
            )
    return (
        f'<figure class="chart"><figcaption>{_text(heading)}</figcaption>'
        f'<svg viewBox="0 0 480 212" role="img" aria-label="Histogram: {_text(heading)}">'
        f"{''.join(drawn)}</svg></figure>"
    )


def _histogram(values: NDArray[np.generic], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    bins = np.searchsorted(edges, values, side="right") - 1
    return np.bincount(bins.clip(0, len(edges) - 2), minlength=len(edges) - 1)


def _aspect_ratios(sizes_wh: NDArray[np.generic]) -> NDArray[np.float64]:
    sizes = sizes_wh.astype(np.float64)
    sizes = sizes[(sizes > 0).all(axis=1)]
    return sizes[:, 0] / sizes[:, 1]


# ---- Pieces of HTML


def _section(name: str, heading: str, *parts: str) -> str:
    return f'<section id="{name}"><h2>{heading}</h2>\n' + "\n".join(parts) + "</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] | None = None) -> str:
    """Cells are HTML. numbers: the columns to align right; all but the first unless told."""
    right = set(range(1, len(head)) if numbers is None else numbers)
    kinds = [' class="n"' if i in right else "" for i in range(len(head))]
    titles = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _legend(splits: Sequence[str]) -> str:
    items = [
        f'<span><i class="{colour}"></i>{_text(split)}</span>'
        for colour, split in zip(_COLOURS, splits, strict=False)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def _tag(severity: Severity) -> str:
    return f'<span class="tag {severity}">{severity}</span>'


def _nothing(text: str) -> str:
    return f'<p class="muted">{text}</p>'


def _text(value: str, limit: int = 200) -> str:
    """The text for HTML, between tags or in an attribute, cut to ``limit`` characters."""
    return html.escape(_shorten(value, limit))


def _shorten(value: str, limit: int) -> str:
    """On one line; a long text loses its middle, since file names often differ at their ends."""
    value = " ".join(value.split())
    if len(value) <= limit:
        return value
    tail = limit // 3
    return f"{value[: limit - tail - 1]}…{value[-tail:]}"


def _number(value: int) -> str:
    """With narrow spaces that do not break between the thousands."""
    return f"{value:,}".replace(",", "\u202f")


def _decimal(value: float | None) -> str:
    if value is None:
        return "&ndash;"
    return f"{value:.1f}" if value < 10 and value != round(value) else _number(round(value))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u202f%" if share >= 0.1 or share == 0 else f"{100 * share:.1f}\u202f%"


def _spread(summary: Mapping[str, float | None]) -> str:
    return " / ".join(_decimal(value) for value in summary.values())


def _size(width: int, height: int) -> str:
    return f"{_number(width)}&nbsp;&times;&nbsp;{_number(height)}"


def _noun(noun: str, count: int) -> str:
    return noun if count == 1 else {"info": "infos", "class": "classes"}.get(noun, f"{noun}s")


def _data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _replace_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "replace"))  # names in a JSON file may hold half a character
        os.chmod(temporary, 0o644)  # a temporary file is private to its owner, a report is not
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


_BROKEN = '<div class="broken">The picture cannot be read</div>'
_COLOURS = ("s0", "s1", "s2", "s3")  # classes of the style sheet, in the order of the splits

_NAVIGATION = (
    '<nav aria-label="Sections"><a href="#findings">Findings</a> <a href="#samples">Samples</a> '
    '<a href="#classes">Classes</a> <a href="#objects">Objects</a> <a href="#pictures">Pictures</a> '
    '<a href="#positions">Positions</a></nav>'
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}: data set report</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2329; --muted: #59646e; --line: #d8dee4;
  --card: #f6f8fa; --link: #0b5cad; --error: #b3261e; --warning: #8a5200; --info: #2a5d9f; --good: #1a7336;
  --s0: #2f6db3; --s1: #d5851a; --s2: #7a52b3; --s3: #2d8a6e; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --text: #e3e8ec; --muted: #9ba6b0;
  --line: #323a42; --card: #1c2227; --link: #82b7f5; --error: #ff8f85; --warning: #f0b55c; --info: #8fb9f2;
  --good: #72c98a; --s0: #6aa5e6; --s1: #efac4e; --s2: #b695e8; --s3: #66c2a4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 64px; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 12px; }
h2 { font-size: 21px; margin: 48px 0 12px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 20px 0 8px; }
p { margin: 0 0 8px; }
a { color: var(--link); }
code { font: 0.93em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
.muted, figcaption .muted { color: var(--muted); font-size: 13px; }
header > .muted { margin: 0; }
.verdict { display: inline-block; font-size: 20px; font-weight: 600; padding: 4px 14px; border-radius: 6px;
  border: 2px solid; }
.passed { color: var(--good); } .failed { color: var(--error); }
.tiles { list-style: none; display: flex; flex-wrap: wrap; gap: 10px; margin: 10px 0 18px; padding: 0; }
.tile { padding: 6px 16px; border: 1px solid var(--line); border-left: 4px solid; border-radius: 6px;
  background: var(--card); }
.tile b { font-size: 20px; margin-right: 4px; }
.error { color: var(--error); } .warning { color: var(--warning); } .info { color: var(--info); }
.none { color: var(--muted); }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin-top: 16px; }
.scroll { overflow: auto; max-height: 460px; margin: 0 0 14px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 16px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
td { min-width: 3em; } td:last-child, th:last-child { padding-right: 4px; }
th { font-weight: 600; color: var(--muted); font-size: 13px; position: sticky; top: 0;
  background: var(--back); }
.n { text-align: right; white-space: nowrap; } th.n { white-space: normal; }
.tag { display: inline-block; font-size: 12px; font-weight: 600; padding: 0 7px; border: 1px solid;
  border-radius: 10px; }
.kind { color: var(--text); border: 1px solid var(--line); border-left: 4px solid var(--info);
  border-radius: 6px; padding: 12px 16px; margin: 16px 0; }
.kind.error { border-left-color: var(--error); } .kind.warning { border-left-color: var(--warning); }
.kind h3 { margin: 0 0 6px; } .count { color: var(--muted); font-weight: 400; }
.repair { color: var(--good); }
.cards { list-style: none; display: grid; align-items: start; gap: 12px; margin: 12px 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(min(240px, 100%), 1fr)); }
.cards.plain { grid-template-columns: 1fr; gap: 4px; }
.card { background: var(--card); border-radius: 6px; padding: 10px; font-size: 14px; }
.card p { margin: 6px 0 0; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; }
.card img { margin: 0 auto; }
.broken { display: flex; align-items: center; justify-content: center; min-height: 120px; padding: 12px;
  color: var(--muted); border: 1px dashed var(--muted); border-radius: 4px; text-align: center; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--link); }
details ol { max-height: 420px; overflow: auto; font-size: 13px; padding-left: 34px; }
figure { margin: 0; } figcaption { font-size: 13px; margin-top: 5px; }
.samples { display: grid; gap: 18px 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.samples img { width: 100%; max-height: 420px; object-fit: contain; background: var(--card); }
.legend { display: flex; gap: 18px; font-size: 14px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
.bars { display: grid; gap: 6px 14px; grid-template-columns: fit-content(36%) 1fr; font-size: 14px; }
.bar-name { text-align: right; align-self: center; line-height: 1.25; }
.bar { display: flex; align-items: center; gap: 6px; height: 15px; font-size: 12px; color: var(--muted); }
.bar i { height: 11px; border-radius: 0 2px 2px 0; }
.s0 { background: var(--s0); fill: var(--s0); } .s1 { background: var(--s1); fill: var(--s1); }
.s2 { background: var(--s2); fill: var(--s2); } .s3 { background: var(--s3); fill: var(--s3); }
.charts { display: grid; gap: 20px 28px; margin: 8px 0 18px;
  grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); }
.chart figcaption { font-size: 14px; font-weight: 600; margin: 0 0 4px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--muted); font-size: 11.5px; } .x { text-anchor: middle; } .y { text-anchor: end; }
.grid { stroke: var(--line); } .mark { stroke: var(--muted); stroke-dasharray: 3 3; }
@media (max-width: 560px) { #findings > .scroll :is(th, td):last-child { display: none; }
  svg text { font-size: 15px; } .m { font-size: 13px; } }
.heats { display: flex; flex-wrap: wrap; gap: 28px; }
.heat figcaption { display: flex; justify-content: space-between; gap: 12px; width: 260px; }
.ramp { display: flex; align-items: center; gap: 5px; color: var(--muted); }
.ramp img { width: 90px; height: 10px; border-radius: 2px; }
"""
