"""The demo data set: synthetic images of bolts and washers on a factory line, with pixel-exact masks.

``python -m paddlex_seg.data.demo`` writes ``dataset/instance_seg_coco_examples``, and the same data in
LabelMe format to ``dataset/instance_seg_labelme_examples``. An image depends only on its number, so every run
draws the same pixels.
"""

import argparse
import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.files.atomic import new_folder
from paddlex_seg.masks.polygons import mask_to_polygons
from paddlex_seg.masks.rle import (
    annotation_to_rle,
    mask_to_rle,
    mask_to_runs,
    rle_area,
    rle_box_xywh,
    rle_to_json,
    rle_to_mask,
)
from paddlex_seg.streams import make_standard_streams_last
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

COCO_FOLDER = "instance_seg_coco_examples"
LABELME_FOLDER = "instance_seg_labelme_examples"
CLASS_NAMES = ("bolt", "washer")

_EMPTY_IMAGE = 5  # the number of the training image without objects
_SEED = 20_240_607

_Pixels = NDArray[np.float32]  # [H, W, 3], 0..1, RGB
_Plane = NDArray[np.float32]  # [H, W]


@dataclass(frozen=True)
class Scene:
    """A drawn image, uint8 [H, W, 3] RGB, with class name and visible mask, bool [H, W], of each object."""

    image: NDArray[np.uint8]
    labels: tuple[str, ...]
    masks: tuple[NDArray[np.bool_], ...]


def write_demo_dataset(
    dataset_dir: Path, overwrite: bool = False, num_train: int = 79, num_val: int = 19
) -> list[Path]:
    """Write the two demo data sets to ``dataset_dir``. Returns the folders that were written.

    Each folder is written atomically. An existing folder is kept unless ``overwrite`` is set.
    """
    writers = {COCO_FOLDER: _write_coco_twin, LABELME_FOLDER: _write_labelme_twin}
    missing = [name for name in writers if overwrite or not (dataset_dir / name).exists()]
    if not missing:
        return []
    pages = [_draw_page(index) for index in range(num_train + num_val)]
    for name in missing:
        with new_folder(dataset_dir / name) as folder:
            writers[name](folder, pages[:num_train], pages[num_train:])
    return [dataset_dir / name for name in missing]


def draw_scene(index: int) -> Scene:
    """Draw image ``index``, with sides of 320 to 560 pixels and 1 to 5 objects. One image has no objects."""
    rng = np.random.default_rng([_SEED, index])
    height, width = (int(side) for side in rng.integers(320, 561, 2))
    pixels = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))](rng, height, width)
    for _ in range(rng.integers(0, 4)):
        _CLUTTER[rng.integers(len(_CLUTTER))](rng, pixels)
    num_objects = 0 if index == _EMPTY_IMAGE else int(rng.integers(1, 6))
    labels, masks = _place_objects(rng, pixels, num_objects)
    image = _photograph(rng, pixels)
    return Scene(image=image, labels=tuple(labels), masks=tuple(_without_specks(mask) for mask in masks))


# ---- from a scene to files


@dataclass(frozen=True)
class _Page:
    """An image as both data sets store it. Its annotation ids start from 1."""

    record: ImageRecord
    jpeg: bytes
    annotations: tuple[Annotation, ...]


def _draw_page(index: int) -> _Page:
    scene = draw_scene(index)
    height, width = scene.image.shape[:2]
    record = ImageRecord(id=index + 1, file_name=f"line_{index + 1:04d}.jpg", width=width, height=height)
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=90, optimize=True)
    annotations = [
        _annotate(mask, label, id=number, image_id=index + 1)
        for number, (label, mask) in enumerate(zip(scene.labels, scene.masks, strict=True), start=1)
    ]
    return _Page(record=record, jpeg=buffer.getvalue(), annotations=tuple(annotations))


def _annotate(mask: NDArray[np.bool_], label: str, id: int, image_id: int) -> Annotation:
    """The annotation of a mask: an RLE if it has a hole, compressed for even image ids; else polygons."""
    segmentation: Any = mask_to_polygons(mask)
    if _has_hole(mask):
        if image_id % 2:
            segmentation = {"size": list(mask.shape), "counts": mask_to_runs(mask)}
        else:
            segmentation = rle_to_json(mask_to_rle(mask))
    category_id = CLASS_NAMES.index(label) + 1
    annotation = Annotation(id=id, image_id=image_id, category_id=category_id, segmentation=segmentation)
    drawn = annotation_to_rle(annotation, *mask.shape)
    return Annotation(
        id=id,
        image_id=image_id,
        category_id=category_id,
        segmentation=segmentation,
        bbox_xywh=tuple(rle_box_xywh(drawn).tolist()),
        area=rle_area(drawn),
    )


