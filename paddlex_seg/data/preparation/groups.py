"""Groups of images that must stay in the same part of a split. Images of one group have the same number."""

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
from paddlex_seg.structures import Bands


def groups_by_name(file_names: Sequence[str], pattern: str) -> list[int]:
    """A group number per file name. File names with the same match of the regular expression are one group.

    All capturing groups of ``pattern`` are compared, or the whole match if it has none. A name without a
    match, or with an empty match, is a separate group. Raises ConfigError for an invalid pattern.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"group_by: {pattern!r} is not a regular expression ({error}). Correct it. Write a backslash "
            "before special characters such as ( or * if they are meant literally."
        ) from error
    keys = []
    for name in file_names:
        match = expression.search(name)
        found = (match.groups() or (match[0],)) if match else ()
        keys.append(found if any(found) else None)
    return _number_keys(keys)


def groups_by_folder(file_names: Sequence[str]) -> list[int]:
    """A group number per file name, one group per folder. A file outside any folder is a separate group."""
    folders = (posixpath.dirname(plain_name(name)) for name in file_names)
    return _number_keys([folder or None for folder in folders])


def groups_by_content(image_dir: Path, file_names: Sequence[str], bands: Bands | None) -> Sequence[int]:
    """A group number per file name. Almost identical images are one group."""
    facts = scan_images(image_dir, file_names, "thumbnail", bands=bands)
    pairs = near_duplicates([fact.thumbnail for fact in facts])
    return clusters(len(file_names), pairs)


def number_groups(groups: Sequence[int] | None, num_images: int) -> NDArray[np.int64]:
    """The group of each image, renumbered from 0 in order of appearance.

    So a split depends only on the grouping, not on the group numbers. Without ``groups``, each image is a
    separate group.
    """
    if groups is None:
        return np.arange(num_images)
    assert len(groups) == num_images, f"{len(groups)} groups for {num_images} images"
    return np.array(_number_keys(groups), np.int64)


def _number_keys(keys: Sequence[Hashable | None]) -> list[int]:
    """A number per key, from 0 in order of appearance. Equal keys share a number; each None is new."""
    numbers: dict[Hashable, int] = {}
    return [
        numbers.setdefault(("alone", place) if key is None else ("key", key), len(numbers))
        for place, key in enumerate(keys)
    ]
