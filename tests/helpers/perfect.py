"""Predictions that are exactly the annotated objects, and their evaluation."""

from pathlib import Path

from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.metrics.coco_ap import CocoMetrics, evaluate_coco
from paddlex_seg.structures import CocoFile, Id, Instances


def perfect_predictions(coco: CocoFile) -> dict[Id, Instances]:
    """The annotated objects of each image, with the boxes of their masks."""
    return {
        image.id: annotations_to_instances(
            [item for item in coco.annotations if item.image_id == image.id], image, coco.categories
        )
        for image in coco.images
    }


def evaluate_perfect(root: Path, **options: bool) -> CocoMetrics:
    """The result of perfect predictions for the val images of the data set in ``root``."""
    coco = read_coco(root / "annotations" / "instance_val.json")
    ids = [category.id for category in coco.categories]
    return evaluate_coco(coco, perfect_predictions(coco), ids, **options)
