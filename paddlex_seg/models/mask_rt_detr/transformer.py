"""Query selection and decoder of Mask-RT-DETR.

Shapes: B images, Q queries (300, or all cells of a tiny input; in training after the denoising queries),
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
CELL_BOX_SIZE = 0.05  # at stride 8, as a fraction of the image; doubles with each level
BORDER = 0.01  # cells are excluded if centre or size is nearer to 0 or 1
BACKGROUND_LOGIT = -4.59511985013459  # logit of 0.01, the initial class score


class Predictions(NamedTuple):
    """Predictions of one layer. A mask is the product of its embedding and the mask features."""

    class_logits: Tensor  # [B, Q, K]
    boxes: Tensor  # [B, Q, 4], cxcywh as fractions of the input
    mask_embeddings: Tensor  # [B, Q, P]

    def in_float32(self) -> "Predictions":
        """Float32 copies for the losses; with mixed precision predictions may be in 16 bits."""
        return Predictions(*(tensor.astype("float32") for tensor in self))

    def after(self, count: int) -> "Predictions":
        """Without the first ``count`` queries."""
        return Predictions(*(tensor[:, count:] for tensor in self))

    def first(self, count: int) -> "Predictions":
        """The first ``count`` queries."""
        return Predictions(*(tensor[:, :count] for tensor in self))


class Selection(NamedTuple):
    """The encoder cells selected as queries."""

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
        """The selection and the predictions of all decoder layers; in evaluation only of the last layer.

        levels: stride 8, 16, 32, each [B, C, h, w]; mask_features: [B, P, H/4, W/4]. With ``denoising``, its
        queries come before the selected ones, and the first predictions are those of the decoder input.
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
        """The concatenated cells of all levels, [B, L, C], and the height and width of each level."""
        projected = [project(level) for project, level in zip(self.input_proj, levels)]  # noqa: B905
        memory = paddle.concat([level.flatten(2).transpose([0, 2, 1]) for level in projected], axis=1)
        return memory, [(level.shape[2], level.shape[3]) for level in projected]

    def select(self, memory: Tensor, sizes_hw: Sequence[tuple[int, int]], mask_features: Tensor) -> Selection:
        """Select the cells of each image with the highest class score. Their boxes enclose their masks."""
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
            # The decoder stores boxes as logits, so clip them to the range of the sigmoid.
            around_masks = F.sigmoid(inverse_sigmoid(around_masks))
        return Selection(chosen, content, predictions, around_masks)

    def predict(self, content: Tensor, boxes: Tensor) -> Predictions:
        """Predict classes and mask embeddings of queries [B, Q, C]; ``boxes`` are passed through."""
        content = self.dec_norm(content)
        return Predictions(self.score_head(content), boxes, self.mask_query_head(content))


class Decoder(nn.Layer):
    """Sequential decoder layers, each of which refines queries and boxes."""

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

        The input boxes of a layer have no gradient. In training, the output box of a layer is its correction
        added to the box of the previous layer with gradient: "look forward twice" of H. Zhang et al., "DINO",
        https://arxiv.org/abs/2203.03605, section 3.5.
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
    """Self-attention, deformable attention to the image and feed-forward network, each with layer norm."""

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
    """Linear layers with ReLU in between.

    ``weight``: initializer of the weights of all layers; ``last``: initializer of weight and bias of the
    last.
    """

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
    """Mask logits [B, Q, h, w]. embeddings: [B, Q, P]; mask_features: [B, P, h, w]."""
    height, width = mask_features.shape[2:]
    return paddle.matmul(embeddings, mask_features.flatten(2)).reshape(
        [-1, embeddings.shape[1], height, width]
    )


def cell_anchors(sizes_hw: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The anchor box of each cell as logits, float32 [1, L, 4] cxcywh, and whether the cell can be selected,
    bool [1, L, 1].

    PaddleDetection divides x by the height and y by the width. For height = width the result is the same.
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
    """Gather rows of each image. rows: [B, L, C]; index: int64 [B, Q]; returns [B, Q, C]."""
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
