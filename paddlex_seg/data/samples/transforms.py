"""Augmentations of training samples.

Each policy is a frozen dataclass with the parameters of a recipe. It is called with a sample and a random
generator. Geometric changes use the methods of ``Sample``. ``prob`` is always the probability that the
augmentation is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from paddlex_seg.data.preprocess import fitted_size
from paddlex_seg.data.samples.sample import Sample

Policy = Callable[[Sample, Generator], Sample]
Image = NDArray[np.uint8]  # [h, w, 3] RGB

GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R 601, of R, G, B
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB 0..255
MIN_VISIBLE = 0.1  # an object is dropped if less than this fraction of it is left


def apply(policies: Sequence[Policy], sample: Sample, rng: Generator) -> Sample:
    """Apply all policies to the sample, one after the other."""
    for policy in policies:
        sample = policy(sample, rng)
    return sample


@dataclass(frozen=True)
class RandomDistort:
    """Colour jitter: up to ``count`` of brightness, contrast, saturation and hue, in random order.

    Each is (lowest, highest, prob). Hue is a shift in 1/256 of the colour circle. The others are factors; 1
    means no change.
    """

    hue: tuple[float, float, float] = (-18.0, 18.0, 0.5)
    saturation: tuple[float, float, float] = (0.5, 1.5, 0.5)
    contrast: tuple[float, float, float] = (0.5, 1.5, 0.5)
    brightness: tuple[float, float, float] = (0.5, 1.5, 0.5)
    count: int = 4
    prob: float = 1.0

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The sample with changed colours."""
        if rng.random() >= self.prob:
            return sample
        steps = (
            (self.brightness, change_brightness),
            (self.contrast, change_contrast),
            (self.saturation, change_saturation),
            (self.hue, change_hue),
        )
        image = sample.image
        for step in rng.permutation(len(steps))[: self.count]:
            (low, high, prob), change = steps[step]
            if rng.random() < prob:
                image = change(image, rng.uniform(low, high))
        return replace(sample, image=image)


@dataclass(frozen=True)
class RandomExpand:
    """Put the image at a random position on a canvas of colour ``fill``, up to ``ratio`` times its sides."""

    ratio: float = 4.0
    prob: float = 0.5
    fill: tuple[float, float, float] = IMAGENET_MEAN

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The sample with borders."""
        if rng.random() >= self.prob:
            return sample
        factor = rng.uniform(1.0, self.ratio)
        extra_h, extra_w = (int(side * factor) - side for side in sample.size_hw)
        top, left = int(rng.integers(extra_h + 1)), int(rng.integers(extra_w + 1))
        return sample.pad(left=left, top=top, right=extra_w - left, bottom=extra_h - top, fill=self.fill)


@dataclass(frozen=True)
class RandomCrop:
    """Crop a random window that contains the centre of an object; keep the objects whose centres it contains.

    One of ``thresholds`` is drawn, or no crop with ``allow_no_crop``. Of ``num_attempts`` random windows, the
    first one is used whose IoU with an object's box is at least the threshold. If there is none, the next
    threshold is tried. ``scaling`` is the range of sqrt(window area / image area), ``aspect_ratio`` the range
    of the window's aspect ratio relative to the image's. An image without objects is not cropped.
    """

    thresholds: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    aspect_ratio: tuple[float, float] = (0.5, 2.0)
    scaling: tuple[float, float] = (0.3, 1.0)
    num_attempts: int = 50
    allow_no_crop: bool = True
    prob: float = 1.0

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The cropped sample."""
        boxes = sample.boxes_xyxy
        if len(boxes) == 0 or rng.random() >= self.prob:
            return sample
        for choice in rng.permutation(len(self.thresholds) + self.allow_no_crop):
            if choice == len(self.thresholds):
                return sample
            windows = self._draw_windows(sample.size_hw, rng)
            holds_centre = _hold_centres(windows, boxes)
            good = (_iou(windows, boxes).max(axis=1) >= self.thresholds[choice]) & holds_centre.any(axis=1)
            if good.any():
                first = int(good.argmax())
                x1, y1, x2, y2 = (int(edge) for edge in windows[first])
                return sample.select(holds_centre[first]).crop(x1, y1, width=x2 - x1, height=y2 - y1)
        return sample

    def _draw_windows(self, size_hw: tuple[int, int], rng: Generator) -> NDArray[np.int64]:
        """Random windows [num_attempts, 4], xyxy, in whole pixels, inside the frame."""
        scale = rng.uniform(*self.scaling, size=self.num_attempts)
        aspect = rng.uniform(
            np.maximum(self.aspect_ratio[0], scale**2), np.minimum(self.aspect_ratio[1], scale**-2)
        )
        relative_wh = np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], axis=1)
        frame_wh = np.array(size_hw[::-1])
        window_wh = np.clip((frame_wh * relative_wh).astype(np.int64), 1, frame_wh)
        corner = rng.integers(frame_wh - window_wh + 1)
        return np.concatenate([corner, corner + window_wh], axis=1)


