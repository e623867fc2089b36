"""Training with numbers that are not finite, and training that runs out of memory."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from command_line import Outcome, read_result
from small_runs import annotation_file, last_checkpoint, run_slim, slim_model, train_options

from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import TrainBatch, split_batch
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.ops.joined_batch import JoinedBatch
from paddlex_seg.structures import Batch, Target
from paddlex_seg.training import loop, setup
from paddlex_seg.training import output as training_output
from paddlex_seg.training import step as step_module
from paddlex_seg.training.diagnosis import describe_culprit
from paddlex_seg.training.precision import Precision
from paddlex_seg.training.step import TrainState

Losses = dict[str, paddle.Tensor]
NAN = float("nan")
GUILTY = 4  # step, the second of the second epoch


@pytest.fixture(autouse=True)
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the export, which takes longer than everything else here."""
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)


@pytest.fixture
def at_step(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[TrainState, TrainBatch], None]], None]:
    """Change the state or the batch just before step `GUILTY`."""

    def install(action: Callable[[TrainState, TrainBatch], None]) -> None:
        step = loop.train_step

        def wrapped(state: TrainState, batch: TrainBatch, rate: float, **options: Any) -> Any:
            if state.progress.step + 1 == GUILTY:
                action(state, batch)
            return step(state, batch, rate, **options)

        monkeypatch.setattr(loop, "train_step", wrapped)

    return install


def poison(tensor: paddle.Tensor) -> None:
    """Make the first number of a tensor NaN."""
    values = tensor.numpy().copy()
    values.reshape(-1)[0] = NAN
    tensor.set_value(values)


def poison_pixels(state: TrainState, batch: TrainBatch) -> None:
    poison(batch.batch.image)


def poison_box(state: TrainState, batch: TrainBatch) -> None:
    poison(next(target.boxes_xyxy for target in batch.batch.targets if len(target.boxes_xyxy)))


def poison_weight(state: TrainState, batch: TrainBatch) -> None:
    poison(state.model.yolo_head.pred_cls[0].weight)


def poison_statistics(state: TrainState, batch: TrainBatch) -> None:
    poison(step_module.running_statistics(state.model)[3])


def poison_average(state: TrainState, batch: TrainBatch) -> None:
    assert state.ema is not None
    poison(next(iter(state.ema.state_dict().values())))


def poison_moment(state: TrainState, batch: TrainBatch) -> None:
    poison(next(value for name, value in state.optimizer.state_dict().items() if name.endswith("moment1_0")))


def poison_gradient(state: TrainState, batch: TrainBatch) -> None:
    state.model.neck.parameters()[0].register_hook(_once(lambda gradient: gradient * NAN))


def poison_layer(state: TrainState, batch: TrainBatch) -> None:
    state.model.backbone.stem.register_forward_post_hook(_once(lambda layer, inputs, output: output * NAN))


def poison_loss(state: TrainState, batch: TrainBatch) -> None:
    loss = state.model.loss

    def broken(batch: Batch) -> Losses:
        del state.model.loss
        losses = loss(batch)
        return losses | {"loss_cls": losses["loss_cls"] * NAN, "loss": losses["loss"] * NAN}

    object.__setattr__(state.model, "loss", broken)


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def call(*args: Any) -> Any:
        calls.append(1)
        return function(*args) if len(calls) == 1 else None

    return call


def run(dataset: Path, output: Path, **changes: Any) -> Outcome:
    options = {"Train__epochs_iters": 4, "Train__batch_size": 4, "Train__save_interval": 1, **changes}
    return run_slim("train", output, **train_options(dataset, **options))


def assert_finite(output: Path) -> None:
    for suffix in ("pdparams", "pdema", "pdopt"):
        for name, array in read_weights(last_checkpoint(output, suffix)).items():
            assert np.isfinite(array).all(), f"{suffix} {name}"
    for row in read_result(output, "train")["history"]:
        assert math.isfinite(row.get("loss", 0.0))  # no loss when all steps of an epoch were skipped


