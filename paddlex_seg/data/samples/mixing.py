"""Augmentations that combine several images: mosaic and copy-paste.

Each image is a ``Sample`` with its own pending map into a common frame. All are drawn into this frame at the
final size. So pixels are interpolated only once, and masks are as exact as without mixing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from paddlex_seg.data.samples.sample import RenderedObjects, RenderedSample, Sample, mask_box
from paddlex_seg.data.samples.transforms import MIN_VISIBLE, drop_slivers, jitter, place, scale_to_fit

MOSAIC_SIDES = (1.0, 2.0)  # side of the mosaic / side of its first image
MOSAIC_CENTRES = (0.25, 0.75)  # the point where the four images meet, as a fraction of the side
PASTE_SCALES = (0.8, 1.25)  # the paper's standard jitter; its large one is ``LargeScaleJitter``
NUM_MOSAIC_PARTNERS = 3


@dataclass(frozen=True)
class Mixing:
    """Probabilities of mosaic and copy-paste.

    mosaic_prob: probability that a sample is a mosaic of four images. copy_paste_prob: probability that
    objects of another image are pasted onto a sample. Both may be applied to the same sample.
    """

    mosaic_prob: float = 0.0
    copy_paste_prob: float = 0.0


class Layer(NamedTuple):
    """An image and its objects in the frame of the network input."""

    sample: Sample
    objects: RenderedObjects


def mosaic(samples: Sequence[Sample], rng: Generator) -> list[Sample]:
    """Place four samples around a point of one frame: top left, top right, bottom left, bottom right.

    The frame is 1 to 2 times as high and wide as that of the first sample. Each image keeps its aspect ratio,
    and is resized to fit the size of the first image. Parts outside the frame are cut off. Objects with less
    than ``MIN_VISIBLE`` of their box left are dropped. After A. Bochkovskiy et al., "YOLOv4",
    https://arxiv.org/abs/2004.10934.
    """
    image_hw = samples[0].size_hw
    sides = rng.uniform(*MOSAIC_SIDES)
    frame_h, frame_w = (round(side * sides) for side in image_hw)
    y, x = (int(side * rng.uniform(*MOSAIC_CENTRES)) for side in (frame_h, frame_w))
    placed = []
    for number, sample in enumerate(samples):
        fitted = scale_to_fit(sample, image_hw)
        is_bottom, is_right = divmod(number, 2)
        top, left = y - (not is_bottom) * fitted.size_hw[0], x - (not is_right) * fitted.size_hw[1]
        placed.append(drop_slivers(place(fitted, left=left, top=top, frame_hw=(frame_h, frame_w))))
    return placed


def objects_to_paste(sample: Sample, frame_hw: tuple[int, int], rng: Generator) -> Sample:
    """Resize the sample to the frame with scale and position jitter; select random objects from it.

    At least one object is selected, unless none is in the frame.
    """
    placed = drop_slivers(jitter(sample, rng.uniform(*PASTE_SCALES), frame_hw, rng))
    num_objects = len(placed.class_ids)
    if num_objects == 0:
        return placed
    keep = np.zeros(num_objects, bool)
    keep[rng.choice(num_objects, size=rng.integers(1, num_objects + 1), replace=False)] = True
    return placed.select(keep)


def compose(layers: Sequence[Layer], pasted: Layer | None = None) -> RenderedSample:
    """Draw all layers into one image and join their objects. The ``layers`` must not overlap.

    The objects of ``pasted`` are drawn on top, without their background. Objects below them lose the hidden
    pixels, see ``hide``. Edges are not blended: the paper, Ghiasi et al., https://arxiv.org/abs/2012.07177,
    finds no gain in it.
    """
    image = layers[0].sample.blank_image()
    for layer in layers:
        layer.sample.draw_image(image)
    parts = [layer.objects for layer in layers]
    if pasted is not None and len(pasted.objects.class_ids):
        covered = np.any(pasted.objects.masks, axis=0)  # [H, W]
        above = np.empty_like(image)
        pasted.sample.draw_image(above)
        np.copyto(image, above, where=covered[:, :, None])
        parts = [*(hide(part, covered) for part in parts), pasted.objects]
    return RenderedSample(image, *_concatenate(parts))


def hide(objects: RenderedObjects, covered: NDArray[np.bool_]) -> RenderedObjects:
    """Remove the pixels ``covered`` [H, W] from objects. Their masks are changed in place.

    An object with less than ``MIN_VISIBLE`` of its pixels left is dropped. If an object loses fewer pixels,
    it gets the tight box of its new mask, and its polygons become None. All other objects stay unchanged.
    """
    boxes, polygons = objects.boxes_xyxy.copy(), list(objects.polygons)
    kept = np.ones(len(boxes), bool)
    for index, mask in enumerate(objects.masks):
        num_hidden = np.count_nonzero(mask[covered])
        if num_hidden == 0:
            continue
        num_pixels = np.count_nonzero(mask)
        mask[covered] = 0
        kept[index] = num_hidden < num_pixels and num_pixels - num_hidden >= MIN_VISIBLE * num_pixels
        if kept[index]:
            boxes[index], polygons[index] = mask_box(mask), None
    return RenderedObjects(
        boxes_xyxy=boxes[kept],
        class_ids=objects.class_ids[kept],
        masks=objects.masks if kept.all() else objects.masks[kept],
        polygons=tuple(parts for parts, is_kept in zip(polygons, kept, strict=True) if is_kept),
    )


def _concatenate(parts: Sequence[RenderedObjects]) -> RenderedObjects:
    boxes, class_ids, masks, _ = zip(*parts, strict=True)
    return RenderedObjects(
        boxes_xyxy=np.concatenate(boxes),
        class_ids=np.concatenate(class_ids),
        masks=masks[0] if len(parts) == 1 else np.concatenate(masks),
        polygons=tuple(polygons for part in parts for polygons in part.polygons),
    )
