"""Trains tiny networks in one of two processes, or in one with the joined batches, and reports what came out.

As a script: ``train_together.py <rank> <port> <result.npz> <name of a case> ...``.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn
from rule import drawn_batch

from paddlex_seg.models.backbones.csp_resnet import CspResNet
from paddlex_seg.models.backbones.hgnetv2 import HgStageConfig, PpHgNetV2
from paddlex_seg.models.backbones.resnet import block_names, resnet_stage
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.fpn import FeaturePyramid
from paddlex_seg.models.layers import ConvBnAct
from paddlex_seg.models.mask_rt_detr import loss as mask_rt_detr_loss
from paddlex_seg.models.mask_rt_detr import matcher
from paddlex_seg.models.mask_rt_detr.encoder import MaskHybridEncoder
from paddlex_seg.models.mask_rt_detr.model import MaskRtDetr
from paddlex_seg.models.mask_rt_detr.transformer import MaskRtDetrTransformer
from paddlex_seg.models.pp_yoloe_seg.head import PpYoloeSegHead
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.models.pp_yoloe_seg.neck import CspPan
from paddlex_seg.models.rcnn import assign as sampling
from paddlex_seg.models.rcnn import rpn
from paddlex_seg.models.rcnn.box_head import BoxHead, CascadeBoxHead, TwoFcHead
from paddlex_seg.models.rcnn.mask_head import MaskHead
from paddlex_seg.models.rcnn.model import MaskRcnn
from paddlex_seg.models.rcnn.rpn import ProposalLimits, RpnHead
from paddlex_seg.models.solov2.head import SoloV2Head
from paddlex_seg.models.solov2.mask_features import MaskFeatures
from paddlex_seg.models.solov2.model import SoloV2
from paddlex_seg.models.synchronized_norm import synchronize_batch_norm
from paddlex_seg.ops import processes
from paddlex_seg.ops.joined_batch import JoinedBatch
from paddlex_seg.ops.processes import average_gradients, mean_losses
from paddlex_seg.structures import Batch
from paddlex_seg.training.optimizer import build_optimizer

NUM_CLASSES = 3
IMAGE_HW = (64, 64)
# Objects of each image, and how many of the images the first process gets.
BATCHES = [
    ((3, 1, 2, 1), 2),
    ((2, 1, 0, 0), 2),  # the second process is without objects
    ((0, 0, 0, 3), 3),  # the first one is, and has more images
    ((0, 2, 1, 1), 1),
    ((0, 0, 0, 0), 2),
]


@dataclass(frozen=True)
class Case:
    """The settings of one training run."""

    build: Callable[[], InstanceSegmenter]
    kind: Literal["momentum", "adamw"] = "momentum"
    learning_rate: float = 0.01
    num_steps: int = 3  # the steps use the batches in turn


class TinyBackbone(nn.Layer):
    """Features of stride 4, 8, 16 and 32."""

    out_channels = (8, 8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, 8, kernel_size=3, stride=2)
        self.stages = nn.LayerList([ConvBnAct(8, 8, kernel_size=3, stride=2) for _ in range(4)])

    def forward(self, x: Tensor) -> list[Tensor]:
        x, features = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class TinyC4Backbone(TinyBackbone):
    """Up to stride 16."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x)[:3]


class TinyRes5Head(nn.Layer):
    """Batch norms over regions instead of images."""

    resolution, out_channels = 14, 16

    def __init__(self) -> None:
        super().__init__()
        self.res5 = resnet_stage(8, self.out_channels, block_names("res5", 2), stride=2)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.res5(pooled)


def pp_yoloe_seg(from_scratch: bool) -> PpYoloeSeg:
    backbone = CspResNet(widths=(8, 8, 8, 8, 8), depths=(1, 1, 1, 1))
    neck = CspPan(backbone.out_channels, out_channels=(16, 16, 16))
    head = PpYoloeSegHead(neck.out_channels, NUM_CLASSES, prototype_channels=8)
    return PpYoloeSeg(backbone, neck, head, from_scratch=from_scratch)