@dataclass(frozen=True)
class LargeScaleJitter:
    """Shrink or enlarge the image by a random factor from ``scale``. The frame size stays the same.

    A larger image is cropped at a random position. A smaller image is put at a random position, with ``fill``
    around it. Objects with less than ``MIN_VISIBLE`` of their box left are dropped. Paper: G. Ghiasi et al.,
    "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
    https://arxiv.org/abs/2012.07177. Differences: the paper puts a smaller image into a corner, here its
    position is random. The frame has the size of the original image until the last resize.
    """

    scale: tuple[float, float] = (0.1, 2.0)
    prob: float = 1.0
    fill: tuple[float, float, float] = IMAGENET_MEAN

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The sample with the rescaled image in a frame of the same size."""
        if rng.random() >= self.prob:
            return sample
        return drop_slivers(jitter(sample, rng.uniform(*self.scale), sample.size_hw, rng, fill=self.fill))


@dataclass(frozen=True)
class RandomFlip:
    """Flip horizontally."""

    prob: float = 0.5

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The sample, flipped or not."""
        return sample.hflip() if rng.random() < self.prob else sample


@dataclass(frozen=True)
class Resize:
    """Resize to ``size_hw``. With ``keep_ratio``, its two numbers limit the short and the long side."""

    size_hw: tuple[int, int] = (640, 640)
    keep_ratio: bool = False
    interpolation: int = cv2.INTER_CUBIC

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The resized sample. Uses no random numbers."""
        size_hw = fitted_size(sample.size_hw, self.size_hw, keep_ratio=self.keep_ratio)
        return sample.resize(size_hw, interpolation=self.interpolation)


@dataclass(frozen=True)
class RandomResize:
    """``Resize`` to a random size of ``sizes_hw``, drawn for each sample."""

    sizes_hw: tuple[tuple[int, int], ...]
    keep_ratio: bool = True
    interpolation: int = cv2.INTER_CUBIC

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The resized sample."""
        size_hw = self.sizes_hw[rng.integers(len(self.sizes_hw))]
        return Resize(size_hw, self.keep_ratio, self.interpolation)(sample, rng)


def jitter(
    sample: Sample,
    scale: float,
    frame_hw: tuple[int, int],
    rng: Generator,
    fill: tuple[float, float, float] = IMAGENET_MEAN,
) -> Sample:
    """``scale_to_fit``, then a random position in the frame.

    Along each axis, a smaller image is completely inside the frame, and a larger image fills the frame.
    """
    scaled = scale_to_fit(sample, frame_hw, scale)
    slack = np.array(frame_hw) - scaled.size_hw
    top, left = rng.integers(np.minimum(slack, 0), np.maximum(slack, 0) + 1)
    return place(scaled, left=int(left), top=int(top), frame_hw=frame_hw, fill=fill)


def scale_to_fit(sample: Sample, frame_hw: tuple[int, int], scale: float = 1.0) -> Sample:
    """Resize to ``scale`` times the largest size of the same aspect ratio that fits into ``frame_hw``."""
    height, width = sample.size_hw
    factor = scale * min(frame_hw[0] / height, frame_hw[1] / width)
    return sample.resize((max(1, round(height * factor)), max(1, round(width * factor))))


def place(
    sample: Sample,
    left: int,
    top: int,
    frame_hw: tuple[int, int],
    fill: tuple[float, float, float] = IMAGENET_MEAN,
) -> Sample:
    """Put the sample into a frame with its top left corner at (left, top), which may be outside the frame.

    Parts outside the frame are cropped. ``fill`` is the colour around the image.
    """
    (height, width), (frame_h, frame_w) = sample.size_hw, frame_hw
    x1, y1 = max(0, -left), max(0, -top)
    shown_w, shown_h = max(0, min(width, frame_w - left) - x1), max(0, min(height, frame_h - top) - y1)
    left, top = max(left, 0), max(top, 0)
    return sample.crop(x1, y1, width=shown_w, height=shown_h).pad(
        left=left, top=top, right=frame_w - left - shown_w, bottom=frame_h - top - shown_h, fill=fill
    )


def drop_slivers(sample: Sample) -> Sample:
    """Drop objects if less than ``MIN_VISIBLE`` of their box is left after crops."""
    return sample.select(sample.visible_shares >= MIN_VISIBLE)


def change_brightness(image: Image, factor: float) -> Image:
    """Blend with black."""
    return _map_levels(image, factor, offset=0.0)


def change_contrast(image: Image, factor: float) -> Image:
    """Blend with the mean gray of the image."""
    mean_gray = round(float(np.dot(cv2.mean(image)[:3], GRAY_WEIGHTS)))
    return _map_levels(image, factor, offset=(1 - factor) * mean_gray)


def change_saturation(image: Image, factor: float) -> Image:
    """Blend with the image in gray."""
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * GRAY_WEIGHTS)


def change_hue(image: Image, turn: float) -> Image:
    """Shift the hue by ``turn`` / 256 of the colour circle."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255, so that uint8 arithmetic wraps around
    hsv[:, :, 0] += np.uint8(round(turn) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _map_levels(image: Image, factor: float, offset: float) -> Image:
    levels = np.arange(256) * factor + offset
    return cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _hold_centres(windows_xyxy: NDArray, boxes_xyxy: NDArray) -> NDArray[np.bool_]:
    """[m, n]: whether window m contains the centre of box n."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    after = windows_xyxy[:, None, :2] <= centres
    before = centres < windows_xyxy[:, None, 2:]
    return (after & before).all(axis=2)


def _iou(windows_xyxy: NDArray, boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """[m, n] IoU of window m and box n."""
    top_left = np.maximum(windows_xyxy[:, None, :2], boxes_xyxy[:, :2])
    bottom_right = np.minimum(windows_xyxy[:, None, 2:], boxes_xyxy[:, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    window_areas = (windows_xyxy[:, 2:] - windows_xyxy[:, :2]).prod(axis=1)
    box_areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    return shared / (window_areas[:, None] + box_areas - shared)
