"""Annotations as instances."""

from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.structures import Annotation, Category, ImageRecord

SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]  # 4 x 4 pixels


def test_instances_have_the_box_of_the_file_or_if_missing_of_the_mask() -> None:
    items = [
        Annotation(1, 1, 9, [SQUARE]),
        Annotation(2, 1, 4, [SQUARE], bbox_xywh=(1.5, 0, 2, 3)),
    ]
    record = ImageRecord(1, "a.jpg", width=10, height=8)
    instances = annotations_to_instances(items, record, [Category(4, "a"), Category(9, "b")])
    assert instances.class_ids.tolist() == [1, 0]
    assert instances.boxes_xyxy.tolist() == [[2, 1, 6, 5], [1.5, 0, 3.5, 3]]
    assert len(annotations_to_instances([], record, [])) == 0
