"""Mask R-CNN and Cascade Mask R-CNN: comparison with recorded numbers, and tests with various inputs."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from detecting import detect
from exported_graph import assert_exported_equals_dynamic
from paddle import nn
from rule import (
    Reference,
    assert_detections,
    assert_filled,
    assert_gradients,
    assert_losses,
    assert_manifest,
    assert_masks,
    assert_step,
    assert_tensor,
    drawn_batch,
    fill_model,
    normalized_input,
)

from paddlex_seg.models.rcnn import assign as sampling
from paddlex_seg.models.rcnn import model as rcnn
from paddlex_seg.models.rcnn import rpn
from paddlex_seg.models.rcnn.assign import RoiSamples, best_overlaps, label_rois, sample_rois
from paddlex_seg.models.rcnn.box_head import BoxHead, BoxLosses, CascadeBoxHead
from paddlex_seg.models.rcnn.mask_head import draw_polygons_in_box, mask_targets, sample_bitmap_in_box
from paddlex_seg.models.rcnn.pooling import pool_rois, pyramid_level
from paddlex_seg.models.rcnn.rpn import ProposalLimits, Proposals, cell_anchors, grid_anchors, propose
from paddlex_seg.ops.masks import paste_masks
from paddlex_seg.ops.nms import best_of_each_image
from paddlex_seg.structures import Batch, Target

Builder = Callable[..., rcnn.MaskRcnn]
BUILDERS: dict[str, Builder] = {
    "MaskRCNN-ResNet50": rcnn.mask_rcnn_r50,
    "MaskRCNN-ResNet50-FPN": rcnn.mask_rcnn_r50_fpn,
    "MaskRCNN-ResNet50-vd-FPN": rcnn.mask_rcnn_r50_vd_fpn,
    "MaskRCNN-ResNet50-vd-SSLDv2-FPN": rcnn.mask_rcnn_r50_vd_ssld_fpn,
    "MaskRCNN-ResNet101-FPN": rcnn.mask_rcnn_r101_fpn,
    "MaskRCNN-ResNet101-vd-FPN": rcnn.mask_rcnn_r101_vd_fpn,
    "MaskRCNN-ResNeXt101-vd-FPN": rcnn.mask_rcnn_x101_vd_fpn,
    "Cascade-MaskRCNN-ResNet50-FPN": rcnn.cascade_mask_rcnn_r50_fpn,
    "Cascade-MaskRCNN-ResNet50-vd-SSLDv2-FPN": rcnn.cascade_mask_rcnn_r50_vd_ssld_fpn,
}
QUICK = "MaskRCNN-ResNet50-FPN"  # compared as a whole in fast tests; of the other models, only parts
KINDS = (rcnn.mask_rcnn_r50, rcnn.mask_rcnn_r50_fpn, rcnn.cascade_mask_rcnn_r50_fpn)
CLIP_NORM = {name: 35.0 if name.startswith("Cascade") else None for name in BUILDERS}
SMALL = ProposalLimits(per_level=30, per_image=16)


def every_model(*runs: str) -> list:
    """Each model with each run. The native size and all models except QUICK are marked slow."""
    return [
        pytest.param(
            name,
            run,
            id=f"{name} {run}",
            marks=[pytest.mark.slow] if name != QUICK or run == "eval_native" else [],
        )
        for name in BUILDERS
        for run in runs
    ]


def small_model(
    build: Builder = rcnn.mask_rcnn_r50_fpn, num_classes: int = 3, *, fill: bool = False
) -> rcnn.MaskRcnn:
    """A network with few proposals and with random or filled weights. Filling takes longer."""
    model = build(num_classes)
    if fill:
        fill_model(model)
    model.limits = model.train_limits = SMALL
    model.max_detections = 8
    return model


@pytest.fixture(scope="module")
def filled_small() -> Builder:
    """`small_model` with filled weights. Tests share the network, so do not train it."""
    return cache(partial(small_model, fill=True))


@pytest.fixture(scope="module")
def pyramid_model(filled_small: Builder) -> rcnn.MaskRcnn:
    return filled_small(rcnn.mask_rcnn_r50_fpn)


def inputs_of(
    batch_size: int, height: int, width: int, padded_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs whose original images have different sizes."""
    originals = np.array([[200, 300], [320, 320], [250, 150]], np.float32)[:batch_size]
    shape = np.array([[height, width]] * batch_size, np.float32)
    images = np.stack([normalized_input(100 * b, (height, width), padded_hw) for b in range(batch_size)])
    return images, shape, shape / originals


