"""The result of one image as a COCO annotation file."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paddlex_seg.data.coco.write import coco_to_json
from paddlex_seg.files.names import printable
from paddlex_seg.masks.rle import rle_areas, rle_boxes_xywh, rle_to_json
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, Instances

_LOGGER = logging.getLogger(__name__)


def coco_text(
    instances: Instances, labels: Sequence[str], *, file_name: str, page_index: int | None = None
) -> str:
    """The text of a COCO file with this image, its objects, and all classes, also those that were not found.

    Ids of categories are class indices + 1, as in converted data sets. Boxes and areas are those of the
    masks, so that they fit. The score is kept under the key ``score``. Objects whose mask has no pixel are
    left out. ``page_index`` is kept for a page of a file, which COCO cannot name.
    """
    seen = with_pixels(instances, file_name)
    boxes, areas = rle_boxes_xywh(seen.masks), rle_areas(seen.masks)
    height, width = instances.size_hw
    page = {} if page_index is None else {"page_index": page_index}
    annotations = (
        Annotation(
            id=number,
            image_id=1,
            category_id=int(class_id) + 1,
            segmentation=rle_to_json(mask),
            bbox_xywh=tuple(box.tolist()),
            area=int(area),
            extra={"score": float(score)},
        )
        for number, (class_id, score, mask, box, area) in enumerate(
            zip(seen.class_ids, seen.scores, seen.masks, boxes, areas, strict=True), start=1
        )
    )
    return coco_to_json(
        CocoFile(
            path=Path(),  # of no file yet
            images=(ImageRecord(id=1, file_name=file_name, width=width, height=height, extra=page),),
            annotations=tuple(annotations),
            categories=tuple(Category(id=id, name=name) for id, name in enumerate(labels, start=1)),
        )
    )


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
