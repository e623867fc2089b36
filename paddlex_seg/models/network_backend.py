"""A Paddle network in memory as a `structures.Backend` with NumPy arrays as inputs and outputs."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from numpy.typing import NDArray

from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec


class NetworkBackend:
    """Runs a network for evaluation and prediction. Training may continue between two calls."""

    def __init__(self, model: InstanceSegmenter, preprocess: PreprocessSpec) -> None:
        self.model = model
        self.preprocess = preprocess

    @property
    def mask_frame(self) -> MaskFrame:
        """Region and kind of values of the masks."""
        return self.model.mask_frame

    def __call__(
        self,
        image: NDArray[np.float32],
        im_shape: NDArray[np.float32],
        scale_factor: NDArray[np.float32],
    ) -> DetectionArrays:
        """See `structures.Backend`."""
        with inference_mode(self.model):
            bbox, bbox_num, mask = self.model(*map(paddle.to_tensor, (image, im_shape, scale_factor)))
        return DetectionArrays(bbox.numpy(), bbox_num.numpy(), mask.numpy())


@contextmanager
def inference_mode(model: InstanceSegmenter) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the previous mode of the model is restored."""
    training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            yield
    finally:
        model.train() if training else model.eval()