def one_image(golden: dict) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    height, width, *padded_hw = golden["meta.size"].tolist()
    image = normalized_input(int(golden["meta.input_seed"]), (height, width), tuple(padded_hw))
    scale_factor = golden["meta.scale_factor"].astype(np.float32)
    return tuple(
        paddle.to_tensor(x[None]) for x in (image, np.array([height, width], np.float32), scale_factor)
    )


@pytest.fixture(scope="module", params=BUILDERS)
def filled(request: pytest.FixtureRequest) -> tuple[Reference, rcnn.MaskRcnn]:
    """Each model with filled weights, and its recorded numbers. Tests share it, so do not train it."""
    model = BUILDERS[request.param](80)
    fill_model(model)
    model.eval()
    return Reference(request.param), model


def test_weights_have_the_published_names_shapes_and_order(filled: tuple[Reference, rcnn.MaskRcnn]) -> None:
    reference, model = filled
    assert_manifest(model, reference.manifest())
    assert_filled(model, reference.fill_check())


def test_each_part_equals_the_reference(filled: tuple[Reference, rcnn.MaskRcnn]) -> None:
    """Features and proposals of the small image, the box head on some recorded proposals, the mask head on
    the first recorded boxes. This avoids running all 1000 proposals through a head.
    """
    reference, model = filled
    golden = reference.golden("eval_small")
    image, im_shape, scale_factor = one_image(golden)
    with paddle.no_grad():
        features = model._features(image)
        outputs = model.rpn_head(features)
        proposals = propose(outputs, im_shape, model.limits)
        assert_features_and_proposals(model, features, outputs, proposals, golden)
        assert_box_head(model, features, im_shape, golden)
        assert_first_masks(model, features, scale_factor, golden)


def assert_box_head(
    model: rcnn.MaskRcnn, features: list[paddle.Tensor], im_shape: paddle.Tensor, golden: dict
) -> None:
    """Compare scores and deltas of the recorded proposals that every fourth recorded delta belongs to.

    In a cascade, only the first stage gets recorded proposals; the other stages get those of the stage
    before.
    """
    head = model.bbox_head
    is_cascade = isinstance(head, CascadeBoxHead)
    stages = [f"stage{i}" for i in range(head.num_stages)] if is_cascade else ["bbox"]
    num_proposals, width = golden[f"{stages[0]}_deltas.shape"].tolist()
    sampled = np.linspace(0, num_proposals * width - 1, 64).astype(np.int64)[::4]
    rows, columns = np.divmod(sampled, width)
    boxes = paddle.to_tensor(golden["rois0"][rows])
    num = paddle.to_tensor([len(rows)], dtype="int32")
    for i, stage in enumerate(stages):
        if is_cascade:
            logits, deltas, _ = head._predict(features, boxes, num, stage=i)
            boxes = head._refine(boxes, num, deltas, im_shape, stage=i)
        else:
            logits, deltas = head._predict(head.roi_features(features, boxes, num))
        scores = nn.functional.softmax(logits).numpy()
        for found, recorded in (
            (deltas.numpy()[np.arange(len(rows)), columns], golden[f"{stage}_deltas.samples"][::4]),
            (scores[:, -1], golden[f"{stage}_scores_softmax_bg"][rows]),
            (scores[:, :-1].max(axis=1), golden[f"{stage}_scores_softmax_fgmax"][rows]),
        ):
            np.testing.assert_allclose(found, recorded, rtol=1e-3, atol=1e-4, err_msg=stage)


def assert_first_masks(
    model: rcnn.MaskRcnn, features: list[paddle.Tensor], scale_factor: paddle.Tensor, golden: dict
) -> None:
    """Compare the masks of the first recorded detections, with boxes scaled back to the input."""
    recorded = golden["final0.mask_prob_first8"]
    rows = golden["final0.bbox"][: len(recorded)]
    boxes = paddle.to_tensor(rows[:, 2:]) * scale_factor.flip(-1).tile([1, 2])
    pooled = model._mask_features(features, boxes, paddle.to_tensor([len(rows)], dtype="int32"))
    class_ids = paddle.to_tensor(rows[:, 0].astype(np.int64))
    masks = nn.functional.sigmoid(model.mask_head(pooled, class_ids))
    np.testing.assert_allclose(masks.numpy(), recorded, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "run"), every_model("eval_small", "eval_native"))
