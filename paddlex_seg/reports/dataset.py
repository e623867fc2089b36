"""The report of a data set as one HTML file: what was found, what it holds, what it looks like.

The file works offline and from a folder: pictures are embedded, there are no scripts, and whatever comes from
the data set is escaped. Its size is bounded whatever the data set is: see the limits below.
"""

import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.data.checking.statistics import (
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
from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.findings import KINDS, Finding, Severity
from paddlex_seg.data.images import (
    DECODER_ERRORS,
    image_path,
    load_image,
    picture_size,
    turn_upright,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.publish import replace_file
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_to_mask
from paddlex_seg.reports import charts, markup
from paddlex_seg.reports.images import encode_jpeg
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
    page = markup.PAGE.format(
        title=f"{markup.text(title)}: data set report", style=markup.STYLE, body="\n".join(sections)
    )
    replace_file(path, page.encode("utf-8", "replace"))  # a title may be a path that is no UTF-8


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
    workers = 1 if largest > 30 else min(4, num_usable_cores())  # several large ones could fill the memory
    with ThreadPoolExecutor(workers) as pool:
        jpegs = list(pool.map(lambda view: _draw(view, image_dir), views.values()))
    budget = _Budget(_PICTURE_BUDGET_BYTES)
    rendered: dict[_Key, str] = {}
    for key, jpeg in zip(views, jpegs, strict=True):
        if jpeg is None:
            rendered[key] = ""
            continue
        source = markup.data_url(jpeg.data, "image/jpeg")
        if budget.take(source):
            rendered[key] = f'src="{source}" width="{jpeg.width}" height="{jpeg.height}"'
    return rendered


def _draw(view: _View, image_dir: Path) -> _Jpeg | None:
    """None where the picture cannot be read."""
    try:
        window, picture, fits = _load_window(view, image_path(image_dir, view.record.file_name))
    except (DatasetError, Image.DecompressionBombError, *DECODER_ERRORS):
        return None
    scale = min(view.side / max(window.width, window.height), 4.0)
    width, height = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    part = (window.x, window.y, window.x + window.width, window.y + window.height)
    small = picture.resize((width, height), Image.Resampling.BILINEAR, box=part, reducing_gap=2.0)
    if fits and view.annotations:
        small = Image.fromarray(_draw_objects(np.asarray(small), view))
    return _Jpeg(encode_jpeg(small, view.max_bytes), width, height)


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
            picture = (turn_upright(file) if turn else file).convert("RGB")
        else:
            picture = Image.fromarray(load_image(path, listed_hw if fits else None))
    if not fits:
        return _Window(0, 0, picture.width, picture.height), picture, False
    across, down = picture.width / record.width, picture.height / record.height
    x, y, width, height = view.window
    return _Window(x * across, y * down, width * across, height * down), picture, True


def _draw_objects(image: NDArray[np.uint8], view: _View) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    small = [_into_window(annotation, view, (width, height)) for annotation in view.annotations]
    record = replace(view.record, width=width, height=height)
    labels = [markup.shorten(category.name, view.side // 18) for category in view.categories]
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
    mask = rle_to_mask(annotation_to_rle(annotation, view.record.height, view.record.width))
    left, top = math.floor(window.x), math.floor(window.y)
    part_of_mask = mask[top : top + math.ceil(window.height), left : left + math.ceil(window.width)]
    small = cv2.resize(part_of_mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) >= 0.5
    rle = mask_to_rle(small)
    return replace(annotation, segmentation=rle, bbox_xywh=box)


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
        f'<li class="tile {severity if total else "none"}"><b>{markup.number(total)}</b> '
        f"{markup.noun(severity, total)}</li>"
        for severity, total in totals.items()
    )
    verdict = "&#10003; Passed" if passed else "&#10007; Failed"
    rows = [_split_row(split) for split in splits.values()]
    head = ("Split", "Pictures", "Without objects", "Annotations", "Classes used", "Classes listed")
    table = markup.table(head, rows) if rows else markup.nothing("No split could be read.")
    navigation = markup.navigation("findings", "samples", "classes", "objects", "pictures", "positions")
    return (
        f'<header><p class="muted">Data set report</p><h1>{markup.text(title)}</h1>\n'
        f'<p class="verdict {"passed" if passed else "failed"}">{verdict}</p>\n'
        f'<ul class="tiles">{tiles}</ul>\n{table}\n{navigation}</header><main>'
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
    return [markup.text(split.name), *map(markup.number, numbers)]


def _findings_section(
    groups: Sequence[_Group], splits: Mapping[str, _Split], pictures: Mapping[_Key, str]
) -> str:
    if not groups:
        return markup.section("findings", "Findings", markup.nothing("Nothing was found."))
    overview = markup.table(
        ("Severity", "Code", "Count", "Meaning"),
        [
            [
                markup.tag(group.severity),
                f'<a href="#{markup.text(group.code)}"><code>{markup.text(group.code)}</code></a>',
                markup.number(group.total),
                markup.text(KINDS[group.code].meaning),
            ]
            for group in groups
        ],
        numbers=(2,),
    )
    budget = _Budget(_FINDINGS_BUDGET_BYTES)
    names = _FileNames.of(groups, splits)
    blocks = [_group_block(group, pictures, names, budget) for group in groups]
    return markup.section("findings", "Findings", overview, *blocks)


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
        f'<p class="repair">CheckDataset.fix repairs this: {markup.text(kind.repair)}</p>'
        if kind.repair
        else ""
    )
    first, others = group.findings[:_CARDS_PER_KIND], group.findings[_CARDS_PER_KIND:]
    images = [pictures.get((group.code, i)) for i in range(len(first))]
    cards = []
    for finding, image in zip(first, images, strict=True):
        text = _card_text(finding, kind.hint, names)
        if budget.take(text):  # pictures have a budget of their own
            cards.append(f'<li class="card">{_card_picture(finding, image, names)}{text}</li>')
    lines = [
        f"<li>{_where(finding, names)}: {markup.text(finding.message, 400)}</li>"
        for finding in others[:_LINES_PER_KIND]
    ]
    lines = [line for line in lines if budget.take(line)]
    unshown = group.total - len(cards) - len(lines)
    rest = (
        f'<p class="muted">{markup.number(unshown)} more of these are not listed here.</p>'
        if unshown > 0
        else ""
    )
    if lines:
        rest = (
            f"<details><summary>{markup.number(len(lines))} more</summary>"
            f"<ol>{''.join(lines)}</ol>{rest}</details>"
        )
    layout = "cards" if any(image is not None for image in images) else "cards plain"
    grid = f'<ul class="{layout}">{"".join(cards)}</ul>' if cards else ""
    return (
        f'<article class="kind {group.severity}" id="{markup.text(group.code)}">'
        f"<h3>{markup.tag(group.severity)} <code>{markup.text(group.code)}</code> "
        f'<span class="count">&times; {markup.number(group.total)}</span></h3>'
        f'<p>{markup.text(kind.meaning)}</p><p class="hint">What to do: {markup.text(kind.hint)}</p>{repair}'
        f"\n{grid}{rest}</article>"
    )


def _card_picture(finding: Finding, image: str | None, names: _FileNames) -> str:
    if image is None:
        return ""
    name = names.get((finding.file, finding.image_id), "")
    return f'<img {image} alt="{markup.text(name, 80)}">' if image else markup.BROKEN


def _card_text(finding: Finding, usual_hint: str, names: _FileNames) -> str:
    hint = "" if finding.hint == usual_hint else f"<p>{markup.text(finding.hint, 300)}</p>"
    return f'<p>{markup.text(finding.message, 400)}</p>{hint}<p class="muted">{_where(finding, names)}</p>'


def _where(finding: Finding, names: _FileNames) -> str:
    parts = [markup.text(finding.file, 80)]
    if finding.image_id is not None:
        name = names.get((finding.file, finding.image_id))
        parts.append(f"image {finding.image_id}" + (f" ({markup.text(name, 80)})" if name else ""))
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
        f'<h3>{markup.text(name)}</h3><div class="samples">{"".join(items)}</div>'
        for name, items in figures.items()
    ]
    note = '<p class="muted">Chosen at random; the rarest classes are among them.</p>'
    return markup.section(
        "samples", "Samples", *([note, *parts] if parts else [markup.nothing("No pictures.")])
    )


def _sample(split: _Split, picture: int, view: _View, image: str) -> str:
    record = view.record
    classes = split.classes[(split.pictures == picture) & (split.classes >= 0)]
    by_class = Counter(classes.tolist())
    names = [
        f"{markup.number(count)} {markup.text(view.categories[class_index].name, 40)}"
        for class_index, count in by_class.most_common(6)
    ]
    content = ", ".join(names) or "no objects"
    unnamed = len(by_class) - len(names)
    if unnamed:
        content += f" and {markup.number(unnamed)} more {markup.noun('class', unnamed)}"
    drawn = f" The {len(view.annotations)} largest are drawn." if len(classes) > len(view.annotations) else ""
    name = markup.text(record.file_name, 80)
    shown = f'<img {image} alt="{name}: {content}">' if image else markup.BROKEN
    return (
        f"<figure>{shown}<figcaption>{content}.{drawn}<br>"
        f'<span class="muted">{name}, {markup.size(record.width, record.height)}</span></figcaption></figure>'
    )


def _classes_section(shapes: Shapes) -> str:
    table = class_table(shapes)
    if not table:
        return markup.section("classes", "Classes", markup.nothing("No classes."))
    present = [split for split in shapes if split in ("train", "val")]  # those that the table knows
    totals = {split: max(sum(row[split] for row in table), 1) for split in present}
    longest = max((row[split] / totals[split] for row in table for split in present), default=0) or 1
    frequent = sorted(table, key=lambda row: -(row["train"] + row["val"]))[:_CLASSES_SHOWN]
    bars = [
        '<div class="bar-name">{}</div><div>{}</div>'.format(
            markup.text(row["name"], 60),
            "".join(
                f'<div class="bar"><i class="{markup.COLOURS[i]}" '
                f'style="width:{72 * row[split] / totals[split] / longest:.2f}%"></i>'
                f"<span>{markup.number(row[split])}</span></div>"
                for i, split in enumerate(present)
            ),
        )
        for row in frequent
    ]
    heading = (
        f"The {_CLASSES_SHOWN} most frequent of {markup.number(len(table))} classes."
        if len(table) > _CLASSES_SHOWN
        else f"{markup.number(len(table))} {markup.noun('class', len(table))}."
    )
    note = f"{heading} The length of a bar is the share of its split's annotations, the number counts them."
    return markup.section(
        "classes",
        "Classes",
        markup.legend(present),
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
            markup.text(str(row["name"]), 80),
            *(markup.number(int(str(row[key]))) for key in keys),
            "&ndash;" if row["median_area"] is None else f"{math.sqrt(float(str(row['median_area']))):.0f}",
        ]
        for row in table[:_CLASS_ROWS]
    ]
    unshown = len(table) - len(rows)
    more = f'<p class="muted">{markup.number(unshown)} more classes are not listed.</p>' if unshown else ""
    listed = markup.table(head, rows, numbers=(0, 2, 3, 4, 5, 6))
    return f"<details><summary>All classes</summary>{listed}{more}</details>"


def _objects_section(shapes: Shapes) -> str:
    sides = {name: np.sqrt(split.areas[split.areas > 0]) for name, split in shapes.items()}
    if not any(len(values) for values in sides.values()):
        return markup.section("objects", "Objects", markup.nothing("No objects."))
    ratios = {name: charts.aspect_ratios(split.boxes_xywh[:, 2:]) for name, split in shapes.items()}
    rows = []
    for name, row in size_table(shapes).items():
        total = max(row["small"] + row["medium"] + row["large"], 1)
        shares = [
            f"{markup.number(row[key])} ({markup.percent(row[key] / total)})"
            for key in ("small", "medium", "large")
        ]
        quantiles = [markup.decimal(row["sqrt_area"][key]) for key in ("min", "p5", "p50", "p95", "max")]
        relative = row["relative_sqrt_area"]["p50"]
        median = "&ndash;" if relative is None else markup.percent(relative)
        rows.append([markup.text(name), *shares, *quantiles, median])
    head = (
        "Split", "Small", "Medium", "Large", "Min side", "5 %", "Median", "95 %", "Max", "Median of picture"
    )  # fmt: skip
    note = (
        "Small, medium and large are COCO's: up to 32&times;32 and 96&times;96 pixels of the mask. The side "
        "of an object is the root of its area; the last column is the root of its share of the picture."
    )
    return markup.section(
        "objects",
        "Objects",
        f'<p class="muted">{note}</p>',
        markup.table(head, rows),
        markup.legend(list(shapes)),
        '<div class="charts">',
        charts.chart("Side of the objects, pixels", charts.octave_bins(sides), sides, unit="object"),
        charts.chart("Width : height of the objects' boxes", charts.ratio_bins(), ratios, unit="object"),
        "</div>",
    )


def _pictures_section(shapes: Shapes) -> str:
    objects = {name: objects_per_picture(split) for name, split in shapes.items()}
    if not any(len(values) for values in objects.values()):
        return markup.section("pictures", "Pictures", markup.nothing("No pictures."))
    sizes = {name: picture_sizes_wh(split.coco) for name, split in shapes.items()}
    rows = [
        [
            markup.text(name),
            *(markup.spread(row[key]) for key in ("objects_per_picture", "width", "height")),
            markup.number(row["distinct_sizes"]),
        ]
        for name, row in picture_table(shapes).items()
    ]
    ratios = {name: charts.aspect_ratios(values) for name, values in sizes.items()}
    head = ("Split", "Objects per picture", "Width, px", "Height, px", "Distinct sizes")
    return markup.section(
        "pictures",
        "Pictures",
        '<p class="muted">Smallest / median / largest.</p>',
        markup.table(head, rows),
        markup.legend(list(shapes)),
        '<div class="charts">',
        charts.chart("Objects per picture", charts.count_bins(objects), objects, unit="picture"),
        charts.chart("Width : height of the pictures", charts.ratio_bins(), ratios, unit="picture"),
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
        [markup.size(*distinct[i].tolist()), *(markup.number(int(counts[i])) for counts in by_split)]
        for i in order[:_SIZES_SHOWN]
    ]
    if len(order) > _SIZES_SHOWN:
        others = order[_SIZES_SHOWN:]
        label = f"{markup.number(len(others))} other {markup.noun('size', len(others))}"
        rows.append([label, *(markup.number(int(counts[others].sum())) for counts in by_split)])
    return markup.table(("Picture size", *map(markup.text, sizes)), rows)


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
            f'alt="Heat map of {markup.text(name)}: up to {markup.percent(heat.max())} of the objects cover '
            'one place">'
            f'<figcaption><b>{markup.text(name)}</b><span class="ramp">0 % '
            f'<img src="{_shades_to_png(ramp)}" width="120" height="10" alt=""> {markup.percent(heat.max())}'
            "</span></figcaption></figure>"
        )
    note = (
        "All pictures laid over each other, stretched to a square: the share of the objects whose box covers "
        "a place."
    )
    content = [f'<p class="muted">{note}</p>', f'<div class="heats">{"".join(figures)}</div>']
    if not figures:
        content = [markup.nothing("No objects.")]
    return markup.section("positions", "Positions", *content) + "</main>"


def _shades_to_png(shades: NDArray[np.uint8]) -> str:
    colours = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG")
    return markup.data_url(buffer.getvalue(), "image/png")
