"""From network inputs to instances by any `structures.Backend`: what evaluation and prediction share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preprocess import NetworkInput
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.structures import Backend, DetectionArrays, Instances


def find_instances(
    backend: Backend,
    inputs: NetworkInput,
    original_sizes: Sequence[tuple[int, int]],
    *,
    score_threshold: float | None = None,
) -> list[Instances]:
    """Instances of each image of a batch, best score first.

    inputs: of B images; original_sizes: their (height, width); score_threshold: keep what scores more than
    this, which saves the pasting of all other masks. None keeps everything.
    """
    detections = backend(*inputs)
    if score_threshold is not None:
        detections = keep_rows(detections, detections.bbox[:, 1] > score_threshold)
    return detections_to_instances(
        *detections,
        im_shape=inputs.im_shape,
        scale_factor=inputs.scale_factor,
        input_hw=inputs.image.shape[2:],
        original_sizes=original_sizes,
        mask_frame=backend.mask_frame,
    )


def fitting_batch_size(backend: Backend, wanted: int) -> int:
    """How many images the backend should see at once: one where it pastes the masks itself.

    Such a graph makes all masks of a batch as large as the largest image, or as the first one.
    """
    return 1 if backend.mask_frame == "original" else wanted


def keep_rows(detections: DetectionArrays, keep: NDArray[np.bool_]) -> DetectionArrays:
    """The detections of a batch for which ``keep``, [N], is true."""
    bbox, bbox_num, mask = detections
    image_of_row = np.repeat(np.arange(len(bbox_num)), bbox_num)
    return DetectionArrays(bbox[keep], np.bincount(image_of_row[keep], minlength=len(bbox_num)), mask[keep])
