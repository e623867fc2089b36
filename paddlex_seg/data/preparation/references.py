"""Image and category of each annotation, as positions in the file."""

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import CocoFile


def references(coco: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of the N annotations, the positions of its image [N] and of its category [N] in the file.

    Raises DatasetError when ids are used more than once, or when an image or a category is not listed.
    """
    image_places = {image.id: place for place, image in enumerate(coco.images)}
    category_places = {category.id: place for place, category in enumerate(coco.categories)}
    if len(image_places) < len(coco.images) or len(category_places) < len(coco.categories):
        raise DatasetError(
            f"{coco.path}: ids of images or categories are used more than once. Give each one a unique id."
        )
    image_of = [image_places.get(item.image_id, -1) for item in coco.annotations]
    category_of = [category_places.get(item.category_id, -1) for item in coco.annotations]
    problems = [
        f"annotation {item.id}: image {item.image_id}, category {item.category_id}: one of them is not listed"
        for item, image, category in zip(coco.annotations, image_of, category_of, strict=True)
        if image < 0 or category < 0
    ]
    if problems:
        raise DatasetError(summarize_problems(str(coco.path), problems))
    return np.array(image_of, np.int64), np.array(category_of, np.int64)
