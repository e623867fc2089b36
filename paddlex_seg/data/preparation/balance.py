"""Class distribution over the parts of a split."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preparation.references import references
from paddlex_seg.structures import CocoFile


@dataclass(frozen=True)
class ClassBalance:
    """The numbers of images and instances of a class, by the name of the part."""

    category: str
    images: Mapping[str, int]
    instances: Mapping[str, int]


def split_balance(parts: Mapping[str, CocoFile]) -> list[ClassBalance]:
    """One entry per category, in the order of the file. All parts list the same categories."""
    counts = {name: _count_per_class(part) for name, part in parts.items()}
    categories = next(iter(parts.values())).categories if parts else ()
    return [
        ClassBalance(
            category=category.name,
            images={name: int(images[index]) for name, (images, _) in counts.items()},
            instances={name: int(instances[index]) for name, (_, instances) in counts.items()},
        )
        for index, category in enumerate(categories)
    ]


def balance_table(splits: Mapping[str, CocoFile], shown: int = 30) -> str:
    """A table for the log: images and objects per class and part, for the first ``shown`` classes."""
    rows = split_balance(splits)
    width = max([len(row.category) for row in rows[:shown]] + [8])
    lines = ["images (objects) per class:", f"  {'':{width}}" + "".join(f"{name:>18}" for name in splits)]
    for row in rows[:shown]:
        cells = (f"{row.images[name]} ({row.instances[name]})" for name in splits)
        lines.append(f"  {row.category:{width}}" + "".join(f"{cell:>18}" for cell in cells))
    lines += [f"  ... and {len(rows) - shown} more classes"] * (len(rows) > shown)
    totals = "".join(f"{len(coco.images):>18}" for coco in splits.values())
    lines.append(f"  {'images':{width}}{totals}")
    return "\n".join(lines)


def _count_per_class(coco: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of images and instances, by position of the category in the file."""
    num_categories = len(coco.categories)
    image_of, category_of = references(coco)
    in_image = np.unique(image_of * num_categories + category_of) % max(num_categories, 1)
    return (
        np.bincount(in_image, minlength=num_categories),
        np.bincount(category_of, minlength=num_categories),
    )
