"""Merge of several COCO files into one."""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paddlex_seg.data.coco.paths import plain_name
from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.data.preparation.references import references
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord


def merge_coco(files: Sequence[CocoFile]) -> CocoFile:
    """All images and annotations of ``files`` (at least one, from ``read_coco``), in their order.

    Categories of the same name become one, with the id of the first. If records have the same id, the first
    keeps it and the others get new ids. Entries with the same file name become one image with all their
    annotations; exact repeats in later entries are dropped. ``path`` is that of the first file. The values
    of ``extra``, of the files and of records that become one, are those of the first that has the key; lists
    of the files, such as licenses, are joined. Raises DatasetError when entries with the same file name
    differ in size, or when the image or category of an annotation is not listed.
    """
    assert files, "nothing to merge"
    categories, category_ids = _merge_categories(files)
    images, image_ids, repeats = _merge_images(files)
    return CocoFile(
        path=files[0].path,
        images=images,
        annotations=tuple(_merge_annotations(files, category_ids, image_ids, repeats)),
        categories=categories,
        extra=_merge_extra([file.extra for file in files]),
    )


def in_name_order(coco: CocoFile, number: bool = False) -> CocoFile:
    """Sort images by file name, so that a new split does not depend on the previous one.

    number: also renumber all ids from 1 in this order. Used after a conversion, where ids are arbitrary.
    """
    images = sorted(coco.images, key=lambda record: record.file_name)
    place = {record.id: index for index, record in enumerate(images, start=1)}
    annotations = sorted(coco.annotations, key=lambda item: place[item.image_id])
    if number:
        images = [replace(record, id=place[record.id]) for record in images]
        annotations = [
            replace(item, id=id, image_id=place[item.image_id])
            for id, item in enumerate(annotations, start=1)
        ]
    return replace(coco, images=tuple(images), annotations=tuple(annotations))


class _Ids:
    """Assigns ids: the wanted id if it is free, otherwise a new one that no record of the files has.

    A new number is above all numbers of the files; a new text is the wanted one with a number after it.
    """

    def __init__(self, wanted: Iterable[Id]):
        self.taken: set[Id] = set()
        self._wanted = set(wanted)
        self._next = max((id for id in self._wanted if isinstance(id, int)), default=0) + 1

    def give(self, wanted: Id) -> Id:
        id = wanted
        if wanted in self.taken:
            id = self._new(wanted)
        self.taken.add(id)
        return id

    def _new(self, wanted: Id) -> Id:
        while True:
            number, self._next = self._next, self._next + 1
            id = number if isinstance(wanted, int) else f"{wanted}_{number}"
            if id not in self._wanted:
                return id


def _merge_extra(extras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All keys. If several have a key, lists are joined without repeats; otherwise the first is used."""
    merged: dict[str, Any] = {}
    for extra in extras:
        for key, value in extra.items():
            known = merged.setdefault(key, value)
            if known is not value and isinstance(known, list) and isinstance(value, list):
                items = {json.dumps(item, sort_keys=True): item for item in (*known, *value)}
                merged[key] = list(items.values())
    return merged


def _merge_categories(files: Sequence[CocoFile]) -> tuple[tuple[Category, ...], list[list[Id]]]:
    """The merged categories, and for each file the new id of each of its categories, in file order."""
    ids = _Ids(category.id for file in files for category in file.categories)
    merged: dict[str, Category] = {}
    for file in files:
        for category in file.categories:
            first = merged.get(category.name)
            if first is None:
                merged[category.name] = replace(category, id=ids.give(category.id))
            elif category.extra != first.extra:
                merged[category.name] = replace(first, extra={**category.extra, **first.extra})
    return tuple(merged.values()), [[merged[item.name].id for item in file.categories] for file in files]


def _merge_images(
    files: Sequence[CocoFile],
) -> tuple[tuple[ImageRecord, ...], list[list[Id]], set[Id]]:
    """The merged images, the new id of each entry of each file, and the ids of images listed repeatedly."""
    ids = _Ids(image.id for file in files for image in file.images)
    merged: dict[str, ImageRecord] = {}
    listed_in: dict[str, str] = {}
    new_ids: list[list[Id]] = [[] for _ in files]
    repeats: set[Id] = set()
    problems = []
    for file, ids_of_file in zip(files, new_ids, strict=True):
        for image in file.images:
            name = plain_name(image.file_name)
            first = merged.get(name)
            if first is None:
                first = merged[name] = replace(image, id=ids.give(image.id))
                listed_in[name] = file.path.name
            else:
                repeats.add(first.id)
                if image.extra != first.extra:
                    merged[name] = replace(first, extra={**image.extra, **first.extra})
                if (first.width, first.height) != (image.width, image.height):
                    problems.append(
                        f"{image.file_name}: {first.width} x {first.height} pixels in {listed_in[name]}, "
                        f"{image.width} x {image.height} in {file.path.name}; correct the wrong one"
                    )
            ids_of_file.append(first.id)
    if problems:
        where = f"images of {' and '.join(dict.fromkeys(file.path.name for file in files))}"
        raise DatasetError(summarize_problems(where, problems))
    return tuple(merged.values()), new_ids, repeats


def _merge_annotations(
    files: Sequence[CocoFile],
    category_ids: Sequence[Sequence[Id]],
    image_ids: Sequence[Sequence[Id]],
    repeats: set[Id],
) -> Iterator[Annotation]:
    ids = _Ids(item.id for file in files for item in file.annotations)
    # Only repeats between different entries are dropped. A repeat within one entry stays, as it is in the
    # data.
    entry_of_content: dict[Hashable, tuple[int, int]] = {}
    for number, file in enumerate(files):
        image_of, category_of = references(file)
        for item, image, category in zip(
            file.annotations, image_of.tolist(), category_of.tolist(), strict=True
        ):
            image_id, category_id = image_ids[number][image], category_ids[number][category]
            if image_id in repeats:
                entry = (number, image)
                content = (image_id, category_id, *_content(item))
                if entry_of_content.setdefault(content, entry) != entry:
                    continue
            id = ids.give(item.id)
            unchanged = (id, image_id, category_id) == (item.id, item.image_id, item.category_id)
            yield item if unchanged else replace(item, id=id, image_id=image_id, category_id=category_id)


def _content(annotation: Annotation) -> tuple[Hashable, ...]:
    segmentation = annotation.segmentation
    shape: Hashable
    if isinstance(segmentation, Mapping):
        rle = rle_to_json(segmentation)
        shape = (tuple(rle["size"]), tuple(rle["counts"]))
    else:
        shape = tuple(map(tuple, segmentation))
    return shape, annotation.bbox_xywh, annotation.area, annotation.iscrowd
