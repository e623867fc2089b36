"""Merge of several COCO files into one."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from paddlex_seg.data.coco.paths import plain_name
from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.data.preparation.references import references
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord


def merge_coco(files: Sequence[CocoFile]) -> CocoFile:
    """All images and annotations of ``files`` (at least one, from ``read_coco``), in their order.

    Categories of the same name become one, with the id of the first. If records have the same id, the first
    keeps it and the others get new ids. Entries with the same file name become one image with all their
    annotations; exact repeats in later entries are dropped. ``path`` is that of the first file. If several
    files have the same key in ``extra``, the first one is used. Raises DatasetError when entries with the
    same file name differ in size, or when the image or category of an annotation is not listed.
    """
    assert files, "nothing to merge"
    categories, category_ids = _merge_categories(files)
    images, image_ids, repeats = _merge_images(files)
    return CocoFile(
        path=files[0].path,
        images=images,
        annotations=tuple(_merge_annotations(files, category_ids, image_ids, repeats)),
        categories=categories,
        extra={key: value for file in reversed(files) for key, value in file.extra.items()},
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
    """Assigns ids: the wanted id if it is free, otherwise a new one above all ids of the files."""

    def __init__(self, wanted: Iterable[int]):
        self.taken: set[int] = set()
        self.next = max(wanted, default=0) + 1

    def give(self, wanted: int) -> int:
        id = wanted
        if wanted in self.taken:
            id, self.next = self.next, self.next + 1
        self.taken.add(id)
        return id


def _merge_categories(files: Sequence[CocoFile]) -> tuple[tuple[Category, ...], list[list[int]]]:
    """The merged categories, and for each file the new id of each of its categories, in file order."""
    ids = _Ids(category.id for file in files for category in file.categories)
    merged: dict[str, Category] = {}
    for file in files:
        for category in file.categories:
            if category.name not in merged:
                merged[category.name] = replace(category, id=ids.give(category.id))
    return tuple(merged.values()), [[merged[item.name].id for item in file.categories] for file in files]


def _merge_images(
    files: Sequence[CocoFile],
) -> tuple[tuple[ImageRecord, ...], list[list[int]], set[int]]:
    """The merged images, the new id of each entry of each file, and the ids of images listed repeatedly."""
    ids = _Ids(image.id for file in files for image in file.images)
    merged: dict[str, ImageRecord] = {}
    listed_in: dict[str, str] = {}
    new_ids: list[list[int]] = [[] for _ in files]
    repeats: set[int] = set()
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
    category_ids: Sequence[Sequence[int]],
    image_ids: Sequence[Sequence[int]],
    repeats: set[int],
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
