"""Queries of Mask-RT-DETR: chosen from the encoder's cells, refined by the decoder.

Shapes: B images, Q queries (300, or all cells of a tiny input; in training with those of denoising in front),
C channels, K classes, P prototypes, L cells of all levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Normal, XavierUniform

from paddlex_seg.models.layers import batch_norm, layer_norm
from paddlex_seg.models.mask_rt_detr.attention import DeformableAttention, MultiHeadAttention, linear
from paddlex_seg.models.mask_rt_detr.denoising import Denoising
from paddlex_seg.models.mask_rt_detr.encoder import NUM_LEVELS
from paddlex_seg.ops.boxes import inverse_sigmoid, mask_boxes, xyxy_to_cxcywh

NUM_POINTS = 4
NUM_HEADS = 8
CELL_BOX_SIZE = 0.05  # of stride 8, relative to the image; doubles from level to level
BORDER = 0.01  # a cell with its centre or size nearer to 0 or 1 is not chosen
BACKGROUND_LOGIT = -4.59511985013459  # of a probability of 0.01, where classes start


class Predictions(NamedTuple):
    """What one layer says of its queries. A mask is the product of its embedding and the mask features."""

    class_logits: Tensor  # [B, Q, K]
    boxes: Tensor  # [B, Q, 4], cxcywh as fractions of the input
    mask_embeddings: Tensor  # [B, Q, P]

    def in_float32(self) -> "Predictions":
        """For the losses: they are less under mixed precision."""
        return Predictions(*(tensor.astype("float32") for tensor in self))

    def after(self, count: int) -> "Predictions":
        """Without the first ``count`` queries."""
        return Predictions(*(tensor[:, count:] for tensor in self))

    def first(self, count: int) -> "Predictions":
        """The first ``count`` queries."""
        return Predictions(*(tensor[:, :count] for tensor in self))


class Selection(NamedTuple):
    """The cells of the encoder that become queries."""

    cells: Tensor  # int64 [B, Q], best class first
    content: Tensor  # [B, Q, C]
    predictions: Predictions
    boxes: Tensor  # [B, Q, 4], cxcywh 0..1, around the masks; without a gradient


class MaskRtDetrTransformer(nn.Layer):
    """Query selection, decoder and the heads that all of its layers share."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_prototypes: int,
        channels: int = 256,
        *,
        num_queries: int = 300,
        num_layers: int = 6,
        feedforward_channels: int = 1024,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.input_proj = nn.LayerList([_projection(in_channels, channels) for _ in range(NUM_LEVELS)])
        self.decoder = Decoder(channels, feedforward_channels, num_layers)
        self.denoising_class_embed = nn.Embedding(
            num_classes, channels, weight_attr=ParamAttr(initializer=Normal())
        )
        self.query_pos_head = Mlp(4, 2 * channels, channels, num_layers=2, weight=XavierUniform())
        self.mask_query_head = Mlp(channels, channels, num_prototypes, num_layers=3)
        self.enc_output = nn.Sequential(
            linear(channels, channels, weight=XavierUniform()), layer_norm(channels)
        )
        self.dec_norm = layer_norm(channels)
        self.score_head = linear(channels, num_classes, bias=Constant(BACKGROUND_LOGIT))
        self.bbox_head = Mlp(channels, channels, 4, num_layers=3, last=Constant(0.0))

    def forward(
        self, levels: Sequence[Tensor], mask_features: Tensor, denoising: Denoising | None = None
    ) -> tuple[Selection, list[Predictions]]:
        """The selection, and the predictions of the decoder's layers: of all in training, else of the last.

        levels: stride 8, 16, 32, each [B, C, h, w]; mask_features: [B, P, H/4, W/4]. With ``denoising`` its
        queries stand in front, and the predictions of the queries before the first layer come first.
        """
        memory, sizes_hw = self.flatten_levels(levels)
        selection = self.select(memory, sizes_hw, mask_features)
        content, boxes, mask = selection.content.detach(), selection.boxes, None
        predictions = []
        if denoising is not None:
            noisy_content = denoising.content(self.denoising_class_embed.weight)
            content = paddle.concat([noisy_content, content], axis=1)
            boxes = paddle.concat([denoising.boxes, boxes], axis=1)
            mask = denoising.attention_mask(selection.content.shape[1])
            predictions.append(self.predict(content, boxes))
        states = self.decoder(content, boxes, memory, sizes_hw, mask, self.query_pos_head, self.bbox_head)
        if not self.training:
            states = states[-1:]
        predictions += [self.predict(content, boxes) for content, boxes in states]
        return selection, predictions

    def flatten_levels(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """The cells of all levels in a row, [B, L, C], and the height and width of each level."""
        projected = [project(level) for project, level in zip(self.input_proj, levels)]  # noqa: B905
        memory = paddle.concat([level.flatten(2).transpose([0, 2, 1]) for level in projected], axis=1)
        return memory, [(level.shape[2], level.shape[3]) for level in projected]

    def select(self, memory: Tensor, sizes_hw: Sequence[tuple[int, int]], mask_features: Tensor) -> Selection:
        """The cells with the highest class score of an image. Their boxes are drawn around their masks."""
        anchors, is_valid = cell_anchors(sizes_hw)
        cells = self.enc_output(paddle.where(is_valid, memory, paddle.zeros([])))
        best_class = self.score_head(cells).max(axis=-1)  # [B, L]
        chosen = paddle.topk(best_class, min(self.num_queries, best_class.shape[1]), axis=1)[1]
        content = take_rows(cells, chosen)
        anchors = anchors.expand([cells.shape[0], -1, -1])
        boxes = F.sigmoid(self.bbox_head(content) + take_rows(anchors, chosen))
        predictions = self.predict(content, boxes)
        with paddle.no_grad():
            masks = mask_logits(predictions.mask_embeddings, mask_features)
            around_masks = xyxy_to_cxcywh(mask_boxes(masks > 0))
            # Decoding starts from what the sigmoid can express.
            around_masks = F.sigmoid(inverse_sigmoid(around_masks))
        return Selection(chosen, content, predictions, around_masks)

    def predict(self, content: Tensor, boxes: Tensor) -> Predictions:
        """Classes and masks of queries [B, Q, C], beside their boxes."""
        content = self.dec_norm(content)
        return Predictions(self.score_head(content), boxes, self.mask_query_head(content))


class Decoder(nn.Layer):
    """Layers that refine queries and their boxes one after the other."""

    def __init__(self, channels: int, feedforward_channels: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.LayerList([DecoderLayer(channels, feedforward_channels) for _ in range(num_layers)])

    def forward(
        self,
        content: Tensor,
        boxes: Tensor,
        memory: Tensor,
        sizes_hw: Sequence[tuple[int, int]],
        mask: Tensor | None,
        position_head: nn.Layer,
        box_head: nn.Layer,
    ) -> list[tuple[Tensor, Tensor]]:
        """Content [B, Q, C] and boxes [B, Q, 4] after each layer.

        The boxes that the next layer starts from have no gradient, but the correction of each layer is also
        added to the box of the layer before with its gradient: "look forward twice" of H. Zhang et al.,
        "DINO", https://arxiv.org/abs/2203.03605, section 3.5.
        """
        states = []
        before = boxes
        for number, layer in enumerate(self.layers):
            start = before.detach()
            content = layer(content, start, memory, sizes_hw, mask, position_head(start))
            correction = box_head(content)
            refined = F.sigmoid(correction + inverse_sigmoid(start))
            if self.training and number > 0:
                boxes = F.sigmoid(correction + inverse_sigmoid(before))
            else:
                boxes = refined
            states.append((content, boxes))
            before = refined
        return states


class DecoderLayer(nn.Layer):
    """Attention among queries, then to the image, then a feed-forward network; normalised after each."""

    def __init__(self, channels: int, feedforward_channels: int) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(channels, NUM_HEADS)
        self.norm1 = layer_norm(channels)
        self.cross_attn = DeformableAttention(channels, NUM_HEADS, NUM_LEVELS, NUM_POINTS)
        self.norm2 = layer_norm(channels)
        self.linear1 = linear(channels, feedforward_channels, weight=XavierUniform())
        self.linear2 = linear(feedforward_channels, channels, weight=XavierUniform())
        self.norm3 = layer_norm(channels)

    def forward(
        self,
        x: Tensor,
        boxes: Tensor,
        memory: Tensor,
        sizes_hw: Sequence[tuple[int, int]],
        mask: Tensor | None,
        positions: Tensor,
    ) -> Tensor:
        """x, positions: [B, Q, C]; boxes: [B, Q, 4]; memory: [B, L, C]. Returns the shape of x."""
        located = x + positions
        x = self.norm1(x + self.self_attn(located, located, x, mask))
        x = self.norm2(x + self.cross_attn(x + positions, boxes, memory, sizes_hw))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


class Mlp(nn.Layer):
    """Linear layers with ReLU in between. ``weight``: initial weights of all; ``last``: all of the last."""

    def __init__(
        self,
        in_channels: int,
        middle: int,
        out_channels: int,
        *,
        num_layers: int,
        weight: nn.initializer.Initializer | None = None,
        last: nn.initializer.Initializer | None = None,
    ) -> None:
        super().__init__()
        widths = [in_channels, *[middle] * (num_layers - 1)]
        self.layers = nn.LayerList([linear(width, middle, weight=weight) for width in widths[:-1]])
        self.layers.append(linear(widths[-1], out_channels, weight=last or weight, bias=last))

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C']."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def mask_logits(embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """embeddings: [B, Q, P]; mask_features: [B, P, h, w]; returns [B, Q, h, w]."""
    height, width = mask_features.shape[2:]
    return paddle.matmul(embeddings, mask_features.flatten(2)).reshape(
        [-1, embeddings.shape[1], height, width]
    )


def cell_anchors(sizes_hw: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The box of each cell before the sigmoid, float32 [1, L, 4] cxcywh, and whether it may become a query,
    bool [1, L, 1].

    PaddleDetection divides x by the height and y by the width; the same where they are equal.
    """
    anchors = []
    for level, (height, width) in enumerate(sizes_hw):
        x = ((paddle.arange(width, dtype="float32") + 0.5) / width).unsqueeze(0).expand([height, width])
        y = ((paddle.arange(height, dtype="float32") + 0.5) / height).unsqueeze(1).expand([height, width])
        size = paddle.full([height, width], CELL_BOX_SIZE * 2.0**level)
        anchors.append(paddle.stack([x, y, size, size], axis=-1).reshape([1, height * width, 4]))
    boxes = paddle.concat(anchors, axis=1)
    is_valid = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(axis=-1, keepdim=True)
    unbounded = paddle.full([], float("inf"))
    return paddle.where(is_valid, paddle.log(boxes / (1 - boxes)), unbounded), is_valid


def take_rows(rows: Tensor, index: Tensor) -> Tensor:
    """rows: [B, L, C]; index: int64 [B, Q]; returns [B, Q, C]."""
    num_rows = rows.shape[1]
    flat = index + paddle.arange(rows.shape[0]).unsqueeze(1) * num_rows
    return (
        rows.reshape([-1, rows.shape[2]]).gather(flat.flatten()).reshape([-1, index.shape[1], rows.shape[2]])
    )


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    convolution = nn.Conv2D(
        in_channels,
        channels,
        kernel_size=1,
        weight_attr=ParamAttr(initializer=XavierUniform()),
        bias_attr=False,
    )
    return nn.Sequential(("conv", convolution), ("norm", batch_norm(channels)))
