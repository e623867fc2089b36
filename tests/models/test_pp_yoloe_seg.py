from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from detecting import detect, inputs_of
from exported_graph import assert_exported_equals_dynamic
from rule import (
    Reference,
    assert_batch_norm,
    assert_detections,
    assert_filled,
    assert_gradients,
    assert_losses,
    assert_manifest,
    assert_masks,
    assert_step,
    assert_tensor,
    drawn_batch,
    drawn_image,
    fill_model,
)

from paddlex_seg.models.pp_yoloe_seg.assigner import Positives, assign_positives
from paddlex_seg.models.pp_yoloe_seg.head import HeadOutputs, grid_cells
from paddlex_seg.models.pp_yoloe_seg.loss import _mask_loss
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg, pp_yoloe_seg_s
from paddlex_seg.ops.masks import paste_image_masks
from paddlex_seg.structures import Target


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("PP-YOLOE_seg-S")


@pytest.fixture
def filled() -> PpYoloeSeg:
    model = pp_yoloe_seg_s(80)
    fill_model(model)
    return model


def find_nothing(model: PpYoloeSeg) -> None:
    for layer in model.yolo_head.pred_cls:
        layer.weight.set_value(paddle.zeros_like(layer.weight))
        layer.bias.set_value(paddle.full_like(layer.bias, -30.0))


def test_weights_have_the_published_names_shapes_and_order(reference: Reference) -> None:
    assert_manifest(pp_yoloe_seg_s(80), reference.manifest())


def test_filled_weights_have_the_recorded_sums(reference: Reference, filled: PpYoloeSeg) -> None:
    assert_filled(filled, reference.fill_check())


@pytest.mark.parametrize("run", ["eval_small", pytest.param("eval_native", marks=pytest.mark.slow)])
def test_features_detections_and_pasted_masks_equal_the_reference(
    reference: Reference, filled: PpYoloeSeg, run: str
) -> None:
    golden = reference.golden(run)
    height, width = golden["meta.size"][:2].tolist()
    image = paddle.to_tensor(drawn_image(0, height, width)[None])
    im_shape = paddle.to_tensor([[height, width]], dtype="float32")
    scale_factor = paddle.to_tensor(golden["meta.scale_factor"][None].astype(np.float32))
    filled.eval()
    with paddle.no_grad():
        features = filled.backbone(image)
        mixed = filled.neck(features)
        outputs = filled.yolo_head(mixed)
        found = filled(image, im_shape, scale_factor)
        masks = paste_image_masks(
            found.mask, found.bbox, found.bbox_num, im_shape, scale_factor, input_hw=(height, width)
        )
    for i, (feature, mix) in enumerate(zip(features, mixed, strict=True)):
        assert_tensor(feature, golden, f"backbone{i}")
        assert_tensor(mix, golden, f"neck{i}")
    scores = F.sigmoid(outputs.class_logits)
    assert_tensor(scores.transpose([0, 2, 1]), golden, "cls_score")
    assert_tensor(scores.max(axis=2), golden, "cls_score_max")
    assert_tensor(filled.yolo_head.expected_distances(outputs.distance_logits), golden, "reg_dist")
    assert_tensor(outputs.coefficients.transpose([0, 2, 1]), golden, "mask_coeff")
    assert_tensor(outputs.prototypes, golden, "mask_proto")
    pairs = assert_detections(found.bbox, golden["final0.bbox"])
    assert all(ours == theirs for ours, theirs in pairs), "rows come in another order"
    assert_masks(masks.numpy(), golden, pairs)


def test_losses_gradients_and_one_step_equal_the_reference(reference: Reference, filled: PpYoloeSeg) -> None:
    golden = reference.golden("train")
    batch = drawn_batch(seed=0, image_hw=(640, 640), counts=(3, 2), num_classes=80)
    for b, target in enumerate(batch.targets):
        np.testing.assert_allclose(target.boxes_xyxy.numpy(), golden[f"gt{b}.box"], rtol=1e-6)
        np.testing.assert_array_equal(target.masks.numpy().sum((1, 2), dtype=np.int64), golden[f"gt{b}.area"])
    before = {name: parameter.numpy() for name, parameter in filled.named_parameters()}
    filled.train()
    losses = filled.loss(batch)
    losses["loss"].backward()
    assert_losses(losses, golden, "train")
    assert_batch_norm(filled, golden, "train")
    assert_gradients(filled, golden, "train")
    paddle.optimizer.Momentum(
        learning_rate=float(golden["train.step_lr"]),
        momentum=0.9,
        parameters=filled.parameters(),
        weight_decay=paddle.regularizer.L2Decay(5e-4),
    ).step()
    assert_step(before, filled, golden, "train")


