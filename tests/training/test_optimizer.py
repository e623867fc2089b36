from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import ParamAttr, nn
from paddle.regularizer import L2Decay
from rule import drawn_batch
from small_runs import slim_model

from paddlex_seg.checkpoints.weights import load_into, read_weights, write_weights
from paddlex_seg.errors import ConfigError
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.training.ema import RUNNING_STATISTICS, Ema
from paddlex_seg.training.optimizer import (
    build_optimizer,
    freeze,
    load_optimizer_state,
    optimizer_state,
    scale_learning_rates,
)
from paddlex_seg.training.schedule import PiecewiseSchedule

# Optimizers


class Net(nn.Layer):
    """Each parameter is one number; the gradient of ``plain`` is 3, of ``slow`` 4, of the others 0."""

    def __init__(self) -> None:
        super().__init__()
        start = nn.initializer.Constant(2.0)
        self.plain = self.create_parameter([1], ParamAttr(initializer=start))
        self.slow = self.create_parameter([1], ParamAttr(initializer=start, learning_rate=0.05))
        self.undecayed = self.create_parameter([1], ParamAttr(initializer=start, regularizer=L2Decay(0.0)))
        self.frozen = self.create_parameter([1], ParamAttr(initializer=start, trainable=False))

    def forward(self) -> paddle.Tensor:
        return 3 * self.plain + 4 * self.slow + 0 * self.undecayed + self.frozen

    def values(self) -> list[float]:
        return [p.item() for p in (self.plain, self.slow, self.undecayed, self.frozen)]


def train(model: Net, optimizer: paddle.optimizer.Optimizer, rates: list[float]) -> None:
    for rate in rates:
        optimizer.set_lr(rate)
        model().backward()
        optimizer.step()
        optimizer.clear_grad()


def test_momentum_with_decay_factors_and_clipping_follows_the_formula() -> None:
    model = Net()
    optimizer = build_optimizer(
        model, kind="momentum", learning_rate=0.0, weight_decay=0.1, momentum=0.9, clip_norm=1.0
    )
    rates = [0.1, 0.5, 0.2]
    train(model, optimizer, rates)
    # The gradient (3, 4, 0) has norm 5 and is clipped to 1 before the decay is added.
    value, velocity = np.full(3, 2.0), np.zeros(3)
    for rate in rates:
        gradient = np.array([0.6, 0.8, 0.0]) + np.array([0.1, 0.1, 0.0]) * value
        velocity = 0.9 * velocity + gradient
        value = value - rate * np.array([1.0, 0.05, 1.0]) * velocity
    np.testing.assert_allclose(model.values(), [*value, 2.0], rtol=1e-6)


def test_adamw_decays_every_parameter_and_follows_the_formula() -> None:
    model = Net()
    optimizer = build_optimizer(model, kind="adamw", learning_rate=0.0, weight_decay=0.1, clip_norm=0.1)
    rates = [0.1, 0.5, 0.2]
    train(model, optimizer, rates)
    value, first, second = np.full(3, 2.0), np.zeros(3), np.zeros(3)
    factor, gradient = np.array([1.0, 0.05, 1.0]), np.array([0.06, 0.08, 0.0])
    for step, rate in enumerate(rates, start=1):
        value = value * (1 - rate * factor * 0.1)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        value = value - rate * factor * direction
    np.testing.assert_allclose(model.values(), [*value, 2.0], rtol=1e-5)


