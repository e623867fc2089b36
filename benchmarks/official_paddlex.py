"""Compare official PaddleX and our predictor on exported models.

PaddleX runs ``inference.json``, whose graph pastes the masks. Our predictor runs ``network.json`` and pastes
the masks in NumPy. Objects of both are paired: same class, score within 0.005, box within 1 pixel (SOLOv2 has
no boxes in PaddleX: there, the mask with the highest IoU). For each image, the script prints the number of
objects of both, the number of pairs, their largest differences, and the lowest IoU of their masks inside the
box that PaddleX crops them to. It also asks whether PaddleX's pipeline gives the same as PaddleX's model. The
exit code is 0 if every object has its pair, and every pair of masks has an IoU of 0.99 or more, or differs in
at most 2 pixels.

    python benchmarks/official_paddlex.py [--python PADDLEX_PYTHON] [--figures FILE.json]
    python benchmarks/official_paddlex.py --model_dir output/best_model/inference --images photos/*.jpg

Without ``--model_dir``, one model of each family is exported with weights that are made by the rule of
tests/reference, and that find dozens of objects in each image. Without ``--images``, images of the demo data
set, two generated ones and a gray one are predicted. PaddleX installs its own OpenCV and requires older
packages, so it has an environment of its own, which ``make test-interop`` makes: ``.venv-interop``.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
from numpy.typing import NDArray

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "reference")]

from rule import drawn_image, fill_model  # noqa: E402

from paddlex_seg.catalog import find_model  # noqa: E402
from paddlex_seg.checkpoints.info import ModelInfo  # noqa: E402
from paddlex_seg.data.demo import draw_scene  # noqa: E402
from paddlex_seg.export.graphs import export_model  # noqa: E402
from paddlex_seg.inference.export_spec import read_inference_yml  # noqa: E402
from paddlex_seg.inference.predictor import open_predictor  # noqa: E402
from paddlex_seg.masks.rle import rle_to_mask  # noqa: E402
from paddlex_seg.structures import Category, Instances  # noqa: E402

FAMILIES = (
    "Mask-RT-DETR-S",
    "PP-YOLOE_seg-S",
    "MaskRCNN-ResNet50-FPN",
    "Cascade-MaskRCNN-ResNet50-FPN",
    "SOLOv2",
)
NUM_CLASSES = 5
OBJECTS = 20  # in an image
LOWEST_MASK_IOU = 0.99
OTHER_PIXELS = 2


@dataclass(frozen=True)
class Comparison:
    """The comparison of one or more images. Without pairs, the differences are 0 and the IoU is 1."""

    num_ours: int
    num_paddlex: int
    num_pairs: int
    score_error: float
    box_error: float  # pixels
    mask_iou: float  # the lowest
    other_pixels: int  # of the pair of masks that differs most
    bad_masks: int  # pairs with a lower IoU than allowed

    def is_same(self) -> bool:
        """Whether every object has its pair, with the same mask."""
        return self.num_ours == self.num_paddlex == self.num_pairs and not self.bad_masks


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    logging.getLogger("paddlex_seg").setLevel(logging.ERROR)  # as many objects as a model can give
    start = time.monotonic()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        images = options.images or write_images(work)
        for model_dir in options.model_dir or (export_filled(name, work / name) for name in FAMILIES):
            figures.update(compare_model(model_dir, images, options, work))
    all_same = all(one["is_same"] and one["pipeline_is_same"] for one in figures.values())
    print(table(figures))
    print(f"Same objects: {'yes' if all_same else 'NO'}. {time.monotonic() - start:.0f} s")
    if options.figures:
        options.figures.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all_same else 1


def compare_model(
    model_dir: Path, images: Sequence[Path], options: argparse.Namespace, work: Path
) -> dict[str, Any]:
    """Print the comparison of each image, and give that of all images, by model."""
    name = read_inference_yml(model_dir / "inference.yml").model_name
    predictor = open_predictor(model_dir, threshold=0.0)
    ours = [_only(predictor.predict(_read(path))).instances for path in images]
    thresholds = [
        threshold_between(one.scores) if options.threshold is None else options.threshold for one in ours
    ]
    boxes, masks, pipeline_is_same = run_paddlex(name, model_dir, thresholds, images, options.python, work)
    print(f"\n{name}")
    print("  ours  PaddleX  pairs  score differs  box differs  mask IoU  pixels  threshold  image")
    comparisons = []
    for path, instances, threshold, found, found_masks in zip(
        images, ours, thresholds, boxes, masks, strict=True
    ):
        comparisons.append(compare(instances.above(threshold), found, found_masks))
        print(f"{_line(comparisons[-1])}{threshold:9.6f}  {path.name}", flush=True)
    total = joined(comparisons)
    print(f"{_line(total)}           all {len(images)} images")
    print(f"PaddleX's pipeline finds the same as its model: {'yes' if pipeline_is_same else 'NO'}")
    return {
        name: {
            "images": len(images),
            **asdict(total),
            "is_same": total.is_same(),
            "pipeline_is_same": pipeline_is_same,
        }
    }


def run_paddlex(
    name: str,
    model_dir: Path,
    thresholds: Sequence[float],
    images: Sequence[Path],
    python: Path,
    work: Path,
) -> tuple[list[list[dict[str, Any]]], list[list[NDArray[np.bool_]]], bool]:
    """Boxes and masks of each image by PaddleX, and whether its pipeline finds the same in the first one."""
    folder = work / f"{name} by PaddleX"
    folder.mkdir(exist_ok=True)
    job = {
        "model": name,
        "model_dir": str(model_dir.resolve()),
        "thresholds": list(thresholds),
        "images": [str(path.resolve()) for path in images],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    # In PaddleX's environment, its packages are found first.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = Path(__file__).with_name("official_paddlex_side.py")
    subprocess.run([python, script, folder / "job.json"], check=True, env=environment)
    answer = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    masks = []
    for number in range(len(images)):
        with np.load(folder / f"masks_{number}.npz") as file:
            masks.append([file[key] for key in sorted(file.files)])
    return answer["boxes"], masks, answer["pipeline_is_same"]


def compare(
    ours: Instances, boxes: Sequence[Mapping[str, Any]], masks: Sequence[NDArray[np.bool_]]
) -> Comparison:
    """Compare our instances with those of PaddleX, whose masks are cropped to the rounded boxes.

    PaddleX drops empty boxes, but pairs the others with the masks of all, so that the following objects have
    masks of others. Such objects are reported as different.
    """
    score_errors, box_errors, ious, pixels = [0.0], [0.0], [1.0], [0]
    bad = 0
    pairs = _pairs(ours, boxes, masks)
    for i, j in pairs:
        score_errors.append(abs(boxes[j]["score"] - float(ours.scores[i])))
        if boxes[j]["coordinate"]:
            box_errors.append(_box_error(ours, i, boxes[j]))
        mine = _cropped(rle_to_mask(ours.masks[i]), boxes[j]["coordinate"])
        ious.append(_iou(mine, masks[j]))
        pixels.append(int((mine ^ masks[j]).sum()) if mine.shape == masks[j].shape else mine.size)
        bad += ious[-1] < LOWEST_MASK_IOU and pixels[-1] > OTHER_PIXELS
    return Comparison(
        num_ours=len(ours),
        num_paddlex=len(boxes),
        num_pairs=len(pairs),
        score_error=max(score_errors),
        box_error=max(box_errors),
        mask_iou=min(ious),
        other_pixels=max(pixels),
        bad_masks=bad,
    )


def joined(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison of all images."""
    return Comparison(
        num_ours=sum(one.num_ours for one in comparisons),
        num_paddlex=sum(one.num_paddlex for one in comparisons),
        num_pairs=sum(one.num_pairs for one in comparisons),
        score_error=max(one.score_error for one in comparisons),
        box_error=max(one.box_error for one in comparisons),
        mask_iou=min(one.mask_iou for one in comparisons),
        other_pixels=max(one.other_pixels for one in comparisons),
        bad_masks=sum(one.bad_masks for one in comparisons),
    )


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a table of Markdown."""
    lines = [
        "",
        "| model | images | objects, ours | objects, PaddleX | pairs | scores differ by "
        "| boxes differ by, px | lowest mask IoU | most other pixels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in figures.items():
        lines.append(
            f"| {name} | {one['images']} | {one['num_ours']} | {one['num_paddlex']} | {one['num_pairs']} "
            f"| {one['score_error']:.1e} | {one['box_error']:.1e} | {one['mask_iou']:.5f} "
            f"| {one['other_pixels']} |"
        )
    return "\n".join(lines)


def export_filled(name: str, folder: Path) -> Path:
    """Export a model with weights by rule, as mode export does."""
    spec = find_model(name)
    model = spec.build(num_classes=NUM_CLASSES)
    fill_model(model)
    model.eval()
    categories = tuple(Category(id=i + 1, name=f"class {i}") for i in range(NUM_CLASSES))
    export_model(model, spec, ModelInfo(name, categories, spec.recipe.image_size), folder)
    return folder


def write_images(folder: Path) -> list[Path]:
    """Five images: two of the demo data set, two that are generated for these weights, and a gray one."""
    images = {f"demo_{number}.png": draw_scene(number).image[:, :, ::-1] for number in (81, 82)}
    for seed, (height, width) in ((1, (427, 640)), (2, (601, 333))):
        drawn = drawn_image(seed, height, width).transpose(1, 2, 0)
        images[f"generated_{seed}.png"] = np.round(drawn * 255).astype(np.uint8)
    images["gray.png"] = np.full((240, 333, 3), 127, np.uint8)
    for name, image in images.items():
        cv2.imwrite(str(folder / name), image)
    return [folder / name for name in images]


def threshold_between(scores: NDArray[np.float32]) -> float:
    """A threshold for about OBJECTS objects, in the widest gap between scores there. 0 for few scores.

    So that no object is above it in one toolkit only, because of rounding.
    """
    ordered = np.sort(scores.astype(float))[::-1]
    near = ordered[OBJECTS - 10 : OBJECTS + 10]
    if len(near) < 2:
        return 0.0
    widest = int(np.argmax(near[:-1] - near[1:]))
    return float((near[widest] + near[widest + 1]) / 2)


def _pairs(
    ours: Instances, boxes: Sequence[Mapping[str, Any]], masks: Sequence[NDArray[np.bool_]]
) -> list[tuple[int, int]]:
    """Pairs of (our index, PaddleX's index), each index once. The nearest of several counts."""
    pairs: list[tuple[int, int]] = []
    free = set(range(len(ours)))
    for j, box in enumerate(boxes):
        near = [
            (distance, i)
            for i in free
            if ours.class_ids[i] == box["class_id"]
            and abs(ours.scores[i] - box["score"]) <= 0.005
            and (distance := _distance(ours, i, box, masks[j])) <= 1
        ]
        if near:
            i = min(near)[1]
            free.remove(i)
            pairs.append((i, j))
    return pairs


def _distance(ours: Instances, i: int, box: Mapping[str, Any], mask: NDArray[np.bool_]) -> float:
    """How far two boxes are from each other, in pixels; without boxes 1 - IoU of the masks."""
    if box["coordinate"]:
        return _box_error(ours, i, box)
    return 1 - _iou(rle_to_mask(ours.masks[i]) > 0, mask)


def _box_error(ours: Instances, i: int, box: Mapping[str, Any]) -> float:
    return float(np.abs(ours.boxes_xyxy[i] - np.array(box["coordinate"], np.float32)).max())


def _cropped(whole: NDArray[np.uint8], coordinate: Sequence[float]) -> NDArray[np.bool_]:
    if not coordinate:
        return whole > 0
    x1, y1, x2, y2 = (round(edge) for edge in coordinate)
    return whole[y1:y2, x1:x2] > 0


def _iou(mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    if mine.shape != theirs.shape:
        return 0.0
    union = (mine | theirs).sum()
    return float((mine & theirs).sum() / union) if union else 1.0


def _line(one: Comparison) -> str:
    return (
        f"{one.num_ours:6}  {one.num_paddlex:7}  {one.num_pairs:5}  {one.score_error:13.1e}  "
        f"{one.box_error:8.1e} px  {one.mask_iou:8.5f}  {one.other_pixels:6}  "
    )


def _read(path: Path) -> NDArray[np.uint8]:
    """The image as BGR, which both toolkits expect."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        sys.exit(f"{path}: cannot be read as an image.")
    return image


def _only(results: Any) -> Any:
    (result,) = results
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare official PaddleX with our predictor.")
    parser.add_argument("--model_dir", type=Path, nargs="+", help="folders written by mode export")
    parser.add_argument("--images", type=Path, nargs="+")
    parser.add_argument(
        "--threshold", type=float, help="lowest score to compare; by default that of about 20 objects"
    )
    parser.add_argument(
        "--python",
        type=Path,
        default=PROJECT / ".venv-interop/bin/python",
        help="Python of an environment with paddlex[base]==3.7.2",
    )
    parser.add_argument("--figures", type=Path, help="file to write the figures to, as JSON")
    return parser


if __name__ == "__main__":
    paddle.set_device("cpu")
    sys.exit(main())