def test_fresh_weights_score_one_percent_everywhere() -> None:
    model = pp_yoloe_seg_s(3)
    model.eval()
    with paddle.no_grad():
        outputs = model.yolo_head(model.neck(model.backbone(paddle.rand([1, 3, 64, 64]))))
    np.testing.assert_allclose(F.sigmoid(outputs.class_logits).numpy(), 0.01, rtol=1e-4)
    np.testing.assert_allclose(model.yolo_head.proj_conv.weight.numpy().ravel(), np.arange(17))
    bound = 1 / (96 * 9) ** 0.5
    weight = model.yolo_head.proto.conv1.conv.weight.numpy()
    assert 0.9 * bound < np.abs(weight).max() <= bound


def test_detections_of_an_image_do_not_depend_on_the_batch(filled: PpYoloeSeg) -> None:
    inputs = inputs_of(3, 160, 160)
    together = detect(filled, *inputs)
    first = 0
    for b, count in enumerate(together.bbox_num.numpy()):
        alone = detect(filled, *(array[b : b + 1] for array in inputs))
        assert alone.bbox_num.tolist() == [count]
        rows = slice(first, first + count)
        np.testing.assert_allclose(together.bbox[rows].numpy(), alone.bbox.numpy(), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(together.mask[rows].numpy(), alone.mask.numpy(), rtol=1e-4, atol=1e-5)
        first += count
    assert len({float(mean) for mean in together.mask.mean(axis=[1, 2])}) > 1


def test_batch_with_one_image_without_detections(filled: PpYoloeSeg) -> None:
    inputs = inputs_of(2, 160, 160)
    scores = []
    for b in range(2):
        alone = detect(filled, *(array[b : b + 1] for array in inputs))
        scores.append(float(alone.bbox[:, 1].max()))
    low = int(np.argmin(scores))
    assert scores[low] < scores[1 - low]
    filled.score_threshold = sum(scores) / 2
    found = detect(filled, *inputs)
    assert found.bbox_num.numpy()[low] == 0
    assert found.bbox_num.numpy()[1 - low] == len(found.mask) > 0
    alone = detect(filled, *(array[1 - low : 2 - low] for array in inputs))
    np.testing.assert_allclose(found.mask.numpy(), alone.mask.numpy(), rtol=1e-4, atol=1e-5)


def test_zero_detections_are_zero_rows() -> None:
    model = pp_yoloe_seg_s(2)
    find_nothing(model)
    found = detect(model, *inputs_of(2, 64, 96))
    assert found.bbox.shape == [0, 6]
    assert found.bbox_num.tolist() == [0, 0]
    assert found.mask.shape == [0, 16, 24]


@pytest.mark.parametrize("num_classes", [1, 7])
def test_other_class_counts_on_wide_images(num_classes: int) -> None:
    paddle.seed(0)
    model = pp_yoloe_seg_s(num_classes)
    model.score_threshold = 0.001
    batch = drawn_batch(seed=3, image_hw=(96, 160), counts=(2, 1), num_classes=num_classes)
    model.train()
    losses = model.loss(batch)
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    found = detect(model, *inputs_of(2, 96, 160))
    assert len(found.bbox) == int(found.bbox_num.sum()) > 0
    assert found.mask.shape[1:] == [24, 40]
    assert found.bbox[:, 0].max() < num_classes


def test_grid_cells_of_a_wide_image_run_row_by_row() -> None:
    features = [paddle.zeros([1, 1, 64 // stride, 96 // stride]) for stride in (32, 16, 8)]
    centers, strides = grid_cells(features)
    pixels = (centers * strides).numpy()
    assert pixels[:6].tolist() == [[16, 16], [48, 16], [80, 16], [16, 48], [48, 48], [80, 48]]
    assert pixels[-1].tolist() == [92, 60]
    assert len(pixels) == len(strides) == 6 + 24 + 96


@pytest.mark.parametrize("counts", [(0, 0), (0, 2)], ids=["no objects at all", "one image without objects"])
def test_every_parameter_gets_a_finite_gradient(counts: tuple[int, int]) -> None:
    model = pp_yoloe_seg_s(3)
    model.train()
    losses = model.loss(drawn_batch(seed=1, image_hw=(96, 96), counts=counts, num_classes=3))
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None, name
            assert np.isfinite(parameter.grad.numpy()).all(), name


def test_objects_without_a_cell_centre_raise_no_error() -> None:
    model = pp_yoloe_seg_s(2)
    model.train()
    batch = drawn_batch(seed=1, image_hw=(64, 64), counts=(1,), num_classes=2)
    speck = batch.targets[0]._replace(boxes_xyxy=paddle.to_tensor([[6.0, 6.0, 8.0, 8.0]]))
    losses = model.loss(batch._replace(targets=[speck]))
    losses["loss"].backward()
    assert float(losses["loss_iou"]) == 0
    assert np.isfinite(float(losses["loss"]))
    assert model.yolo_head.pred_ins[0].weight.grad is not None


def test_losses_are_divided_by_the_mean_score_sum_of_all_processes(
    filled: PpYoloeSeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = drawn_batch(seed=0, image_hw=(160, 160), counts=(3, 3), num_classes=80)
    filled.train()
    alone = filled.loss(batch)
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
    # The other process has seven times our scores and positives: the mean is four times ours.
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda tensor: tensor.scale_(8.0))
    together = filled.loss(batch)
    for name, value in alone.items():
        assert float(value) / float(together[name]) == pytest.approx(4.0, rel=1e-3), name


def test_a_cell_of_two_objects_is_assigned_by_highest_iou() -> None:
    centers = paddle.to_tensor([[8.0, 8.0], [24.0, 8.0]])
    boxes = paddle.to_tensor([[[0.0, 0.0, 16.0, 16.0], [0.0, 0.0, 32.0, 16.0]]])
    objects = Target(
        boxes_xyxy=paddle.to_tensor([[0.0, 0.0, 32.0, 16.0], [1.0, 0.0, 16.0, 16.0]]),
        class_ids=paddle.to_tensor([1, 0]),
        masks=paddle.zeros([2, 32, 32], dtype="uint8"),
    )
    found = assign_positives(paddle.full([1, 2, 2], 0.5), boxes, centers, [objects])
    assert found.object.tolist() == [0, 1]
    assert found.cell.tolist() == [1, 0]
    np.testing.assert_allclose(found.score.numpy(), [1.0, 15 / 16], rtol=1e-5)


@pytest.mark.parametrize("mean_targets", [False, True], ids=["corner targets", "mean targets"])
def test_mask_loss_equals_the_plain_formula_on_whole_wide_images(mean_targets: bool) -> None:
    random = np.random.default_rng(0)
    batch = drawn_batch(seed=5, image_hw=(64, 96), counts=(2, 0, 1), num_classes=2)
    outputs = HeadOutputs(
        class_logits=paddle.zeros([3, 126, 2]),
        distance_logits=paddle.zeros([3, 126, 68]),
        coefficients=paddle.to_tensor(random.normal(size=(3, 126, 32)).astype(np.float32)),
        prototypes=paddle.to_tensor(random.normal(size=(3, 32, 16, 24)).astype(np.float32)),
        centers=paddle.zeros([126, 2]),
        strides=paddle.ones([126, 1]),
    )
    rows = [(0, 7, 0), (0, 9, 1), (0, 11, 1), (2, 5, 2)]  # image, cell, object
    positives = Positives(
        cell=paddle.to_tensor([image * 126 + cell for image, cell, _ in rows]),
        object=paddle.to_tensor([obj for _, _, obj in rows]),
        score=paddle.ones([4]),
    )
    boxes = np.concatenate([target.boxes_xyxy.numpy() for target in batch.targets])
    masks = np.concatenate([target.masks.numpy() for target in batch.targets])
    masks = masks.reshape(-1, 16, 4, 24, 4).mean(axis=(2, 4)) if mean_targets else masks[:, ::4, ::4]
    y, x = np.mgrid[:16, :24]
    expected = 0.0
    for image, cell, obj in rows:
        logits = np.tensordot(
            outputs.coefficients[image, cell].numpy(), outputs.prototypes[image].numpy(), axes=1
        )
        error = np.logaddexp(0, logits) - logits * masks[obj]
        x1, y1, x2, y2 = boxes[obj] / 4
        error = error * ((x >= x1) & (x < x2) & (y >= y1) & (y < y2))
        expected += error.mean() / ((x2 - x1) / 24 * (y2 - y1) / 16)
    found = _mask_loss(outputs, positives, batch.targets, mean_targets=mean_targets)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_training_from_scratch_divides_the_mask_loss_by_the_positives() -> None:
    paddle.seed(0)
    model = pp_yoloe_seg_s(3, from_scratch=True)
    for layer in model.yolo_head.pred_ins:
        layer.weight.set_value(paddle.zeros_like(layer.weight))
        layer.bias.set_value(paddle.zeros_like(layer.bias))
    batch = drawn_batch(seed=1, image_hw=(96, 96), counts=(2, 1), num_classes=3)
    # Logits of 0 have a loss of log 2 per pixel, independent of the scores of the positives.
    assert float(model.loss(batch)["loss_mask"]) == pytest.approx(np.log(2), rel=0.2)


def test_training_from_scratch_learns_classes_by_cross_entropy() -> None:
    """Each background entry has the loss -log(1 - score), without the small weight of the varifocal loss."""
    losses = {}
    for from_scratch in (False, True):
        paddle.seed(0)
        model = pp_yoloe_seg_s(3, from_scratch=from_scratch)
        for layer in model.yolo_head.pred_cls:
            layer.weight.set_value(paddle.zeros_like(layer.weight))
            layer.bias.set_value(paddle.full_like(layer.bias, -2.0))
        batch = drawn_batch(seed=1, image_hw=(64, 96), counts=(0, 0), num_classes=3)
        losses[from_scratch] = {name: float(value) for name, value in model.loss(batch).items()}
    score = 1 / (1 + np.exp(2.0))
    entries = 2 * 3 * (2 * 3 + 4 * 6 + 8 * 12)
    assert losses[True]["loss_cls"] == pytest.approx(-np.log(1 - score) * entries, rel=1e-4)
    assert losses[True]["loss"] == pytest.approx(0.5 * losses[True]["loss_cls"], rel=1e-5)
    assert losses[False]["loss_cls"] < 0.1 * losses[True]["loss_cls"]
    assert losses[False]["loss"] == pytest.approx(losses[False]["loss_cls"], rel=1e-5)


def test_training_from_scratch_gives_every_parameter_a_gradient_without_objects() -> None:
    model = pp_yoloe_seg_s(3, from_scratch=True)
    loss = model.loss(drawn_batch(seed=1, image_hw=(64, 64), counts=(0, 0), num_classes=3))["loss"]
    loss.backward()
    assert np.isfinite(float(loss))
    assert all(p.grad is not None for p in model.parameters() if not p.stop_gradient)


def test_initial_distances_are_three_strides() -> None:
    model = pp_yoloe_seg_s(2)
    features = [paddle.randn([1, c, s, s]) for c, s in zip((384, 192, 96), (2, 4, 8), strict=True)]
    outputs = model.yolo_head(features)
    distances = model.yolo_head.expected_distances(outputs.distance_logits).numpy()
    np.testing.assert_allclose(distances, distances.flat[0], rtol=1e-5)
    assert 2.5 < distances.flat[0] < 3.0


def test_exported_graph_equals_the_model(filled: PpYoloeSeg, tmp_path: Path) -> None:
    batches = [inputs_of(batch_size, 160, 160) for batch_size in (1, 3)]
    assert_exported_equals_dynamic(filled, batches, tmp_path, (160, 160), find_nothing, rtol=1e-4, atol=1e-3)