def mask_rt_detr() -> MaskRtDetr:
    stages = [HgStageConfig(8, 8, num_blocks=1, num_layers=1) for _ in range(4)]
    backbone = PpHgNetV2((8, 8), stages)
    neck = MaskHybridEncoder(
        backbone.out_channels, channels=16, feedforward_channels=16, mask_channels=(8, 8), num_prototypes=8
    )
    transformer = MaskRtDetrTransformer(
        16, NUM_CLASSES, 8, channels=16, num_queries=10, num_layers=2, feedforward_channels=16
    )
    return MaskRtDetr(backbone, neck, transformer, NUM_CLASSES, denoising_queries=6)


def mask_rcnn(cascade: bool) -> MaskRcnn:
    backbone = TinyBackbone()
    return MaskRcnn(
        backbone,
        FeaturePyramid(backbone.out_channels, 8),
        RpnHead(8, [[8], [16], [32], [64], [128]], strides=(4, 8, 16, 32, 64)),
        CascadeBoxHead(8, NUM_CLASSES) if cascade else BoxHead(TwoFcHead(8), NUM_CLASSES),
        MaskHead(8, NUM_CLASSES, num_convs=1),
        train_limits=ProposalLimits(per_level=20, per_image=20),
        limits=ProposalLimits(per_level=20, per_image=20),
    )


def mask_rcnn_c4() -> MaskRcnn:
    head = TinyRes5Head()
    return MaskRcnn(
        TinyC4Backbone(),
        None,
        RpnHead(8, [[8, 16, 32]], strides=(16,)),
        BoxHead(head, NUM_CLASSES),
        MaskHead(head.out_channels, NUM_CLASSES, num_convs=0),
        train_limits=ProposalLimits(per_level=20, per_image=20),
        limits=ProposalLimits(per_level=20, per_image=20),
    )


def solov2() -> SoloV2:
    backbone = TinyBackbone()
    neck = FeaturePyramid(backbone.out_channels, 8)
    return SoloV2(backbone, neck, SoloV2Head(8, NUM_CLASSES, channels=32), MaskFeatures(8, channels=32))


SHORT_CASES = {
    "PP-YOLOE_seg": Case(lambda: pp_yoloe_seg(from_scratch=False)),
    "Mask-RT-DETR": Case(mask_rt_detr, "adamw", 1e-4),
    "Mask R-CNN": Case(lambda: mask_rcnn(cascade=False)),
    "Mask R-CNN, C4": Case(mask_rcnn_c4),
    "Cascade Mask R-CNN": Case(lambda: mask_rcnn(cascade=True)),
    "SOLOv2": Case(solov2, num_steps=2),
}
LONG_CASES = {
    "PP-YOLOE_seg, momentum": Case(
        lambda: pp_yoloe_seg(from_scratch=False), learning_rate=1e-3, num_steps=20
    ),
    "PP-YOLOE_seg from scratch, AdamW": Case(
        lambda: pp_yoloe_seg(from_scratch=True), "adamw", 1e-4, num_steps=20
    ),
}