NO_IMAGE = "each of these images alone gives finite numbers"
SKIPPED = "is skipped: the images of this step are"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (
            poison_pixels,
            [(SKIPPED, "losses that are not finite: loss, loss_cls,", "its pixels are not finite")],
        ),
        (poison_layer, [(SKIPPED, "losses that are not finite: loss, loss_cls,", NO_IMAGE)]),
        (poison_loss, [(SKIPPED, "losses that are not finite: loss, loss_cls;", NO_IMAGE)]),
        (poison_gradient, [(SKIPPED, "the losses are finite, but the gradients of neck", NO_IMAGE)]),
        (
            poison_weight,
            [
                (SKIPPED, "the weights of yolo_head.pred_cls.0.weight are not finite"),
                ("the weights are not finite", "Training continues with the weights of"),
            ],
        ),
        (
            poison_statistics,
            [
                (
                    SKIPPED,
                    "but the running statistics are not",
                    "the weights of backbone.stem.conv2.bn._variance are not finite",
                ),
                ("the weights are not finite", "Training continues with the weights of"),
            ],
        ),
        (
            poison_moment,
            [
                (
                    "weights and numbers of the optimizer and moving averages are not finite",
                    "Training continues",
                )
            ],
        ),
        (
            poison_average,
            [(": the moving averages are not finite", "Training continues with the weights of")],
        ),
    ],
)
def test_a_number_that_is_not_finite_ends_with_its_step(
    dataset: Path, tmp_path: Path, at_step: Any, action: Any, said: list[tuple[str, ...]]
) -> None:
    """The run ends finite. Each warning names the culprit at its step; only broken weights are replaced."""
    at_step(action)
    outcome = run(dataset, tmp_path)
    assert outcome.code == 0, outcome.stderr
    warnings = [line for line in outcome.stdout.splitlines() if "WARNING" in line]
    assert len(warnings) == len(said), warnings
    for warning, texts in zip(warnings, said, strict=True):
        assert f"Step {GUILTY} (epoch 2)" in warning
        assert all(text in warning for text in texts), (texts, warning)
    assert_finite(tmp_path)
    states = json.loads(last_checkpoint(tmp_path, "pdstates").read_text(encoding="utf-8"))
    texts = [text for group in said for text in group]
    assert states["skipped"] == (SKIPPED in texts)
    assert states["rollbacks"] == sum("Training continues" in text for text in texts)
    assert read_result(tmp_path, "train")["done_flag"] is True


