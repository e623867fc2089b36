"""A short training with a fixed seed gives the stored losses and weights; a longer one learns its images.

These tests detect unintended changes of the data, augmentation, network, losses, optimizer, schedule, EMA or
evaluation. After an intended change, run `python tests/test_regression.py`, store the values that it prints
and mention the change in CHANGELOG.md.

Rounding differs between machines and numbers of threads, and training amplifies the difference. So exact
values are compared only after two epochs at a low learning rate: losses within 0.1 %, and how far the weights
and their moving average have moved within 1 %. A longer training is compared with a bound. It is that of a
small network on large shapes of two colours, which needs few seconds for an AP far above that of a training
with a fault.
"""

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import pytest
from command_line import read_result, run_cli
from PIL import Image
from small_runs import MODEL, annotation_file, last_checkpoint, run_slim, train_options

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord
from paddlex_seg.training import output as training_output

OPTIONS = {
    "Train__pretrain_weight_path": "scratch",
    "Train__image_size": 128,
    "Train__batch_size": 4,
    "Train__warmup_steps": 20,
    "Train__num_workers": 0,
    "Train__epochs_iters": 2,
    "Train__learning_rate": 2e-4,
}
LEARN = {
    "Train__image_size": 128,
    "Train__epochs_iters": 60,
    "Train__eval_interval": 60,
    "Train__learning_rate": 0.004,
    "Train__warmup_steps": 10,
    "Train__augment__mosaic": 0,  # too few images to learn from mosaics
}
LEAST_AP = 0.4
SHAPES = (Category(7, "disc"), Category(3, "square"))
LOSSES = ("loss", "loss_cls", "loss_iou", "loss_dfl", "loss_mask")
FIRST_EPOCHS = [
    {"loss": 8.5283, "loss_cls": 5.4475, "loss_iou": 0.6848, "loss_dfl": 1.8582, "loss_mask": 1.2654},
    {"loss": 8.5471, "loss_cls": 5.3763, "loss_iou": 0.6691, "loss_dfl": 1.8879, "loss_mask": 1.2968},
]
MOVED = {"weights": 0.7953, "moving average": 1.0709}  # distances from the first weights


def train(folder: Path) -> list[dict[str, Any]]:
    """The history of two epochs on 12 images of the demo data set, at a low learning rate."""
    write_demo_dataset(folder, num_train=12, num_val=1)
    root = dataset_paths(folder / COCO_FOLDER).root
    outcome = run_cli("train", folder / "output", Global__dataset_dir=root, **OPTIONS)
    assert outcome.code == 0, outcome.stderr
    return read_result(folder / "output", "train")["history"]


def moved(output: Path) -> dict[str, float]:
    """Distance of the last weights, and of their moving average, from the first weights."""
    paddle.seed(0)
    first = find_model(MODEL).build(num_classes=2, from_scratch=True)
    trained = {name: p.numpy() for name, p in first.named_parameters() if not p.stop_gradient}
    distances = {}
    for name, suffix in (("weights", "pdema"), ("moving average", "pdparams")):
        weights = read_weights(last_checkpoint(output, suffix))
        changes = [np.square(weights[key] - value).sum() for key, value in trained.items()]
        distances[name] = float(np.sqrt(sum(changes)))
    return distances


def test_first_epochs_give_the_stored_losses_and_weights(tmp_path: Path) -> None:
    rows = train(tmp_path)
    assert len(rows) == len(FIRST_EPOCHS)
    for row, stored in zip(rows, FIRST_EPOCHS, strict=True):
        assert {name: row[name] for name in LOSSES} == pytest.approx(stored, rel=1e-3)
    assert moved(tmp_path / "output") == pytest.approx(MOVED, rel=0.01)


def write_shapes(folder: Path, num_images: int = 8) -> Path:
    """Images of 128 pixels with two or three large red discs and blue squares; train and val are the same."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outlines = np.stack([np.cos(angles), np.sin(angles)], axis=1), corners
    (folder / "images").mkdir(parents=True)
    for i in range(num_images):
        pixels = rng.integers(90, 130, (128, 128, 3), np.uint8)
        for k, corner in enumerate(((0, 0), (64, 64), (64, 0))[: 2 + i % 2]):
            kind = (i + k) % 2
            outline = rng.integers(18, 28) * outlines[kind] + corner + rng.integers(28, 37, 2)
            colour = ((220, 60, 40), (40, 80, 220))[kind]
            cv2.fillPoly(pixels, [np.rint(outline).astype(np.int32)], colour)
            polygon = [outline.ravel().astype(float).tolist()]
            annotations.append(Annotation(len(annotations) + 1, i + 1, SHAPES[kind].id, polygon))
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        images.append(ImageRecord(i + 1, f"{i}.png", 128, 128))
    for split in ("train", "val"):
        path = annotation_file(folder, split)
        path.parent.mkdir(exist_ok=True)
        write_coco(CocoFile(path, tuple(images), tuple(annotations), SHAPES), path)
    return folder


def learn_shapes(folder: Path, **options: Any) -> dict[str, Any]:
    """The last row of the history of a training of a small network on `write_shapes`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_output, "export_model", lambda *args: None)  # longer than the training
        options = train_options(write_shapes(folder / "shapes"), **LEARN, **options)
        outcome = run_slim("train", folder / "output", **options)
    assert outcome.code == 0, outcome.stderr
    return read_result(folder / "output", "train")["history"][-1]


def test_a_training_learns_two_kinds_of_shapes(tmp_path: Path) -> None:
    row = learn_shapes(tmp_path)
    assert row["mask_ap"] > LEAST_AP and row["box_ap"] > LEAST_AP, row


def print_values() -> None:
    """Print the values to store in this file after an intended change."""
    with tempfile.TemporaryDirectory() as name:
        for row in train(Path(name) / "first"):
            print({key: round(row[key], 4) for key in LOSSES})
        print({key: round(value, 4) for key, value in moved(Path(name) / "first" / "output").items()})
        print(learn_shapes(Path(name) / "shapes"))


if __name__ == "__main__":
    print_values()
