"""Two processes, each with a part of every batch, train the same weights as one process."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import paddle
import pytest
import train_together
from paddle import Tensor, nn
from rule import drawn_batch

from paddlex_seg.catalog import MODELS
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.data.samples.loader import split_batch
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.layers import freeze_norms
from paddlex_seg.models.synchronized_norm import SynchronizedBatchNorm2D, synchronize_batch_norm
from paddlex_seg.ops.joined_batch import JoinedBatch
from paddlex_seg.ops.processes import average_gradients, mean_losses
from paddlex_seg.structures import Batch
from paddlex_seg.training.step import TrainState, count_totals, forward_backward, running_statistics

TIMEOUT_SECONDS = 600  # for all cases together; a process could wait forever for the other one
Reports = list[dict[str, np.ndarray]]


def train_in_two_processes(folder: Path, names: Sequence[str]) -> Reports:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    results = [folder / f"{rank}.npz" for rank in range(2)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes: list[subprocess.Popen[Any]] = []
    try:
        for rank, result in enumerate(results):
            command = [sys.executable, train_together.__file__, str(rank), str(port), str(result), *names]
            with open(folder / f"{rank}.log", "w") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        for process in processes:
            process.wait(TIMEOUT_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for rank, process in enumerate(processes):
        assert process.returncode == 0, (folder / f"{rank}.log").read_text()
    return [dict(np.load(result)) for result in results]


def assert_trained_as_one(name: str, reports: Reports) -> None:
    """Both processes have bit-identical weights. Weights and losses equal those of one process."""
    case = (train_together.SHORT_CASES | train_together.LONG_CASES)[name]
    with train_together.without_chance(), train_together.in_float64():
        joined = train_together.train(case, rank=None)
    for key, value in joined.items():
        first, second = (report[f"{name}: {key}"] for report in reports)
        np.testing.assert_array_equal(first, second, err_msg=key)
        np.testing.assert_allclose(first, value, rtol=1e-8, atol=1e-8, err_msg=key)
    assert sum(key.startswith("gradient of ") for key in joined) > 20


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return train_in_two_processes(tmp_path_factory.mktemp("ranks"), list(train_together.SHORT_CASES))


@pytest.mark.parametrize("name", train_together.SHORT_CASES)
def test_two_processes_train_as_one_with_the_joined_batch(name: str, reports: Reports) -> None:
    assert_trained_as_one(name, reports)


@pytest.mark.parametrize("name", train_together.SHORT_CASES)
def test_accumulated_parts_have_the_losses_and_gradients_of_the_whole_batch(name: str) -> None:
    """Batch norms are frozen here, because in training they only use the images of a part."""
    found = []
    with train_together.without_chance(), train_together.in_float64():
        paddle.seed(1)
        model = train_together.SHORT_CASES[name].build()
        model.train()
        for layer in model.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer._epsilon, layer._momentum, layer._use_global_stats = 2.0**-17, 0.875, True
        counts = (3, 0, 1, 2, 2)
        batch = drawn_batch(
            seed=0, image_hw=train_together.IMAGE_HW, counts=counts, num_classes=train_together.NUM_CLASSES
        )
        optimizer = paddle.optimizer.SGD(0.1, parameters=model.parameters())
        for parts in (1, 2, 5):
            state = TrainState(model, optimizer, None, progress=Progress(micro_batches=parts))
            losses = forward_backward(state, batch, (), may_split=False)
            gradients = {
                key: parameter.grad.numpy().copy()
                for key, parameter in model.named_parameters()
                if parameter.grad is not None
            }
            optimizer.clear_grad(set_to_zero=False)
            found.append(({key: float(loss) for key, loss in losses.items()}, gradients))
    for losses, gradients in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-8)
        assert gradients.keys() == found[0][1].keys()
        for key, gradient in gradients.items():
            np.testing.assert_allclose(gradient, found[0][1][key], rtol=1e-8, atol=1e-8, err_msg=key)


def test_every_network_of_the_catalog_is_tested() -> None:
    """A new network must be added to the cases of this file."""
    listed = {get_type_hints(spec.build)["return"] for spec in MODELS.values()}
    assert listed == {type(case.build()) for case in train_together.SHORT_CASES.values()}


class OwnMean(InstanceSegmenter):
    """A network whose loss is a mean over its own objects."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.layer(paddle.ones([sum(len(one.class_ids) for one in batch.targets), 1])).mean()}