def test_an_object_whose_box_is_not_finite_leaves_the_run_finite(
    dataset: Path, tmp_path: Path, at_step: Any
) -> None:
    """PP-YOLOE assigns no cell to such a box: its losses stay finite, and no step is skipped."""
    at_step(poison_box)
    outcome = run(dataset, tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert "WARNING" not in outcome.stdout
    assert_finite(tmp_path)


def test_weights_that_stay_broken_end_the_run_with_the_culprit(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate is far too high: after a few attempts to go back, the run ends."""
    step = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda state, batch, rate, **options: step(state, batch, 1e30, **options)
    )
    outcome = run(dataset, tmp_path, Train__epochs_iters=24)
    assert outcome.code == 1
    assert "Traceback" not in outcome.stderr
    assert "Train.learning_rate" in outcome.stderr and "not finite" in outcome.stderr
    assert read_result(tmp_path, "train")["done_flag"] is False


def test_the_images_of_a_skipped_step_are_named_and_no_others(
    dataset: Path, tmp_path: Path, at_step: Any
) -> None:
    seen: list[tuple[str, ...]] = []

    def note_and_poison(state: TrainState, batch: TrainBatch) -> None:
        seen.extend(batch.file_names)
        poison_pixels(state, batch)

    at_step(note_and_poison)
    outcome = run(dataset, tmp_path, Train__augment__mosaic=0)
    (warning,) = [line for line in outcome.stdout.splitlines() if "is skipped" in line]
    names = {image.file_name for image in read_coco(annotation_file(dataset, "train")).images}
    guilty = {name for group in seen for name in group}
    assert len(guilty) == 4
    assert {name for name in names if name in warning} == guilty
    assert f"{seen[0][0]}: its pixels are not finite" in warning
    assert f"{seen[1][0]}: " not in warning


def test_a_skipped_step_changes_nothing_but_the_place_in_the_run(
    dataset: Path, tmp_path: Path, at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, np.ndarray] = {}

    def note_and_poison(state: TrainState, batch: TrainBatch) -> None:
        before.update(weights_of(state))
        poison_pixels(state, batch)

    at_step(note_and_poison)
    step = loop.train_step

    def compare(state: TrainState, *args: Any, **options: Any) -> Any:
        result = step(state, *args, **options)
        if state.progress.step == GUILTY:
            assert result.problem is not None
            after = weights_of(state)
            assert all((after[name] == array).all() for name, array in before.items())
            assert all(parameter.grad is None for parameter in state.parameters)
        return result

    monkeypatch.setattr(loop, "train_step", compare)
    assert run(dataset, tmp_path).code == 0
    assert before


def weights_of(state: TrainState) -> dict[str, np.ndarray]:
    tensors = {**state.model.state_dict(), **state.optimizer.state_dict()}
    tensors |= {f"ema {name}": value for name, value in (state.ema.state_dict() if state.ema else {}).items()}
    return {name: tensor.numpy().copy() for name, tensor in tensors.items() if hasattr(tensor, "numpy")}


def test_a_loss_scale_that_is_too_large_is_halved_without_a_search_for_a_culprit(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(level: str, dtype: str) -> Precision:
        precision = Precision("float16")  # a CPU does not compute in float16, but the loss scale is used
        precision.loss_scale = 2.0**127
        return precision

    monkeypatch.setattr(setup, "choose_precision", too_large)
    monkeypatch.setattr(step_module, "describe_culprit", lambda *args, **options: pytest.fail("searched"))
    outcome = run(dataset, tmp_path, Train__epochs_iters=8)
    assert outcome.code == 0, outcome.stderr
    assert "gradients overflow 16 bits at a loss scale of 1.70141e+38" in outcome.stdout
    assert "Training continues with the weights of" not in outcome.stdout
    assert_finite(tmp_path)
    written = read_weights(last_checkpoint(tmp_path, "pdopt"))
    assert 1 < written["precision/loss_scale"] < 2.0**127
    states = json.loads(last_checkpoint(tmp_path, "pdstates").read_text(encoding="utf-8"))
    assert states["skipped"] == 0  # steps with an overflow are not counted as skipped, so none is diagnosed


# Diagnosis


def make_batch(num_images: int = 2, num_objects: int = 3) -> Batch:
    paddle.seed(1)
    masks = np.zeros((num_objects, 64, 64), np.uint8)
    boxes = np.array([[4 + 12 * i, 4, 24 + 12 * i, 40] for i in range(num_objects)], np.float32)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    targets = [
        Target(
            paddle.to_tensor(boxes),
            paddle.to_tensor(np.arange(num_objects) % 2),
            paddle.to_tensor(masks),
            (None,) * num_objects,
        )
        for _ in range(num_images)
    ]
    sizes = paddle.full([num_images, 2], 64.0)
    image = paddle.rand([num_images, 3, 64, 64])
    return Batch(image, sizes, paddle.ones([num_images, 2]), targets, JoinedBatch())


def test_the_object_with_which_a_loss_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = PpYoloeSeg.loss

    def broken(self: PpYoloeSeg, batch: Batch) -> Losses:
        losses = loss(self, batch)
        hurt = any(float(box[0]) == 16 for target in batch.targets for box in target.boxes_xyxy)
        return losses | {"loss": paddle.log(losses["loss"] * (0.0 if hurt else 1.0) - hurt)}

    monkeypatch.setattr(PpYoloeSeg, "loss", broken)
    model = slim_model(num_classes=2)
    batch = make_batch()
    innocent = batch._replace(targets=[batch.targets[0], Target(*(part[:1] for part in batch.targets[1]))])
    text = describe_culprit(
        model, TrainBatch(innocent, (("a.jpg",), ("b.jpg",))), {"loss": NAN}, [], several_processes=False
    )
    assert "a.jpg: also with object 2 alone (box [16.0, 4.0, 36.0, 40.0]" in text
    assert "operator log" in text
    assert "b.jpg:" not in text
    assert all(parameter.grad is None for parameter in model.parameters())


def test_paddles_check_is_never_on_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps a trace for each recorded operator: gigabytes for a whole network."""
    loss, checked = PpYoloeSeg.loss, []

    def watched(self: PpYoloeSeg, batch: Batch) -> Losses:
        (is_checked,) = paddle.get_flags("FLAGS_check_nan_inf").values()
        checked.append((is_checked, paddle.is_grad_enabled()))
        losses = loss(self, batch)
        return losses | {"loss": paddle.sqrt(losses["loss"] * 0.0)}  # finite; its gradient is not

    monkeypatch.setattr(PpYoloeSeg, "loss", watched)
    batch = TrainBatch(make_batch(), (("a.jpg",), ("b.jpg",)))
    text = describe_culprit(slim_model(num_classes=2), batch, {"loss": 0.0}, ["x"], several_processes=False)
    assert "operator sqrt_grad" in text
    assert (True, False) in checked
    assert (True, True) not in checked
    assert not any(paddle.get_flags("FLAGS_check_nan_inf").values())


def test_an_object_whose_box_is_not_finite_is_named() -> None:
    batch = make_batch()
    poison(batch.targets[1].boxes_xyxy)
    named = TrainBatch(batch, (("a.jpg",), ("b.jpg",)))
    text = describe_culprit(slim_model(num_classes=2), named, {"loss": NAN}, [], several_processes=False)
    assert "b.jpg: object 1 of class index 0 has the invalid box [nan, 4.0, 24.0, 40.0]" in text
    assert "a.jpg:" not in text


def test_the_layer_that_makes_it_is_named() -> None:
    model = slim_model(num_classes=2)
    model.neck.register_forward_post_hook(lambda layer, inputs, outputs: None)
    for parameter in model.yolo_head.proto.conv2.parameters():
        parameter.set_value(paddle.full_like(parameter, 3e38))  # finite, but its results are not
    batch = TrainBatch(make_batch(1), (("a.jpg",),))
    text = describe_culprit(model, batch, {"loss": NAN}, [], several_processes=False)
    assert "the first layer whose output is not finite is yolo_head.proto.conv2" in text


# Memory


def test_a_batch_that_does_not_fit_is_computed_in_parts_from_then_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, sizes = PpYoloeSeg.loss, []

    def limited(self: PpYoloeSeg, batch: Batch) -> Losses:
        sizes.append(len(batch.targets))
        if len(batch.targets) > 2:
            raise MemoryError("ResourceExhaustedError: out of memory")
        return loss(self, batch)

    monkeypatch.setattr(PpYoloeSeg, "loss", limited)
    outcome = run(dataset, tmp_path, Train__epochs_iters=2)
    assert outcome.code == 0, outcome.stderr
    # A forward pass of each half for the normalisers, then both halves again for the gradients.
    assert sizes == [4, *(4 * [2, 2, 2, 2])]
    assert "each batch of 4 images is computed in 2 parts" in outcome.stdout
    assert [row["step"] for row in read_result(tmp_path, "train")["history"]] == [2, 4]


def test_an_image_that_does_not_fit_alone_ends_the_run_with_the_settings_to_lower(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: PpYoloeSeg, batch: Batch) -> Losses:
        raise MemoryError("out of memory")

    monkeypatch.setattr(PpYoloeSeg, "loss", never)
    outcome = run(dataset, tmp_path)
    assert outcome.code == 1
    assert "Train.image_size" in outcome.stderr and "Train.batch_size" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_accumulated_gradients_are_those_of_the_joined_batch() -> None:
    """For a model whose images do not influence each other: no batch normalisation, a mean over images."""

    class Toy(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 2, 3)

        def loss(self, batch: Batch) -> Losses:
            loss = batch.joined.share_of_mean(len(batch.image)) * (self.conv(batch.image) ** 2).mean()
            return {"loss": loss, "half": loss / 2}

    model: Any = Toy()
    batch = make_batch(5)
    results = []
    for parts in (1, 2, 3, 5):
        optimizer = paddle.optimizer.SGD(0.1, parameters=model.parameters())
        state = TrainState(model, optimizer, None, progress=Progress(micro_batches=parts))
        losses = step_module.forward_backward(state, batch, (), may_split=False)
        results.append(
            ({name: float(loss) for name, loss in losses.items()}, model.conv.weight.grad.numpy().copy())
        )
        optimizer.clear_grad()
    assert len(split_batch(batch, 3)) == 3
    for losses, gradient in results[1:]:
        assert losses == pytest.approx(results[0][0], rel=1e-5)
        np.testing.assert_allclose(gradient, results[0][1], rtol=1e-4, atol=1e-6)


def test_the_self_check_finds_an_error_before_the_first_step(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddlex_seg.training import self_check

    def fail(*args: Any) -> None:
        raise RuntimeError("cannot be exported")

    monkeypatch.setattr(self_check, "write_graphs", fail)
    outcome = run(dataset, tmp_path, Train__self_check=True)
    assert outcome.code == 1
    assert "cannot be exported" in outcome.stderr
    assert "Epoch:" not in outcome.stdout and not (tmp_path / "checkpoints").exists()


def test_the_self_check_leaves_no_trace_in_the_training(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddlex_seg.training import self_check

    monkeypatch.setattr(self_check, "write_graphs", lambda *args: None)
    for name, checked in (("with", True), ("without", False)):
        outcome = run(dataset, tmp_path / name, Train__self_check=checked, Train__epochs_iters=1)
        assert outcome.code == 0, outcome.stderr
        assert ("Self-check" in outcome.stdout) is checked
    for suffix in ("pdparams", "pdema", "pdopt"):
        one, other = (read_weights(last_checkpoint(tmp_path / n, suffix)) for n in ("with", "without"))
        assert all((one[name] == other[name]).all() for name in one)
