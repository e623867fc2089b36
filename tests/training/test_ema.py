import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_seg.checkpoints.weights import read_weights, write_weights
from paddlex_seg.errors import WeightsError
from paddlex_seg.training.ema import Ema


class Net(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.w = self.create_parameter([1])
        self.bn = nn.BatchNorm2D(1)
        self.proj_conv = nn.Conv2D(1, 1, 1, bias_attr=False)
        self.proj_conv.weight.stop_gradient = True
        self.register_buffer("counter", paddle.zeros([1], dtype="int64"))
        self.w.set_value(paddle.full([1], 2.0))
        self.proj_conv.weight.set_value(paddle.full([1, 1, 1, 1], 3.0))

    def train_step(self, number: int) -> None:
        """The weight updates that the reference numbers were recorded with."""
        self.w.set_value(paddle.full([1], float(np.sin(number) + 2)))
        self.bn._mean.set_value(paddle.full([1], float(number)))


def values(state: dict[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in state.items()}


@pytest.mark.parametrize("kind", ["exponential", "threshold", "normal"])
def test_averages_equal_the_reference_after_each_update(reference_dir: Path, kind: str) -> None:
    golden = json.loads((reference_dir / "goldens/ema.json").read_text())["results"][kind]
    model = Net()
    ema = Ema(model, decay=golden["decay"], kind=kind, skip=("proj_conv.weight",))  # type: ignore[arg-type]
    found = []
    for number in range(1, 31):
        model.train_step(number)
        ema.update(model)
        weights = ema.weights(model)
        found.append([weights[name].item() for name in ("w", "bn._mean", "bn.weight", "proj_conv.weight")])
    np.testing.assert_allclose(found, golden["after_update_i_then_apply"], rtol=1e-6)


def test_with_a_constant_network_the_unbiased_average_is_the_network() -> None:
    model = Net()
    ema = Ema(model, decay=0.9, kind="normal")
    for _ in range(5):
        ema.update(model)
    for name, value in values(ema.weights(model)).items():
        np.testing.assert_allclose(value, model.state_dict()[name].numpy(), rtol=1e-6)


def test_before_the_first_update_the_weights_are_the_networks() -> None:
    model = Net()
    assert Ema(model, decay=0.9).weights(model)["w"].item() == 2


def test_what_is_skipped_frozen_or_no_number_with_a_fraction_follows_the_network() -> None:
    model = Net()
    model.bn.bias.stop_gradient = True
    ema = Ema(model, decay=0.5, kind="normal", skip_frozen=True)
    ema.update(model)
    for name in ("proj_conv.weight", "bn.bias", "counter", "bn._mean", "w"):
        tensor = model.state_dict()[name]
        tensor.set_value(tensor + 6)
    weights = values(ema.weights(model))
    assert weights["proj_conv.weight"].item() == 9
    assert weights["bn.bias"].item() == 6
    assert weights["counter"].dtype == np.int64 and weights["counter"].item() == 6
    assert weights["bn._mean"].item() == 0  # a running statistic has no gradient, but is averaged
    assert weights["w"].item() == 2


def test_updates_use_the_memory_they_have() -> None:
    model = Net()
    ema = Ema(model, decay=0.9)
    addresses = [tensor.data_ptr() for tensor in ema.state_dict().values()][:-1]
    ema.update(model)
    assert [tensor.data_ptr() for tensor in ema.state_dict().values()][:-1] == addresses


def test_the_network_holds_the_averages_inside_and_its_own_bits_afterwards() -> None:
    model = Net()
    ema = Ema(model, decay=0.9, kind="normal")
    for number in (1, 2):
        model.train_step(number)
        ema.update(model)
    before, averaged = values(model.state_dict()), values(ema.weights(model))
    assert before["w"] != averaged["w"]
    with pytest.raises(KeyboardInterrupt), ema.applied(model):
        assert values(model.state_dict()) == averaged
        raise KeyboardInterrupt
    after = values(model.state_dict())
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    assert not model.w.stop_gradient


def test_a_tensor_under_two_names_is_swapped_back_too() -> None:
    model = Net()
    model.alias = nn.Sequential(model.bn)
    ema = Ema(model, decay=0.9, kind="normal")
    model.train_step(1)
    ema.update(model)
    model.train_step(2)
    with ema.applied(model):
        assert model.bn._mean.item() == 1
    assert model.bn._mean.item() == 2


def test_averages_do_not_change_what_was_given_out_and_training_goes_on_from_the_network() -> None:
    model = Net()
    ema = Ema(model, decay=0.9, kind="exponential")
    ema.update(model)
    given = ema.weights(model)
    before = given["w"].item()
    model.train_step(1)
    ema.update(model)
    assert given["w"].item() == before


@pytest.mark.parametrize("kind", ["exponential", "threshold", "normal"])
def test_resuming_from_a_file_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    model = Net()
    through = Ema(model, decay=0.99, kind=kind)  # type: ignore[arg-type]
    for number in range(1, 4):
        model.train_step(number)
        through.update(model)
    write_weights(through.state_dict(), tmp_path / "ema.pdparams")
    resumed = Ema(model, decay=0.99, kind=kind)  # type: ignore[arg-type]
    resumed.load_state_dict(read_weights(tmp_path / "ema.pdparams"))
    for number in range(4, 7):
        model.train_step(number)
        through.update(model)
        resumed.update(model)
    assert resumed.num_updates == 6
    assert values(resumed.weights(model)) == values(through.weights(model))


def test_averages_of_another_network_are_refused_and_change_nothing() -> None:
    model = Net()
    ema = Ema(model, decay=0.9)
    ema.update(model)
    before = values(ema.state_dict())
    other = {name: value for name, value in before.items() if name != "w"}
    other["bn._mean"] = np.zeros(7, np.float32)
    with pytest.raises(
        WeightsError, match=r"2 entries of the saved.*bn\._mean \(found \[7\], expected \[1\]\)"
    ):
        ema.load_state_dict(other)
    assert values(ema.state_dict()) == before