def test_features_proposals_detections_and_masks_equal_the_reference(name: str, run: str) -> None:
    golden = Reference(name).golden(run)
    model = BUILDERS[name](80)
    fill_model(model)
    model.eval()
    image, im_shape, scale_factor = one_image(golden)
    with paddle.no_grad():
        features = model._features(image)
        outputs = model.rpn_head(features)
        proposals = propose(outputs, im_shape, model.limits)
        found = model(image, im_shape, scale_factor)
        masks = paste_masks(
            found, im_shape, scale_factor, input_hw=image.shape[2:], mask_frame=model.mask_frame
        )
    assert_features_and_proposals(model, features, outputs, proposals, golden)
    pairs = assert_detections(found.bbox, golden["final0.bbox"])
    assert_masks(masks.numpy(), golden, pairs)


def assert_features_and_proposals(
    model: rcnn.MaskRcnn,
    features: list[paddle.Tensor],
    outputs: rpn.RpnOutputs,
    proposals: Proposals,
    golden: dict,
) -> None:
    kind = "backbone" if model.neck is None else "neck"
    for i, feature in enumerate(features):
        assert_tensor(feature, golden, f"{kind}{i}")
        num_anchors = len(model.rpn_head.cells[0])
        height, width = feature.shape[2:]
        score = outputs.scores[i].reshape([1, height, width, num_anchors]).transpose([0, 3, 1, 2])
        delta = outputs.deltas[i].reshape([1, height, width, 4 * num_anchors]).transpose([0, 3, 1, 2])
        assert_tensor(score, golden, f"rpn_score{i}")
        assert_tensor(delta, golden, f"rpn_delta{i}")
    recorded = golden["rois0"]
    distance = np.abs(proposals.boxes_xyxy.numpy()[:, None] - recorded[None]).max(axis=2)
    assert proposals.num.tolist() == [len(recorded)]
    assert (distance.min(axis=0) <= 0.05).mean() >= 0.99