def _has_hole(mask: NDArray[np.bool_]) -> bool:
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return any(parent >= 0 for parent in hierarchy[0, :, 3])


def _write_coco_twin(folder: Path, train: Sequence[_Page], val: Sequence[_Page]) -> None:
    _write_images(folder, [*train, *val])
    for split, pages in (("train", train), ("val", val)):
        path = folder / "annotations" / f"instance_{split}.json"
        write_coco(_pages_to_coco(pages, path), path)


def _pages_to_coco(pages: Sequence[_Page], path: Path) -> CocoFile:
    found = [annotation for page in pages for annotation in page.annotations]
    return CocoFile(
        path=path,
        images=tuple(page.record for page in pages),
        annotations=tuple(replace(item, id=id) for id, item in enumerate(found, start=1)),
        categories=tuple(Category(id=id, name=name) for id, name in enumerate(CLASS_NAMES, start=1)),
        extra={"info": {"description": "Drawn bolts and washers, the demo data set of paddlex_seg"}},
    )


def _write_labelme_twin(folder: Path, train: Sequence[_Page], val: Sequence[_Page]) -> None:
    _write_images(folder, [*train, *val])
    (folder / "annotations").mkdir()
    for split, pages in (("train", train), ("val", val)):
        names = [f"annotations/{Path(page.record.file_name).stem}.json" for page in pages]
        for page, name in zip(pages, names, strict=True):
            text = json.dumps(_labelme_document(page))
            (folder / name).write_text(text, encoding="utf-8")
        (folder / f"{split}_anno_list.txt").write_text(
            "".join(f"{name}\n" for name in names), encoding="utf-8"
        )
    (folder / "label.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES), encoding="utf-8")


def _labelme_document(page: _Page) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            shape for annotation in page.annotations for shape in _labelme_shapes(annotation, page.record)
        ],
        "imagePath": f"../images/{page.record.file_name}",
        "imageData": None,
        "imageHeight": page.record.height,
        "imageWidth": page.record.width,
    }


def _labelme_shapes(annotation: Annotation, record: ImageRecord) -> list[dict[str, Any]]:
    """One polygon per part, with a common group_id if there are several; for an RLE, one mask shape."""
    label = CLASS_NAMES[int(annotation.category_id) - 1]
    blank: dict[str, Any] = {"label": label, "group_id": None, "description": "", "flags": {}, "mask": None}
    if isinstance(annotation.segmentation, dict):
        mask = rle_to_mask(annotation_to_rle(annotation, record.height, record.width))
        return [{**blank, "shape_type": "mask", **_labelme_mask(mask)}]
    parts = [np.reshape(part, (-1, 2)).tolist() for part in annotation.segmentation]
    group = annotation.id if len(parts) > 1 else None
    return [{**blank, "shape_type": "polygon", "points": points, "group_id": group} for points in parts]


