"""A network in memory as a `structures.Backend`: arrays in, arrays out."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from numpy.typing import NDArray

from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec


class NetworkBackend:
    """A network that evaluation and prediction can run. Between two calls it may go on training."""

    def __init__(self, model: InstanceSegmenter, preprocess: PreprocessSpec) -> None:
        self.model = model
        self.preprocess = preprocess

    @property
    def mask_frame(self) -> MaskFrame:
        """What the masks hold."""
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
    """No gradients and running statistics inside; the model's own mode again outside."""
    training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            yield
    finally:
        model.train() if training else model.eval()