@pytest.mark.parametrize(("name", "run"), every_model("train"))
def test_losses_gradients_and_one_step_equal_the_reference(
    name: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = Reference(name).golden(run)
    for module in (rpn, sampling):
        monkeypatch.setattr(module, "random_subset", lambda positions, count: positions[:count])
    monkeypatch.setattr(rpn, "best_of_each_image", few_stay_in_order)
    model = BUILDERS[name](80)
    fill_model(model)
    if model.neck is None:
        restore_the_mistake_of_paddledetection(model)
    seed = int(golden["meta.input_seed"])
    batch = drawn_batch(seed, image_hw=(250, 310), counts=(3, 2), num_classes=80, padded_hw=(256, 320))
    for b, target in enumerate(batch.targets):
        np.testing.assert_allclose(target.boxes_xyxy.numpy(), golden[f"gt{b}.box"], rtol=1e-6)
        np.testing.assert_array_equal(target.class_ids.numpy(), golden[f"gt{b}.cls"].ravel())
    before = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    model.train()
    losses = model.loss(batch)
    losses["loss"].backward()
    assert_losses(losses, golden, run)
    assert_gradients(model, golden, run)
    clip = CLIP_NORM[name]
    paddle.optimizer.Momentum(
        learning_rate=float(golden[f"{run}.step_lr"]),
        momentum=0.9,
        parameters=[parameter for parameter in model.parameters() if not parameter.stop_gradient],
        weight_decay=paddle.regularizer.L2Decay(1e-4),
        grad_clip=clip and paddle.nn.ClipGradByGlobalNorm(clip),
    ).step()
    assert_step(before, model, golden, run)


def few_stay_in_order(
    scores: paddle.Tensor, image: paddle.Tensor, num_images: int, limit: int
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """PaddleDetection only sorts the proposals of all levels together if an image has too many. This only
    matters for tests that sample the first proposals.
    """
    positions, num = best_of_each_image(scores, image, num_images, limit)
    parts = np.split(positions.numpy(), np.cumsum(num.numpy())[:-1])
    parts = [np.sort(part) if len(part) < limit else part for part in parts]
    return paddle.to_tensor(np.concatenate(parts)), num


def restore_the_mistake_of_paddledetection(model: rcnn.MaskRcnn) -> None:
    """Without FPN, PaddleDetection takes the mask features of all images from the first image, because it
    counts the foreground of every image from 0. The recorded numbers contain this mistake.
    """
    learn_masks = model._mask_loss

    def with_features_of_first_image(features: list, boxes: BoxLosses, batch: Batch) -> paddle.Tensor:
        first_row = np.cumsum([0, *boxes.samples.num.tolist()])
        is_foreground = boxes.samples.class_ids.numpy() < model.bbox_head.num_classes
        row = np.arange(len(is_foreground))
        for begin, end in zip(first_row[:-1], first_row[1:], strict=True):
            own = row[begin:end]
            row[begin:end] = np.where(is_foreground[own], own - begin, own)
        mistaken = boxes.features.gather(paddle.to_tensor(row))
        return learn_masks(features, boxes._replace(features=mistaken), batch)

    model._mask_loss = with_features_of_first_image


@pytest.mark.parametrize("build", KINDS)
@pytest.mark.parametrize("counts", [(0, 0), (0, 2)], ids=["no objects at all", "one image without objects"])
def test_every_parameter_gets_a_finite_gradient(build: Builder, counts: tuple[int, int]) -> None:
    model = build(3)
    model.train_limits = SMALL
    model.train()
    losses = model.loss(drawn_batch(1, image_hw=(90, 120), counts=counts, num_classes=3, padded_hw=(96, 128)))
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    for parameter_name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None, parameter_name
            assert np.isfinite(parameter.grad.numpy()).all(), parameter_name


@pytest.mark.parametrize(
    "place", ["rpn_rois_score", "rpn_rois_delta", "bbox_score", "bbox_delta", "mask_fcn"]
)
@pytest.mark.parametrize("build", [rcnn.mask_rcnn_r50_fpn, rcnn.cascade_mask_rcnn_r50_fpn])
def test_non_finite_outputs_make_the_loss_non_finite(place: str, build: Builder) -> None:
    model = small_model(build)
    parameter = next(value for name, value in model.named_parameters() if place in name)
    parameter.set_value(paddle.full_like(parameter, float("nan")))
    model.train()
    losses = model.loss(drawn_batch(1, (90, 120), counts=(2, 0), num_classes=3, padded_hw=(96, 128)))
    assert not np.isfinite(float(losses["loss"]))


@pytest.mark.parametrize("build", KINDS)
def test_losses_are_float32_for_any_output_dtype_of_the_layers(build: Builder) -> None:
    model = build(3)
    model.train_limits = SMALL
    model.train()
    batch = drawn_batch(1, image_hw=(90, 120), counts=(2, 0), num_classes=3, padded_hw=(96, 128))
    paddle.seed(0)
    expected = model.loss(batch)

    # Test with 64 bits instead of the 16 bits of mixed precision, for which the CPU lacks operators.
    def in_float64(layer: nn.Layer, inputs: tuple, output: Any) -> Any:
        if isinstance(output, list):
            return [tensor.astype("float64") for tensor in output]
        return output.astype("float64")

    last_layers = ("rpn_rois_score", "rpn_rois_delta", "bbox_score", "bbox_delta")
    layers = [layer for name, layer in model.named_sublayers() if any(part in name for part in last_layers)]
    for layer in (model.backbone if model.neck is None else model.neck, model.mask_head, *layers):
        layer.register_forward_post_hook(in_float64)
    model.rpn_head.register_forward_pre_hook(
        lambda layer, inputs: ([feature.astype("float32") for feature in inputs[0]],)
    )
    paddle.seed(0)
    found = model.loss(batch)
    assert {tensor.dtype for tensor in found.values()} == {paddle.float32}
    assert {name: loss.item() for name, loss in found.items()} == {
        name: loss.item() for name, loss in expected.items()
    }


def test_from_scratch_the_whole_backbone_learns() -> None:
    for build in (rcnn.mask_rcnn_r50, rcnn.mask_rcnn_r50_fpn):
        assert all(
            not parameter.stop_gradient or name.endswith(("_mean", "_variance"))
            for name, parameter in build(2, from_scratch=True).named_parameters()
        )


@pytest.mark.parametrize("build", KINDS)
def test_detections_of_an_image_do_not_depend_on_the_batch(build: Builder, filled_small: Builder) -> None:
    model = filled_small(build)
    inputs = inputs_of(3, 90, 120, padded_hw=(96, 128))
    together = detect(model, *inputs)
    first = 0
    for b, count in enumerate(together.bbox_num.numpy()):
        alone = detect(model, *(array[b : b + 1] for array in inputs))
        assert alone.bbox_num.tolist() == [count]
        rows = slice(first, first + count)
        np.testing.assert_allclose(together.bbox[rows].numpy(), alone.bbox.numpy(), rtol=1e-4, atol=2e-3)
        np.testing.assert_allclose(together.mask[rows].numpy(), alone.mask.numpy(), rtol=1e-3, atol=1e-4)
        first += count
    assert first == len(together.bbox) > 0


def test_detections_are_in_descending_score_inside_the_image(pyramid_model: rcnn.MaskRcnn) -> None:
    inputs = inputs_of(2, 90, 120, padded_hw=(96, 128))
    found = detect(pyramid_model, *inputs)
    ends = np.cumsum(found.bbox_num.numpy())
    for rows, (height, width) in zip(
        np.split(found.bbox.numpy(), ends[:1]), [(200, 300), (320, 320)], strict=True
    ):
        assert (np.diff(rows[:, 1]) <= 0).all()
        assert (
            (rows[:, 2:] >= 0).all()
            and (rows[:, [2, 4]] <= width).all()
            and (rows[:, [3, 5]] <= height).all()
        )
        assert (rows[:, 4:] > rows[:, 2:4]).all()


def test_a_higher_limit_gives_more_detections_beside_the_same_best_ones(
    pyramid_model: rcnn.MaskRcnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = detect(pyramid_model, *inputs_of(1, 90, 120, padded_hw=(96, 128))).bbox.numpy()
    monkeypatch.setattr(pyramid_model, "max_detections", 12)
    more = detect(pyramid_model, *inputs_of(1, 90, 120, padded_hw=(96, 128))).bbox.numpy()
    assert (len(usual), len(more)) == (8, 12)
    np.testing.assert_allclose(usual, more[:8], rtol=1e-3, atol=1e-3)


def test_batch_with_one_image_without_detections(pyramid_model: rcnn.MaskRcnn) -> None:
    inputs = inputs_of(2, 90, 120, padded_hw=(96, 128))
    scores = [float(detect(pyramid_model, *(x[b : b + 1] for x in inputs)).bbox[0, 1]) for b in range(2)]
    low = int(np.argmin(scores))
    threshold, pyramid_model.score_threshold = pyramid_model.score_threshold, sum(scores) / 2
    found = detect(pyramid_model, *inputs)
    pyramid_model.score_threshold = threshold
    assert found.bbox_num.numpy()[low] == 0
    assert found.bbox_num.numpy()[1 - low] == len(found.mask) > 0


@pytest.mark.parametrize("build", KINDS)
def test_zero_detections_are_zero_rows(
    build: Builder, filled_small: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = filled_small(build)
    monkeypatch.setattr(model, "score_threshold", 2.0)
    found = detect(model, *inputs_of(2, 64, 90, padded_hw=(64, 96)))
    assert found.bbox.shape == [0, 6]
    assert found.bbox_num.tolist() == [0, 0]
    assert found.mask.shape[0] == 0


def test_no_proposals_give_no_detections() -> None:
    """As in a diverged network: no anchor becomes a valid box."""
    model = small_model()
    weight = model.rpn_head.rpn_rois_delta.weight
    weight.set_value(paddle.full_like(weight, float("nan")))
    assert detect(model, *inputs_of(2, 64, 90, padded_hw=(64, 96))).bbox_num.tolist() == [0, 0]


@pytest.mark.parametrize("num_classes", [1, 7])
@pytest.mark.parametrize("build", [rcnn.mask_rcnn_r50_fpn, rcnn.cascade_mask_rcnn_r50_fpn])
def test_other_class_counts(num_classes: int, build: Builder) -> None:
    model = small_model(build, num_classes, fill=True)
    batch = drawn_batch(3, image_hw=(90, 160), counts=(2, 1), num_classes=num_classes, padded_hw=(96, 160))
    model.train()
    losses = model.loss(batch)
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    found = detect(model, *inputs_of(2, 90, 160, padded_hw=(96, 160)))
    assert len(found.bbox) == int(found.bbox_num.sum()) > 0
    assert found.bbox[:, 0].max() < num_classes


@pytest.mark.parametrize("build", KINDS)
def test_exported_graph_equals_the_model_on_many_sizes(tmp_path: Path, build: Builder) -> None:
    batches = [inputs_of(1, 90, 120, padded_hw=(96, 128)), inputs_of(2, 120, 60, padded_hw=(128, 64))]
    model = small_model(build, fill=True)
    assert_exported_equals_dynamic(
        model, batches, tmp_path, (-1, -1), predict_only_background, rtol=1e-3, atol=2e-3
    )


def predict_only_background(model: rcnn.MaskRcnn) -> None:
    """Make the network classify every box as background."""
    for name, layer in model.named_sublayers():
        if "bbox_score" in name:
            layer.bias.set_value(paddle.to_tensor([0.0] * model.bbox_head.num_classes + [100.0]))


# Parts


def boxes_of(*rows: tuple[float, float, float, float]) -> paddle.Tensor:
    return paddle.to_tensor(np.array(rows, np.float32).reshape(-1, 4))


def target_of(boxes: paddle.Tensor, class_ids: list[int]) -> Target:
    return Target(
        boxes, paddle.to_tensor(class_ids, dtype="int64"), paddle.zeros([len(class_ids), 8, 8], "uint8")
    )


def test_cell_anchors_have_the_area_and_shapes_asked_for() -> None:
    cells = np.array(cell_anchors([32]))
    sides = cells[:, 2:] - cells[:, :2]
    np.testing.assert_allclose(sides.prod(axis=1), 32**2)
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 1.0, 2.0])
    np.testing.assert_allclose(cells[:, :2], -cells[:, 2:])


def test_grid_anchors_run_row_by_row() -> None:
    anchors = grid_anchors(
        paddle.zeros([1, 1, 2, 3]), [[-1.0, -2.0, 1.0, 2.0], [0.0, 0.0, 4.0, 4.0]], stride=8
    )
    assert anchors[0].tolist() == [-1, -2, 1, 2] and anchors[1].tolist() == [0, 0, 4, 4]
    assert anchors[2].tolist() == [7, -2, 9, 2]
    assert anchors[6].tolist() == [-1, 6, 1, 10]
    assert len(anchors) == 12


def test_best_overlaps_of_many_objects_equal_the_plain_formula() -> None:
    random = np.random.default_rng(0)
    corner, size = random.uniform(0, 50, (2, 90, 2)), random.uniform(5, 30, (2, 90, 2))
    boxes, objects = np.concatenate([corner, corner + size], axis=2).astype(np.float32)
    objects = objects[:40]  # more than one chunk
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, objects)]
    iou = shared / (areas[0][:, None] + areas[1] - shared)
    found = best_overlaps(paddle.to_tensor(boxes), paddle.to_tensor(objects))
    np.testing.assert_allclose(found.iou.numpy(), iou.max(axis=1), rtol=1e-5)
    touching = iou.max(axis=1) > 0
    np.testing.assert_array_equal(found.object.numpy()[touching], iou.argmax(axis=1)[touching])
    best = (iou == iou.max(axis=0)) & (iou > 0)
    np.testing.assert_array_equal(found.is_best_of_object.numpy(), best.any(axis=1))


