"""Preprocessing from an image to the network input. Evaluation, prediction and serving share it.

Training uses only ``normalize`` and ``fitted_size``. Its geometry is in ``data.samples.sample``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.structures import PreprocessSpec


class NetworkInput(NamedTuple):
    """The three network inputs, for one image or for a batch with a leading axis B."""

    image: NDArray[np.float32]  # [3, H, W], normalised, padded at the right and bottom
    im_shape: NDArray[np.float32]  # [2], height and width before padding
    scale_factor: NDArray[np.float32]  # [2], im_shape / size of the original image


def preprocess(image: NDArray[np.uint8], spec: PreprocessSpec) -> NetworkInput:
    """The network input for one RGB image, uint8 [h, w, 3]."""
    size_hw = fitted_size(image.shape[:2], spec.size_hw, keep_ratio=spec.keep_ratio)
    # Interpolation weights sum to 1, so normalising before or after the resize gives the same result, except
    # that a uint8 resize rounds. Resizing in floats avoids this rounding.
    pixels = image.astype(np.float32) if spec.normalize_first else image
    resized = cv2.resize(pixels, size_hw[::-1], interpolation=spec.interpolation)
    padded = np.zeros((3, *input_size(image.shape[:2], spec)), np.float32)
    normalize(resized, spec, out=padded[:, : size_hw[0], : size_hw[1]])
    im_shape = np.array(size_hw, np.float64)
    scale_factor = im_shape / image.shape[:2]
    return NetworkInput(padded, im_shape.astype(np.float32), scale_factor.astype(np.float32))


def collate(inputs: Sequence[NetworkInput]) -> NetworkInput:
    """A batch [B, ...] of one or more inputs of the same size."""
    image, im_shape, scale_factor = map(np.stack, zip(*inputs, strict=True))
    return NetworkInput(image, im_shape, scale_factor)


def normalize(image: NDArray, spec: PreprocessSpec, out: NDArray[np.float32]) -> None:
    """Write ``(image / 255 - mean) / std`` of RGB values 0..255, [h, w, 3], into ``out``, [3, h, w]."""
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        np.multiply(image[:, :, channel], np.float32(1 / (255 * std)), out=out[channel])
        if mean:
            out[channel] -= np.float32(mean / std)


def fitted_size(size_hw: Sequence[int], target_hw: Sequence[int], keep_ratio: bool) -> tuple[int, int]:
    """The size (h, w) of an image of ``size_hw`` after the resize.

    It is ``target_hw``. With ``keep_ratio`` it is the largest size of the same aspect ratio whose short side
    is at most ``min(target_hw)`` and whose long side is at most ``max(target_hw)``.
    """
    if not keep_ratio:
        return int(target_hw[0]), int(target_hw[1])
    scale = min(min(target_hw) / min(size_hw), max(target_hw) / max(size_hw))
    height, width = (max(1, int(scale * side + 0.5)) for side in size_hw)
    return height, width


def input_size(size_hw: Sequence[int], spec: PreprocessSpec) -> tuple[int, int]:
    """The size (h, w) of the network input, including padding, for an image of ``size_hw``."""
    return padded_size([fitted_size(size_hw, spec.size_hw, keep_ratio=spec.keep_ratio)], spec.pad_stride)


def padded_size(sizes_hw: Sequence[Sequence[int]], stride: int) -> tuple[int, int]:
    """The smallest size (h, w) that contains all sizes. With ``stride`` > 0, a multiple of ``stride``."""
    stride = max(stride, 1)
    height, width = (-(-max(sides) // stride) * stride for sides in zip(*sizes_hw, strict=True))
    return height, width