def test_without_a_clip_norm_gradients_stay_as_they_are() -> None:
    model = Net()
    train(model, build_optimizer(model, kind="momentum", learning_rate=0.0, weight_decay=0.0), [0.1])
    np.testing.assert_allclose(model.values(), [2 - 0.3, 2 - 0.1 * 0.05 * 4, 2.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_resuming_goes_on_exactly(kind: str) -> None:
    schedule = PiecewiseSchedule(0.1, 6, (4,), (0.1,), 2, 0.1)
    rates = [schedule.lr_at_step(step) for step in range(6)]

    def start() -> tuple[Net, paddle.optimizer.Optimizer]:
        model = Net()
        optimizer = build_optimizer(
            model,
            kind=kind,  # type: ignore[arg-type]
            learning_rate=0.0,
            weight_decay=0.1,
        )
        return model, optimizer

    # Paddle keys optimizer state by generated names. The guard restarts their counters, like a new process.
    with paddle.utils.unique_name.guard():
        model, optimizer = start()
        train(model, optimizer, rates[:3])
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        state = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
        train(model, optimizer, rates[3:])
    with paddle.utils.unique_name.guard():
        resumed, optimizer = start()
        resumed.set_state_dict(weights)
        optimizer.set_state_dict(state)
        train(resumed, optimizer, rates[3:])
    assert resumed.values() == model.values()


# Freezing


def test_a_module_or_a_pattern_is_frozen_with_its_norms() -> None:
    model = slim_model(2)
    names = freeze(model, ["backbone.stem", "neck.fpn_routes.*", "yolo_head.pred_cls.?.bias"])
    assert "backbone.stem.conv1.bn._mean" in names
    for name, tensor in model.state_dict().items():
        is_frozen = name.startswith(("backbone.stem.", "neck.fpn_routes.")) or (
            "pred_cls" in name and name.endswith("bias")
        )
        assert (name in names) == is_frozen, name
        if not name.endswith(RUNNING_STATISTICS) and "proj_conv" not in name:
            assert tensor.stop_gradient == is_frozen, name


def test_a_name_does_not_stand_for_another_that_begins_with_it() -> None:
    model = nn.Sequential(("conv1", nn.Conv2D(1, 1, 1)), ("conv11", nn.Conv2D(1, 1, 1)))
    assert freeze(model, ["conv1"]) == ("conv1.weight", "conv1.bias")


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["backbone.stage.0"], r"'backbone\.stage\.0' matches no .* Did you mean backbone\.stages\.0"),
        (["backbone", "nek"], r"'nek' matches no .*mean neck\? Its parts are backbone, neck, yolo_head\."),
        (["*._mean"], r"'\*\._mean' matches no parameter"),
        (["*"], r"\* would freeze all of the model.*: backbone, neck, yolo_head"),
        (["backbone", "neck", "yolo_head"], "backbone, neck, yolo_head would freeze all"),
    ],
    ids=["near", "top level", "statistics", "all", "all in parts"],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns: list[str], message: str) -> None:
    model = slim_model(2)
    with pytest.raises(ConfigError, match=rf"Train\.freeze: .*{message}"):
        freeze(model, patterns)
    assert any(not parameter.stop_gradient for parameter in model.backbone.parameters())


def slim_step(model: PpYoloeSeg, optimizer: paddle.optimizer.Optimizer, seed: int) -> None:
    model.loss(drawn_batch(seed, (64, 64), (1, 2), 2))["loss"].backward()
    optimizer.step()
    optimizer.clear_grad()


def frozen_run() -> tuple[PpYoloeSeg, paddle.optimizer.Optimizer, Ema, tuple[str, ...]]:
    paddle.seed(0)
    model = slim_model(2)
    names = freeze(model, ["backbone", "neck.fpn_stages.0"])
    optimizer = build_optimizer(model, kind="momentum", learning_rate=1e-3, weight_decay=0.1)
    return model, optimizer, Ema(model, decay=0.9998, skip=("proj_conv", *names)), names