def test_rois_are_sampled_with_fixed_shares_and_include_object_boxes() -> None:
    near = boxes_of(*[(0, 0, 20, 20 + 0.01 * i) for i in range(300)])
    far = boxes_of(*[(50, 50, 60, 60 + 0.01 * i) for i in range(900)])
    target = target_of(boxes_of((0, 0, 20, 20)), [2])
    samples = sample_rois([paddle.concat([near, far])], [target], num_classes=5, foreground_iou=0.5)
    assert samples.num.tolist() == [512]
    assert samples.class_ids.tolist() == [2] * 128 + [5] * 384
    few = sample_rois([far[:3]], [target], num_classes=5, foreground_iou=0.5)
    assert few.class_ids.tolist() == [2, 5, 5, 5]
    assert few.boxes_xyxy[0].tolist() == [0, 0, 20, 20]


def test_without_proposals_and_objects_there_is_one_background_sample() -> None:
    samples = sample_rois([boxes_of()], [target_of(boxes_of(), [])], num_classes=5, foreground_iou=0.5)
    assert samples.class_ids.tolist() == [5]


def test_boxes_below_the_foreground_iou_are_background() -> None:
    target = target_of(boxes_of((0, 0, 20, 20)), [1])
    boxes = [boxes_of((0, 0, 20, 11), (0, 0, 20, 17))]
    for iou, expected in ((0.5, [1, 1]), (0.6, [3, 1]), (0.9, [3, 3])):
        assert label_rois(boxes, [target], num_classes=3, foreground_iou=iou).class_ids.tolist() == expected


