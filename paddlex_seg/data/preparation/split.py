"""Split of an annotated data set into train, val and other parts, or into folds. No file is read or written.

A split depends only on its arguments. `stratify` distributes the classes over the parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preparation.groups import number_groups
from paddlex_seg.data.preparation.stratify import stratify
from paddlex_seg.errors import ConfigError
from paddlex_seg.structures import CocoFile


def split_sizes(total: int, percents: Sequence[int]) -> list[int]:
    """The number of images of each part. They sum to ``total``; each is less than 1 off its exact share.

    If there are enough images, a part of more than 0 percent gets at least one, even if other parts then
    differ by 1 or more. In a tie, the earlier part gets more. Raises ConfigError unless the percents are
    whole numbers of 0 or more that sum to 100.
    """
    _check_percents({f"part {number}": percent for number, percent in enumerate(percents, start=1)})
    exact = [total * percent for percent in percents]  # in hundredths of an image
    sizes = [hundredths // 100 for hundredths in exact]
    if total >= sum(percent > 0 for percent in percents):
        sizes = [max(size, percent > 0) for size, percent in zip(sizes, percents, strict=True)]
    parts = range(len(sizes))
    while sum(sizes) < total:
        sizes[max(parts, key=lambda part: (exact[part] - 100 * sizes[part], -part))] += 1
    while sum(sizes) > total:
        shrinkable = (part for part in parts if sizes[part] > 1)
        sizes[max(shrinkable, key=lambda part: (100 * sizes[part] - exact[part], part))] -= 1
    return sizes


def split_coco(
    coco: CocoFile, percents: Mapping[str, int], seed: int, groups: Sequence[int] | None = None
) -> dict[str, CocoFile]:
    """A new split of ``coco`` into named parts, such as ``{"train": 80, "val": 20}``.

    Sizes are those of ``split_sizes``. A part is empty if it has 0 percent, or if there are fewer images than
    parts. Records, their order, all categories and ``extra`` stay. The path is ``instance_<name>.json`` in
    the folder of ``coco.path``. groups: one number per image; images with the same number stay in the same
    part. Sizes are then approximate, and no part of more than 0 percent is empty. Raises ConfigError for
    invalid percents, and for fewer groups than parts.
    """
    _check_percents(percents)
    group_of_image = number_groups(groups, num_images=len(coco.images))
    needed = sum(percent > 0 for percent in percents.values())
    if groups is not None and _count(group_of_image) < needed:
        raise ConfigError(
            f"{coco.path.name}: its {len(coco.images)} images form {_count(group_of_image)} groups, which is "
            f"not enough for {needed} parts ({', '.join(percents)}). Change CheckDataset.split.group_by, or "
            "set it to null."
        )
    sizes = split_sizes(len(coco.images), list(percents.values()))
    part_of_image = stratify(coco, sizes=sizes, group_of_image=group_of_image, seed=seed)
    return {
        name: _take(coco, keep=part_of_image == part, path=coco.path.parent / f"instance_{name}.json")
        for part, name in enumerate(percents)
    }


def fold_coco(
    coco: CocoFile, folds: int, seed: int, groups: Sequence[int] | None = None
) -> list[dict[str, CocoFile]]:
    """Train and val of each cross-validation fold. Every image is in val exactly once.

    Without ``groups``, fold sizes differ by at most 1. Everything else is as in ``split_coco``. The paths are
    ``instance_<name>_fold<number>.json``, numbered from 1.
    Raises ConfigError for fewer than two folds, and for more folds than images or groups.
    """
    group_of_image = number_groups(groups, num_images=len(coco.images))
    most, kind = _count(group_of_image), "images" if groups is None else "groups of images"
    if not 2 <= folds <= most:
        raise ConfigError(
            f"{coco.path.name}: cannot make {folds} folds of {most} {kind}. Set CheckDataset.split.folds to "
            f"at least 2, and at most the number of {kind}."
        )
    smaller, rest = divmod(len(coco.images), folds)
    sizes = [smaller + (fold < rest) for fold in range(folds)]
    fold_of_image = stratify(coco, sizes=sizes, group_of_image=group_of_image, seed=seed)
    return [
        {
            name: _take(coco, keep=keep, path=coco.path.parent / f"instance_{name}_fold{fold + 1}.json")
            for name, keep in (("train", fold_of_image != fold), ("val", fold_of_image == fold))
        }
        for fold in range(folds)
    ]


def _check_percents(percents: Mapping[str, int]) -> None:
    values = list(percents.values())
    whole = all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)
    if whole and sum(values) == 100:
        return
    found = ", ".join(f"{name} {value!r}" for name, value in percents.items()) or "none"
    total = f", which sum to {sum(values)}" if whole else ""
    raise ConfigError(
        f"split: the percents are {found}{total}. Expected whole numbers of 0 or more that sum to 100, "
        "such as 80 and 20."
    )


def _take(coco: CocoFile, keep: NDArray[np.bool_], path: Path) -> CocoFile:
    images = tuple(image for image, kept in zip(coco.images, keep.tolist(), strict=True) if kept)
    ids = {image.id for image in images}
    annotations = tuple(item for item in coco.annotations if item.image_id in ids)
    return replace(coco, path=path, images=images, annotations=annotations)


def _count(group_of_image: NDArray[np.int64]) -> int:
    return int(group_of_image.max()) + 1 if len(group_of_image) else 0