def test_what_is_frozen_stays_as_it_is_in_model_average_and_checkpoint(tmp_path: Path) -> None:
    model, optimizer, ema, names = frozen_run()
    before = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for seed in range(2):
        model.eval()  # as around an evaluation
        model.train()
        slim_step(model, optimizer, seed)
        ema.update(model)
    after, averaged = model.state_dict(), ema.weights(model)
    assert list(after) == list(before)
    for name in before:
        is_same = bool((after[name].numpy() == before[name]).all())
        assert is_same or name not in names, name
        if name in names:
            np.testing.assert_array_equal(averaged[name].numpy(), before[name])
    assert not np.array_equal(
        after["neck.pan_routes.0.bn._mean"].numpy(), before["neck.pan_routes.0.bn._mean"]
    )
    state = optimizer_state(optimizer, model)
    assert not {key.rpartition("|")[0] for key in state} & set(names)

    write_weights(model.state_dict(), tmp_path / "w.pdparams")
    write_weights(state, tmp_path / "w.pdopt")
    resumed, optimizer_of_resumed, _, _ = frozen_run()
    load_into(resumed, read_weights(tmp_path / "w.pdparams"))
    load_optimizer_state(optimizer_of_resumed, resumed, read_weights(tmp_path / "w.pdopt"))
    slim_step(model, optimizer, seed=2)
    resumed.train()
    slim_step(resumed, optimizer_of_resumed, seed=2)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name].numpy(), tensor.numpy(), err_msg=name)


# Learning rates of parts


def rates(model: nn.Layer) -> dict[str, float]:
    return {name: parameter.optimize_attr["learning_rate"] for name, parameter in model.named_parameters()}


def test_the_longest_pattern_counts_and_multiplies_what_a_parameter_has() -> None:
    model = slim_model(2)
    model.backbone.stages[3].conv_down.conv.weight.optimize_attr["learning_rate"] = 0.1
    scale_learning_rates(model, {"backbone.stages.3": 0.5, "backbone": 0.2, "yolo_head.*.bias": 2.0})
    for name, rate in rates(model).items():
        expected = 1.0
        if name.startswith("backbone."):
            expected = 0.5 if name.startswith("backbone.stages.3.") else 0.2
        elif name.startswith("yolo_head.") and name.endswith(".bias"):
            expected = 2.0
        if name == "backbone.stages.3.conv_down.conv.weight":
            expected = 0.05
        if not name.endswith(RUNNING_STATISTICS):
            assert rate == pytest.approx(expected), name


def test_a_parameter_under_two_names_is_scaled_once() -> None:
    model = nn.Sequential(("a", nn.Linear(1, 1)))
    model.add_sublayer("b", model.a)
    scale_learning_rates(model, {"*": 0.5})
    assert model.a.weight.optimize_attr["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"bakbone": 0.1}, "'bakbone' matches no .*mean backbone"),
        ({"backbone": 0.0}, r"found 0 for 'backbone', expected a number above 0\..*Train\.freeze"),
        ({"backbone": float("nan")}, "found nan for 'backbone'"),
        (
            {"neck": 0.5, "yolo_head.proj_conv": 0.1},
            "all parameters that match 'yolo_head.proj_conv' are frozen",
        ),
    ],
    ids=["unknown", "zero", "not a number", "frozen"],
)
def test_factors_without_a_meaning_are_refused(factors: dict[str, float], message: str) -> None:
    model = slim_model(2)
    with pytest.raises(ConfigError, match=rf"Train\.lr_factors: .*{message}"):
        scale_learning_rates(model, factors)
    assert set(rates(model).values()) == {1.0}


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_weights_move_by_their_factor(kind: str) -> None:
    moves = []
    for factors in ({}, {"slow": 0.5, "plain": 0.1}):
        model = Net()
        scale_learning_rates(model, factors)
        optimizer = build_optimizer(
            model,
            kind=kind,  # type: ignore[arg-type]
            learning_rate=0.0,
            weight_decay=0.0,
        )
        train(model, optimizer, [0.1])
        moves.append(2.0 - np.array(model.values()))
    assert moves[0][0] > 0
    np.testing.assert_allclose(moves[1], moves[0] * [0.1, 0.5, 1.0, 1.0], rtol=1e-4)
