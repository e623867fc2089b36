"""Ragged batches: rows image by image, with a different number of rows per image."""

import paddle
from paddle import Tensor


def image_of_rows(num_rows: int | Tensor, rows_per_image: Tensor) -> Tensor:
    """Index of the image of each row, int64 [num_rows]. Extra rows at the end belong to the last image.

    rows_per_image: integers [B].
    """
    end = rows_per_image.astype("int64").cumsum()
    image = (paddle.arange(num_rows).unsqueeze(1) >= end.unsqueeze(0)).astype("int64").sum(axis=1)
    return image.clip(max=rows_per_image.shape[0] - 1)
