"""Sampling: the images of an epoch, their repeats, and their order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.structures import CocoFile


class Draw(NamedTuple):
    """One sample of an epoch."""

    image: int  # index in the annotation file
    occurrence: int = 0  # 0 for the first time that the image is in the epoch, 1 for the second


def image_weights(
    coco: CocoFile, *, repeat_threshold: float | None = None, negatives_ratio: float | None = None
) -> NDArray[np.float64]:
    """The average repeats of each image of ``coco`` per epoch, [num_images]. Crowds are ignored.

    repeat_threshold: oversample images of rare classes. If a class is in less than this fraction of the
    images, 0 to 1, its images are repeated sqrt(repeat_threshold / fraction) times. The rarest class of an
    image decides (A. Gupta et al., "LVIS", https://arxiv.org/abs/1908.03195). None: once each.
    negatives_ratio: the maximum number of images without objects per image with objects in an epoch. None: no
    limit. If no image has objects, all images are used.
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
    """The number of samples in each epoch: the rounded sum of the weights, at least 1."""
    return max(1, round(float(weights.sum())))


def draw_epoch(weights: NDArray[np.float64], seed: int, epoch: int) -> list[Draw]:
    """The ``epoch_length`` samples of an epoch, in order. They depend only on weights, seed and epoch.

    Image i is drawn floor(weights[i]) or ceil(weights[i]) times. Weights must not be negative, and not all 0.
    If all weights are 1, the result is a permutation of the images.
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
    """Systematic sampling: 1 for exactly ``num_drawn`` of the ``fractions`` (in [0, 1)), 0 for the others.

    The probability of an image is its fraction, scaled so that all probabilities sum to ``num_drawn``. Images
    with the same fraction are neighbours in the sampling order, so the number drawn from such a group is
    close to the sum of its probabilities.
    """
    drawn = np.zeros(len(fractions), np.int64)
    if num_drawn == 0:
        return drawn
    candidates = rng.permutation(np.flatnonzero(fractions))
    candidates = candidates[np.argsort(fractions[candidates], kind="stable")]
    chances, total, count = fractions[candidates], fractions.sum(), len(candidates)
    if num_drawn <= total:
        chances = chances * (num_drawn / total)
    else:  # scaling up could exceed 1, so scale down the probabilities of not being drawn
        chances = 1 - (1 - chances) * ((count - num_drawn) / (count - total))
    edges = np.concatenate([[0.0], np.cumsum(chances)])
    edges[-1] = num_drawn  # without rounding errors
    drawn[candidates] = np.diff(np.floor(edges + rng.random()))
    return drawn
