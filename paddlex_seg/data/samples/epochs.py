"""Which images an epoch has, how often, and in which order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.structures import CocoFile


class Draw(NamedTuple):
    """One sample of an epoch."""

    image: int  # index in the annotation file
    occurrence: int = 0  # how often the image is in the epoch under a smaller number


def image_weights(
    coco: CocoFile, *, repeat_threshold: float | None = None, negatives_ratio: float | None = None
) -> NDArray[np.float64]:
    """How often each image of ``coco`` is to be in an epoch on average, [num_images]; crowds do not count.

    repeat_threshold: images of a class that fewer than this share of all images have, from 0 to 1, come
    more often: sqrt(repeat_threshold / share) times for the rarest of their classes (A. Gupta et al., "LVIS",
    https://arxiv.org/abs/1908.03195). None: once each.
    negatives_ratio: of images without objects there are at most this many for each image with objects.
    None: all of them. Where no image has objects, they all stay.
    """
    class_of_category = {category.id: index for index, category in enumerate(coco.categories)}
    index_of_image = {record.id: index for index, record in enumerate(coco.images)}
    has_class = np.zeros((len(coco.images), len(coco.categories)), bool)
    for item in coco.annotations:
        if not item.iscrowd:
            has_class[index_of_image[item.image_id], class_of_category[item.category_id]] = True
    weights = np.ones(len(coco.images))
    if repeat_threshold is not None:
        share = np.maximum(has_class.mean(axis=0), 1 / len(coco.images))  # no 0 for classes without images
        factors = np.maximum(1.0, np.sqrt(repeat_threshold / share))  # [num_classes]
        weights = np.where(has_class, factors, 1.0).max(axis=1, initial=1.0)
    has_objects = has_class.any(axis=1)
    num_negatives = len(weights) - has_objects.sum()
    if negatives_ratio is not None and has_objects.any() and num_negatives:
        wanted = negatives_ratio * weights[has_objects].sum()
        weights[~has_objects] = min(1.0, wanted / num_negatives)
    return weights


def epoch_length(weights: NDArray[np.float64]) -> int:
    """Images in an epoch, the same number in each: the rounded sum of the weights, at least one."""
    return max(1, round(float(weights.sum())))


def draw_epoch(weights: NDArray[np.float64], seed: int, epoch: int) -> list[Draw]:
    """The images of an epoch in their order, ``epoch_length`` of them, by seed and epoch only.

    Image i comes floor(weights[i]) or ceil(weights[i]) times. Weights are not negative, and not all 0. When
    all are 1, the order is a plain permutation.
    """
    length = epoch_length(weights)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(length)
    counts = np.floor(weights).astype(np.int64)
    counts += _draw_fractions(weights - counts, length - int(counts.sum()), rng)
    indices = np.repeat(np.arange(len(weights)), counts)
    occurrences = np.arange(length) - np.repeat(np.cumsum(counts) - counts, counts)
    return [Draw(*pair) for pair in zip(indices[order].tolist(), occurrences[order].tolist(), strict=True)]


def _draw_fractions(
    fractions: NDArray[np.float64], num_drawn: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """0 or 1 for each of ``fractions`` (each at least 0 and below 1), 1 for exactly ``num_drawn`` of them.

    Systematic sampling, with chances as close to the fractions as their sum, which ``num_drawn`` rounds, lets
    them be. Images of one fraction stand together, so that of such a group, too, as many are drawn as its
    sum says.
    """
    drawn = np.zeros(len(fractions), np.int64)
    if num_drawn == 0:
        return drawn
    candidates = rng.permutation(np.flatnonzero(fractions))
    candidates = candidates[np.argsort(fractions[candidates], kind="stable")]
    chances, total, count = fractions[candidates], fractions.sum(), len(candidates)
    if num_drawn <= total:
        chances = chances * (num_drawn / total)
    else:  # scaled up they might pass 1; scaling down the chances to be left out does the same
        chances = 1 - (1 - chances) * ((count - num_drawn) / (count - total))
    edges = np.concatenate([[0.0], np.cumsum(chances)])
    edges[-1] = num_drawn  # free of rounding
    drawn[candidates] = np.diff(np.floor(edges + rng.random()))
    return drawn
