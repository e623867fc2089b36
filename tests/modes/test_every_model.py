"""Every model of the catalog, at its real size on small inputs: it trains, and its export is equal to it."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import paddle
import pytest
from numpy.typing import NDArray
from pycocotools import mask as mask_tools
from rule import drawn_batch, fill_model, normalized_input

from paddlex_seg.catalog import MODELS, find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.config.read import load_config
from paddlex_seg.config.schema import Config
from paddlex_seg.export.graphs import export_model
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import Category, Instances, Rle
from paddlex_seg.training.ema import Ema
from paddlex_seg.training.optimizer import build_optimizer

CATEGORIES = (Category(3, "leaf"), Category(1, "stem"))
QUICK = ("PP-YOLOE_seg-S", "Mask-RT-DETR-S", "MaskRCNN-ResNet50-FPN")
SIZES = ((96, 128), (128, 64))  # of network inputs
ORIGINAL_SIZES = ((120, 200), (150, 77))

# A transformer always returns its best queries, however low their scores: it never returns no detections.
CAN_FIND_NOTHING = [name for name in MODELS if not name.startswith("Mask-RT-DETR")]


def config_of(name: str) -> Config:
    return load_config(f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        pytest.param(name, counts, id=f"{name} {title}", marks=[] if name in quick else [pytest.mark.slow])
        # tests/models/ has quick tests of each family without objects, and of a step of SOLOv2.
        for counts, title, quick in (((2, 1), "objects", QUICK), ((0, 0), "no objects", QUICK[:1]))
        for name in MODELS
    ],
)
def test_one_step_of_the_shipped_configuration_moves_every_trainable_weight(
    name: str, counts: tuple[int, int]
) -> None:
    cfg = config_of(name)
    spec = find_model(cfg.Global.model)
    paddle.seed(0)
    model, recipe = spec.build(num_classes=len(CATEGORIES)), spec.recipe
    fill_model(model)
    optimizer = build_optimizer(
        model,
        kind=recipe.optimizer,
        learning_rate=cfg.Train.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        clip_norm=recipe.clip_norm,
    )
    ema = Ema(model, **asdict(recipe.ema)) if recipe.ema else None
    padded_hw = (96, 128) if recipe.preprocess(recipe.image_size).keep_ratio else None
    batch = drawn_batch(1, (90, 120) if padded_hw else (96, 128), counts, len(CATEGORIES), padded_hw)
    model.train()
    losses = model.loss(batch)
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    trainable = {key: value for key, value in model.named_parameters() if not value.stop_gradient}
    for key, parameter in trainable.items():
        assert parameter.grad is not None, key
        assert np.isfinite(parameter.grad.numpy()).all(), key
    before = {key: parameter.numpy() for key, parameter in trainable.items()}
    optimizer.step()
    if ema is not None:
        ema.update(model)
    learnt = [key for key in trainable if float(trainable[key].grad.abs().sum()) > 1e-3]
    assert learnt
    for key in learnt:
        assert not np.array_equal(before[key], trainable[key].numpy()), key
    assert all(np.isfinite(value.numpy()).all() for value in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "finds_nothing"),
    [*((name, False) for name in MODELS), *((name, True) for name in CAN_FIND_NOTHING)],
)
def test_exported_equals_dynamic_on_two_sizes_and_batches(
    name: str, finds_nothing: bool, tmp_path: Path
) -> None:
    spec = find_model(name)
    model = spec.build(num_classes=len(CATEGORIES))
    fill_model(model)
    if name == "SOLOv2":  # with two classes, its random weights give only low scores
        model.class_threshold, model.score_threshold = 0.01, 0.005
    if finds_nothing:
        assert model.score_threshold < 1
        model.score_threshold = 2.0
    open_size = spec.recipe.preprocess(spec.recipe.image_size).keep_ratio
    for i, size_hw in enumerate(SIZES):
        folder = tmp_path / ("exported" if open_size else f"exported {i}")
        if not folder.exists():
            info = ModelInfo(name, CATEGORIES, spec.recipe.image_size if open_size else size_hw)
            export_model(model, spec, info, folder)
        exported = read_inference_yml(folder / "inference.yml")
        assert (exported.model_name, exported.labels) == (name, ("leaf", "stem"))
        backend = PaddleBackend(folder)
        for batch_size in (1, 2):
            inputs = network_inputs(batch_size, size_hw)
            model.eval()
            with paddle.no_grad():
                expected = [tensor.numpy() for tensor in model(*map(paddle.to_tensor, inputs))]
            found = backend(*inputs)
            assert found[1].tolist() == expected[1].tolist()
            assert (len(found[0]) == 0) == finds_nothing
            assert_same_instances(instances(found, inputs, model), instances(expected, inputs, model))


def network_inputs(batch_size: int, size_hw: tuple[int, int]) -> tuple[NDArray, NDArray, NDArray]:
    images = np.stack([normalized_input(100 * b, size_hw, size_hw) for b in range(batch_size)])
    im_shape = np.full((batch_size, 2), size_hw, np.float32)
    return images, im_shape, im_shape / np.array(ORIGINAL_SIZES[:batch_size], np.float32)


def instances(
    outputs: tuple[NDArray, ...], inputs: tuple[NDArray, NDArray, NDArray], model: InstanceSegmenter
) -> list[Instances]:
    return detections_to_instances(
        *outputs,
        im_shape=inputs[1],
        scale_factor=inputs[2],
        input_hw=inputs[0].shape[2:],
        original_sizes=ORIGINAL_SIZES[: len(inputs[0])],
        mask_frame=model.mask_frame,
    )


def assert_same_instances(found: list[Instances], expected: list[Instances]) -> None:
    """Boxes, classes, scores and masks are equal up to rounding.

    Rounding may swap detections, also at the end of a list of limited length.
    """
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4)
        if len(ours):
            distance = np.abs(ours.boxes_xyxy[:, None] - theirs.boxes_xyxy[None]).max(axis=2)
            other_class = ours.class_ids[:, None] != theirs.class_ids[None]
            distance[other_class] = np.inf
            same_box = distance < 0.1
            assert same_box.any(axis=1).mean() >= 0.98
            overlap = np.array([[mask_iou(a, b) for b in theirs.masks] for a in ours.masks])
            assert (same_box & (overlap > 0.98)).any(axis=1).mean() >= 0.98


def mask_iou(one: Rle, other: Rle) -> float:
    """IoU of two masks; that of two empty masks is 1."""
    if one == other:
        return 1.0
    return float(mask_tools.iou([one], [other], [0])[0, 0])
