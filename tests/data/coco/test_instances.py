"""Annotations as instances."""

import numpy as np

from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.structures import Annotation, Category, ImageRecord

SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]  # 4 x 4 pixels


def test_instances_have_the_box_of_the_mask_unless_the_box_of_the_file_fits() -> None:
    items = [
        Annotation(1, 1, 9, [SQUARE]),
        Annotation(2, 1, 4, [SQUARE], bbox_xywh=(2.05, 1, 4, 4)),
        Annotation(3, 1, 4, [SQUARE], bbox_xywh=(1.5, 0, 2, 3)),
    ]
    record = ImageRecord(1, "a.jpg", width=10, height=8)
    instances = annotations_to_instances(items, record, [Category(4, "a"), Category(9, "b")])
    assert instances.class_ids.tolist() == [1, 0, 0]
    expected = [[2, 1, 6, 5], [2.05, 1, 6.05, 5], [2, 1, 6, 5]]
    assert instances.boxes_xyxy.tolist() == np.array(expected, np.float32).tolist()
    as_in_file = annotations_to_instances(
        items, record, [Category(4, "a"), Category(9, "b")], boxes_of_file=True
    )
    assert as_in_file.boxes_xyxy.tolist() == np.array([*expected[:2], [1.5, 0, 3.5, 3]], np.float32).tolist()
    assert len(annotations_to_instances([], record, [])) == 0
