"""Builds the COCO files of a ``Conversion`` from the images and labelled objects that a reader found."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlex_seg.masks.rle import (
    polygons_to_rle,
    polygons_to_rles,
    rle_area,
    rle_boxes_xywh,
    segmentation_to_json,
)
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord, Rle


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One object: its original polygons, or its mask."""

    label: str
    segmentation: list[list[float]] | Rle
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image of the source and its objects."""

    file_name: str  # relative to the image folder, with forward slashes
    size_hw: tuple[int, int]
    objects: tuple[SourceObject, ...]


def assemble_splits(
    root: Path, sources: Mapping[str, Sequence[SourceImage]], class_names: Iterable[str]
) -> dict[str, CocoFile]:
    """A COCO file for each split. Ids start at 1 and are unique over all splits.

    ``bbox`` and ``area`` are computed from the rasterised mask. ``class_names`` has every label once.
    """
    categories = tuple(Category(id=id, name=name) for id, name in enumerate(class_names, start=1))
    id_of_label = {category.name: category.id for category in categories}
    next_image, next_annotation = 1, 1
    splits = {}
    for split, members in sources.items():
        images = tuple(_image_record(image, id) for id, image in enumerate(members, start=next_image))
        annotations = tuple(_annotate(members, next_image, next_annotation, id_of_label))
        path = root / "annotations" / f"instance_{split}.json"
        splits[split] = CocoFile(path=path, images=images, annotations=annotations, categories=categories)
        next_image, next_annotation = next_image + len(images), next_annotation + len(annotations)
    return splits


def labels_in_order(images: Mapping[str, Sequence[SourceImage]]) -> list[str]:
    """All labels without duplicates, in order of first appearance."""
    labels = (item.label for members in images.values() for image in members for item in image.objects)
    return list(dict.fromkeys(labels))


def _image_record(image: SourceImage, id: int) -> ImageRecord:
    height, width = image.size_hw
    return ImageRecord(id=id, file_name=image.file_name, width=width, height=height)


def _annotate(
    images: Sequence[SourceImage], image_id: int, annotation_id: int, id_of_label: Mapping[str, Id]
) -> Iterator[Annotation]:
    for image in images:
        masks = _rasterise(image)
        areas, boxes = [rle_area(mask) for mask in masks], rle_boxes_xywh(masks).tolist()
        for item, box, area in zip(image.objects, boxes, areas, strict=True):
            yield Annotation(
                id=annotation_id,
                image_id=image_id,
                category_id=id_of_label[item.label],
                segmentation=segmentation_to_json(item.segmentation),
                bbox_xywh=tuple(box),
                area=area,
                iscrowd=item.iscrowd,
            )
            annotation_id += 1
        image_id += 1


def _rasterise(image: SourceImage) -> list[Rle]:
    """The masks of all objects. Objects of one polygon are rasterised in a single call, which is faster."""
    masks: list[Any] = [item.segmentation for item in image.objects]
    alone = [index for index, mask in enumerate(masks) if isinstance(mask, list) and len(mask) == 1]
    if alone:
        drawn = polygons_to_rles([masks[index][0] for index in alone], image.size_hw)
        for index, mask in zip(alone, drawn, strict=True):
            masks[index] = mask
    return [polygons_to_rle(mask, image.size_hw) if isinstance(mask, list) else mask for mask in masks]
