"""Plants errors in the labels of a COCO data set, and remembers them.

    python benchmarks/label_noise.py DATASET TARGET [--seed 0] [--share 0.05]

TARGET gets the images as links, annotation files with errors, and ``planted.json``: for each part, what was
planted where. Of each kind there are ``share`` times as many as objects: a missing object, a wrong class, a
loose mask (moved, grown, shrunk or cut off, so that its IoU is 0.5 to 0.75), a duplicate, and a spurious
object where nothing is.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddlex_seg.masks.rle import mask_to_rle, rle_box_xywh, rle_to_json, rle_to_mask, segmentation_to_rle

KINDS = ("missed", "wrong_class", "loose_mask", "duplicate", "spurious")


def main() -> None:
    """Read the options and plant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.05)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    (options.target / "annotations").mkdir(parents=True)
    (options.target / "images").symlink_to((options.dataset / "images").resolve())
    planted = {}
    for part in ("train", "val"):
        name = f"annotations/instance_{part}.json"
        document = json.loads((options.dataset / name).read_text(encoding="utf-8"))
        planted[part] = plant(document, rng, options.share)
        (options.target / name).write_text(json.dumps(document), encoding="utf-8")
    (options.target / "planted.json").write_text(json.dumps(planted), encoding="utf-8")


def plant(document: dict[str, Any], rng: np.random.Generator, share: float) -> list[dict[str, Any]]:
    """Change the document. Returns kind, image, annotation (of a missed object: the removed one) and box."""
    annotations = document["annotations"]
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    masks = {
        one["id"]: rle_to_mask(segmentation_to_rle(one["segmentation"], sizes[one["image_id"]]))
        for one in annotations
    }
    used = sorted({one["category_id"] for one in annotations})
    number = max(1, round(share * len(annotations)))
    order = iter(rng.permutation(len(annotations)).tolist())
    next_id = max(masks) + 1
    planted: list[dict[str, Any]] = []
    removed: set[int] = set()
    added: list[dict[str, Any]] = []
    for kind in KINDS:
        for _ in range(number):
            one = annotations[next(order)]
            mask = masks[one["id"]]
            answer = {"kind": kind, "image_id": one["image_id"], "annotation_id": one["id"]}
            if kind == "missed":
                removed.add(one["id"])
            elif kind == "wrong_class":
                one["category_id"] = int(rng.choice([id for id in used if id != one["category_id"]]))
            elif kind == "loose_mask":
                put(one, loosened(mask, rng))
            else:
                new = dict(one, id=next_id)
                if kind == "duplicate":
                    put(new, moved(mask, *rng.integers(-2, 3, 2)))
                else:
                    image, place = somewhere_free(document, masks, sizes, mask, rng)
                    if place is None:
                        continue
                    new["image_id"] = image
                    put(new, place)
                answer |= {"annotation_id": next_id, "image_id": new["image_id"], "other_id": one["id"]}
                added.append(new)
                next_id += 1
            answer["box"] = rle_box_xywh(mask_to_rle(mask)).tolist()
            planted.append(answer)
    document["annotations"] = [one for one in annotations if one["id"] not in removed] + added
    return planted


def put(annotation: dict[str, Any], mask: np.ndarray) -> None:
    """Give an annotation another mask."""
    rle = mask_to_rle(mask)
    annotation["segmentation"] = rle_to_json(rle)
    annotation["bbox"], annotation["area"] = rle_box_xywh(rle).tolist(), int(mask.sum())


def moved(mask: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The mask at another place; what leaves the image is lost."""
    return cv2.warpAffine(
        np.ascontiguousarray(mask), np.array([[1, 0, dx], [0, 1, dy]], float), mask.shape[::-1], flags=0
    )


def loosened(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask with an IoU of 0.5 to 0.75 with this one."""
    for _ in range(200):
        side = np.sqrt(mask.sum())
        amount = int(max(1, rng.uniform(0.03, 0.4) * side))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * amount + 1,) * 2)
        way = rng.integers(4)
        if way == 0:
            angle = rng.uniform(0, 2 * np.pi)
            changed = moved(mask, round(amount * np.sin(angle)), round(amount * np.cos(angle)))
        elif way == 1:
            changed = cv2.dilate(np.ascontiguousarray(mask), kernel)
        elif way == 2:
            changed = cv2.erode(np.ascontiguousarray(mask), kernel)
        else:
            rows, columns = np.nonzero(mask)
            angle = rng.uniform(0, 2 * np.pi)
            along = rows * np.sin(angle) + columns * np.cos(angle)
            cut = along > np.quantile(along, rng.uniform(0.5, 0.75))
            changed = mask.copy()
            changed[rows[cut], columns[cut]] = 0
        if 0.5 <= iou(mask, changed) <= 0.75:
            return changed
    raise SystemExit("no loose mask found")


def somewhere_free(
    document: dict[str, Any],
    masks: dict[int, np.ndarray],
    sizes: dict[int, tuple[int, int]],
    mask: np.ndarray,
    rng: np.random.Generator,
) -> tuple[int, np.ndarray | None]:
    """An image, and the mask at a place there that no object touches."""
    rows, columns = np.nonzero(mask)
    shape = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    for _ in range(500):
        image = document["images"][rng.integers(len(document["images"]))]["id"]
        height, width = sizes[image]
        if shape.shape[0] >= height or shape.shape[1] >= width:
            continue
        top, left = rng.integers(height - shape.shape[0]), rng.integers(width - shape.shape[1])
        place = np.zeros((height, width), np.uint8)
        place[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
        own = [
            masks[one["id"]]
            for one in document["annotations"]
            if one["image_id"] == image and one["id"] in masks
        ]
        if not any((place & other).any() for other in own):
            return image, place
    return document["images"][0]["id"], None


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """The IoU of two masks."""
    return float((mask & other).sum() / max(1, (mask | other).sum()))


if __name__ == "__main__":
    main()
