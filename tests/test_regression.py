"""A short training with a fixed seed on the generated demo dataset reproduces the stored losses and AP.

These tests detect unintended changes of the data, augmentation, network, losses, optimizer, schedule, EMA or
evaluation. After an intended change, run `python tests/test_regression.py`, store the values that it prints
and mention the change in CHANGELOG.md.

Rounding differs between machines and numbers of threads, and training amplifies the difference. After two
epochs at a low learning rate, losses must match within 0.1 %; the stored digits were the same with one and
two threads. After a whole training, runs differ by up to 10 % in losses, 0.05 in box AP and 0.02 in mask AP.
The stored values are in the middle of this range. The tolerances are 15 %, 0.15 and 0.045.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from command_line import read_result, run_cli

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset

OPTIONS = {
    "Train__pretrain_weight_path": "scratch",
    "Train__image_size": 128,
    "Train__batch_size": 4,
    "Train__warmup_steps": 20,
    "Train__num_workers": 0,
}
LOSSES = ("loss", "loss_cls", "loss_iou", "loss_dfl", "loss_mask")
FIRST_EPOCHS = [
    {"loss": 8.5283, "loss_cls": 5.4475, "loss_iou": 0.6848, "loss_dfl": 1.8582, "loss_mask": 1.2654},
    {"loss": 8.5471, "loss_cls": 5.3763, "loss_iou": 0.6691, "loss_dfl": 1.8879, "loss_mask": 1.2968},
]
WHOLE = {"Train__augment__mosaic": 0.0}  # 40 epochs of 12 images are too few to learn from mosaics
LAST_EPOCH = {
    **{"loss": 4.75, "loss_cls": 3.31, "loss_iou": 0.386, "loss_dfl": 1.39, "loss_mask": 0.576},
    **{"box_ap": 0.29, "mask_ap": 0.048},
}


def train(
    folder: Path, *, epochs: int, eval_interval: int, learning_rate: float, **options: Any
) -> list[dict[str, Any]]:
    """The history of a training on 12 images, evaluated on the training images so that AP is above 0."""
    write_demo_dataset(folder, num_train=12, num_val=1)
    paths = dataset_paths(folder / COCO_FOLDER)
    shutil.copy(paths.train_json, paths.val_json)
    length = {"Train__epochs_iters": epochs, "Train__eval_interval": eval_interval}
    rate = {"Train__learning_rate": learning_rate}
    options = {**OPTIONS, **length, **rate, **options}
    outcome = run_cli("train", folder / "output", Global__dataset_dir=paths.root, **options)
    assert outcome.code == 0, outcome.stderr
    return read_result(folder / "output", "train")["history"]


def test_first_epochs_give_the_stored_losses(tmp_path: Path) -> None:
    rows = train(tmp_path, epochs=2, eval_interval=1, learning_rate=2e-4)
    assert len(rows) == len(FIRST_EPOCHS)
    for row, stored in zip(rows, FIRST_EPOCHS, strict=True):
        assert {name: row[name] for name in LOSSES} == pytest.approx(stored, rel=1e-3)


def test_whole_training_gives_the_stored_losses_and_ap(tmp_path: Path) -> None:
    row = train(tmp_path, epochs=40, eval_interval=40, learning_rate=2e-3, **WHOLE)[-1]
    assert {name: row[name] for name in LOSSES} == pytest.approx(
        {name: LAST_EPOCH[name] for name in LOSSES}, rel=0.15
    )
    assert row["box_ap"] == pytest.approx(LAST_EPOCH["box_ap"], abs=0.15)
    assert row["mask_ap"] == pytest.approx(LAST_EPOCH["mask_ap"], abs=0.045)


def print_values() -> None:
    """Print the values to store in this file after an intended change."""
    with tempfile.TemporaryDirectory() as name:
        for row in train(Path(name) / "first", epochs=2, eval_interval=1, learning_rate=2e-4):
            print({key: round(row[key], 4) for key in LOSSES})
        row = train(Path(name) / "whole", epochs=40, eval_interval=40, learning_rate=2e-3, **WHOLE)[-1]
        print({key: round(row[key], 4) for key in (*LOSSES, "box_ap", "mask_ap")})


if __name__ == "__main__":
    print_values()
