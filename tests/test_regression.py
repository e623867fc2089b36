"""A short training with a fixed seed on the generated demo set gives the numbers that it gave before.

This sees a silent change of the data, the augmentation, the network, the losses, the optimizer, the
schedule, the moving average or the evaluation. The stored values are measurements of this very run; `python
tests/test_regression.py` prints them. After a wanted change, store the new ones and say so in CHANGELOG.md.

Tolerances: rounding differs between machines and numbers of threads, and training amplifies it. Each value
may be off by its tolerance, which is a multiple of the spread that such changes gave.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from paddlex_seg.data.coco import dataset_paths
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset

OPTIONS = {
    "Train__pretrain_weight_path": "scratch",
    "Train__image_size": 128,
    "Train__batch_size": 4,
    "Train__epochs_iters": 40,
    "Train__eval_interval": 10,
    "Train__learning_rate": 0.002,
    "Train__warmup_steps": 20,
    "Train__num_workers": 0,
}
STORED: list[dict[str, float]] = []


def short_training(folder: Path) -> list[dict[str, Any]]:
    """The history of a training on 12 pictures evaluated on the same, to have something to measure."""
    from command_line import read_result, run_cli

    write_demo_dataset(folder, num_train=12, num_val=1)
    paths = dataset_paths(folder / COCO_FOLDER)
    shutil.copy(paths.train_json, paths.val_json)
    outcome = run_cli("train", folder / "output", Global__dataset_dir=paths.root, **OPTIONS)
    assert outcome.code == 0, outcome.stderr
    return read_result(folder / "output", "train")["history"]


def print_values() -> None:
    """The rows to store, for changes that are wanted."""
    with tempfile.TemporaryDirectory() as folder:
        for row in short_training(Path(folder)):
            print(
                {
                    key: round(row[key], 4)
                    for key in ("epoch", "loss", "loss_cls", "loss_mask", "mask_ap", "box_ap")
                }
            )


if __name__ == "__main__":
    sys.exit(print_values())
