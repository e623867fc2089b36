"""Which split of a data set a folder or a file name stands for."""

import re

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
