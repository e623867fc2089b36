"""What stays on one side of a split: a number for each image, equal for images of one group."""

import posixpath
import re
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.checking.duplicates import clusters, near_duplicates
from paddlex_seg.data.checking.scan import scan_images
from paddlex_seg.data.coco.paths import plain_name
from paddlex_seg.errors import ConfigError


def groups_by_name(file_names: Sequence[str], pattern: str) -> list[int]:
    """A number per file name, equal where the regular expression finds the same in it.

    What counts is the capturing groups of ``pattern`` together, or the whole match if it has none. A name in
    which nothing, or nothing but empty text, is found is a group of its own.
    Raises ConfigError for an invalid pattern.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"group_by: {pattern!r} is not a regular expression ({error}). Correct it; a character with a "
            "meaning in expressions, such as ( or *, stands for itself behind a back-slash."
        ) from error
    keys = []
    for name in file_names:
        match = expression.search(name)
        found = (match.groups() or (match[0],)) if match else ()
        keys.append(found if any(found) else None)
    return _number_keys(keys)


def groups_by_folder(file_names: Sequence[str]) -> list[int]:
    """A number per file name, equal for files of one folder; what lies in no folder is a group of its own."""
    folders = (posixpath.dirname(plain_name(name)) for name in file_names)
    return _number_keys([folder or None for folder in folders])


def groups_by_content(image_dir: Path, file_names: Sequence[str]) -> Sequence[int]:
    """A number per file name, equal for images that hardly differ."""
    facts = scan_images(image_dir, file_names, "thumbnail")
    pairs = near_duplicates([fact.thumbnail for fact in facts])
    return clusters(len(file_names), pairs)


def number_groups(groups: Sequence[int] | None, num_images: int) -> NDArray[np.int64]:
    """The group of each image, numbered in order of appearance: other names do not change a split.

    Without ``groups`` each image is one of its own.
    """
    if groups is None:
        return np.arange(num_images)
    assert len(groups) == num_images, f"{len(groups)} groups for {num_images} images"
    return np.array(_number_keys(groups), np.int64)


def _number_keys(keys: Sequence[Hashable | None]) -> list[int]:
    """A number per key, equal for equal keys, from 0 in order of appearance; None equals nothing."""
    numbers: dict[Hashable, int] = {}
    return [
        numbers.setdefault(("alone", place) if key is None else ("key", key), len(numbers))
        for place, key in enumerate(keys)
    ]
