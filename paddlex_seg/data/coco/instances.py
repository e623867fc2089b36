"""Conversion of annotations to ``Instances``, the form of predictions."""

from collections.abc import Sequence

import numpy as np

from paddlex_seg.masks.rle import annotation_to_rle, rle_box_xywh
from paddlex_seg.structures import Annotation, Category, ImageRecord, Instances


def annotations_to_instances(
    annotations: Sequence[Annotation], record: ImageRecord, categories: Sequence[Category]
) -> Instances:
    """The annotated objects of one image, in file order, with score 1.

    The box is the one in the annotation file, so that drawings show what the file contains. If the file has
    no box, it is computed from the mask.
    """
    class_of_id = {category.id: index for index, category in enumerate(categories)}
    masks = tuple(annotation_to_rle(item, record.height, record.width) for item in annotations)
    boxes = [item.bbox_xywh or rle_box_xywh(mask) for item, mask in zip(annotations, masks, strict=True)]
    boxes_xywh = np.array(boxes, np.float32).reshape(-1, 4)
    return Instances(
        size_hw=(record.height, record.width),
        class_ids=np.array([class_of_id[item.category_id] for item in annotations], np.int64),
        scores=np.ones(len(annotations), np.float32),
        boxes_xyxy=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1),
        masks=masks,
    )
