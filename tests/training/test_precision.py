import logging
from collections.abc import Callable

import numpy as np
import paddle
import pytest
from emulated_amp import EmulatedAmp, emulate_amp
from paddle import nn
from rule import drawn_batch
from small_runs import slim_model

from paddlex_seg.catalog import find_model
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.layers import BiasedConv2D
from paddlex_seg.models.rcnn.rpn import ProposalLimits
from paddlex_seg.training.precision import FIRST_SCALE, GROWTH_STEPS, Precision, choose_precision

# Which precision


def test_off_is_float32_and_o1_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.amp, "is_float16_supported", lambda: True)
    assert choose_precision("OFF").dtype is None
    assert choose_precision("O1").dtype == "float16"


def test_a_cpu_trains_in_float32_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_precision("O1", "bfloat16").dtype is None
    assert "without mixed precision" in caplog.text


def test_the_cpu_of_this_paddle_still_has_no_mixed_precision() -> None:
    with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        assert nn.Linear(2, 2)(paddle.ones([1, 2])).dtype == paddle.float32
    with pytest.raises(RuntimeError, match="not registered"):
        paddle.matmul(paddle.ones([2, 2]).astype("bfloat16"), paddle.ones([2, 2]).astype("bfloat16"))


def test_weights_of_16_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"found O2.*Set Train\.amp=O1"):
        choose_precision("O2")


def test_a_gpu_without_the_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    with pytest.raises(BackendError, match=r"gpu:0 cannot compute in bfloat16"):
        choose_precision("O1", "bfloat16")


@pytest.mark.parametrize(
    ("precision", "options"),
    [(Precision(), []), (Precision("bfloat16"), [{"level": "O1", "dtype": "bfloat16"}])],
    ids=["float32", "bfloat16"],
)
def test_the_context_is_that_of_paddle(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, options: list[dict]
) -> None:
    calls: list[dict] = []
    original = paddle.amp.auto_cast

    def auto_cast(**given: str) -> object:
        calls.append(given)
        return original(enable=False)

    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    with precision.autocast():
        pass
    assert calls == options


# The scale of the loss


def weights_with_gradients(precision: Precision, *factors: float) -> list[paddle.Tensor]:
    weights = [paddle.create_parameter([1], "float32") for _ in factors]
    unused = paddle.create_parameter([1], "float32")
    loss = paddle.add_n([factor * weight.sum() for factor, weight in zip(factors, weights, strict=True)])
    precision.scale(loss).backward()
    return [*weights, unused]


def test_gradients_of_a_scaled_loss_are_scaled_until_they_are_divided() -> None:
    precision = Precision("float16")
    *weights, unused = weights_with_gradients(precision, 3.1, -2e-9)
    assert weights[1].grad.item() == pytest.approx(-2e-9 * FIRST_SCALE, rel=1e-6)
    precision.unscale([*weights, unused])
    plain = weights_with_gradients(Precision(), 3.1, -2e-9)
    assert [weight.grad.item() for weight in weights] == [weight.grad.item() for weight in plain[:-1]]
    assert unused.grad is None


def test_what_is_not_finite_stays_so() -> None:
    precision = Precision("float16")
    weights = weights_with_gradients(precision, float("inf"), float("nan"), 1.0)
    precision.unscale(weights)
    assert [bool(weight.grad.isfinite().all()) for weight in weights[:-1]] == [False, False, True]


def test_the_scale_halves_at_once_and_doubles_after_many_good_steps() -> None:
    precision = Precision("float16")
    precision.update(found_nonfinite=True)
    assert precision.loss_scale == FIRST_SCALE / 2
    for _ in range(GROWTH_STEPS - 1):
        precision.update(found_nonfinite=False)
    assert precision.loss_scale == FIRST_SCALE / 2
    precision.update(found_nonfinite=False)
    assert precision.loss_scale == FIRST_SCALE
    for _ in range(GROWTH_STEPS - 1):
        precision.update(found_nonfinite=False)
    precision.update(found_nonfinite=True)  # the count begins anew
    precision.update(found_nonfinite=False)
    assert precision.loss_scale == FIRST_SCALE / 2


def test_the_scale_does_not_fall_below_one() -> None:
    precision = Precision("float16")
    for _ in range(50):
        precision.update(found_nonfinite=True)
    assert precision.loss_scale == 1.0


