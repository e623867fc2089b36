"""Random evaluation problems as COCO documents. Uses NumPy and pycocotools only, so that it also runs beside
the programs that expected numbers come from.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

SIZE_HW = (96, 128)


def make_problem(
    seed: int,
    *,
    num_images: int = 6,
    num_classes: int = 3,
    crowds: bool = False,
    ties: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO document and the rows of its results. The last class has no objects.

    Detections are shifted copies of objects, some with the wrong class, duplicates, and false ones. Without
    ``ties`` all scores differ; they are exact in float32.
    """
    rng = np.random.default_rng(seed)
    document: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, num_classes + 1)],
    }
    rows: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        document["images"].append({"id": image_id, "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for _ in range(rng.integers(0, 6)):
            box = _random_box(rng)
            category = int(rng.integers(1, max(2, num_classes)))
            is_crowd = int(crowds and rng.random() < 0.2)
            _add_object(document, image_id, category, box, is_crowd)
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, rng.choice([1, 4, 9]), 4)
                wrong = rng.random() < 0.25
                shown = int(rng.integers(1, num_classes + 1)) if wrong else category
                rows.append(_row(image_id, shown, box + shift))
        for _ in range(rng.integers(0, 4)):
            rows.append(_row(image_id, int(rng.integers(1, num_classes + 1)), _random_box(rng)))
    count = len(rows)
    levels = rng.integers(1, 16, count) / 16 if ties else rng.permutation(2**12 - 1)[:count] / 2**12 + 2**-12
    for row, score in zip(rows, levels.tolist(), strict=True):
        row["score"] = score
    return document, rows


def _random_box(rng: np.random.Generator) -> np.ndarray:
    """x1, y1, x2, y2; it may end at the border."""
    corner, side = rng.uniform(-5, (110, 80)), rng.uniform(6, 50, 2)
    return np.concatenate([corner, corner + side])


def _mask(box: np.ndarray) -> dict[str, Any]:
    """An ellipse in the box, or the box if its sides are odd."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    if int(x2 - x1) % 2:
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    else:
        middle, half = ((x1 + x2) / 2, (y1 + y2) / 2), (max(x2 - x1, 2) / 2, max(y2 - y1, 2) / 2)
        inside = ((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2 < 1
    rle = coco_mask.encode(np.asfortranarray(inside, dtype=np.uint8))
    return {"size": list(SIZE_HW), "counts": rle["counts"].decode("ascii")}


def _add_object(
    document: dict[str, Any], image_id: int, category: int, box: np.ndarray, is_crowd: int
) -> None:
    mask = _mask(box)
    document["annotations"].append(
        {
            "id": len(document["annotations"]) + 1,
            "image_id": image_id,
            "category_id": category,
            "segmentation": mask,
            "bbox": coco_mask.toBbox(mask).tolist(),
            "area": float(coco_mask.area(mask)),
            "iscrowd": is_crowd,
        }
    )


def _row(image_id: int, category: int, box: np.ndarray) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category, "segmentation": _mask(box)}
