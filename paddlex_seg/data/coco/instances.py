"""Conversion of annotations to ``Instances``, the form of predictions."""

from collections.abc import Sequence

import numpy as np

from paddlex_seg.data.coco.numbers import file_boxes, object_numbers
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import Annotation, Category, ImageRecord, Instances


def annotations_to_instances(
    annotations: Sequence[Annotation],
    record: ImageRecord,
    categories: Sequence[Category],
    *,
    boxes_of_file: bool = False,
) -> Instances:
    """The annotated objects of one image, in file order, with score 1.

    The boxes are those of `object_numbers`, or those of the file even if they do not fit the masks.
    """
    class_of_id = {category.id: index for index, category in enumerate(categories)}
    masks = tuple(annotation_to_rle(item, record.height, record.width) for item in annotations)
    boxes_xywh = object_numbers(annotations, masks).boxes_xywh.astype(np.float32)
    if boxes_of_file:
        own = file_boxes(annotations).astype(np.float32)
        boxes_xywh = np.where(np.isnan(own), boxes_xywh, own)
    return Instances(
        size_hw=(record.height, record.width),
        class_ids=np.array([class_of_id[item.category_id] for item in annotations], np.int64),
        scores=np.ones(len(annotations), np.float32),
        boxes_xyxy=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1),
        masks=masks,
    )