def train(case: Case, rank: int | None) -> dict[str, NDArray]:
    """The losses of each step, the gradients of the first, and all weights and statistics after the last.

    rank: the process that this is, which takes its part of the batches; None for all of them.
    """
    paddle.seed(1)
    model = case.build()
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):  # Paddle's kernel requires these two in float32
            layer._epsilon, layer._momentum = 2.0**-17, 0.875
    synchronize_batch_norm(model)
    optimizer = build_optimizer(
        model, kind=case.kind, learning_rate=case.learning_rate, weight_decay=0.01, clip_norm=1.0
    )
    report = {}
    losses = []
    for step in range(case.num_steps):
        counts, num_first = BATCHES[step % len(BATCHES)]
        batch = drawn_batch(seed=step, image_hw=IMAGE_HW, counts=counts, num_classes=NUM_CLASSES)
        own = model.loss(batch if rank is None else part_of(batch, num_first, rank))
        losses.append(list(mean_losses(own).values()))
        own["loss"].backward()
        average_gradients(model.parameters())
        if step == 0:
            report |= {
                f"gradient of {name}": parameter.grad.numpy()
                for name, parameter in model.named_parameters()
                if parameter.grad is not None
            }
        optimizer.step()
        optimizer.clear_grad()
    report["losses"] = np.array(losses)
    return report | {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def part_of(batch: Batch, num_first: int, rank: int) -> Batch:
    own = slice(num_first) if rank == 0 else slice(num_first, None)
    return Batch(*(value[own] for value in batch[:4]), joined=JoinedBatch())


@contextmanager
def without_chance() -> Iterator[None]:
    """Make random draws of networks constant, so that they do not depend on how a batch is divided."""

    class Points:
        def __init__(self, num_rows: int, num_points: int) -> None:
            self.num_rows = num_rows
            self.points = np.random.RandomState(num_points).rand(2, num_points).astype(np.float32)

        def row(self, row: int) -> NDArray[np.float32]:
            return self.points

        def all(self) -> Tensor:
            return paddle.to_tensor(np.tile(self.points, [self.num_rows, 1, 1]))

    with ExitStack() as stack:
        stack.enter_context(patch.object(paddle, "rand", lambda shape: paddle.full(shape, 0.4)))
        for module in (matcher, mask_rt_detr_loss):
            stack.enter_context(patch.object(module, "RandomPoints", Points))
            stack.enter_context(patch.object(module, "NUM_POINTS", 64))
        stack.enter_context(patch.object(mask_rt_detr_loss, "NUM_CANDIDATES", 192))
        stack.enter_context(patch.object(mask_rt_detr_loss, "NUM_UNCERTAIN", 48))
        for module in (rpn, sampling):
            stack.enter_context(patch.object(module, "random_subset", lambda rows, count: rows[:count]))
            stack.enter_context(patch.object(module, "SAMPLES_PER_IMAGE", 32))
        yield


@contextmanager
def in_float64() -> Iterator[None]:
    """Use float64 everywhere instead of float32, so that results can be compared tightly."""

    def widened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: object, **kwargs: object) -> Tensor:
            tensor = function(*args, **kwargs)
            return cast(tensor, "float64") if tensor.dtype == paddle.float32 else tensor

        return call

    def cast_widened(tensor: Tensor, dtype: str | paddle.dtype) -> Tensor:
        return cast(tensor, "float64" if dtype == "float32" else dtype)

    cast = Tensor.astype
    paddle.set_default_dtype("float64")
    with ExitStack() as stack:
        stack.enter_context(patch.object(Tensor, "astype", cast_widened))
        for name in ("to_tensor", "arange", "linspace", "zeros", "ones", "full"):
            stack.enter_context(patch.object(paddle, name, widened(getattr(paddle, name))))
        stack.enter_context(patch.object(nn.functional, "one_hot", widened(nn.functional.one_hot)))
        yield
    paddle.set_default_dtype("float32")


def average_some_gradients(rank: int) -> dict[str, NDArray]:
    """Gradients of two dtypes in several buffers; a gradient exists on one, the other, both or no process."""
    with patch.object(processes, "BUFFER_BYTES", 16):
        parameters = {
            "first": paddle.create_parameter([3], "float32"),
            "wide": paddle.create_parameter([2, 4], "float64"),
            "none": paddle.create_parameter([1], "float32"),
            "second": paddle.create_parameter([2], "float32"),
            "both": paddle.create_parameter([1], "float32"),
            "frozen": paddle.create_parameter([1], "float32"),
        }
        parameters["frozen"].stop_gradient = True
        used = ("first", "both") if rank == 0 else ("wide", "second", "both")
        paddle.add_n([(rank + 1) * parameters[name].sum().astype("float32") for name in used]).backward()
        average_gradients(parameters.values())
    return {name: value.grad.numpy() for name, value in parameters.items() if value.grad is not None}


def main(rank: int, port: int, result: Path, names: list[str]) -> None:
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    os.environ |= {
        "PADDLE_DISTRI_BACKEND": "gloo",
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(addresses)),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
    }
    paddle.distributed.init_parallel_env()
    found = {f"gradients: {name}": value for name, value in average_some_gradients(rank).items()}
    with without_chance(), in_float64():
        for name in names:
            report = train((SHORT_CASES | LONG_CASES)[name], rank)
            found |= {f"{name}: {key}": value for key, value in report.items()}
    np.savez(result, **found)
    paddle.distributed.barrier()
    paddle.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