def test_random_subset_has_no_duplicates() -> None:
    positions = paddle.arange(100, 200)
    drawn = sampling.random_subset(positions, 30).tolist()
    assert len(set(drawn)) == 30 and set(drawn) <= set(positions.tolist())
    assert drawn != positions[:30].tolist()
    assert sampling.random_subset(positions, 100).tolist() == positions.tolist()


def test_larger_boxes_use_coarser_features() -> None:
    sides = (10, 111, 113, 223, 224, 447, 449, 2000)
    boxes = boxes_of(*[(0, 0, side, side) for side in sides])
    assert pyramid_level(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_pooled_features_come_in_the_order_of_the_boxes() -> None:
    """Each level and each image has its own constant, so that a value identifies both."""
    features = [
        paddle.concat([paddle.full([1, 1, s, s], level), paddle.full([1, 1, s, s], level + 10.0)])
        for level, s in enumerate((128, 64, 32, 16))
    ]
    boxes = boxes_of((0, 0, 500, 500), (5, 5, 50, 50), (0, 0, 250, 250), (9, 9, 40, 40), (0, 0, 500, 400))
    pooled = pool_rois(features, boxes, paddle.to_tensor([2, 3], dtype="int32"), resolution=7)
    assert pooled.shape == [5, 1, 7, 7]
    np.testing.assert_allclose(pooled.mean(axis=[1, 2, 3]).numpy(), [3, 0, 12, 10, 12], atol=1e-4)


def test_polygons_in_a_box_are_drawn_at_the_resolution_of_the_mask() -> None:
    square = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])
    mask = draw_polygons_in_box([square], np.array([10, 10, 50, 50], np.float32), 28)
    assert mask[:14, :14].all() and mask.sum() == 14 * 14