def test_a_resumed_run_goes_on_with_its_scale() -> None:
    precision, resumed = Precision("float16"), Precision("float16")
    for found_nonfinite in (True, False, False):
        precision.update(found_nonfinite)
    assert precision.state_dict() == {"loss_scale": FIRST_SCALE / 2, "good_steps": 2}
    resumed.load_state_dict(precision.state_dict())
    assert resumed.state_dict() == precision.state_dict()
    resumed.load_state_dict({})  # of a run in float32
    assert resumed.loss_scale == FIRST_SCALE / 2


@pytest.mark.parametrize("precision", [Precision(), Precision("bfloat16")], ids=["float32", "bfloat16"])
def test_without_float16_there_is_no_scale_and_no_state(precision: Precision) -> None:
    weights = weights_with_gradients(precision, 3.0)
    precision.unscale(weights)
    precision.update(found_nonfinite=True)
    precision.load_state_dict({"loss_scale": 2.0, "good_steps": 1})
    assert weights[0].grad.item() == 3.0
    assert (precision.loss_scale, precision.state_dict()) == (1.0, {})


# The models under mixed precision


@pytest.fixture
def emulated_amp(monkeypatch: pytest.MonkeyPatch) -> EmulatedAmp:
    return emulate_amp(monkeypatch)


def slim(num_classes: int) -> InstanceSegmenter:
    return slim_model(num_classes, from_scratch=True)


def catalog_model(name: str) -> Callable[[int], InstanceSegmenter]:
    return lambda num_classes: find_model(name).build(num_classes=num_classes, from_scratch=True)


def rcnn_of_few_proposals(name: str) -> Callable[[int], InstanceSegmenter]:
    def build(num_classes: int) -> InstanceSegmenter:
        model = catalog_model(name)(num_classes)
        model.train_limits = ProposalLimits(per_level=30, per_image=16)
        return model

    return build


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(slim, id="slim PP-YOLOE_seg"),
        *(
            pytest.param(catalog_model(name), id=name, marks=pytest.mark.slow)
            for name in ("PP-YOLOE_seg-S", "Mask-RT-DETR-S", "SOLOv2")
        ),
        pytest.param(rcnn_of_few_proposals("MaskRCNN-ResNet50-FPN"), id="MaskRCNN-ResNet50-FPN"),
        *(
            pytest.param(rcnn_of_few_proposals(name), id=name, marks=pytest.mark.slow)
            for name in ("MaskRCNN-ResNet50", "Cascade-MaskRCNN-ResNet50-FPN")
        ),
    ],
)
def test_losses_are_float32_and_near_those_without_it(
    build: Callable[[int], InstanceSegmenter], emulated_amp: EmulatedAmp
) -> None:
    paddle.seed(0)
    model = build(3)
    model.train()
    batch = drawn_batch(0, (128, 128), (3, 2), 3)

    def losses_and_gradients(precision: Precision) -> tuple[dict[str, paddle.Tensor], np.ndarray]:
        paddle.seed(1)
        model.clear_gradients()
        with precision.autocast():
            losses = model.loss(batch)
        losses["loss"].backward()
        gradients = [p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None]
        return losses, np.concatenate(gradients)

    exact, gradient = losses_and_gradients(Precision())
    assert emulated_amp.low_calls == 0
    losses, rounded = losses_and_gradients(Precision("bfloat16"))
    assert emulated_amp.low_calls > 20
    assert {tensor.dtype for tensor in (*losses.values(), *model.parameters())} == {paddle.float32}
    assert rounded.dtype == np.float32
    assert losses["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.05)
    assert losses["loss"].item() != exact["loss"].item()
    assert np.isfinite(rounded).all()
    # Batch norms over few pixels, in an untrained network, magnify the rounding errors.
    assert 1 / 3 < np.linalg.norm(rounded) / np.linalg.norm(gradient) < 3
    assert not np.array_equal(rounded, gradient)


def test_convolutions_that_work_in_place_add_a_bias_of_32_bits(emulated_amp: EmulatedAmp) -> None:
    paddle.seed(0)
    layer, image = BiasedConv2D(3, 4, 3), paddle.randn([1, 3, 8, 8])
    layer.bias.set_value(paddle.randn([4]))
    expected = layer(image)
    with Precision("bfloat16").autocast():
        found = layer(image)
    assert found.dtype == paddle.float32
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=0.02)
    assert found.numpy().tolist() != expected.numpy().tolist()
