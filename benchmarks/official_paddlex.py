"""Compare official PaddleX and our predictor on an exported model.

PaddleX runs ``inference.json``, whose graph pastes the masks. Our predictor runs ``network.json`` and pastes
the masks in NumPy. For each image, the script prints the number of detections of both, the number of pairs
(same class, score within 0.005, box within 1 pixel), the largest differences of the pairs, and the lowest IoU
of their masks inside the box that PaddleX crops them to. It also runs a uniformly gray image, and PaddleX's
pipeline, which must give the same result as PaddleX's model. The exit code is 0 if every detection has its
pair and every IoU is 0.99 or more.

PaddleX installs its own OpenCV and requires older packages. It needs an environment of its own, with our
package added without dependencies:

    python -m venv official
    official/bin/pip install "paddlex[base]==3.7.2" paddlepaddle==3.2.2
    official/bin/pip install --no-deps .
    official/bin/python benchmarks/official_paddlex.py output/best_model/inference photos/*.jpg
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

# Without this, PaddleX checks whether model servers can be reached. This script downloads nothing.
os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
from paddlex import create_model, create_pipeline

from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.predictor import open_predictor
from paddlex_seg.structures import Instances

LOWEST_MASK_IOU = 0.99
GRAY = np.full((240, 333, 3), 127, np.uint8)


@dataclass(frozen=True)
class Comparison:
    """The comparison of one image. Without pairs, the differences are 0 and the IoU is 1."""

    num_ours: int
    num_official: int
    num_pairs: int
    score_error: float
    box_error: float  # pixels
    mask_iou: float  # the lowest

    def is_same(self) -> bool:
        """Whether every detection has its pair, with the same mask."""
        return self.num_ours == self.num_official == self.num_pairs and self.mask_iou >= LOWEST_MASK_IOU


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    name = read_inference_yml(options.model_dir / "inference.yml").model_name
    ours = open_predictor(options.model_dir, threshold=options.threshold)
    model = create_model(name, model_dir=str(options.model_dir), device="cpu", threshold=options.threshold)
    images = {str(path): _read(path) for path in options.images} | {"uniformly gray": GRAY}
    print(f"{name}, score threshold {options.threshold}")
    print("  ours  PaddleX  pairs  score differs  box differs  mask IoU  image")
    all_same = True
    for title, image in images.items():
        (our_result,) = ours.predict(image)
        (official_result,) = model.predict(image)
        comparison = compare(our_result.instances, official_result)
        all_same &= comparison.is_same()
        print(_line(comparison, title))
    same_pipeline = pipeline_equals_model(name, options, list(images.values()), model)
    print(f"PaddleX's pipeline finds the same as its model: {'yes' if same_pipeline else 'NO'}")
    print("Same objects:", "yes" if all_same else "NO")
    return 0 if all_same and same_pipeline else 1


def compare(ours: Instances, official: Mapping[str, Any]) -> Comparison:
    """Compare our instances with a result of PaddleX, whose masks are cropped to the rounded boxes."""
    score_errors, box_errors, mask_ious = [0.0], [0.0], [1.0]
    pairs = _match(ours, official["boxes"])
    for i, j in pairs:
        box = official["boxes"][j]
        score_errors.append(abs(float(box["score"]) - float(ours.scores[i])))
        box_errors.append(_box_error(ours, i, box))
        mask_ious.append(_mask_iou(coco_mask.decode(ours.masks[i]), official["masks"][j], box["coordinate"]))
    return Comparison(
        num_ours=len(ours),
        num_official=len(official["boxes"]),
        num_pairs=len(pairs),
        score_error=max(score_errors),
        box_error=max(box_errors),
        mask_iou=min(mask_ious),
    )


def pipeline_equals_model(
    name: str, options: argparse.Namespace, images: list[NDArray[np.uint8]], model: Any
) -> bool:
    """Whether PaddleX's pipeline gives the same boxes and masks as its model."""
    module = {
        "module_name": "instance_segmentation",
        "model_name": name,
        "model_dir": str(options.model_dir),
        "batch_size": 1,
        "threshold": options.threshold,
    }
    config = {"pipeline_name": "instance_segmentation", "SubModules": {"InstanceSegmentation": module}}
    pipeline = create_pipeline(config=config, device="cpu")
    # The pipeline ignores the threshold of its configuration, so predict() gets it, too.
    results = pipeline.predict(images, threshold=options.threshold)
    return all(
        one["boxes"] == other["boxes"] and all(map(np.array_equal, one["masks"], other["masks"]))
        for one, other in zip(results, model.predict(images), strict=True)
    )


def _match(ours: Instances, boxes: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Pairs of (our index, PaddleX's index), each index once. The nearest of several boxes counts."""
    pairs: list[tuple[int, int]] = []
    free = set(range(len(ours)))
    for j, box in enumerate(boxes):
        near = [
            (error, i)
            for i in free
            if ours.class_ids[i] == box["cls_id"]
            and abs(ours.scores[i] - box["score"]) <= 0.005
            and (error := _box_error(ours, i, box)) <= 1
        ]
        if near:
            i = min(near)[1]
            free.remove(i)
            pairs.append((i, j))
    return pairs


def _box_error(ours: Instances, i: int, box: Mapping[str, Any]) -> float:
    return float(np.abs(ours.boxes_xyxy[i] - np.array(box["coordinate"], np.float32)).max())


def _mask_iou(whole: NDArray[np.uint8], official: NDArray[Any], coordinate: Sequence[float]) -> float:
    x1, y1, x2, y2 = (round(float(edge)) for edge in coordinate)
    ours = whole[y1:y2, x1:x2] > 0
    union = (ours | (official > 0)).sum()
    return float((ours & (official > 0)).sum() / union) if union else 1.0


def _line(comparison: Comparison, title: str) -> str:
    return (
        f"{comparison.num_ours:6}  {comparison.num_official:7}  {comparison.num_pairs:5}  "
        f"{comparison.score_error:13.1e}  {comparison.box_error:8.1e} px  {comparison.mask_iou:8.5f}  {title}"
    )


def _read(path: Path) -> NDArray[np.uint8]:
    """The image as BGR, which both toolkits expect."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        sys.exit(f"{path}: cannot be read as an image.")
    return image


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare official PaddleX with our predictor.")
    parser.add_argument("model_dir", type=Path, help="folder written by mode export")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score to compare")
    return parser


if __name__ == "__main__":
    sys.exit(main())
