"""Data sets with a folder for each split, such as ``train/`` and ``val/``."""

import os
from collections.abc import Callable
from pathlib import Path

SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_folders(root: Path, is_data_set: Callable[[Path], bool]) -> dict[str, Path]:
    """The folder of each split in ``root``, if one is for training and each is a data set; else none."""
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(root)) if root.is_dir() else ():
        split = SPLIT_OF_NAME.get(name.lower())
        if split is not None and is_data_set(root / name):
            found.setdefault(split, root / name)
    return found if "train" in found else {}
