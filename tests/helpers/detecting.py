"""Run networks on generated images."""

import numpy as np
import paddle
from rule import drawn_image

from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import Detections


def detect(model: InstanceSegmenter, *inputs: np.ndarray) -> Detections:
    model.eval()
    with paddle.no_grad():
        return model(*map(paddle.to_tensor, inputs))


def inputs_of(batch_size: int, height: int, width: int) -> list[np.ndarray]:
    """Images whose originals have different sizes."""
    sizes = np.array([[200, 300], [320, 320], [250, 150]], np.float32)[:batch_size]
    shape = np.array([[height, width]] * batch_size, np.float32)
    return [np.stack([drawn_image(100 * b, height, width) for b in range(batch_size)]), shape, shape / sizes]