@pytest.mark.parametrize("parts", [1, 2])
def test_a_loss_that_never_calls_joined_raises(parts: int) -> None:
    model = OwnMean()
    batch = drawn_batch(seed=0, image_hw=train_together.IMAGE_HW, counts=(3, 1), num_classes=3)
    optimizer = paddle.optimizer.SGD(0.1, parameters=model.parameters())
    state = TrainState(model, optimizer, None, progress=Progress(micro_batches=parts))
    with pytest.raises(AssertionError, match="OwnMean.loss never asks batch.joined"):
        forward_backward(state, batch, (), may_split=False)


def test_counting_leaves_statistics_and_random_numbers_as_they_were() -> None:
    model = train_together.SHORT_CASES["Mask-RT-DETR"].build()
    model.train()
    batch = drawn_batch(seed=0, image_hw=train_together.IMAGE_HW, counts=(1, 2), num_classes=3)
    state = TrainState(model, paddle.optimizer.SGD(0.1, parameters=model.parameters()), None)
    paddle.seed(5)
    expected = paddle.rand([4]).numpy()
    before = [tensor.numpy() for tensor in running_statistics(model)]
    paddle.seed(5)
    count_totals(state, split_batch(batch, 2))
    np.testing.assert_array_equal(paddle.rand([4]).numpy(), expected)
    for tensor, value in zip(running_statistics(model), before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), value)


@pytest.mark.slow
def test_two_processes_still_agree_with_one_after_twenty_steps(tmp_path: Path) -> None:
    reports = train_in_two_processes(tmp_path, list(train_together.LONG_CASES))
    for name in train_together.LONG_CASES:
        assert_trained_as_one(name, reports)


def test_gradients_are_averaged_and_stay_none_if_no_process_has_one(reports: Reports) -> None:
    for report in reports:
        found = {
            key.removeprefix("gradients: "): value.tolist()
            for key, value in report.items()
            if key.startswith("gradients: ")
        }
        assert found == {"first": [0.5] * 3, "wide": [[1.0] * 4] * 2, "second": [1.0] * 2, "both": [1.5]}


def test_one_process_keeps_its_gradients_losses_and_norms() -> None:
    used, unused = (paddle.create_parameter([2], "float32") for _ in range(2))
    (3 * used.sum()).backward()
    average_gradients([used, unused])
    assert used.grad.tolist() == [3.0, 3.0]
    assert unused.grad is None
    losses = {"loss": paddle.to_tensor(1.5), "loss_cate": paddle.to_tensor([2.5])}
    assert mean_losses(losses) == {"loss": 1.5, "loss_cate": 2.5}
    assert float(JoinedBatch().share_of_mean(7)) == 1
    assert JoinedBatch().normalizer(paddle.to_tensor([0.25, 3.0])).tolist() == [1.0, 3.0]
    norm = nn.BatchNorm2D(2)
    network = nn.Sequential(norm)
    synchronize_batch_norm(network)
    assert network[0] is norm


def test_a_process_without_items_has_no_share_of_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        paddle.distributed, "all_reduce", lambda tensor: None
    )  # the other process has no items either
    assert float(JoinedBatch().share_of_mean(0)) == 0
    assert float(JoinedBatch().normalizer(paddle.to_tensor(0.5))) == 0.5  # the joined total counts as 1


def test_trainable_norms_are_synchronized_and_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
    frozen = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4))
    freeze_norms(frozen)
    learning = nn.BatchNorm2D(4, momentum=0.8, epsilon=1e-3)
    network = nn.Sequential(("frozen", frozen), ("block", nn.Sequential(("norm", learning))))
    before = network.state_dict()
    network.eval()
    synchronize_batch_norm(network)
    assert {name: id(tensor) for name, tensor in network.state_dict().items()} == {
        name: id(tensor) for name, tensor in before.items()
    }
    assert list(network.state_dict()) == list(before)
    assert type(network.frozen[1]) is nn.BatchNorm2D
    norm = network.block.norm
    assert isinstance(norm, SynchronizedBatchNorm2D)
    assert not norm.training
    assert (norm._momentum, norm._epsilon) == (0.8, 1e-3)


def test_paddles_sync_batch_norm_keeps_the_names() -> None:
    network = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4))
    before = network.state_dict()
    nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert list(network.state_dict()) == list(before)
    assert isinstance(network[1], nn.SyncBatchNorm)