def test_bitmap_and_polygon_of_one_object_give_nearly_the_same_target() -> None:
    batch = drawn_batch(0, image_hw=(250, 310), counts=(3,), num_classes=5, padded_hw=(256, 320))
    (target,) = batch.targets
    samples = RoiSamples(
        target.boxes_xyxy,
        paddle.to_tensor([3], dtype="int32"),
        target.class_ids,
        paddle.arange(3),
        target.boxes_xyxy,
    )
    rows = paddle.arange(3)
    by_polygon = mask_targets(samples, [target], rows, resolution=28).numpy()
    by_bitmap = mask_targets(samples, [target._replace(polygons=())], rows, resolution=28).numpy()
    union = np.maximum(by_polygon, by_bitmap).sum(axis=(1, 2))
    assert ((by_polygon * by_bitmap).sum(axis=(1, 2)) / union > 0.93).all()
    assert by_polygon.sum() > 500


def test_a_bitmap_ends_at_the_border_of_the_image() -> None:
    bitmap = np.ones((10, 10), np.uint8)
    mask = sample_bitmap_in_box(bitmap, np.array([-10, 0, 10, 10], np.float32), 14)
    assert mask[:, 7:].all() and not mask[:, :7].any()


def test_a_box_head_gives_each_class_its_own_box(pyramid_model: rcnn.MaskRcnn) -> None:
    model = pyramid_model
    assert isinstance(model.bbox_head, BoxHead)
    features = model._features(paddle.to_tensor(normalized_input(0, (64, 64), (64, 64))[None]))
    proposals = Proposals(boxes_of((0, 0, 30, 30), (8, 8, 50, 60)), paddle.to_tensor([2], dtype="int32"))
    scored = model.bbox_head(features, proposals, paddle.to_tensor([[64.0, 64.0]]))
    assert scored.boxes_xyxy.shape == [2, 3, 4]
    assert not np.allclose(scored.boxes_xyxy[:, 0].numpy(), scored.boxes_xyxy[:, 1].numpy())