def _labelme_mask(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """The mask inside its box as a PNG, and the corners of the box, including the last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    buffer = io.BytesIO()
    Image.fromarray(inside * 255).convert("1").save(buffer, "PNG")
    corners = [[float(columns[0]), float(rows[0])], [float(columns[-1]), float(rows[-1])]]
    return {"points": corners, "mask": base64.b64encode(buffer.getvalue()).decode("ascii")}


def _write_images(folder: Path, pages: Sequence[_Page]) -> None:
    (folder / "images").mkdir(parents=True)
    for page in pages:
        (folder / "images" / page.record.file_name).write_bytes(page.jpeg)


# ---- objects


def _place_objects(
    rng: Generator, pixels: _Pixels, num_objects: int
) -> tuple[list[str], list[NDArray[np.bool_]]]:
    """Draw objects on top of each other. The masks contain the parts that stay visible."""
    labels: list[str] = []
    masks: list[NDArray[np.bool_]] = []
    areas: list[int] = []
    for _ in range(20 * num_objects):
        if len(masks) == num_objects:
            break
        crowded = bool(masks) and rng.random() < 0.25
        near = _centre(masks[-1]) if crowded else None
        shape = _random_shape(rng, pixels.shape[:2], near)
        mask = shape.distance < 0
        if mask.sum() < 0.85 * shape.whole_area or _hides_too_much(mask, masks, areas):
            continue
        masks = [other & ~mask for other in masks]
        _paint_object(rng, pixels, shape)
        labels.append(shape.label)
        masks.append(mask)
        areas.append(int(mask.sum()))
    return labels, masks


def _hides_too_much(
    mask: NDArray[np.bool_], masks: Sequence[NDArray[np.bool_]], areas: Sequence[int]
) -> bool:
    return any((other & ~mask).sum() < 0.7 * area for other, area in zip(masks, areas, strict=True))


def _centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


@dataclass(frozen=True)
class _Shape:
    """An object in the frame of the image: distance to its outline (negative inside), brightness 0..1."""

    label: str
    distance: _Plane
    brightness: _Plane
    whole_area: float  # pixels, also those outside the image


def _random_shape(rng: Generator, size_hw: tuple[int, ...], near: tuple[float, float] | None) -> _Shape:
    height, width = size_hw[:2]
    side = min(height, width)
    centre = rng.uniform(0.1, 0.9, 2) * (width, height)
    if near is not None:
        centre = np.clip(
            near + rng.normal(0, 0.22 * side, 2), 0.1 * side, (width - 0.1 * side, height - 0.1 * side)
        )
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    draw = _bolt if rng.random() < 0.5 else _washer
    return draw(rng, along.astype(np.float32), across.astype(np.float32), side)


def _bolt(rng: Generator, along: _Plane, across: _Plane, side: int) -> _Shape:
    """A bolt lying on its side: a head with three facets, and a threaded shaft shaded as a cylinder."""
    length = side * rng.uniform(0.36, 0.55)
    head_length, head_half, shaft_half = (
        0.24 * length,
        length * rng.uniform(0.16, 0.2),
        length * rng.uniform(0.095, 0.12),
    )
    from_head = along + length / 2 - head_length / 2
    head = np.maximum(np.abs(from_head) - head_length / 2, np.abs(across) - head_half)
    head = np.maximum(
        head, 0.8 * (np.abs(from_head) + 0.5 * np.abs(across) - 0.46 * head_length - 0.5 * head_half)
    )
    shaft = np.maximum(np.abs(along) - length / 2, np.abs(across) - shaft_half)
    height_on_shaft = across / shaft_half
    cylinder = 0.3 + 0.65 * np.exp(-(((height_on_shaft + 0.3) / 0.45) ** 2))
    pitch = max(4.0, 0.05 * length)
    thread = 1 - 0.3 * (np.sin(2 * np.pi * (along + 0.2 * across) / pitch) > 0.2)
    facets = np.select([across < -0.5 * head_half, across < 0.5 * head_half], [0.62, 0.88], default=0.42)
    brightness = np.where(head < 0, facets, cylinder * thread)
    area = head_length * 2 * head_half * 0.95 + (length - head_length) * 2 * shaft_half
    return _Shape("bolt", np.minimum(head, shaft), brightness.astype(np.float32), area)


def _washer(rng: Generator, along: _Plane, across: _Plane, side: int) -> _Shape:
    """A disc with a hole, turned on a lathe: bright sectors, fine rings and bevelled edges."""
    outer = side * rng.uniform(0.14, 0.23)
    inner = outer * rng.uniform(0.4, 0.55)
    squash = rng.uniform(0.8, 1.0)  # seen at an angle
    radius = np.hypot(along, across / squash)
    distance = np.maximum(radius - outer, inner - radius).astype(np.float32)
    sectors = 0.58 + 0.27 * np.cos(2 * np.arctan2(across, along) + rng.uniform(0, np.pi))
    rings = 0.04 * np.sin(radius * 2.2)
    bevel = np.where(distance > -0.08 * outer, -0.18, 0.0)
    area = np.pi * (outer**2 - inner**2) * squash
    return _Shape("washer", distance, (sectors + rings + bevel).astype(np.float32), float(area))


# Both classes come in every metal, so that colour does not give them away.
_METALS = np.array([[0.86, 0.88, 0.92], [0.9, 0.76, 0.46], [0.6, 0.62, 0.68], [0.84, 0.8, 0.74]], np.float32)


def _paint_object(rng: Generator, pixels: _Pixels, shape: _Shape) -> None:
    cover = np.clip(0.5 - shape.distance, 0, 1)
    shift = rng.uniform(2, 6, 2)
    moved = cv2.warpAffine(
        cover, np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32), cover.shape[::-1]
    )
    pixels *= 1 - 0.5 * cv2.GaussianBlur(moved, (0, 0), 3)[..., None]
    metal = _METALS[rng.integers(len(_METALS))] * rng.uniform(0.85, 1.1)
    grain = 1 + 0.03 * rng.standard_normal(cover.shape, dtype=np.float32)
    _blend(pixels, cover, (shape.brightness * grain)[..., None] * metal)


def _blend(pixels: _Pixels, cover: _Plane, colour: NDArray[np.floating[Any]]) -> None:
    pixels += cover[..., None] * (colour - pixels)


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Remove pieces and holes of fewer than 24 pixels, which nobody would label."""
    for value in (True, False):
        _, pieces, statistics, _ = cv2.connectedComponentsWithStats(
            (mask == value).astype(np.uint8), connectivity=4
        )
        specks = np.flatnonzero(statistics[:, cv2.CC_STAT_AREA] < 24)
        mask = mask ^ (np.isin(pieces, specks[specks > 0]))
    return mask


# ---- backgrounds, clutter and light


def _noise(rng: Generator, height: int, width: int, cell: tuple[float, float]) -> _Plane:
    """Smooth noise, 0..1, with grains of ``cell`` (high, wide) pixels."""
    rows, columns = int(height / cell[0]) + 2, int(width / cell[1]) + 2
    grid = rng.random((rows, columns), dtype=np.float32)
    return np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def _between(amount: _Plane, dark: Sequence[float], bright: Sequence[float]) -> _Pixels:
    low, high = np.array(dark, np.float32), np.array(bright, np.float32)
    return low + np.clip(amount, 0, 1)[..., None] * (high - low)


def _belt(rng: Generator, height: int, width: int) -> _Pixels:
    ribs = 0.5 + 0.5 * np.sin(np.arange(width, dtype=np.float32) * 2 * np.pi / rng.uniform(18, 34))
    amount = (
        0.5 * _noise(rng, height, width, (60, 60))
        + 0.25 * ribs[None]
        + 0.25 * _noise(rng, height, width, (5, 5))
    )
    return _between(amount, (0.12, 0.15, 0.15), (0.3, 0.36, 0.35))


def _wood(rng: Generator, height: int, width: int) -> _Pixels:
    grain = _noise(rng, height, width, (5, 120)) + 0.6 * _noise(rng, height, width, (14, 200))
    boards = (np.arange(height) // int(rng.integers(70, 120)) % 2).astype(np.float32)[:, None]
    return _between(0.55 * grain + 0.15 * boards, (0.36, 0.24, 0.15), (0.72, 0.54, 0.36))


def _fabric(rng: Generator, height: int, width: int) -> _Pixels:
    step = rng.uniform(6, 9)
    weave = np.sin(np.arange(height) * 2 * np.pi / step)[:, None] * np.sin(
        np.arange(width) * 2 * np.pi / step
    )
    amount = 0.45 + 0.2 * weave.astype(np.float32) + 0.35 * (_noise(rng, height, width, (80, 80)) - 0.5)
    dark, bright = (
        ((0.2, 0.28, 0.4), (0.4, 0.52, 0.66))
        if rng.random() < 0.5
        else ((0.3, 0.36, 0.24), (0.54, 0.6, 0.44))
    )
    return _between(amount, dark, bright)


def _concrete(rng: Generator, height: int, width: int) -> _Pixels:
    amount = 0.5 * _noise(rng, height, width, (90, 90)) + 0.3 * _noise(rng, height, width, (16, 16))
    return _between(amount + 0.2 * _noise(rng, height, width, (4, 4)), (0.36, 0.35, 0.34), (0.7, 0.69, 0.66))


_BACKGROUNDS: tuple[Callable[[Generator, int, int], _Pixels], ...] = (_belt, _wood, _fabric, _concrete)


def _paper_tag(rng: Generator, pixels: _Pixels) -> None:
    height, width = pixels.shape[:2]
    centre = rng.uniform(0.1, 0.9, 2) * (width, height)
    size = min(height, width) * rng.uniform(0.1, 0.2, 2)
    corners = cv2.boxPoints((centre.tolist(), size.tolist(), float(rng.uniform(0, 180))))
    cover = _filled(pixels, lambda plane: cv2.fillPoly(plane, [corners.astype(np.int32)], 255, cv2.LINE_AA))
    _blend(pixels, cover, np.array([0.86, 0.84, 0.72], np.float32) * rng.uniform(0.8, 1.1))
    inset = corners * 0.8 + corners.mean(axis=0) * 0.2
    lines = [inset[[0, 1]] * (1 - part) + inset[[3, 2]] * part for part in (0.15, 0.4, 0.65, 0.9)]
    strokes = [line.astype(np.int32) for line in lines]
    ink = _filled(pixels, lambda plane: cv2.polylines(plane, strokes, False, 255, 1, cv2.LINE_AA))
    _blend(pixels, 0.5 * ink, np.array([0.2, 0.2, 0.25], np.float32))


def _cable(rng: Generator, pixels: _Pixels) -> None:
    height, width = pixels.shape[:2]
    stops = rng.uniform(-0.1, 1.1, (4, 2)) * (width, height)
    t = np.linspace(0, 1, 60)[:, None]
    curve = (
        (1 - t) ** 3 * stops[0]
        + 3 * t * (1 - t) ** 2 * stops[1]
        + 3 * t**2 * (1 - t) * stops[2]
        + t**3 * stops[3]
    )
    thickness = int(rng.integers(3, 7))
    cover = _filled(
        pixels,
        lambda plane: cv2.polylines(plane, [curve.astype(np.int32)], False, 255, thickness, cv2.LINE_AA),
    )
    _blend(pixels, cover, rng.uniform(0.1, 0.5, 3).astype(np.float32))


def _stain(rng: Generator, pixels: _Pixels) -> None:
    height, width = pixels.shape[:2]
    centre = tuple(int(value) for value in rng.uniform(0, 1, 2) * (width, height))
    axes = tuple(int(value) for value in min(height, width) * rng.uniform(0.06, 0.2, 2))
    cover = _filled(
        pixels, lambda plane: cv2.ellipse(plane, centre, axes, rng.uniform(0, 180), 0, 360, 255, -1)
    )
    _blend(pixels, 0.35 * cv2.GaussianBlur(cover, (0, 0), 4), np.array([0.1, 0.09, 0.08], np.float32))


def _filled(pixels: _Pixels, draw: Callable[[NDArray[np.uint8]], object]) -> _Plane:
    """The coverage of a drawing, 0..1. It is drawn in 8 bits, because OpenCV antialiases only these."""
    plane = np.zeros(pixels.shape[:2], np.uint8)
    draw(plane)
    return plane.astype(np.float32) / np.float32(255)


_CLUTTER: tuple[Callable[[Generator, _Pixels], None], ...] = (_paper_tag, _cable, _stain)


def _photograph(rng: Generator, pixels: _Pixels) -> NDArray[np.uint8]:
    """Uneven light with a tint, and the noise of a sensor."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.05, 0.3) * (x * np.cos(angle) + y * np.sin(angle))
    vignette = rng.uniform(0, 0.15) * (x**2 + y**2)
    light = (rng.uniform(0.8, 1.2) * (1 + slope - vignette)).astype(np.float32)
    tint = 1 + rng.uniform(-0.06, 0.06, 3).astype(np.float32)
    noise = rng.normal(0, 0.005, (height, width, 1)).astype(np.float32)
    return np.rint(np.clip(pixels * light[..., None] * tint + noise, 0, 1) * 255).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the demo data sets and print their folders."""
    make_standard_streams_last()
    parser = argparse.ArgumentParser(description="Write the demo data set, as COCO and as LabelMe.")
    parser.add_argument("--dataset_dir", type=Path, default=Path("dataset"), help="the folder for both")
    parser.add_argument("--overwrite", action="store_true", help="replace folders that exist")
    options = parser.parse_args(arguments)
    written = write_demo_dataset(options.dataset_dir, overwrite=options.overwrite)
    for name in (COCO_FOLDER, LABELME_FOLDER):
        folder = options.dataset_dir / name
        print(
            f"{folder}: written"
            if folder in written
            else f"{folder}: exists, not changed (--overwrite replaces it)"
        )


if __name__ == "__main__":
    main()
