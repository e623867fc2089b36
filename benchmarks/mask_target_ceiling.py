"""The upper limit of mask AP at a given input size, computed without a network.

    python benchmarks/mask_target_ceiling.py DATASET [--split val] [--sizes 192 320 640]

Shrinks the annotated masks to the resolution of PP-YOLOE_seg's mask targets (stride 4 of the input), pastes
them back as predictions with perfect boxes, classes and scores, and prints their AP. There are two kinds of
targets: "mean" is the fraction of the 4x4 pixels that is inside the mask, as in training from random weights;
"corner" is the first of the 16 pixels, as in PaddleDetection. Takes seconds to minutes.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.metrics.coco_ap import evaluate_coco
from paddlex_seg.structures import CocoFile, Instances, Rle

STRIDE = 4


def shrink(rle: Rle, size: int, kind: str) -> NDArray[np.float32]:
    """The mask target of the loss: [size / 4, size / 4]."""
    mask = cv2.resize(coco_mask.decode(rle), (size, size), interpolation=cv2.INTER_NEAREST).astype(np.float32)
    if kind == "corner":
        return mask[::STRIDE, ::STRIDE]
    return mask.reshape(size // STRIDE, STRIDE, size // STRIDE, STRIDE).mean(axis=(1, 3))


def perfect_predictions(coco: CocoFile, size: int, kind: str) -> dict[int, Instances]:
    """The annotations of each image at the mask resolution of the network, as predictions."""
    results = {}
    for record in coco.images:
        own = [item for item in coco.annotations if item.image_id == record.id and not item.iscrowd]
        truth = annotations_to_instances(own, record, coco.categories)
        if len(truth) == 0:
            continue
        columns = [truth.class_ids[:, None], np.ones((len(truth), 1)), truth.boxes_xyxy]
        results[record.id] = detections_to_instances(
            np.concatenate(columns, axis=1).astype(np.float32),
            np.array([len(truth)], np.int32),
            np.stack([shrink(rle, size, kind) for rle in truth.masks]),
            im_shape=np.array([[size, size]], np.float32),
            scale_factor=np.array([[size / record.height, size / record.width]], np.float32),
            input_hw=(size, size),
            original_sizes=[(record.height, record.width)],
            mask_frame="image",
        )[0]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--split", choices=["train", "val"], default="val")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 320, 640])
    arguments = parser.parse_args()
    paths = dataset_paths(arguments.dataset)
    coco = read_coco(paths.train_json if arguments.split == "train" else paths.val_json)
    ids = [category.id for category in coco.categories]
    print("| input size | mean targets | corner targets |\n|---|---|---|")
    for size in arguments.sizes:
        scores = [
            evaluate_coco(coco, perfect_predictions(coco, size, kind), ids) for kind in ("mean", "corner")
        ]
        print(f"| {size} | " + " | ".join(f"{score.segm.AP:.3f}" for score in scores) + " |")


if __name__ == "__main__":
    main()
