from functools import partial
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from detecting import detect
from exported_graph import assert_exported_equals_dynamic
from pycocotools import mask as coco_mask
from rule import (
    Reference,
    assert_batch_norm,
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

from paddlex_seg.checkpoints.files import save_checkpoint
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.checkpoints.weights import load_into, read_weights
from paddlex_seg.masks.paste import detections_to_instances
from paddlex_seg.models.solov2 import model as solov2_model
from paddlex_seg.models.solov2.head import GRID_SIZES, SoloV2Head, cells_to_rows
from paddlex_seg.models.solov2.loss import dice_loss
from paddlex_seg.models.solov2.model import SoloV2, peaks, solov2
from paddlex_seg.models.solov2.targets import FIRST_CELLS, assign_cells, shrink_masks
from paddlex_seg.ops.masks import paste_masks
from paddlex_seg.structures import Category, Detections, Target
from paddlex_seg.training.ema import Ema
from paddlex_seg.training.optimizer import build_optimizer, load_optimizer_state, optimizer_state

SECOND_NAMES = {
    "solov2_head.solo_kernel": "solov2_head.bbox_head.solo_kernel",
    "solov2_head.solo_cate": "solov2_head.bbox_head.solo_cate",
    "mask_head.conv_pred": "mask_head.mask_feat_head.conv_pred.0",
}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("SOLOv2")


@pytest.fixture(scope="module")
def filled() -> SoloV2:
    """The published structure with filled weights. Tests share the network, so do not train it."""
    model = solov2(80)
    fill_model(model)
    return model


@pytest.fixture(scope="module")
def narrow() -> SoloV2:
    """`narrow_solov2` with filled weights. Tests share the network, so do not train it."""
    model = narrow_solov2(80)
    fill_model(model)
    return model


def narrow_solov2(num_classes: int, *, from_scratch: bool = False) -> SoloV2:
    """SOLOv2 with 64 channels in its head instead of 512.

    The size of the grids does not depend on the image, so the full head would dominate the time of the tests.
    """
    with patch.object(solov2_model, "SoloV2Head", partial(SoloV2Head, channels=64)):
        return solov2(num_classes, from_scratch=from_scratch)


def inputs_of(image_hws: list[tuple[int, int]], padded_hw: tuple[int, int]) -> list[np.ndarray]:
    """Images of different sizes in one padded batch, with different scales to the original images."""
    images = [normalized_input(100 * b, size, padded_hw) for b, size in enumerate(image_hws)]
    im_shape = np.array(image_hws, np.float32)
    originals = np.round(im_shape * np.array([[1.5], [0.8], [2.3]], np.float32)[: len(image_hws)])
    return [np.stack(images), im_shape, (im_shape / originals).astype(np.float32)]


def instances_of(found: Detections, inputs: list[np.ndarray]) -> list:
    image, im_shape, scale_factor = inputs
    sizes = np.round(im_shape / scale_factor).astype(int)
    return detections_to_instances(
        *(tensor.numpy() for tensor in found),
        im_shape=im_shape,
        scale_factor=scale_factor,
        input_hw=image.shape[2:],
        original_sizes=[(height, width) for height, width in sizes.tolist()],
        mask_frame=SoloV2.mask_frame,
    )


def test_weights_have_the_published_names_shapes_and_order(reference: Reference) -> None:
    model = solov2(80)
    assert_manifest(model, reference.manifest())
    state = model.state_dict()
    for second, first in reference.manifest()["aliases"].items():
        assert state[second] is state[first]


def test_filled_weights_have_the_recorded_sums(reference: Reference, filled: SoloV2) -> None:
    assert_filled(filled, reference.fill_check())


@pytest.mark.parametrize("run", ["eval_small", pytest.param("eval_native", marks=pytest.mark.slow)])
def test_features_detections_and_pasted_masks_equal_the_reference(
    reference: Reference, filled: SoloV2, run: str
) -> None:
    golden = reference.golden(run)
    height, width, *padded_hw = golden["meta.size"].tolist()
    pixels = normalized_input(int(golden["meta.input_seed"]), (height, width), tuple(padded_hw))
    image = paddle.to_tensor(pixels[None])
    samples = np.linspace(0, pixels.size - 1, 64).astype(np.int64)
    np.testing.assert_array_equal(pixels.ravel()[samples], golden["input.samples"])
    im_shape = paddle.to_tensor([[height, width]], dtype="float32")
    scale_factor = paddle.to_tensor(golden["meta.scale_factor"][None].astype(np.float32))
    filled.eval()
    with paddle.no_grad():
        features = filled.backbone(image)
        pyramid = filled.neck(features)
        outputs = filled.solov2_head(pyramid)
        mask_features = filled.mask_head(pyramid)
        found = filled(image, im_shape, scale_factor)
        masks = paste_masks(
            found, im_shape, scale_factor, input_hw=tuple(padded_hw), mask_frame=filled.mask_frame
        )
    for i, feature in enumerate(features):
        assert_tensor(feature, golden, f"backbone{i}")
    for i, feature in enumerate(pyramid):
        assert_tensor(feature, golden, f"neck{i}")
    for i, (logits, kernels) in enumerate(zip(*outputs, strict=True)):
        scores = peaks(F.sigmoid(logits)).transpose([0, 2, 3, 1])
        assert_tensor(scores, golden, f"cate_pred{i}")
        assert_tensor(scores.max(axis=3), golden, f"cate_pred{i}_max")
        assert_tensor(kernels, golden, f"kernel_pred{i}")
    assert_tensor(mask_features, golden, "seg_pred")
    real = golden["final0.score"] > 0  # PaddleDetection may append a dummy row
    np.testing.assert_array_equal(found.bbox[:, 0].numpy(), golden["final0.label"][real])
    np.testing.assert_allclose(found.bbox[:, 1].numpy(), golden["final0.score"][real], atol=5e-3)
    assert_masks(masks.numpy(), golden, [(i, i) for i in range(len(masks))])
    (instances,) = instances_of(found, [image.numpy(), im_shape.numpy(), scale_factor.numpy()])
    pasted = np.stack([coco_mask.decode(rle) for rle in instances.masks])
    assert np.count_nonzero(pasted != masks.numpy()) <= len(masks)


def test_losses_gradients_and_one_step_equal_the_reference(reference: Reference) -> None:
    golden = reference.golden("train")
    batch = drawn_batch(seed=0, image_hw=(250, 310), counts=(3, 2), num_classes=80, padded_hw=(256, 320))
    for b, target in enumerate(batch.targets):
        np.testing.assert_allclose(target.boxes_xyxy.numpy(), golden[f"gt{b}.box"], rtol=1e-6)
        np.testing.assert_array_equal(target.masks.numpy().sum((1, 2), dtype=np.int64), golden[f"gt{b}.area"])
    model = solov2(80)
    fill_model(model)
    before = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    model.train()
    losses = model.loss(batch)
    losses["loss"].backward()
    assert_losses(losses, golden, "train")
    assert_batch_norm(model, golden, "train")
    assert_gradients(model, golden, "train")
    build_optimizer(
        model, kind="momentum", learning_rate=float(golden["train.step_lr"]), weight_decay=1e-4
    ).step()
    assert_step(before, model, golden, "train")


def test_targets_equal_the_reference(reference: Reference) -> None:
    golden = reference.golden("train")
    batch = drawn_batch(seed=0, image_hw=(250, 310), counts=(3, 2), num_classes=80, padded_hw=(256, 320))
    for b, target in enumerate(batch.targets):
        image = assign_cells(target)
        area = shrink_masks(target.masks).numpy().sum((1, 2), dtype=np.int64)
        assert (image.class_of_cell >= 0).sum() == golden["target.fg_num"][b]
        for level, grid_size in enumerate(GRID_SIZES):
            first, end = FIRST_CELLS[level : level + 2]
            here = (image.cells >= first) & (image.cells < end)
            cells = image.cells[here] - first + b * grid_size**2
            count = len(cells)
            recorded = golden[f"target.grid_order{level}"][b]
            assert cells.tolist() == recorded[:count].tolist()
            assert not recorded[count:].any()  # padding to the size of the other image
            assert (
                area[image.objects[here]].tolist()
                == golden[f"target.ins_label{level}.area"][b][:count].tolist()
            )
            classes = image.class_of_cell[first:end]
            labelled = golden[f"target.cate_label{level}.nonzero"]
            expected = {(cell, label - 1) for image_of, cell, label in labelled.tolist() if image_of == b}
            assert {(i, classes[i]) for i in np.flatnonzero(classes >= 0).tolist()} == expected


def target_of(masks: np.ndarray) -> Target:
    boxes = []
    for mask in masks:
        y, x = np.nonzero(mask) if mask.any() else (np.zeros(1), np.zeros(1))
        boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return Target(
        boxes_xyxy=paddle.to_tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        class_ids=paddle.arange(len(masks)),
        masks=paddle.to_tensor(masks.reshape(-1, *masks.shape[1:])),
    )


def assign_plainly(target: Target) -> set[tuple[int, int]]:
    """Pairs (cell, object) as described in the paper, cell by cell.

    Cells touch the box shrunk to a fifth and centred at the centre of mass, and are at most one cell away
    from the centre cell.
    """
    ranges = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    height, width = target.masks.shape[1:]
    pairs = set()
    for j, (mask, box) in enumerate(zip(target.masks.numpy(), target.boxes_xyxy.numpy(), strict=True)):
        box_w, box_h = box[2] - box[0], box[3] - box[1]
        y, x = np.nonzero(mask)
        for level, size in enumerate(GRID_SIZES):
            if not ranges[level][0] <= np.sqrt(box_w * box_h) <= ranges[level][1] or len(y) == 0:
                continue
            cell_h, cell_w = height / size, width / size
            for row in range(size):
                for column in range(size):
                    near = (
                        abs(row - int(y.mean() / cell_h)) <= 1 and abs(column - int(x.mean() / cell_w)) <= 1
                    )
                    touches_y = (
                        row * cell_h <= y.mean() + 0.1 * box_h and (row + 1) * cell_h > y.mean() - 0.1 * box_h
                    )
                    touches_x = (
                        column * cell_w <= x.mean() + 0.1 * box_w
                        and (column + 1) * cell_w > x.mean() - 0.1 * box_w
                    )
                    if near and touches_y and touches_x:
                        pairs.add((FIRST_CELLS[level] + row * size + column, j))
    return pairs


def test_assigned_cells_follow_the_description_in_the_paper() -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((24, 448, 608), np.uint8)
    for mask, side in zip(masks[:-1], np.geomspace(3, 420, 23), strict=True):
        center = random.uniform([0, 0], [608, 448])
        cv2.ellipse(mask, (center, (1.3 * side, 0.8 * side), random.uniform(0, 180)), color=1, thickness=-1)
    masks[-2, 10:440, 5:590] = 1
    target = target_of(masks)  # the last one is empty
    image = assign_cells(target)
    expected = assign_plainly(target)
    assert len(image.cells) == len(expected) > 100
    assert set(zip(image.cells.tolist(), image.objects.tolist(), strict=True)) == expected
    assert {np.searchsorted(FIRST_CELLS, cell, side="right") for cell in image.cells.tolist()} == {
        1,
        2,
        3,
        4,
        5,
    }


def test_small_masks_are_a_linear_resize() -> None:
    masks = (np.random.default_rng(1).random((5, 64, 96)) < 0.5).astype(np.uint8)
    resized = [cv2.resize(mask, (24, 16), interpolation=cv2.INTER_LINEAR) for mask in masks]
    np.testing.assert_array_equal(shrink_masks(paddle.to_tensor(masks)).numpy(), resized)
    assert shrink_masks(paddle.zeros([0, 64, 96], dtype="uint8")).shape == [0, 16, 24]


def test_dice_loss_equals_the_plain_formula() -> None:
    random = np.random.default_rng(2)
    probabilities = random.random((5, 40)).astype(np.float32)
    masks = (random.random((3, 40)) < 0.3).astype(np.float32)
    rows = [2, 0, 0, 1, 2]
    found = dice_loss(*map(paddle.to_tensor, (probabilities, masks, np.array(rows)))).numpy()
    for p, row, loss in zip(probabilities, rows, found, strict=True):
        wanted = masks[row]
        both = (p * wanted).sum()
        assert loss == pytest.approx(1 - 2 * both / ((p**2).sum() + (wanted**2).sum() + 0.002), rel=1e-5)
    sure = dice_loss(paddle.to_tensor(masks), paddle.to_tensor(masks), paddle.arange(3))
    np.testing.assert_allclose(sure.numpy(), 0, atol=1e-3)


def test_only_the_best_of_four_neighbours_is_a_peak() -> None:
    scores = paddle.to_tensor([[[[0.1, 0.5, 0.2], [0.6, 0.3, 0.2], [0.4, 0.1, 0.7]]]])
    kept = [[0.1, 0.5, 0], [0.6, 0, 0], [0, 0, 0.7]]
    np.testing.assert_allclose(peaks(scores)[0, 0].numpy(), kept, rtol=1e-6)


def test_detections_of_an_image_do_not_depend_on_the_batch(
    narrow: SoloV2, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of([(90, 120), (96, 61), (40, 128)], padded_hw=(96, 128))
    scores = np.sort(detect(narrow, *inputs).bbox[:, 1].numpy())
    middle = len(scores) // 2
    monkeypatch.setattr(narrow, "score_threshold", float(scores[middle : middle + 2].mean()))
    together = detect(narrow, *inputs)
    found = instances_of(together, inputs)
    assert len(set(together.bbox_num.tolist())) > 1
    first = 0
    for b, count in enumerate(together.bbox_num.tolist()):
        one = [array[b : b + 1] for array in inputs]
        alone = detect(narrow, *one)
        assert alone.bbox_num.tolist() == [count] and count > 0
        rows = slice(first, first + count)
        np.testing.assert_allclose(together.bbox[rows].numpy(), alone.bbox.numpy(), rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(together.mask[rows].numpy(), alone.mask.numpy(), rtol=1e-3, atol=1e-4)
        assert (np.diff(alone.bbox[:, 1].numpy()) <= 0).all()
        (instances,) = instances_of(alone, one)
        for rle, other in zip(instances.masks, found[b].masks, strict=True):
            assert np.count_nonzero(coco_mask.decode(rle) != coco_mask.decode(other)) <= 2
        first += count


def test_boxes_lie_around_the_pasted_masks_inside_the_image(
    narrow: SoloV2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow, "class_threshold", 0.05)
    inputs = inputs_of([(90, 120), (96, 61)], padded_hw=(96, 128))
    found = detect(narrow, *inputs)
    first = 0
    errors = []
    for instances in instances_of(found, inputs):
        boxes = found.bbox[first : first + len(instances), 2:].numpy()
        height, width = instances.size_hw
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        errors.append(np.abs(boxes - instances.boxes_xyxy).max(axis=1))
        first += len(instances)
    # Random weights give masks as small as one pixel, which pasting may lose.
    assert np.median(np.concatenate(errors)) <= 1.0
    assert np.mean(np.concatenate(errors) <= 2.0) > 0.8


def test_batch_with_one_image_without_detections(narrow: SoloV2, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of([(90, 120), (96, 61)], padded_hw=(96, 128))
    monkeypatch.setattr(narrow, "class_threshold", 0.05)
    best = [float(detect(narrow, *(array[b : b + 1] for array in inputs)).bbox[0, 1]) for b in range(2)]
    low = int(np.argmin(best))
    monkeypatch.setattr(narrow, "score_threshold", sum(best) / 2)
    found = detect(narrow, *inputs)
    assert found.bbox_num[low] == 0
    assert found.bbox_num[1 - low] == len(found.mask) > 0
    alone = detect(narrow, *(array[1 - low : 2 - low] for array in inputs))
    np.testing.assert_allclose(found.mask.numpy(), alone.mask.numpy(), rtol=1e-3, atol=1e-4)


def test_more_candidates_than_the_maximum(narrow: SoloV2, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of([(90, 120)], padded_hw=(96, 128))
    monkeypatch.setattr(narrow, "class_threshold", 0.05)
    everything = detect(narrow, *inputs)
    monkeypatch.setattr(narrow, "max_candidates", 5)
    few = detect(narrow, *inputs)
    assert 0 < len(few.mask) <= 5 < len(everything.mask)
    assert few.bbox[0, 1] <= everything.bbox[0, 1]


def test_a_higher_limit_gives_more_detections_beside_the_same_ones(
    narrow: SoloV2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beyond the number of masks that usually enter Matrix NMS."""
    inputs = inputs_of([(64, 96)], padded_hw=(64, 96))
    for name in ("class_threshold", "score_threshold"):
        monkeypatch.setattr(narrow, name, 0.0)
    usual = detect(narrow, *inputs).bbox.numpy()
    monkeypatch.setattr(narrow, "max_detections", 700)
    more = detect(narrow, *inputs).bbox.numpy()
    assert (len(usual), len(more)) == (100, 700)
    assert (np.abs(usual[:, None] - more[None]).max(axis=2).min(axis=1) < 1e-3).all()


def test_zero_detections_are_zero_rows() -> None:
    found = detect(narrow_solov2(2), *inputs_of([(60, 90), (64, 50)], padded_hw=(64, 96)))  # scores of 0.01
    assert found.bbox.shape == [0, 6]
    assert found.bbox_num.tolist() == [0, 0]
    assert found.bbox_num.dtype == paddle.int32
    assert found.mask.shape == [0, 16, 24]
    assert [len(one) for one in instances_of(found, inputs_of([(60, 90), (64, 50)], padded_hw=(64, 96)))] == [
        0,
        0,
    ]


@pytest.mark.parametrize("num_classes", [1, 7])
def test_other_class_counts(num_classes: int) -> None:
    model = narrow_solov2(num_classes)
    fill_model(model)
    model.class_threshold, model.score_threshold = 0.01, 0.005
    model.train()
    batch = drawn_batch(3, (90, 60), counts=(2, 1), num_classes=num_classes, padded_hw=(96, 64))
    losses = model.loss(batch)
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    assert float(losses["loss"]) == pytest.approx(float(losses["loss_cate"] + losses["loss_ins"]))
    found = detect(model, *inputs_of([(90, 60), (96, 64)], padded_hw=(96, 64)))
    assert len(found.bbox) == len(found.mask) == int(found.bbox_num.sum()) > 0
    assert found.mask.shape[1:] == [24, 16]
    assert set(found.bbox[:, 0].tolist()) <= set(range(num_classes))


@pytest.mark.parametrize("from_scratch", [False, True], ids=["fine-tuning", "from scratch"])
@pytest.mark.parametrize("counts", [(0, 0), (0, 2)], ids=["no objects at all", "one image without objects"])
def test_every_parameter_gets_a_finite_gradient(counts: tuple[int, int], from_scratch: bool) -> None:
    model = narrow_solov2(3, from_scratch=from_scratch)
    model.train()
    losses = model.loss(drawn_batch(1, (90, 60), counts=counts, num_classes=3, padded_hw=(96, 64)))
    losses["loss"].backward()
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    assert (float(losses["loss_ins"]) == 0) == (sum(counts) == 0)
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None, name
            assert np.isfinite(parameter.grad.numpy()).all(), name


def test_non_finite_outputs_make_the_loss_non_finite() -> None:
    model = narrow_solov2(2)
    model.train()
    model.solov2_head.solo_kernel.bias.set_value(paddle.full([256], float("nan")))
    for counts in ((0,), (1,)):
        losses = model.loss(drawn_batch(1, (60, 60), counts=counts, num_classes=2, padded_hw=(64, 64)))
        assert not np.isfinite(float(losses["loss"]))
    model.solov2_head.solo_cate.bias.set_value(paddle.full([2], float("nan")))
    losses = model.loss(drawn_batch(1, (60, 60), counts=(1,), num_classes=2, padded_hw=(64, 64)))
    assert not np.isfinite(float(losses["loss_cate"]))


def test_a_backbone_trained_from_scratch_learns_and_an_official_one_keeps_its_norms() -> None:
    batch = drawn_batch(1, (60, 60), counts=(1, 1), num_classes=2, padded_hw=(64, 64))
    for from_scratch in (False, True):
        model = narrow_solov2(2, from_scratch=from_scratch)
        norm = model.backbone.res3.res3a.branch2a.norm
        mean = norm._mean.numpy()
        model.train()
        model.loss(batch)
        assert (norm._mean.numpy() == mean).all() != from_scratch
        assert norm.weight.stop_gradient != from_scratch
        assert model.backbone.conv1.conv1.conv.weight.stop_gradient != from_scratch


def test_fresh_weights_score_about_one_percent() -> None:
    paddle.seed(0)
    model = solov2(3)
    features = [paddle.randn([1, 256, 64 // s, 96 // s]) for s in (1, 2, 4, 8, 16)]
    with paddle.no_grad():
        outputs = model.solov2_head(features)
    for logits, kernels, size in zip(*outputs, GRID_SIZES, strict=True):
        assert logits.shape == [1, 3, size, size] and kernels.shape == [1, 256, size, size]
        assert float(F.sigmoid(logits).mean()) == pytest.approx(0.01, rel=0.5)
        assert float(F.sigmoid(logits).max()) < 0.1  # nothing is a candidate


def test_initial_masks_are_near_one_half_and_have_a_gradient() -> None:
    paddle.seed(0)
    model = solov2(3, from_scratch=True)
    features = [paddle.randn([1, 256, 64 // s, 96 // s]) for s in (1, 2, 4, 8, 16)]
    with paddle.no_grad():
        kernels = cells_to_rows(model.solov2_head(features).kernels)
        masks = F.sigmoid(paddle.matmul(kernels, model.mask_head(features).flatten(2)))
    assert 0.05 < float(masks.min()) and float(masks.max()) < 0.95


def test_a_layer_with_two_names_is_trained_averaged_and_saved_once(tmp_path: Path) -> None:
    model = narrow_solov2(2)
    parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    optimizer = build_optimizer(model, kind="momentum", learning_rate=0.1, weight_decay=0.0)
    ema = Ema(model, decay=0.5, kind="normal")
    weight = model.solov2_head.solo_cate.weight
    start = weight.numpy()
    for _ in range(2):  # momentum 0.9 makes a step of 1.9 of the second
        for parameter in parameters:
            parameter.grad = paddle.ones_like(parameter)
        optimizer.step()
        ema.update(model)
    np.testing.assert_allclose(weight.numpy(), start - 0.1 - 0.19, rtol=1e-4, atol=1e-5)
    averaged = (start - 0.1) / 3 + (start - 0.29) * 2 / 3
    with ema.applied(model):
        np.testing.assert_allclose(weight.numpy(), averaged, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weight.numpy(), start - 0.29, rtol=1e-4, atol=1e-5)

    save_checkpoint(
        tmp_path / "last",
        weights=model.state_dict(),
        raw_weights=None,
        training_state=optimizer_state(optimizer, model),
        progress=Progress(),
        score=None,
        info=ModelInfo("SOLOv2", (Category(1, "one"), Category(2, "two")), (64, 64)),
        config_yaml="",
    )
    other = narrow_solov2(2)
    report = load_into(other, read_weights(tmp_path / "last" / "last.pdparams"))
    assert not report.missing and not report.skipped
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy(), err_msg=name)
    assert other.solov2_head.solo_cate.weight is other.state_dict()["solov2_head.bbox_head.solo_cate.weight"]

    momenta = read_weights(tmp_path / "last" / "last.pdopt")
    resumed = build_optimizer(other, kind="momentum", learning_rate=0.1, weight_decay=0.0)
    load_optimizer_state(resumed, other, momenta)
    for one, its_optimizer in ((model, optimizer), (other, resumed)):
        for parameter in one.parameters():
            if not parameter.stop_gradient:
                parameter.grad = paddle.ones_like(parameter)
        its_optimizer.step()
    np.testing.assert_array_equal(other.solov2_head.solo_cate.weight.numpy(), weight.numpy())
    np.testing.assert_allclose(weight.numpy(), start - 0.29 - 0.271, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", [0, 1], ids=["second names only", "first names only"])
def test_a_weight_file_may_contain_only_one_name_of_a_layer(missing: int) -> None:
    state = {name: value.numpy() for name, value in narrow_solov2(2).state_dict().items()}
    left_out = [pair[1 - missing] for pair in SECOND_NAMES.items()]
    partial = {name: array for name, array in state.items() if not name.startswith(tuple(left_out))}
    assert len(partial) == len(state) - 7
    model = narrow_solov2(2)
    report = load_into(model, partial)
    assert not report.missing and not report.skipped
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name], err_msg=name)


def test_exported_graph_equals_the_model(tmp_path: Path) -> None:
    model = narrow_solov2(80)
    fill_model(model)
    batches = [
        inputs_of([(90, 120)], padded_hw=(96, 128)),
        inputs_of([(128, 60), (101, 64)], padded_hw=(128, 64)),
    ]
    assert_exported_equals_dynamic(model, batches, tmp_path, (-1, -1), find_nothing, rtol=1e-4, atol=1e-3)


def find_nothing(model: SoloV2) -> None:
    bias = model.solov2_head.solo_cate.bias
    bias.set_value(paddle.full_like(bias, -30.0))
