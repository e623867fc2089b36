"""The mask head of Mask R-CNN and Cascade Mask R-CNN: predicts a small mask inside a box.

Paper: K. He et al., "Mask R-CNN", https://arxiv.org/abs/1703.06870. Names of layers are those of the
published weights. Shapes: N boxes of a batch, f of them foreground, K classes, M mask resolution.
"""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import KaimingNormal, Normal

from paddlex_seg.masks.rle import polygons_to_rle, rle_to_mask
from paddlex_seg.models.layers import BiasedConv2D, BiasedConv2DTranspose
from paddlex_seg.models.rcnn.assign import RoiSamples
from paddlex_seg.structures import Target

SMALLEST_SIDE = 0.1  # minimum box side in pixels for the scale of mask targets


class MaskHead(nn.Layer):
    """Convolutions, upsampling by 2, and one mask per class."""

    def __init__(self, in_channels: int, num_classes: int, num_convs: int) -> None:
        super().__init__()
        self.head = MaskFeatures(in_channels, num_convs)
        self.mask_fcn_logits = nn.Conv2D(
            MaskFeatures.channels,
            num_classes,
            kernel_size=1,
            # Std as in the original Mask R-CNN. In PaddleDetection the std is larger for fewer classes; with
            # few classes, initial logits are in the tens. Published weights overwrite these values.
            weight_attr=ParamAttr(initializer=Normal(std=0.001)),
        )

    def forward(self, pooled: Tensor, class_ids: Tensor) -> Tensor:
        """Logits float32 [N, M, M] of the masks of the given classes.

        pooled: float32 [N, C, M / 2, M / 2]; class_ids: int64 [N].
        """
        features = self.head(pooled)
        # Only compute the mask of the given class of each box. With 80 classes, all masks need 80 times more.
        weight = self.mask_fcn_logits.weight.flatten(1).gather(class_ids)  # [N, C]
        bias = self.mask_fcn_logits.bias.gather(class_ids)
        logits = paddle.bmm(weight.unsqueeze(1), features.flatten(2)) + bias.reshape([-1, 1, 1])
        return logits.reshape([-1, *features.shape[2:]])


class MaskFeatures(nn.Layer):
    """``num_convs`` convolutions and a transposed convolution that doubles the resolution."""

    channels = 256

    def __init__(self, in_channels: int, num_convs: int) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Layer]] = []
        for i in range(num_convs):
            conv = BiasedConv2D(
                in_channels,
                self.channels,
                kernel_size=3,
                padding=1,
                weight_attr=ParamAttr(initializer=KaimingNormal(fan_in=self.channels * 9)),
            )
            layers += [(f"mask_inter_feat_{i + 1}", conv), (f"relu_{i + 1}", nn.ReLU())]
            in_channels = self.channels
        upsample = BiasedConv2DTranspose(
            in_channels,
            self.channels,
            kernel_size=2,
            stride=2,
            weight_attr=ParamAttr(initializer=KaimingNormal(fan_in=self.channels * 4)),
        )
        self.upsample = nn.Sequential(*layers, ("conv5_mask", upsample), ("relu", nn.ReLU()))

    def forward(self, pooled: Tensor) -> Tensor:
        """[N, C, M / 2, M / 2] to [N, 256, M, M]."""
        return self.upsample(pooled)


def mask_loss(logits: Tensor, samples: RoiSamples, targets: Sequence[Target], rows: Tensor) -> Tensor:
    """Mean binary cross entropy of the masks of foreground samples.

    logits: float32 [f, M, M] of the samples with indices ``rows``, int64 [f].
    """
    wanted = mask_targets(samples, targets, rows, resolution=logits.shape[-1])
    return F.binary_cross_entropy_with_logits(logits, wanted)


def mask_targets(samples: RoiSamples, targets: Sequence[Target], rows: Tensor, *, resolution: int) -> Tensor:
    """Target masks of the samples with indices ``rows``, 0 or 1: float32 [f, M, M]."""
    image_of_sample = np.repeat(np.arange(len(targets)), samples.num.numpy())
    boxes, objects = samples.boxes_xyxy.numpy(), samples.objects.numpy()
    masks = np.empty((len(rows), resolution, resolution), np.float32)
    bitmaps: dict[int, NDArray[np.uint8]] = {}
    for mask, row in zip(masks, rows.numpy(), strict=True):
        image, index = int(image_of_sample[row]), int(objects[row])
        polygons = targets[image].polygons[index] if targets[image].polygons else None
        if polygons is not None:
            mask[:] = draw_polygons_in_box(polygons, boxes[row], resolution)
        else:
            if image not in bitmaps:
                bitmaps[image] = targets[image].masks.numpy()
            mask[:] = sample_bitmap_in_box(bitmaps[image][index], boxes[row], resolution)
    return paddle.to_tensor(masks)


def draw_polygons_in_box(
    polygons: Sequence[NDArray[np.floating]], box_xyxy: NDArray[np.float32], resolution: int
) -> NDArray[np.uint8]:
    """Mask [M, M] of polygons [k, 2], xy in pixels, with the box scaled to the size of the mask."""
    corner, size = box_xyxy[:2].astype(np.float64), (box_xyxy[2:] - box_xyxy[:2]).astype(np.float64)
    scale = resolution / np.maximum(size, SMALLEST_SIDE)
    parts = [((part - corner) * scale).ravel() for part in polygons]
    return rle_to_mask(polygons_to_rle(parts, (resolution, resolution)))


def sample_bitmap_in_box(
    bitmap: NDArray[np.uint8], box_xyxy: NDArray[np.float32], resolution: int
) -> NDArray[np.uint8]:
    """Mask [M, M]: bitmap [H, W] sampled at the cell centres of a grid over the box; 0 outside the bitmap."""
    inside, index = [], []
    for low, high, size in (
        (box_xyxy[1], box_xyxy[3], bitmap.shape[0]),
        (box_xyxy[0], box_xyxy[2], bitmap.shape[1]),
    ):
        pixel = np.floor(low + (np.arange(resolution) + 0.5) * (high - low) / resolution).astype(np.int64)
        inside.append((pixel >= 0) & (pixel < size))
        index.append(np.clip(pixel, 0, size - 1))
    return bitmap[np.ix_(*index)] * np.outer(*inside)
