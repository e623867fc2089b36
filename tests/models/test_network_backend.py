"""NetworkBackend: running a network with NumPy arrays."""

from collections.abc import Callable

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.structures import Detections, MaskFrame, PreprocessSpec


class Normalizing(InstanceSegmenter):
    """Detects one object per image with a score computed from the image. Records how it was run."""

    mask_frame: MaskFrame = "image_uncut"

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.norm, self.after = nn.BatchNorm2D(3), after
        self.was_training, self.had_gradients = True, True

    def forward(
        self, image: paddle.Tensor, im_shape: paddle.Tensor, scale_factor: paddle.Tensor
    ) -> Detections:
        score = self.norm(image).mean([1, 2, 3]).unsqueeze(1)
        self.was_training, self.had_gradients = self.norm.training, not score.stop_gradient
        self.after()
        bbox = paddle.concat([0 * score, score, 0 * im_shape, im_shape / scale_factor], axis=1)
        return Detections(bbox, paddle.ones([len(image)], "int32"), image.mean(1))


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    return image, np.full((2, 2), 8, np.float32), np.full((2, 2), 0.5, np.float32)


def fail() -> None:
    raise RuntimeError("stopped")


def test_inputs_and_outputs_are_arrays() -> None:
    preprocess = PreprocessSpec(size_hw=(8, 8))
    backend = NetworkBackend(Normalizing(), preprocess)
    image, im_shape, scale_factor = inputs()
    found = backend(image, im_shape, scale_factor)
    assert [type(array) for array in found] == [np.ndarray] * 3
    assert found.bbox[:, 4:].tolist() == [[16, 16]] * 2
    assert found.bbox_num.tolist() == [1, 1]
    np.testing.assert_allclose(found.mask, image.mean(1), rtol=1e-5)
    assert (backend.mask_frame, backend.preprocess) == ("image_uncut", preprocess)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("after", [lambda: None, fail], ids=["well", "with an error"])
def test_a_network_runs_in_evaluation_mode_and_its_mode_is_restored(
    training: bool, after: Callable[[], None]
) -> None:
    model = Normalizing(after)
    model.train() if training else model.eval()
    before = model.norm._mean.numpy()
    if after is fail:
        with pytest.raises(RuntimeError, match="stopped"):
            NetworkBackend(model, PreprocessSpec((8, 8)))(*inputs())
    else:
        NetworkBackend(model, PreprocessSpec((8, 8)))(*inputs())
    assert (model.was_training, model.had_gradients) == (False, False)
    assert model.training == model.norm.training == training
    assert paddle.is_grad_enabled()
    np.testing.assert_array_equal(model.norm._mean.numpy(), before)
