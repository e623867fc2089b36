"""The objects of images as a COCO annotation file."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from paddlex_seg.data.coco.write import coco_to_json
from paddlex_seg.files.names import printable
from paddlex_seg.masks.rle import rle_areas, rle_boxes_xywh, rle_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, Instances

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundObjects:
    """The objects of one image. ``file_name``: as `image_name`; ``page_index``: of a multi-page file."""

    instances: Instances
    file_name: str
    page_index: int | None = None


def coco_text(images: Iterable[FoundObjects], labels: Sequence[str]) -> str:
    """The text of a COCO file with these images, their objects, and all classes, found or not.

    Ids of categories are class indices + 1, as in converted data sets. Boxes and areas are those of the
    masks, so that they fit. The score is kept under the key ``score``. Objects whose mask has no pixel are
    left out. ``page_index`` is kept for a page of a file, which COCO cannot name.
    """
    records: list[ImageRecord] = []
    annotations: list[Annotation] = []
    for found in images:
        (height, width), name = found.instances.size_hw, found.file_name
        extra = {} if found.page_index is None else {"page_index": found.page_index}
        record = ImageRecord(id=len(records) + 1, file_name=name, width=width, height=height, extra=extra)
        records.append(record)
        annotations += _annotations(with_pixels(found.instances, name), record, len(annotations) + 1)
    return coco_to_json(
        CocoFile(
            path=Path(),  # of no file yet
            images=tuple(records),
            annotations=tuple(annotations),
            categories=tuple(Category(id=id, name=name) for id, name in enumerate(labels, start=1)),
        )
    )


def _annotations(found: Instances, record: ImageRecord, first_id: int) -> list[Annotation]:
    boxes, areas = rle_boxes_xywh(found.masks), rle_areas(found.masks)
    return [
        Annotation(
            id=number,
            image_id=record.id,
            category_id=int(class_id) + 1,
            segmentation=rle_to_json(mask),
            bbox_xywh=tuple(box.tolist()),
            area=int(area),
            extra={"score": float(score)},
        )
        for number, (class_id, score, mask, box, area) in enumerate(
            zip(found.class_ids, found.scores, found.masks, boxes, areas, strict=True), start=first_id
        )
    ]


def image_name(input_path: str | None, save_name: str) -> str:
    """``file_name`` of the image, relative to the folder that was predicted, with forward slashes.

    It has the sub-folders of ``save_name`` and the file name of ``input_path``. So a folder that was
    predicted can be the folder ``images`` of a data set. An image without a file is called
    ``<save_name>.png``.
    """
    place = PurePosixPath(save_name)
    if input_path is None or "://" in input_path:
        return f"{place}.png"
    return str(place.with_name(Path(input_path).name))


def with_pixels(instances: Instances, where: str) -> Instances:
    """The instances whose mask has a pixel. If there are others, the log says how many."""
    keep = rle_areas(instances.masks).nonzero()[0]
    if len(keep) < len(instances):
        _LOGGER.warning(
            "%s: %d of %d objects have a mask without pixels and were left out of the annotations.",
            *(printable(where), len(instances) - len(keep), len(instances)),
        )
    return instances.take(keep)
