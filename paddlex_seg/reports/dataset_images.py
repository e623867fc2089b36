"""The images of a data set page: chooses images and crops, draws the objects, embeds the result."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.findings import Finding
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_to_mask
from paddlex_seg.reports.dataset_counts import Split
from paddlex_seg.reports.images import Embedded, embed_jpeg
from paddlex_seg.reports.text import shorten
from paddlex_seg.reports.windows import Window, load_window, window_around
from paddlex_seg.structures import Annotation, Bands, Category, ImageRecord
from paddlex_seg.visualize import draw_instances

# Limits for the size of the page. Images are counted as base64.
_IMAGE_BUDGET_BYTES = 10_000_000
_SAMPLE_BYTES, _THUMBNAIL_BYTES = 110_000, 30_000  # of a JPEG, before base64
# Limits for the time: how much is decoded.
_MAX_SAMPLES, _MAX_THUMBNAILS = 24, 80
_MAX_MEGAPIXELS = 200.0  # each for samples and thumbnails; a JPEG counts 1/5, it is decoded at reduced size
_MAX_DRAWN_OBJECTS = 100  # per image; the largest ones are drawn

_SAMPLE_SIDE, _THUMBNAIL_SIDE = 480, 260  # longer side, pixels
_SAMPLES_PER_SPLIT, _RARE_SAMPLES = 12, 8
# For these findings the user must compare the image with its masks. Other findings show the bare image.
_DRAW_ALL_OBJECTS = {"image_exif_frame", "image_exif_unclear", "image_many_objects"}


# ---- Choosing images and crops


@dataclass(frozen=True)
class View:
    """An image to embed: a crop with some of its objects."""

    record: ImageRecord
    window: Window
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    side: int  # maximum of the longer side of the embedded image, pixels
    max_bytes: int
    shows_boxes_of_file: bool = False  # also of boxes that do not fit their masks


Key = tuple[str, int]  # ("sample", number of the sample) or (finding code, number of the finding)
Views = dict[Key, View]


def choose_samples(splits: Sequence[Split]) -> list[tuple[Split, int]]:
    """The sample images of each split, as indices into its list of images."""
    return [(split, place) for split in splits for place in _choose_samples(split)]


def sample_views(samples: Sequence[tuple[Split, int]]) -> Views:
    """The views of the samples, within the decoding limits. Keys are ``("sample", index in samples)``."""
    views = {("sample", i): view for i, view in enumerate(_sample_views(samples))}
    return _within_limits(views, _MAX_SAMPLES)


def finding_views(shown: Sequence[tuple[Key, Finding]], splits: Mapping[str, Split]) -> Views:
    """The views of the findings that have an image, in this order, within the decoding limits."""
    views: Views = {}
    for split in splits.values():
        of_split = [(key, found) for key, found in shown if found.file == split.shapes.coco.path.name]
        views.update(_views_in_split(split, of_split))
    return _within_limits({key: views[key] for key, _ in shown if key in views}, _MAX_THUMBNAILS)


def _choose_samples(split: Split) -> list[int]:
    """Indices of the sample images: one with each of the rarest classes, then random images."""
    rng = np.random.default_rng(0)
    known = (split.images >= 0) & (split.classes >= 0)
    images, classes = split.images[known], split.classes[known]
    frequencies = np.bincount(classes, minlength=len(split.shapes.coco.categories))
    chosen: dict[int, None] = {}
    for rare in [int(i) for i in np.argsort(frequencies, kind="stable") if frequencies[i]][:_RARE_SAMPLES]:
        with_class = images[classes == rare]
        if not np.isin(with_class, list(chosen)).any():
            chosen[int(rng.choice(with_class))] = None
    for candidates in (np.unique(images), np.arange(len(split.shapes.coco.images))):
        for image in rng.permutation(candidates).tolist():
            if len(chosen) >= _SAMPLES_PER_SPLIT:
                break
            chosen[image] = None
    return sorted(chosen)


def _sample_views(samples: Sequence[tuple[Split, int]]) -> Iterator[View]:
    rows_of_split = {
        split.name: split.rows_of([place for other, place in samples if other is split])
        for split, _ in samples
    }
    for split, image in samples:
        rows = rows_of_split[split.name][image]
        view = _image_view(split, split.shapes.coco.images[image], rows)
        yield replace(view, side=_SAMPLE_SIDE, max_bytes=_SAMPLE_BYTES)


def _views_in_split(split: Split, shown: Sequence[tuple[Key, Finding]]) -> Iterator[tuple[Key, View]]:
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
        if row is not None and split.images[row] == place and split.classes[row] >= 0:
            yield key, _object_view(split, coco.images[place], row)
        else:
            drawn = all_rows[place] if finding.code in _DRAW_ALL_OBJECTS else np.zeros(0, np.int64)
            yield key, _image_view(split, coco.images[place], drawn)


def _image_view(split: Split, record: ImageRecord, rows: NDArray[np.int64]) -> View:
    largest_first = rows[np.argsort(-split.shapes.areas[rows], kind="stable")]
    return View(
        record=record,
        window=Window(0, 0, record.width, record.height),
        annotations=tuple(split.shapes.coco.annotations[row] for row in largest_first[:_MAX_DRAWN_OBJECTS]),
        categories=split.shapes.coco.categories,
        side=_THUMBNAIL_SIDE,
        max_bytes=_THUMBNAIL_BYTES,
    )


def _object_view(split: Split, record: ImageRecord, row: int) -> View:
    """The object with its surroundings. If the box in the file lies elsewhere, the crop includes it too."""
    annotation = split.shapes.coco.annotations[row]
    boxes = [tuple(split.shapes.boxes_xywh[row].tolist()), annotation.bbox_xywh]
    window = window_around([box for box in boxes if box and max(box[2:]) > 0], record.width, record.height)
    view = _image_view(split, record, np.zeros(0, np.int64))
    return replace(view, window=window, annotations=(annotation,), shows_boxes_of_file=True)


def _within_limits(views: Views, max_images: int) -> Views:
    """The first of ``views`` that fit the limits of images and megapixels."""
    kept: Views = {}
    megapixels = 0.0
    for key, view in views.items():
        cost = _megapixels(view)
        if len(kept) < max_images and megapixels + cost <= _MAX_MEGAPIXELS:
            kept[key] = view
            megapixels += cost
    return kept


def _megapixels(view: View) -> float:
    """The decoding cost, from the size in the annotation file. It is capped, as that size may be wrong."""
    listed = min(view.record.width * view.record.height / 1e6, 100.0)
    return listed / 5 if view.record.file_name.lower().endswith((".jpg", ".jpeg")) else listed


# ---- Decoding and drawing


def render(views: Views, image_dir: Path, bands: Bands | None = None) -> dict[Key, Embedded | None]:
    """The image of each view, within the byte budget; None if the image file cannot be read."""
    largest = max(map(_megapixels, views.values()), default=0)
    # One at a time if images are large: several could exhaust the memory.
    workers = 1 if largest > 30 else min(4, num_usable_cores())
    with ThreadPoolExecutor(workers) as pool:
        images = list(pool.map(lambda view: _draw(view, image_dir, bands), views.values()))
    left = _IMAGE_BUDGET_BYTES
    rendered: dict[Key, Embedded | None] = {}
    for key, image in zip(views, images, strict=True):
        cost = len(image.source) if image else 0
        if cost <= left:
            left -= cost
            rendered[key] = image
    return rendered


def _draw(view: View, image_dir: Path, bands: Bands | None) -> Embedded | None:
    """The view as a JPEG; None if the image file cannot be read."""
    shown = load_window(view.record, view.window, image_dir, side=view.side, bands=bands)
    if shown is None:
        return None
    small, fits = shown
    if fits and view.annotations:
        small = Image.fromarray(_draw_objects(np.asarray(small), view))
    return embed_jpeg(small, view.max_bytes)


def _draw_objects(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    small = [_into_window(annotation, view, (width, height)) for annotation in view.annotations]
    record = replace(view.record, width=width, height=height)
    labels = [shorten(category.name, view.side // 18) for category in view.categories]
    instances = annotations_to_instances(
        small, record, view.categories, boxes_of_file=view.shows_boxes_of_file
    )
    return draw_instances(image, instances, labels, show_scores=False)


def _into_window(annotation: Annotation, view: View, size_wh: tuple[int, int]) -> Annotation:
    """The annotation in pixels of the crop of ``view``, resized to ``size_wh``."""
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
