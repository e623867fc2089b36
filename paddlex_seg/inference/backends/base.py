"""Finds the instances of a batch with any `structures.Backend`. Evaluation and prediction share this code."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.structures import Backend, DetectionArrays, Instances, MaskFrame


def find_instances(
    backend: Backend,
    inputs: NetworkInput,
    original_sizes: Sequence[tuple[int, int]],
    *,
    score_threshold: float | NDArray[np.float32] | None = None,
) -> list[Instances]:
    """Instances of each image of a batch, best score first.

    inputs: network inputs of B images; original_sizes: (height, width) of the original images;
    score_threshold: keep detections with a higher score; one number, or float32 [C] with one for each class.
    None keeps all. Dropped masks are not pasted, which saves time.
    """
    detections = select(backend(*inputs), score_threshold)
    return paste(detections, backend.mask_frame, inputs, original_sizes)


def select(
    detections: DetectionArrays, score_threshold: float | NDArray[np.float32] | None
) -> DetectionArrays:
    """The detections with a higher score; see `find_instances`."""
    if score_threshold is None:
        return detections
    classes, scores = detections.bbox[:, 0].astype(np.int64), detections.bbox[:, 1]
    if isinstance(score_threshold, np.ndarray):
        # A class that the model should not have gets the last number here, so that callers can report it.
        score_threshold = score_threshold.take(classes, mode="clip")  # [N]
    return keep_rows(detections, scores > score_threshold)


def paste(
    detections: DetectionArrays,
    mask_frame: MaskFrame,
    inputs: NetworkInput,
    original_sizes: Sequence[tuple[int, int]],
) -> list[Instances]:
    """The instances of each image; see `find_instances`."""
    return detections_to_instances(
        *detections,
        im_shape=inputs.im_shape,
        scale_factor=inputs.scale_factor,
        input_hw=inputs.image.shape[2:],
        original_sizes=original_sizes,
        mask_frame=mask_frame,
    )


def fitting_batch_size(backend: Backend, wanted: int) -> int:
    """The batch size to use: 1 if the backend pastes masks to the original image size, else ``wanted``.

    Such a graph gives all masks of a batch the size of its largest image, or of its first image.
    """
    return 1 if backend.mask_frame == "original" else wanted


def keep_rows(detections: DetectionArrays, keep: NDArray[np.bool_]) -> DetectionArrays:
    """The detections of a batch where ``keep`` [N] is true. Nothing is copied if all are kept."""
    if keep.all():
        return detections
    bbox, bbox_num, mask = detections
    image_of_row = np.repeat(np.arange(len(bbox_num)), bbox_num)
    return DetectionArrays(bbox[keep], np.bincount(image_of_row[keep], minlength=len(bbox_num)), mask[keep])
