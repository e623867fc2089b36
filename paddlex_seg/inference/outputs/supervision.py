"""The objects of one image for the library supervision."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.masks.rle import rle_to_mask
from paddlex_seg.structures import Instances


class MissingLibrary(PaddlexSegError):
    """A library is asked for that is not installed."""


def to_supervision(instances: Instances, labels: Sequence[str]) -> Any:
    """A ``supervision.Detections`` with boxes, masks of the whole image, scores, class indices and names.

    The masks are bool [N, H, W]; 300 of a 12-megapixel image take 3.6 GB. Raises MissingLibrary when
    supervision is not installed.
    """
    try:
        supervision = importlib.import_module("supervision")
    except ModuleNotFoundError as error:
        if error.name != "supervision":
            raise
        raise MissingLibrary(
            "The library supervision is not installed. Install it with: pip install supervision"
        ) from error
    masks = np.zeros((len(instances), *instances.size_hw), bool)
    for i, mask in enumerate(instances.masks):
        masks[i] = rle_to_mask(mask)
    return supervision.Detections(
        xyxy=instances.boxes_xyxy.astype(np.float32),
        mask=masks,
        confidence=instances.scores.astype(np.float32),
        class_id=instances.class_ids.astype(int),
        data={"class_name": np.array([labels[class_id] for class_id in instances.class_ids], dtype=str)},
    )
