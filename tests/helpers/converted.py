"""What the tests of all formats share: a small data set to write, and data sets as plain lists to compare."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord


def save_image(path: Path, size_hw: tuple[int, int] = (40, 60), orientation: int = 1) -> Path:
    """An image of that size as its pixels are stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size_hw[::-1], (90, 120, 150)).save(path, exif=exif)
    return path


def encode(mask: np.ndarray) -> dict[str, Any]:
    """A compressed RLE as it stands in a file."""
    rle = mask_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    values = np.concatenate([[False], mask.ravel(order="F")])
    borders = np.flatnonzero(values[1:] != values[:-1])
    counts = np.diff(np.concatenate([[0], borders, [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def coco_file(
    split: str,
    named: dict[str, list[tuple[str, Any]]],
    labels: list[str],
    size_hw: tuple[int, int] = (40, 60),
    crowd: bool = False,
) -> CocoFile:
    """Images by name, with label and segmentation of each object; category ids are 10, 20, ..."""
    category_of = {label: 10 * (index + 1) for index, label in enumerate(labels)}
    images = [ImageRecord(id, name, size_hw[1], size_hw[0]) for id, name in enumerate(named, start=5)]
    objects = [
        (record.id, *item) for record, items in zip(images, named.values(), strict=True) for item in items
    ]
    return CocoFile(
        path=Path("annotations") / f"instance_{split}.json",
        images=tuple(images),
        annotations=tuple(
            Annotation(id, image_id, category_of[label], segmentation, iscrowd=crowd)
            for id, (image_id, label, segmentation) in enumerate(objects, start=3)
        ),
        categories=tuple(Category(id, label) for label, id in category_of.items()),
    )


def labelled_masks(coco: CocoFile) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Label and mask of each object, by image, in file order."""
    names = {category.id: category.name for category in coco.categories}
    found: dict[str, list[tuple[str, np.ndarray]]] = {record.file_name: [] for record in coco.images}
    records = {record.id: record for record in coco.images}
    for item in coco.annotations:
        record = records[item.image_id]
        mask = mask_tools.decode(annotation_to_rle(item, record.height, record.width)).astype(bool)
        found[record.file_name].append((names[item.category_id], mask))
    return found


def assert_same_objects(found: CocoFile, expected: CocoFile) -> None:
    """The same images, and in each the same labels and masks, pixel by pixel, in the same order."""
    found_masks, expected_masks = labelled_masks(found), labelled_masks(expected)
    assert list(found_masks) == list(expected_masks)
    for name, items in expected_masks.items():
        assert [label for label, _ in found_masks[name]] == [label for label, _ in items]
        for (_, mask), (_, expected_mask) in zip(found_masks[name], items, strict=True):
            np.testing.assert_array_equal(mask, expected_mask)


def small_ring() -> np.ndarray:
    """A ring of 8 x 10 pixels: an object with a hole."""
    mask = np.zeros((8, 10), bool)
    mask[1:7, 2:9] = True
    mask[3:5, 4:7] = False
    return mask


def ring_mask(size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A frame with a hole, and a piece that touches it at a corner only."""
    mask = np.zeros(size_hw, bool)
    mask[5:20, 8:30] = True
    mask[9:14, 12:20] = False
    mask[20:25, 30:34] = True
    return mask
