"""Which split of a data set a folder or a file name stands for."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from paddlex_seg.data.formats.conversion import ALL

_SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("default", "all", "trainval"), ALL),
}


def split_named(name: str) -> str | None:
    """``train``, ``val``, ``test`` or ``all`` for a folder or a file without ending; None for other names.

    The split is a word of the name, in any case, with or without a year: ``Validation``,
    ``instances_val2017``. A name with several splits stands for none.
    """
    words = re.findall("[a-z]+", name.lower())
    splits = {_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD}
    return splits.pop() if len(splits) == 1 else None


def is_split_folder(name: str) -> bool:
    """Whether a folder has only the name of a split, perhaps with a year: ``train``, ``val2017``."""
    return re.sub(r"[\d_-]+$", "", name.lower()) in _SPLIT_OF_WORD


def split_folders(root: Path, is_data_set: Callable[[Path], bool]) -> dict[str, Path]:
    """The folder of each split in ``root``, if one is for training and each is a data set; else none."""
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(root)) if root.is_dir() else ():
        split = split_named(name) if is_split_folder(name) else None
        if split is not None and is_data_set(root / name):
            found.setdefault(split, root / name)
    return found if "train" in found else {}
